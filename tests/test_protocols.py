"""One contract for every protocol in the registry, whether of emotions, of objective classes or of action units."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import mer_zoo
from mer_zoo import inputs
from mer_zoo.datasets import Corpus, open_corpus
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.folds import check_folds
from mer_zoo.protocols import STAND_IN, Protocol, register_protocol
from mer_zoo.synth.emotions import CLASS_SETS, class_names
from mer_zoo.types import MACRO, UNUSABLE, ActionUnit, Counts, InputSpec, Sample


def those(fits: Callable[[Protocol], Any]) -> pytest.MarkDecorator:
    """Run a test for every protocol that fits."""
    names = [name for name in mer_zoo.list_protocols() if fits(mer_zoo.get_protocol(name))]
    assert names
    return pytest.mark.parametrize("name", names)


every_protocol = those(lambda protocol: protocol.classes)
of_labels, of_units = those(lambda protocol: not protocol.units), those(lambda protocol: protocol.units)


def made(protocol: Protocol, corpus: str, label: str, clip: str = "a", **facts: Any) -> Sample:
    """A clip whose label, in the words that the protocol looks at, is this one."""
    labels = {"emotion": "unknown", "objective": label} if protocol.objective else {"emotion": label}
    return Sample(**{"corpus": corpus, "subject": "1", "clip": clip, **labels, **facts})


def labels_of(protocol: Protocol, corpus: str) -> list[str]:
    """What takes part; one of action units asks for no label."""
    return [label for label in protocol.emotions or ["boredom"] if label not in protocol.left_out.get(corpus, ())]


@every_protocol
def test_a_protocol_is_sound(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    assert protocol.name == name
    assert len(set(protocol.classes)) == len(protocol.classes)
    assert set(protocol.emotions.values()) == (set() if protocol.units else set(protocol.classes))
    assert not protocol.units or protocol.classes == tuple(f"AU{unit}" for unit in protocol.units)
    assert {*protocol.left_out, *protocol.rules} <= set(protocol.counts)
    for counts in protocol.counts.values():
        assert set(counts.classes) <= set(protocol.classes)
        assert all(number <= counts.clips for number in counts.classes.values())
        assert not counts.classes or protocol.units or sum(counts.classes.values()) == counts.clips
    assert protocol.source
    assert set(protocol.made) <= set(mer_zoo.list_corpora())


@every_protocol
def test_selection_keeps_what_takes_part(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    for corpus in protocol.counts:
        taking = [made(protocol, corpus, label, clip=label) for label in labels_of(protocol, corpus)]
        others = [
            made(protocol, "elsewhere", taking[0].clip),
            *(dataclasses.replace(taking[0], clip=flag, flags=("odd", flag)) for flag in (MACRO, UNUSABLE)),
            *(made(protocol, corpus, label) for label in protocol.left_out.get(corpus, ())),
            *([] if protocol.units else [made(protocol, corpus, "boredom")]),
        ]
        assert protocol.select([*others, *taking]) == taking
        assert protocol.select([*reversed(taking), *others]) == taking[::-1]


@of_labels
def test_a_target_is_the_class_of_the_label(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    corpus = next(iter(protocol.counts))
    for label, named in protocol.emotions.items():
        target = protocol.target(made(protocol, corpus, label))
        assert isinstance(target, int)
        assert protocol.classes[target] == named
        assert protocol.names(target) == [named]
    with pytest.raises(InputError, match=f"labelled 'boredom', which {name} leaves out"):
        protocol.target(made(protocol, corpus, "boredom"))


@those(lambda protocol: protocol.objective)
def test_an_emotion_is_no_objective_class(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    felt = Sample(corpus=next(iter(protocol.counts)), subject="1", clip="a", emotion="I")
    assert protocol.select([felt, dataclasses.replace(felt, objective="II")]) == [
        dataclasses.replace(felt, objective="II")
    ]
    with pytest.raises(InputError, match="labelled None"):
        protocol.target(felt)


@of_units
def test_a_target_of_units_says_which_are_coded(name: str) -> None:
    """Once, on whichever side, however strong and however unsure the coders were; others count for nothing."""
    protocol = mer_zoo.get_protocol(name)
    aus = (ActionUnit(12, "L", "C"), ActionUnit(12, "R"), ActionUnit(4, uncertain=True), ActionUnit(45))
    sample = made(protocol, next(iter(protocol.counts)), "happiness", aus=aus)
    assert protocol.target(sample) == (0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0)  # of 1, 2, 4, 5, 6, 7, 9, 10, 12, …
    assert protocol.names(protocol.target(sample)) == ["AU4", "AU12"]
    assert protocol.target(dataclasses.replace(sample, aus=())) == (0,) * 12
    assert protocol.names((0,) * 12) == []


@every_protocol
def test_folds_of_what_is_selected_are_honest(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    samples = [
        made(protocol, corpus, label, clip=f"{label}{i}", subject=f"{i}")
        for corpus in protocol.counts
        for i in range(11)
        for label in {*labels_of(protocol, corpus), "boredom"}
    ]
    chosen = protocol.select(samples)
    check_folds(protocol.folds(chosen), chosen)


@pytest.mark.parametrize("name", ["megc2019", "megc2019-hde", "casme2-3"])
@pytest.mark.parametrize(
    ("onset", "apex", "takes"), [(None, None, True), (3, 4, True), (3, 9, True), (3, 3, False), (3, None, False)]
)
def test_megc_takes_clips_of_casme2_whose_apex_moves(
    name: str, onset: int | None, apex: int | None, takes: bool
) -> None:
    """Flow images that were published without numbers are of such clips; other corpora are not asked."""
    protocol = mer_zoo.get_protocol(name)
    numbers: dict[str, Any] = {"onset": onset, "apex": apex, "offset": onset and 9}
    assert bool(protocol.select([made(protocol, "casme2", "disgust", **numbers)])) == takes
    for corpus in set(protocol.counts) - {"casme2"}:
        assert protocol.select([made(protocol, corpus, "negative", **numbers)])
    assert mer_zoo.get_protocol("casme2-5").select([made(protocol, "casme2", "disgust", **numbers)])


def test_megc2019_counts_are_those_of_the_challenge() -> None:
    """See et al., MEGC 2019, table of the composite; the corpus expects the same of itself."""
    protocol = mer_zoo.get_protocol("megc2019")
    table = {"smic": (16, 164, 70, 51, 43), "casme2": (24, 145, 88, 32, 25), "samm": (28, 133, 92, 26, 15)}
    for counts in (protocol.counts, MEGC2019Flow.counts):
        assert {name: (c.subjects, c.clips, *c.classes.values()) for name, c in counts.items()} == table
    assert sum(c.clips for c in protocol.counts.values()) == 442
    assert sum(c.subjects or 0 for c in protocol.counts.values()) == 68
    classes = {name: sum(c.classes[name] for c in protocol.counts.values()) for name in protocol.classes}
    assert classes == {"negative": 250, "positive": 109, "surprise": 83}


@every_protocol
def test_what_is_published_deviates_from_nothing(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    assert protocol.deviations(protocol.counts) == []
    published = {corpus: counts for corpus, counts in protocol.counts.items() if counts.clips}
    assert len(protocol.deviations({})) == len(published)
    for corpus, counts in published.items():
        more = dataclasses.replace(counts, clips=counts.clips + 1)
        people = dataclasses.replace(counts, subjects=(counts.subjects or 0) + 1)
        moved = dataclasses.replace(counts, classes={**counts.classes, protocol.classes[0]: 10**4})
        zeros = dataclasses.replace(counts, classes={**counts.classes, "none of these": 0})
        for found, told in ((more, True), (people, counts.subjects), (moved, counts.classes), (zeros, False)):
            notes = protocol.deviations({**protocol.counts, corpus: found})
            assert [note.split(" has ")[0] for note in notes] == ([corpus] if told else [])


def test_deviations_name_what_is_missing() -> None:
    protocol = mer_zoo.get_protocol("megc2019")
    notes = protocol.deviations({"smic": protocol.counts["smic"], "casme2": Counts(24, 147, {"negative": 90})})
    assert notes[0].startswith("casme2 has 147 clips of 24 persons (negative 90); expected 145 clips")
    assert notes[1] == "samm is missing: 133 clips of 28 persons."
    assert mer_zoo.get_protocol("mmew-3").deviations({}) == ["mmew is missing: 234 clips."]


def test_unknown_and_taken_names() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean megc2019"):
        mer_zoo.get_protocol("megc-2019")
    with pytest.raises(ValueError, match="exists already"):
        register_protocol(dataclasses.replace(mer_zoo.get_protocol("megc2019")))


# Corpora that are made


def test_the_flow_that_is_made_takes_part_in_its_protocol_alone() -> None:
    samples = open_corpus("synthetic_flow").samples
    assert mer_zoo.get_protocol("synthetic-3").select(samples) == samples
    for name in set(mer_zoo.list_protocols()) - {"synthetic-3"}:
        assert not mer_zoo.get_protocol(name).select(samples)


@every_protocol
def test_rendered_faces_stand_in_where_their_labels_are_known(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    known = [made(protocol, STAND_IN, label, clip=label) for label in protocol.emotions]
    bored = made(protocol, STAND_IN, "boredom")
    assert protocol.select([*known, bored]) == [*known, *([bored] if protocol.units else [])]
    assert {s for t in map(protocol.target, known) for s in protocol.names(t)} == set(protocol.emotions.values())
    assert protocol.stood_in_by([STAND_IN]) == (STAND_IN not in protocol.counts)


def faces(**options: Any) -> Corpus:
    return open_corpus(STAND_IN, **{"subjects": 3, "clips_per_subject": 5, "size": 32, "frames": 8, **options})


def feeds(classes: Any, protocol: Protocol) -> bool:
    """Whether rendered faces with these labels are meant for a protocol."""
    if protocol.units or protocol.objective:
        return bool(classes == ("au" if protocol.units else "objective"))
    return set(class_names(classes)) <= set(protocol.emotions)


LABELLED = [
    (name, classes)
    for name in mer_zoo.list_protocols()
    for classes in CLASS_SETS
    if feeds(classes, mer_zoo.get_protocol(name))
]


@pytest.fixture(scope="module")
def kitchen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What was cooked for one protocol serves the others."""
    return tmp_path_factory.mktemp("cooked")


