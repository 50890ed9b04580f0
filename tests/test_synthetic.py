"""The corpus of rendered faces: samples and labels, what a clip depends on, folders, and its place in evaluations.

``python tests/test_synthetic.py`` writes GOLDEN anew, after a change of the draws that raised ``VERSION``.
"""

import itertools
import multiprocessing
import re
import shutil
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.datasets.synthetic import Synthetic
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.synth import emotions
from mer_zoo.synth.emotions import CLASS_SETS, COUNTS, LABELS, NEGATIVE, OBJECTIVE, TABLES, class_names, draw_units
from mer_zoo.synth.generator import VERSION
from mer_zoo.synth.units import AUS, BUMPS
from mer_zoo.types import Sample

Array = npt.NDArray[Any]

# Davison, Merghani and Yap, J. Imaging 4(10), 2018: without the combinations with units 38 and 40.
DAVISON = {
    "I": ("6", "12", "6+12", "6+7+12", "7+12"),
    "II": ("1+2", "5", "25", "1+2+25", "25+26", "5+24"),
    "III": ("23", "4", "4+7", "4+5", "4+5+7", "17+24", "4+6+7"),
    "IV": ("10", "9", "4+9", "4+7+9", "4+9+17", "4+7+10", "4+5+7+9", "7+10"),
    "V": ("1", "15", "1+4", "6+15", "15+17"),
    "VI": ("1+2+4", "20"),
}


def opened(**options: Any) -> Synthetic:
    return cast(Synthetic, mer_zoo.open_corpus("synthetic", **options))


def units_of(sample: Sample) -> set[int]:
    return {unit.number for unit in sample.aus}


@pytest.fixture(scope="module")
def small() -> Synthetic:
    """Three persons with three clips each, at the least size."""
    return opened(subjects=3, clips_per_subject=3, size=32, frames=8)


# Samples


def test_the_three_lines_of_the_issue() -> None:
    corpus = opened(subjects=30, clips_per_subject=9, seed=0)
    sample = corpus.samples[0]
    clip, flow = corpus.clip(sample), corpus.flow(sample)
    assert len({s.key for s in corpus.samples}) == len(corpus.samples) == 270
    assert Counter(s.person for s in corpus.samples) == dict.fromkeys((f"synthetic/0-{i:03d}" for i in range(30)), 9)
    assert (clip.shape, clip.dtype.name) == ((20, 64, 64), "uint8")
    assert (flow.shape, flow.dtype.name) == ((20, 64, 64, 2), "float32")
    assert corpus.action_units(sample).shape == (34,)
    for s in corpus.samples:
        assert (s.corpus, s.onset, s.offset, s.flags) == ("synthetic", 0, 19, ())
        assert 0 < (s.apex or 0) < 19
        assert 19 / 0.61 < (s.fps or 0) < 19 / 0.175
        assert set() < units_of(s) <= set(AUS)


@pytest.mark.parametrize(("size", "frames"), [(32, 5), (45, 7), (96, 11)])
def test_size_and_frames_are_as_asked(size: int, frames: int) -> None:
    corpus = opened(subjects=2, clips_per_subject=1, size=size, frames=frames, fps=100)
    for sample in corpus.samples:
        clip, flow = corpus.clip(sample), corpus.flow(sample)
        assert (clip.shape, flow.shape) == ((frames, size, size), (frames, size, size, 2))
        assert (sample.offset, sample.fps) == (frames - 1, 100)
        assert clip.std() > 10
        assert np.isfinite(flow).all()
        assert not flow[0].any()


def test_units_are_told_as_numbers_codes_and_hot_ones() -> None:
    corpus = opened(subjects=20, clips_per_subject=5, classes=5)
    assert corpus.unit_names[:3] == ("L1", "R1", "L2")
    for sample in corpus.samples:
        strengths = dict(zip(corpus.unit_names, corpus.action_units(sample).tolist(), strict=True))
        sides = {unit: (strengths[f"L{unit}"], strengths[f"R{unit}"]) for unit in AUS}
        assert all(0 <= strength <= 1 for strength in strengths.values())
        coded = units_of(sample)
        assert min(max(sides[unit]) for unit in coded) > max(max(sides[unit]) for unit in AUS if unit not in coded)
        assert corpus.multi_hot(sample).tolist() == [float(unit in coded) for unit in AUS]


