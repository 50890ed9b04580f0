"""Each way to make folds against a naive form of its own; folds that leak or miss are refused."""

import dataclasses
import heapq
import random
from collections import Counter
from collections.abc import Callable

import pytest

from mer_zoo.errors import InputError
from mer_zoo.folds import FoldMaker, check_folds, leave_one_corpus_out, leave_one_subject_out, ten_folds_of_persons
from mer_zoo.types import Fold, Sample

CORPORA = ("smic", "casme2", "samm")
Tested = dict[str, list[str]]  # name of a fold -> keys of its test clips


def made(corpus: str, subject: str, clip: str) -> Sample:
    return Sample(corpus=corpus, subject=subject, clip=clip, emotion="surprise")


def crowd(seed: int, persons: int = 40) -> list[Sample]:
    """Persons of three corpora, whose subject numbers are the same, with one to nine clips each, in any order."""
    rng = random.Random(seed)
    samples = [
        made(CORPORA[person % 3], f"{person // 3}", f"{clip}")
        for person in range(persons)
        for clip in range(rng.randint(1, 9))
    ]
    rng.shuffle(samples)
    return samples


def naive_persons(samples: list[Sample]) -> Tested:
    tested: Tested = {}
    for s in samples:
        tested.setdefault(f"{s.corpus}/{s.subject}", []).append(s.key)
    return tested


def naive_corpora(samples: list[Sample]) -> Tested:
    return {corpus: [s.key for s in samples if s.corpus == corpus] for corpus in {s.corpus for s in samples}}


def naive_ten(samples: list[Sample]) -> Tested:
    """Cards dealt from a heap of hands: the fullest person first, each to the smallest hand."""
    clips = naive_persons(samples)
    hands = [(0, i) for i in range(10)]
    tested: Tested = {f"fold-{i}": [] for i in range(10)}
    for person in sorted(sorted(clips), key=lambda name: len(clips[name]), reverse=True):
        size, i = heapq.heappop(hands)
        tested[f"fold-{i}"] += clips[person]
        heapq.heappush(hands, (size + len(clips[person]), i))
    return tested


NAIVE: dict[FoldMaker, Callable[[list[Sample]], Tested]] = {
    leave_one_subject_out: naive_persons,
    leave_one_corpus_out: naive_corpora,
    ten_folds_of_persons: naive_ten,
}
every_maker = pytest.mark.parametrize("maker", NAIVE)


@every_maker
@pytest.mark.parametrize("seed", range(4))
def test_folds_are_those_of_a_naive_form(maker: FoldMaker, seed: int) -> None:
    samples = crowd(seed)
    tested = NAIVE[maker](samples)
    folds = maker(samples)
    assert [fold.name for fold in folds] == sorted(tested)
    for fold in folds:  # both sides in the order of the samples
        assert list(fold.test) == [s for s in samples if s.key in tested[fold.name]]
        assert list(fold.train) == [s for s in samples if s.key not in tested[fold.name]]


@every_maker
@pytest.mark.parametrize("seed", range(4))
def test_persons_stay_whole_and_clips_are_tested_once(maker: FoldMaker, seed: int) -> None:
    samples = crowd(seed)
    folds = maker(samples)
    assert Counter(s.key for fold in folds for s in fold.test) == Counter(s.key for s in samples)
    for person in {s.person for s in samples}:
        assert len({fold.name for fold in folds for s in fold.test if s.person == person}) == 1
    for fold in folds:
        assert not {s.person for s in fold.train} & {s.person for s in fold.test}
        assert len(fold.train) + len(fold.test) == len(samples)
    check_folds(folds, samples)


@every_maker
def test_the_order_of_samples_moves_no_clip(maker: FoldMaker) -> None:
    samples = crowd(0)
    turned = sorted(samples, key=lambda s: s.key, reverse=True)
    one, other = ([(f.name, set(f.test), set(f.train)) for f in maker(order)] for order in (samples, turned))
    assert one == other


@pytest.mark.parametrize("persons", [10, 11, 25, 259])
def test_ten_folds_are_of_nearly_one_size(persons: int) -> None:
    samples = crowd(1, persons)
    most = max(Counter(s.person for s in samples).values())
    sizes = [len(fold.test) for fold in ten_folds_of_persons(samples)]
    assert len(sizes) == 10
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= most  # or the last person dealt to the fullest would have gone elsewhere
    assert persons < 100 or max(sizes) - min(sizes) <= 1


def test_ten_folds_by_hand() -> None:
    """One person of nine clips fills a fold; eighteen of one clip share the others by twos."""
    clips = {"busy": 9, **{f"{i:02d}": 1 for i in range(18)}}
    folds = ten_folds_of_persons([made("dfme", name, f"{i}") for name, times in clips.items() for i in range(times)])
    assert [sorted({s.subject for s in fold.test}) for fold in folds] == [
        ["busy"],
        *([f"{i:02d}", f"{i + 9:02d}"] for i in range(9)),
    ]


def test_subjects_of_one_number_in_three_corpora_are_three_persons() -> None:
    samples = [made(corpus, "6", "a") for corpus in CORPORA]
    assert [fold.name for fold in leave_one_subject_out(samples)] == ["casme2/6", "samm/6", "smic/6"]


def of(persons: int, *corpora: str) -> list[Sample]:
    return [made(corpus, f"{i}", clip) for corpus in corpora for i in range(persons) for clip in "ab"]


@pytest.mark.parametrize(
    ("maker", "few", "enough", "words"),
    [
        (leave_one_subject_out, [], of(2, "smic"), "needs two persons or more; found none"),
        (leave_one_subject_out, of(1, "smic"), of(1, "smic", "samm"), r"two persons or more; found \['smic/0'\]"),
        (leave_one_corpus_out, [], of(1, "smic", "samm"), "needs two corpora or more; found none"),
        (leave_one_corpus_out, of(40, "smic"), of(2, "smic", "samm"), r"two corpora or more; found \['smic'\]"),
        (ten_folds_of_persons, [], of(10, "dfme"), "need ten persons or more; found 0"),
        (ten_folds_of_persons, of(9, "dfme"), of(5, "dfme", "smic"), "need ten persons or more; found 9"),
    ],
)
def test_too_few_cannot_be_parted(maker: FoldMaker, few: list[Sample], enough: list[Sample], words: str) -> None:
    check_folds(maker(enough), enough)
    with pytest.raises(InputError, match=words):
        maker(few)


def test_folds_that_leak_or_miss_are_refused() -> None:
    a, b, c, d = (made("smic", subject, clip) for subject, clip in (("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")))
    honest = leave_one_subject_out([a, b, c, d])
    check_folds(honest, [a, b, c, d])
    for folds, words in (
        ([Fold("x", (a, c), (b, d))], "persons on both sides: .*smic/1.*that leaks"),
        ([dataclasses.replace(fold, name="x") for fold in honest], "share names"),
        (honest[:1], "2 clips are not tested exactly once"),
        ([*honest, dataclasses.replace(honest[0], name="again")], "2 clips are not tested exactly once"),
        ([*honest, Fold("stranger", (a, b), (made("smic", "3", "a"),))], "0 clips are not tested exactly once"),
    ):
        with pytest.raises(InputError, match=words):
            check_folds(folds, [a, b, c, d])