@functools.cache
def eaten() -> frozenset[InputSpec]:
    """What there is a network for, in at most 64 pixels: classes do not depend on the size."""
    specs = [mer_zoo.input_spec(model) for model in mer_zoo.list_models()]
    return frozenset(dataclasses.replace(spec, size=min(spec.size, 64)) for spec in specs)


def test_every_kind_of_protocol_is_fed() -> None:
    names = {"megc2019", "megc2018", "cd6me", *(f"synthetic-{each}" for each in CLASS_SETS)}
    assert names <= {name for name, _ in LABELLED}


@pytest.mark.parametrize(("name", "classes"), LABELLED)
def test_faces_feed_every_network_through_every_protocol(name: str, classes: Any, kitchen: Path) -> None:
    protocol, corpus = mer_zoo.get_protocol(name), faces(subjects=2, clips_per_subject=4, classes=classes)
    known = [s for s in corpus.samples if protocol.units or s.emotion in protocol.emotions]
    assert len(known) > 2
    for spec in eaten():
        data = mer_zoo.create_dataset(protocol, {STAND_IN: corpus}, spec, cache=kitchen)
        assert data.samples == known
        spec.check(torch.stack([data[i][0] for i in range(len(known))]))
        for sample, target in zip(known, data.targets, strict=True):
            coded = [f"AU{unit}" for unit in protocol.units if unit in {u.number for u in sample.aus}]
            assert protocol.names(target) == (coded if protocol.units else [protocol.emotions[sample.emotion]])