# Labels


@pytest.mark.parametrize("classes", CLASS_SETS)
def test_labels_are_those_of_the_class_set_and_balanced(classes: Any) -> None:
    expected = {
        3: "negative positive surprise",
        5: "happiness surprise disgust repression others",
        7: "happiness surprise anger disgust fear sadness contempt",
        "objective": "I II III IV V VI VII",
        "au": "1 2 4 5 6 7 9 10 12 14 15 17 20 23 24 25 26",
    }[classes].split()
    assert list(class_names(classes)) == expected
    corpus = opened(subjects=2 * len(expected), clips_per_subject=5, classes=classes)
    assert Counter(s.emotion for s in corpus.samples) == dict.fromkeys(expected, 10)
    found = Counter(s.emotion for s in opened(classes=classes).samples)
    assert max(found.values()) <= 1.3 * min(found.values())


def test_objective_classes_and_au_labels_follow_from_the_coded_units() -> None:
    listed = {frozenset(map(int, text.split("+"))): name for name, texts in DAVISON.items() for text in texts}
    assert listed == {units: name for name, several in OBJECTIVE.items() for units in several if name != "VII"}
    every = (frozenset(units) for number in (1, 2, 3, 4) for units in itertools.combinations(AUS, number))
    assert all(emotions.objective_class(units) == listed.get(units, "VII") for units in every)
    corpus = opened(subjects=20, clips_per_subject=14, classes="objective")
    for sample in corpus.samples:
        assert sample.emotion == listed.get(frozenset(units_of(sample)), "VII")
    assert all(int(s.emotion) in units_of(s) for s in opened(clips_per_subject=17, classes="au").samples)


def test_the_counted_table_gives_the_published_counts() -> None:
    """CASME II: its clips by emotion, and how often each unit was coded (Varanka et al., table 4)."""
    clips = {"happiness": 32, "disgust": 63, "surprise": 25, "repression": 27, "sadness": 7, "fear": 2, "others": 99}
    published = {4: 130, 7: 39, 12: 34, 14: 27, 1: 26, 17: 25, 2: 22, 10: 16, 15: 16, 6: 13, 9: 13}
    for unit, number in published.items():
        expected = sum(times * COUNTS[emotion].get(unit, 0) for emotion, times in clips.items())
        assert expected == pytest.approx(number, rel=0.15, abs=3), unit


