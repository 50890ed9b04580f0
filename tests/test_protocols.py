"""One contract for every protocol; folds against a naive re-implementation."""

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import mer_zoo
from mer_zoo import evaluation
from mer_zoo.datasets import Corpus, open_corpus
from mer_zoo.datasets.megc2019_flow import MEGC2019Flow
from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.protocols import STAND_IN, check_folds, leave_one_subject_out, register_protocol
from mer_zoo.synth.emotions import CLASS_SETS, class_names
from mer_zoo.types import Counts, Fold, Sample

every_protocol = pytest.mark.parametrize("name", mer_zoo.list_protocols())


def made(corpus: str, subject: str, clip: str, emotion: str = "surprise") -> Sample:
    return Sample(corpus=corpus, subject=subject, clip=clip, emotion=emotion)


@every_protocol
def test_a_protocol_is_sound(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    assert set(protocol.emotions.values()) == set(protocol.classes)
    for counts in protocol.counts.values():
        assert not counts.classes or sum(counts.classes.values()) == counts.clips
    assert protocol.source
    assert set(protocol.made) <= set(mer_zoo.list_corpora())


@every_protocol
def test_selection_keeps_what_takes_part(name: str) -> None:
    protocol = mer_zoo.get_protocol(name)
    corpus, emotion = next(iter(protocol.counts)), next(iter(protocol.emotions))
    samples = [made(corpus, "1", "a", emotion), made(corpus, "1", "b", "boredom"), made("elsewhere", "1", "c", emotion)]
    assert protocol.select(samples) == samples[:1]
    assert protocol.classes[protocol.target(samples[0])] == protocol.emotions[emotion]
    with pytest.raises(InputError, match="labelled 'boredom'"):
        protocol.target(samples[1])


def test_leave_one_subject_out_against_a_naive_form(persons: Corpus) -> None:
    samples = persons.samples
    folds = leave_one_subject_out(samples)
    groups = [list(group) for _, group in itertools.groupby(samples, key=lambda s: s.subject)]
    assert [list(fold.test) for fold in folds] == groups
    for fold in folds:
        assert set(fold.train) | set(fold.test) == set(samples)
        assert not {s.person for s in fold.train} & {s.person for s in fold.test}


def test_subjects_of_one_number_in_three_corpora_are_three_persons() -> None:
    samples = [made(corpus, "6", "a") for corpus in ("casme2", "smic", "samm")]
    assert [fold.name for fold in leave_one_subject_out(samples)] == ["casme2/6", "samm/6", "smic/6"]


def test_folds_that_leak_or_miss_are_refused() -> None:
    a, b, c, d = (made("smic", subject, clip) for subject, clip in (("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")))
    honest = leave_one_subject_out([a, b, c, d])
    check_folds(honest, [a, b, c, d])
    for folds, words in (
        ([Fold("x", (a, c), (b, d))], "persons on both sides: .*smic/1.*that leaks"),
        ([dataclasses.replace(fold, name="x") for fold in honest], "share names"),
        (honest[:1], "2 clips are not tested exactly once"),
        ([*honest, dataclasses.replace(honest[0], name="again")], "2 clips are not tested exactly once"),
    ):
        with pytest.raises(InputError, match=words):
            check_folds(folds, [a, b, c, d])


@pytest.mark.parametrize("number", [0, 1])
def test_one_person_cannot_be_left_out(number: int) -> None:
    with pytest.raises(InputError, match="needs two persons or more"):
        leave_one_subject_out([made("smic", "1", "a")] * number)


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


def test_deviations_name_what_is_missing() -> None:
    protocol = mer_zoo.get_protocol("megc2019")
    assert protocol.deviations(protocol.counts) == []
    notes = protocol.deviations({"smic": protocol.counts["smic"], "casme2": Counts(24, 147, {"negative": 90})})
    assert notes[0].startswith("casme2 has 147 clips of 24 persons (negative 90); expected 145 clips")
    assert notes[1] == "samm is missing: 133 clips of 28 persons."


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
    faces = [made(STAND_IN, "1", str(i), emotion) for i, emotion in enumerate(protocol.emotions)]
    assert protocol.select([*faces, made(STAND_IN, "1", "x", "boredom")]) == faces
    assert {protocol.classes[protocol.target(s)] for s in faces} == set(protocol.classes)


def faces(**options: Any) -> Corpus:
    return open_corpus(STAND_IN, **{"subjects": 3, "clips_per_subject": 5, "size": 32, "frames": 8, **options})


LABELLED = [
    (name, classes)
    for name in mer_zoo.list_protocols()
    for classes in CLASS_SETS
    if set(class_names(classes)) <= set(mer_zoo.get_protocol(name).emotions)
]


@pytest.mark.parametrize(("name", "classes"), LABELLED)
def test_faces_feed_every_network_through_every_protocol(name: str, classes: Any) -> None:
    assert {"megc2019", *(f"synthetic-{each}" for each in (3, 5, 7, "objective"))} <= {each for each, _ in LABELLED}
    protocol, corpus = mer_zoo.get_protocol(name), faces(subjects=2, clips_per_subject=4, size=48, classes=classes)
    for spec in {mer_zoo.input_spec(model) for model in mer_zoo.list_models()}:
        data = mer_zoo.create_dataset(protocol, {STAND_IN: corpus}, spec)
        assert len(data) == 8
        spec.check(torch.stack([data[i][0] for i in range(8)]))
        assert [data.classes[target] for target in data.targets] == [protocol.emotions[s.emotion] for s in data.samples]


@pytest.mark.parametrize("name", [name for name in mer_zoo.list_protocols() if mer_zoo.get_protocol(name).made])
def test_a_protocol_of_faces_opens_the_classes_that_it_needs(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(corpus: str, root: None = None, **options: Any) -> Corpus:
        assert (corpus, root) == (STAND_IN, None)
        return faces(clips_per_subject=7, **options)

    monkeypatch.setattr(evaluation, "open_corpus", few)
    protocol = mer_zoo.get_protocol(name)
    for roots in (None, {STAND_IN: None}):
        data = mer_zoo.create_dataset(protocol, roots, mer_zoo.input_spec("ststnet"))
        assert len(data) == 21
        assert {data.classes[target] for target in data.targets} == set(protocol.classes)


def test_a_run_on_faces_ends_in_a_report(monkeypatch: pytest.MonkeyPatch) -> None:
    few = functools.partial(open_corpus, subjects=3, clips_per_subject=5, size=32, frames=8)
    monkeypatch.setattr(evaluation, "open_corpus", few)
    table = mer_zoo.evaluate("ststnet", "synthetic-5", recipe=mer_zoo.Recipe(epochs=1))
    assert list(table)[-5:] == [f"p_{name}" for name in ("happiness", "surprise", "disgust", "repression", "others")]
    assert sorted(table["key"]) == [
        f"synthetic/0-{subject:03d}/{clip:03d}" for subject in range(3) for clip in range(5)
    ]
    assert set(table["fold"]) == {f"synthetic/0-{subject:03d}" for subject in range(3)}
    report = mer_zoo.report(table, mer_zoo.get_protocol("synthetic-5"))
    assert report.matrix.sum(axis=1).tolist() == [3] * 5
    assert "synthetic" in report.to_markdown()


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