@those(lambda protocol: protocol.made)
def test_a_protocol_of_faces_opens_the_classes_that_it_needs(
    name: str, kitchen: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    protocol = mer_zoo.get_protocol(name)
    clips = 17 if protocol.units else 7  # enough for each label once

    def few(corpus: str, root: None = None, **options: Any) -> Corpus:
        assert (corpus, root) == (STAND_IN, None)
        return faces(subjects=2, clips_per_subject=clips, **options)

    monkeypatch.setattr(inputs, "open_corpus", few)
    for roots in (None, {STAND_IN: None}):
        data = mer_zoo.create_dataset(protocol, roots, mer_zoo.input_spec("ststnet"), cache=kitchen)
        assert len(data) == 2 * clips
        assert {name for target in data.targets for name in protocol.names(target)} == set(protocol.classes)


def test_a_run_on_faces_ends_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    few = functools.partial(open_corpus, subjects=3, clips_per_subject=5, size=32, frames=8)
    monkeypatch.setattr(inputs, "open_corpus", few)
    table = mer_zoo.evaluate("ststnet", "synthetic-5", recipe=mer_zoo.Recipe(epochs=1))
    assert list(table)[-5:] == [f"p_{name}" for name in ("happiness", "surprise", "disgust", "repression", "others")]
    assert sorted(table["key"]) == [
        f"synthetic/0-{subject:03d}/{clip:03d}" for subject in range(3) for clip in range(5)
    ]
    assert set(table["fold"]) == {f"synthetic/0-{subject:03d}" for subject in range(3)}
    report = mer_zoo.report(table, mer_zoo.get_protocol("synthetic-5"))
    assert report.matrix.sum(axis=1).tolist() == [3] * 5
    assert "synthetic" in report.to_markdown()


def test_a_run_that_leaves_out_corpora_ends_in_a_report(flow_release: Path, tmp_path: Path) -> None:
    roots = {"megc2019_flow": flow_release}
    runs = [
        mer_zoo.evaluate("ststnet", "megc2019-hde", roots, recipe=mer_zoo.Recipe(epochs=1), out=tmp_path / "run")
        for _ in range(2)
    ]
    pd.testing.assert_frame_equal(*runs, check_exact=True)  # the second is read from the folder
    assert (runs[0]["fold"] == runs[0]["corpus"]).all()
    assert "leave-one-corpus-out" in mer_zoo.report(runs[0], "megc2019-hde").to_markdown()
    with pytest.raises(InputError, match="made by megc2019-hde"):
        mer_zoo.report(runs[0], "megc2019")


def test_faces_are_not_scored_beside_real_clips(flow_release: Path) -> None:
    roots: dict[str, Path | Corpus] = {"megc2019_flow": flow_release, STAND_IN: faces()}
    with pytest.raises(InputError, match=r"synthetic.* together; rendered .*training\.fit, and evaluate on the real"):
        mer_zoo.evaluate("ststnet", "megc2019", roots)
    spec = mer_zoo.input_spec("ststnet")
    alone = mer_zoo.create_dataset("megc2019", {"megc2019_flow": flow_release}, spec)
    assert len(mer_zoo.create_dataset("megc2019", roots, spec)) == len(alone) + 15  # to learn from, they may be mixed


def test_a_report_says_that_faces_stood_in() -> None:
    table = mer_zoo.evaluate("ststnet", "megc2019", {STAND_IN: faces()}, recipe=mer_zoo.Recipe(epochs=1))
    text = mer_zoo.report(table, "megc2019").to_markdown()
    assert text.startswith("# megc2019 on rendered persons: UF1 ")
    assert "Note: rendered persons stand in for the corpora of this protocol" in text
    assert "smic is missing: 164 clips" in text
    mixed = pd.concat([table, table.assign(corpus="smic", key=table["key"] + "x")])
    mixed.attrs = table.attrs
    with pytest.raises(InputError, match="holds smic, synthetic"):
        mer_zoo.report(mixed, "megc2019")


@pytest.mark.parametrize(
    ("name", "classes", "words"), [("megc2019-hde", 3, "needs two corpora"), ("dfme-7", 7, "need 10 persons")]
)
def test_a_few_faces_of_one_corpus_cannot_be_parted_by_every_rule(name: str, classes: Any, words: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    with pytest.raises(InputError, match=words):
        protocol.folds(protocol.select(faces(classes=classes).samples))