@pytest.mark.parametrize("table", TABLES)
def test_units_come_as_often_as_their_table_says(table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert sum(NEGATIVE.values()) == pytest.approx(1)
    assert {unit for chances in TABLES[table].values() for unit in chances} <= set(AUS) == set(BUMPS)
    assert {name for labels in LABELS.values() for shares in labels.values() for name in shares} <= set(TABLES[table])
    rng = np.random.default_rng(0)
    strays = [draw_units(5, table, name, rng) - set(TABLES[table][name]) for name in LABELS[5] for _ in range(100)]
    assert max(map(len, strays)) <= 1
    monkeypatch.setattr(emotions, "STRAY", 0.0)
    for emotion in LABELS[5]:
        chances = TABLES[table][emotion]
        drawn = [draw_units(5, table, emotion, rng) for _ in range(500)]
        assert all(units and units <= set(chances) for units in drawn)
        none = np.prod([1 - chance for chance in chances.values()])  # then one is drawn, by the chances
        for unit, chance in chances.items():
            expected = chance + none * chance / sum(chances.values())
            assert np.mean([unit in units for units in drawn]) == pytest.approx(expected, abs=0.08)


def test_label_noise_changes_labels_and_nothing_else() -> None:
    clean, half, full = (opened(subjects=12, classes=5, label_noise=share).samples for share in (0.0, 0.5, 1.0))
    for labels, low, high in ((half, 0.35, 0.65), (full, 1, 1)):
        assert low <= np.mean([a.emotion != b.emotion for a, b in zip(clean, labels, strict=True)]) <= high
        assert [replace(s, emotion="x") for s in labels] == [replace(s, emotion="x") for s in clean]


def test_label_noise_on_units_puts_another_for_the_true_one() -> None:
    clean, noisy = (opened(subjects=30, clips_per_subject=17, classes="au", label_noise=n).samples for n in (0.0, 1.0))
    for was, now in zip(clean, noisy, strict=True):
        numbers = [unit.number for unit in now.aus]
        assert numbers == sorted(set(numbers))  # each once, in one order in every process
        assert now.emotion in map(str, now.aus)
        assert int(was.emotion) not in numbers


# What a clip depends on


def test_a_clip_is_the_same_alone_and_among_others_in_any_order() -> None:
    large, alone = (opened(subjects=n, clips_per_subject=8, size=32, frames=8, classes=7) for n in (40, 4))
    (sample,) = (s for s in alone.samples if s.key == "synthetic/0-003/007")
    assert sample in large.samples
    for other in (30, 2, 17, 5, 8, 31):  # more persons than are remembered
        large.clip(large.samples[8 * other])
    np.testing.assert_array_equal(large.clip(sample), alone.clip(sample))
    np.testing.assert_array_equal(large.flow(sample), alone.flow(sample))
    np.testing.assert_array_equal(large.action_units(sample), alone.action_units(sample))


@pytest.mark.slow  # two processes that import torch
def test_a_clip_is_the_same_in_another_process(small: Synthetic) -> None:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(small.generator.clip, (2, 1), (0, 1)))
    np.testing.assert_array_equal(found[0], small.clip(small.samples[6]))
    np.testing.assert_array_equal(found[1], small.clip(small.samples[4]))


def test_families_share_nobody(small: Synthetic) -> None:
    """Else a network that learnt from one would meet the same faces in the other."""
    other = opened(subjects=3, clips_per_subject=3, size=32, frames=8, family="field")
    assert not {s.person for s in small.samples} & {s.person for s in other.samples}
    assert [s.aus for s in small.samples[:9]] != [s.aus for s in other.samples]
    faces = {family: [c.clip(c.samples[3 * i])[0] for i in range(3)] for family, c in (("a", small), ("b", other))}
    alike = np.corrcoef([face.ravel() for face in faces["a"] + faces["b"]])[:3, 3:]
    assert alike.diagonal().mean() < 0.9


def test_other_seeds_are_other_persons(small: Synthetic) -> None:
    other = opened(subjects=3, clips_per_subject=3, size=32, frames=8, seed=1)
    assert not {s.person for s in small.samples} & {s.person for s in other.samples}
    faces = [corpus.clip(s)[0].astype(float) for corpus in (small, other) for s in corpus.samples[::3]]
    same = [small.clip(s)[0].astype(float) for s in small.samples[:3]]
    alike = max(np.abs(one - two).mean() for one, two in itertools.combinations(same, 2))
    assert min(np.abs(one - two).mean() for one, two in itertools.combinations(faces, 2)) > 2 * alike


def test_no_two_draws_share_a_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """numpy fills a seed that is too short with noughts, so other numbers alone do not make other streams."""
    make, first = np.random.default_rng, {}

    def spy(seed: list[int]) -> np.random.Generator:
        first[tuple(seed)] = float(make(seed).random())
        return make(seed)

    monkeypatch.setattr(np.random, "default_rng", spy)
    corpus = opened(subjects=3, clips_per_subject=4, size=32, frames=5, seed=987)
    for sample in corpus.samples:
        corpus.clip(sample)
    assert len(first) == 3 * 2 + 12 * 3  # a person and its habits; a label, a script and a sensor for each clip
    assert len(set(first.values())) == len(first)


def test_memory_does_not_grow_with_the_number_of_clips() -> None:
    corpus, peaks = opened(subjects=28, clips_per_subject=2, size=32, frames=8), []
    samples = corpus.samples
    tracemalloc.start()
    for some in (samples[:6], samples[6:16], samples[16:]):  # the first ones fill what is remembered
        tracemalloc.reset_peak()
        assert all(corpus.clip(sample).any() for sample in some)
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert peaks[2] < 1.1 * peaks[1]


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"classes": 4}, "classes 4; expected one of 3, 5, 7, objective, au"),
        ({"preset": "medium"}, "preset 'medium'; expected one of easy, default, hard"),
        ({"table": "experts"}, "table 'experts'; expected one of counts, miex"),
        ({"family": "body"}, "family 'body'; expected one of head, field"),
        ({"colour": True}, "no knob is named colour; there are subjects, clips_per_subject, seed, preset, classes"),
        ({"amplitude": 1.2}, r"amplitude \(1.2, 1.2\); expected two shares .* above 0 and at most 1"),
        ({"amplitude": (0.4, 0.3)}, r"amplitude \(0.4, 0.3\); expected"),
        ({"amplitude": float("nan")}, "amplitude .*nan.* expected"),
        ({"amplitude": (0.1, 0.2, 0.3)}, ".*; expected a number, or the least and the greatest"),
        ({"noise": -1}, "noise .*expected two grey levels, 0 to 64"),
        ({"noise": (0, float("inf"))}, "noise .*inf.* expected two grey levels"),
        ({"size": 31}, "size 31; expected a whole number 32 to 512"),
        ({"size": 64.0}, "size 64.0; expected a whole number"),
        ({"frames": 0}, "frames 0; expected a whole number 5 to 1000"),
        ({"fps": float("nan")}, "fps nan; expected"),
        ({"head_motion": float("nan")}, "head_motion nan"),
        ({"blink_rate": 1.1}, "blink_rate 1.1; expected a share, 0 to 1"),
        ({"label_noise": float("nan")}, "label_noise nan; expected a share, 0 to 1"),
        ({"subjects": 0}, "subjects is 0; expected a whole number, 2 to 2 "),
        ({"clips_per_subject": 0}, "clips_per_subject is 0; expected a whole number, 1 to 2 "),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 to 2 "),
        ({"seed": 2**32}, "seed is 4294967296; expected a whole number"),  # numpy would make two numbers of it
        ({"clips_per_subject": np.float64(2)}, "clips_per_subject is .*2.0.*; expected a whole number"),
        ({"table": ["counts"]}, r"table \['counts'\]; expected one of"),
        ({"preset": ["easy"]}, r"preset \['easy'\]; expected one of"),
        ({"classes": 3.0}, "classes 3.0; expected one of"),
    ],
)
def test_bad_knobs_are_refused_at_construction(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=f"^synthetic: {words}"):
        opened(**options)


def test_numbers_of_numpy_are_numbers() -> None:
    plain = opened(subjects=2, clips_per_subject=1, size=32, frames=5, amplitude=(0.25, 0.5), fps=50, seed=3)
    numpy = opened(
        subjects=np.int64(2),
        clips_per_subject=np.int32(1),
        size=np.int64(32),
        frames=np.int16(5),
        amplitude=np.array([0.25, 0.5]),
        fps=np.float32(50),
        seed=np.uint32(3),
    )
    assert plain.samples == numpy.samples
    assert plain.fingerprint(plain.samples[0]) == numpy.fingerprint(numpy.samples[0])


def test_foreign_samples_and_what_is_not_there_are_refused(small: Synthetic, persons: Corpus) -> None:
    other = opened(subjects=2, clips_per_subject=1, classes=7, size=32, frames=8)  # the same key, another clip
    for sample in (opened(subjects=2, clips_per_subject=1, seed=9).samples[0], other.samples[0], persons.samples[0]):
        for method in (small.clip, small.flow, small.action_units):
            with pytest.raises(
                CorpusError, match=rf"(?s){sample.key}, .* is not in this corpus, which begins with Sample"
            ):
                method(sample)
    with pytest.raises(CorpusError, match=r"holds no frames on disk; .*write"):
        small.frames(small.samples[0])
    with pytest.raises(CorpusError, match="holds no flow images"):
        small.flow_image(small.samples[0])


# Folders


@pytest.fixture(scope="module")
def written(small: Synthetic, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faces") / "new"
    small.write(folder)
    return folder


def test_what_was_written_is_read_back(small: Synthetic, written: Path) -> None:
    corpus: Any = mer_zoo.open_corpus("synthetic", str(written))
    assert [corpus.multi_hot(s).tolist() for s in corpus.samples] == [
        small.multi_hot(s).tolist() for s in small.samples
    ]
    with pytest.raises(InputError, match="synthetic in a folder takes no option subjects; it takes none"):
        mer_zoo.open_corpus("synthetic", written, subjects=3)
    assert corpus.samples == small.samples
    assert len({corpus.fingerprint(s) for s in corpus.samples}) == len(corpus.samples)
    for sample in corpus.samples:
        assert [path.name for path in corpus.frames(sample)] == [f"{i:05d}.png" for i in range(8)]
        np.testing.assert_array_equal(corpus.clip(sample), small.clip(sample))
    spec = mer_zoo.InputSpec("clip", ("grey",), size=32, frames=8, high=255.0)
    one, two = (mer_zoo.create_dataset("synthetic-3", {"synthetic": root}, spec) for root in (written, small))
    np.testing.assert_array_equal(one.inputs, two.inputs)
    assert (one.samples, one.targets) == (two.samples, two.targets)


def test_half_a_corpus_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = opened(subjects=2, clips_per_subject=2, size=32, frames=5)
    clip = corpus.clip
    monkeypatch.setattr(corpus, "clip", lambda s: clip(s) if s != corpus.samples[2] else 1 / 0)
    with pytest.raises(ZeroDivisionError):
        corpus.write(tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 10
    with pytest.raises(CorpusError, match=r"holds no synthetic\.csv; expected a folder as written by .mer-zoo"):
        _ = mer_zoo.open_corpus("synthetic", tmp_path).samples


def changed(old: str, new: str) -> Callable[[Path, Path], None]:
    """Replace a text in the sheet."""

    def change(sheet: Path, _: Path) -> None:
        text = re.sub(old, new, sheet.read_text(), count=1, flags=re.MULTILINE)
        assert text != sheet.read_text()
        sheet.write_text(text)

    return change


def saved(mode: str, size: int) -> Callable[[Path, Path], None]:
    return lambda _, frame: Image.new(mode, (size, size)).save(frame)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda sheet, _: sheet.unlink(), "holds no synthetic.csv"),
        (changed("apex", "peak"), r"synthetic.csv has the columns .*'peak'.*; expected subject, clip, emotion, onset"),
        (changed(r",0,(\d+),7,", r",0,\1,x,"), "synthetic.csv, line 2: .*'x'"),
        (changed(r",0,(\d+),7,", r",9,\1,7,"), "synthetic.csv, line 2: apex . lies outside of onset 9 to offset 7"),
        (changed(r",0,\d+,7,.*$", ",0"), "synthetic.csv, line 2: "),
        (changed(r",0,(\d+),7,", r",0,8,7,"), "synthetic.csv, line 2: apex 8 lies outside of onset 0 to offset 7"),
        (changed(r",[^,]*$", ",banana"), "columns .*banana"),
        (changed(r"(?<=\d),[LR\d+]+$", ",banana"), "synthetic.csv, line 2: action units 'banana'; expected FACS codes"),
        (changed(r"(?<=\d),[LR\d+]+$", ",12,"), "synthetic.csv, line 2: 9 cells; expected 8"),
        (changed("0-000,000", "..,000"), r"synthetic.csv, line 2: subject '\.\.'.* expected names of folders"),
        (lambda sheet, _: sheet.write_bytes(b"subject,\xff\n"), "synthetic.csv, line 0: .*utf-8"),
        (changed("0-000,001", "0-000,000"), "1 clips come more than once"),
        (changed(r"(?s)\n.*", "\n"), "no clip found in"),
        (lambda _, frame: frame.unlink(), r"synthetic/0-000/000: .* lacks frames of 0 to 7, such as \['00003.png'\]"),
        (lambda _, frame: frame.write_bytes(frame.read_bytes()[:99]), "00003.png is no readable picture"),
        (saved("RGB", 32), r"00003.png is uint8 \(32, 32, 3\); expected 8-bit grey levels"),
        (saved("I;16", 32), r"00003.png is uint16 \(32, 32\); expected 8-bit grey levels"),
        (saved("L", 31), r"00003.png has shape \(31, 31\); expected \(32, 32\), as the first frame of synthetic/0-0"),
    ],
)
def test_a_spoilt_folder_is_an_error(spoil: Any, words: str, written: Path, tmp_path: Path) -> None:
    shutil.copytree(written, tmp_path / "copy")
    spoil(tmp_path / "copy" / "synthetic.csv", tmp_path / "copy" / "0-000" / "000" / "00003.png")
    corpus = mer_zoo.open_corpus("synthetic", tmp_path / "copy")
    with pytest.raises(CorpusError, match=words):
        corpus.clip(corpus.samples[0])


# The same on every machine

REFERENCES: list[tuple[dict[str, Any], int]] = [
    ({"subjects": 4, "clips_per_subject": 8}, 31),
    ({"subjects": 2, "seed": 1, "preset": "hard", "classes": "objective"}, 2),
    ({"subjects": 2, "seed": 2, "preset": "easy", "classes": 7, "family": "field"}, 9),
]


def golden() -> Iterator[str]:
    """For each reference its sample, and onset and apex made as small as 8 x 8, side by side, two rows a line."""
    yield f"version {VERSION}"
    for options, number in REFERENCES:
        corpus = opened(**options)
        s = corpus.samples[number]
        yield f"{s.key} {s.emotion} {s.apex} {s.fps} {'+'.join(map(str, s.aus))}"
        pictures = corpus.clip(s)[[0, s.apex or 0]].astype(np.float32)
        small = [np.rint(cv2.resize(p, (8, 8), interpolation=cv2.INTER_AREA)).astype(np.uint8) for p in pictures]
        lines = np.concatenate(small, axis=1).reshape(4, 32)
        yield from (line.tobytes().hex() for line in lines)


GOLDEN = """
version 1
synthetic/0-003/007 positive 8 31.7 L14
5d6c706d665c4f405f6d706c665a4e3d51424860513e3e40504048614d3d3e3f
5a4954614e4d49495c4855634c4d4b4863676165574d595064686266554f594f
5a6b5f60514855465b6b5d604e4a544352606363594f483854606363594f4736
4c5b52443d413e314f5b51433d423e3276595c524a4a3b6d6e5a5d524b4a3979
synthetic/1-000/002 VI 8 55.6 4+5+7
4c6470827f736e544d6470837f736e514b48495f674e50574c544e6065545d56
5e60675d6a6a6a675f60665e696b6866657a6f626f74806e677a6e656e767f6c
5a7166606a717b625c70656268727a5e4760564f5465725a4960554f54657259
4c536162646a62604a536162666b61613e30496b6e4b375c3a314a6b6c48385c
synthetic/field2-001/000 surprise 10 49.8 1+2
5c7286a5948e9fa65b6d7b9f8a8096a354636b8b8c6d76945462728e97727095
63637c9fbb8b86af64667d9fbc8f8eb16f887ca2c8c6beb26f887ca2c8c6bdb2
6586748099bbb39a6486748099bbb39a57767882a1b3a78d577677809eb2a88d
4c60585165818e754c60575064808e767c525f778b8880577c525f778b888058
"""


def test_reference_clips_are_what_they_were() -> None:
    found, expected = list(golden()), GOLDEN.split("\n")[1:-1]
    is_row = re.compile("[0-9a-f]{64}").fullmatch
    assert [line for line in found if not is_row(line)] == [line for line in expected if not is_row(line)]
    ours, theirs = ([list(bytes.fromhex(line)) for line in lines if is_row(line)] for lines in (found, expected))
    np.testing.assert_allclose(ours, theirs, atol=2)


if __name__ == "__main__":
    file = Path(__file__)
    fresh = "".join(f"{line}\n" for line in golden())
    file.write_text(file.read_text().replace(f'GOLDEN = """{GOLDEN}"""', f'GOLDEN = """\n{fresh}"""'))
