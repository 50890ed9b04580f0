"""Each way to make folds against a naive form of its own and scikit-learn; folds that leak or miss are refused."""

import dataclasses
import heapq
import random
import re
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GroupKFold, LeaveOneGroupOut

import mer_zoo
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import InputError, LeakError
from mer_zoo.folds import (
    SAME_PEOPLE,
    FoldMaker,
    check_folds,
    group_k_fold,
    hold_out_corpus,
    human,
    leave_one_corpus_out,
    leave_one_subject_out,
    repeated_group_k_fold,
)
from mer_zoo.types import Fold, Sample

APART = ("smic", "casme2", "samm")  # no person is in two of these
quickly = settings(max_examples=12, deadline=None)
Tested = dict[str, list[str]]  # name of a fold -> keys of its test clips
hold_out_samm = partial(hold_out_corpus, corpus="samm")


def made(corpus: str, subject: str, clip: str = "a") -> Sample:
    return Sample(corpus=corpus, subject=subject, clip=clip, emotion="surprise")


def of(persons: int, *corpora: str) -> list[Sample]:
    return [made(corpus, f"{i}", clip) for corpus in corpora for i in range(persons) for clip in "ab"]


def crowd(seed: int, persons: int = 40) -> list[Sample]:
    """Persons of three corpora, whose subject numbers are the same, with one to nine clips each, in any order."""
    rng = random.Random(seed)
    samples = [
        made(APART[person % 3], f"{person // 3}", f"{clip}")
        for person in range(persons)
        for clip in range(rng.randint(1, 9))
    ]
    rng.shuffle(samples)
    return samples


@st.composite
def crowds(draw: st.DrawFn, corpora: Iterable[str] = (*APART, "smic_e", "samm_lv"), least: int = 2) -> list[Sample]:
    """Clips of ``least`` people or more, some of whom have two corpora or two spellings, in any order."""
    spelling = {"smic": ("s{}", "s0{}"), "casme2": ("sub0{}",), "samm": ("00{}", "{}")}
    families = sorted({corpus.partition("_")[0] for corpus in corpora})
    people = st.tuples(st.sampled_from(families), st.integers(1, 8))
    samples = []
    for family, number in draw(st.lists(people, min_size=least, max_size=13, unique=True)):
        names = [(corpus, spelt) for corpus in corpora if corpus.startswith(family) for spelt in spelling[family]]
        clips = draw(st.sets(st.tuples(st.sampled_from(names), st.sampled_from("abc")), min_size=1, max_size=6))
        samples += [made(corpus, spelt.format(number), clip) for (corpus, spelt), clip in sorted(clips)]
    return draw(st.permutations(samples))


# Naive forms


def naive_human(sample: Sample) -> tuple[str, int]:
    """SMIC's and SMIC-E's begin with the same four letters, SAMM's and SAMM-LV's, too."""
    return sample.corpus[:4], int(re.findall(r"\d+", sample.subject)[-1])


def naive_persons(samples: list[Sample]) -> Tested:
    humans = [naive_human(s) for s in samples]
    tested: Tested = {}
    for one in set(humans):
        clips = [s for s, who in zip(samples, humans, strict=True) if who == one]
        tested[sorted(f"{s.corpus}/{s.subject}" for s in clips)[0]] = [s.key for s in clips]
    return tested


def naive_corpora(samples: list[Sample]) -> Tested:
    return {corpus: [s.key for s in samples if s.corpus == corpus] for corpus in {s.corpus for s in samples}}


def naive_k(samples: list[Sample], k: int) -> Tested:
    """The fullest person first."""
    clips = naive_persons(samples)
    return naive_deal(sorted(sorted(clips), key=lambda name: len(clips[name]), reverse=True), clips, k)


def naive_deal(order: list[str], clips: Tested, k: int, prefix: str = "") -> Tested:
    """Cards dealt from a heap of hands, each to the smallest hand."""
    hands = [(0, i) for i in range(k)]
    tested: Tested = {f"{prefix}fold-{i}": [] for i in range(k)}
    for person in order:
        size, i = heapq.heappop(hands)
        tested[f"{prefix}fold-{i}"] += clips[person]
        heapq.heappush(hands, (size + len(clips[person]), i))
    return tested


def naive_repeated(samples: list[Sample]) -> Tested:
    clips, rng, tested = naive_persons(samples), np.random.default_rng(5), {}
    for repeat in range(4):
        order = np.array(sorted(clips), dtype=object)[rng.permutation(len(clips))]
        tested.update(naive_deal(list(order), clips, 3, f"repeat-{repeat}/"))
    return tested


Naive = dict[FoldMaker, Callable[[list[Sample]], Tested]]
ANY_CORPORA: Naive = {  # these may be given corpora that share people
    leave_one_subject_out: naive_persons,
    partial(group_k_fold, k=3): partial(naive_k, k=3),
    group_k_fold: partial(naive_k, k=10),
    partial(repeated_group_k_fold, k=3, times=4, seed=5): naive_repeated,
}
NAIVE: Naive = {
    **ANY_CORPORA,
    leave_one_corpus_out: naive_corpora,
    hold_out_samm: lambda samples: {"samm": naive_corpora(samples)["samm"]},
}


def in_words(maker: FoldMaker) -> str:
    """A maker as an id of a test."""
    return f"{maker.func.__name__}-{maker.keywords}" if isinstance(maker, partial) else maker.__name__


every_maker = pytest.mark.parametrize("maker", NAIVE, ids=in_words)
mixing_makers = pytest.mark.parametrize("maker", ANY_CORPORA, ids=in_words)


def sides(folds: list[Fold]) -> list[Any]:
    """What folds are, whatever the order of clips within a side."""
    return [(fold.name, fold.repeat, set(fold.train), set(fold.test)) for fold in folds]


def as_naive(maker: FoldMaker, samples: list[Sample]) -> None:
    tested = NAIVE[maker](samples)
    folds = maker(samples)
    assert [fold.name for fold in folds] == sorted(tested)
    for fold in folds:  # both sides in the order of the samples
        assert list(fold.test) == [s for s in samples if s.key in tested[fold.name]]
        assert list(fold.train) == [s for s in samples if s.key not in tested[fold.name]]


@every_maker
@pytest.mark.parametrize("seed", range(2))
def test_folds_are_those_of_a_naive_form(maker: FoldMaker, seed: int) -> None:
    as_naive(maker, crowd(seed))


@mixing_makers
@quickly
@given(samples=crowds(least=10))
def test_folds_of_corpora_that_share_people_are_those_of_a_naive_form(maker: FoldMaker, samples: list[Sample]) -> None:
    as_naive(maker, samples)


@every_maker
@pytest.mark.parametrize("seed", range(2))
def test_folds_are_honest_and_whole(maker: FoldMaker, seed: int) -> None:
    """Hold-out alone tests some clips only."""
    samples = crowd(seed)
    honest_and_whole(maker(samples), [s for s in samples if maker is not hold_out_samm or s.corpus == "samm"])
    check_folds(maker(samples), samples)


@mixing_makers
@quickly
@given(samples=crowds(least=10))
def test_people_whom_corpora_share_are_on_one_side(maker: FoldMaker, samples: list[Sample]) -> None:
    honest_and_whole(maker(samples), samples)
    check_folds(maker(samples), samples)


def honest_and_whole(folds: list[Fold], to_test: list[Sample]) -> None:
    for repeat in {fold.repeat for fold in folds}:
        tested = Counter(s.key for fold in folds if fold.repeat == repeat for s in fold.test)
        assert tested == Counter(s.key for s in to_test)
    for fold in folds:
        assert not {naive_human(s) for s in fold.train} & {naive_human(s) for s in fold.test}


@every_maker
@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_samples_moves_no_clip(maker: FoldMaker, seed: int) -> None:
    samples = crowd(0)
    assert sides(maker(random.Random(seed).sample(samples, len(samples)))) == sides(maker(samples))


@mixing_makers
@quickly
@given(samples=crowds(least=10), rng=st.randoms(use_true_random=False))
def test_the_order_of_spellings_moves_no_clip(maker: FoldMaker, samples: list[Sample], rng: random.Random) -> None:
    assert sides(maker(rng.sample(samples, len(samples)))) == sides(maker(samples))


# Against scikit-learn


@quickly
@given(samples=crowds())
def test_leaving_one_subject_out_is_leaving_one_group_out(samples: list[Sample]) -> None:
    groups = [str(naive_human(s)) for s in samples]
    expected = {frozenset(samples[i] for i in test) for _, test in LeaveOneGroupOut().split(samples, groups=groups)}
    assert {frozenset(fold.test) for fold in leave_one_subject_out(samples)} == expected


@quickly
@given(samples=crowds(APART).filter(lambda samples: len({s.corpus for s in samples}) > 1))
def test_leaving_one_corpus_out_is_leaving_one_group_out(samples: list[Sample]) -> None:
    splits = LeaveOneGroupOut().split(samples, groups=[s.corpus for s in samples])
    expected = {frozenset(samples[i] for i in test) for _, test in splits}
    assert {frozenset(fold.test) for fold in leave_one_corpus_out(samples)} == expected


@quickly
@given(samples=crowds(least=3), k=st.integers(2, 3))
def test_folds_are_as_large_as_those_of_scikit_learn(samples: list[Sample], k: int) -> None:
    groups = [str(naive_human(s)) for s in samples]
    splits = GroupKFold(k).split(samples, groups=groups)
    assert [len(fold.test) for fold in group_k_fold(samples, k)] == [len(test) for _, test in splits]


@pytest.mark.parametrize("k", [2, 3, 7])
def test_folds_are_those_of_scikit_learn_where_no_two_persons_have_as_many_clips(k: int) -> None:
    samples = [made("casme2", f"{person}", f"{clip}") for person in range(1, 20) for clip in range(person * 5 % 23)]
    groups = [s.subject for s in samples]
    expected = [[samples[i] for i in test] for _, test in GroupKFold(k).split(samples, groups=groups)]
    assert [list(fold.test) for fold in group_k_fold(samples, k)] == expected


# Sizes and names


@pytest.mark.parametrize("maker", [group_k_fold, partial(repeated_group_k_fold, k=10, times=2)], ids=in_words)
@pytest.mark.parametrize("persons", [10, 11, 25, 259])
def test_ten_folds_are_of_nearly_one_size(maker: FoldMaker, persons: int) -> None:
    samples = crowd(1, persons)
    most = max(Counter(s.person for s in samples).values())
    folds = maker(samples)
    for repeat in {fold.repeat for fold in folds}:
        sizes = [len(fold.test) for fold in folds if fold.repeat == repeat]
        assert len(sizes) == 10
        assert max(sizes) - min(sizes) <= most  # or the last person dealt to the fullest would have gone elsewhere
        assert maker is not group_k_fold or persons < 100 or max(sizes) - min(sizes) <= 1


def test_ten_folds_by_hand() -> None:
    """One person of nine clips fills a fold; eighteen of one clip share the others by twos."""
    clips = {"busy": 9, **{f"{i:02d}": 1 for i in range(18)}}
    folds = group_k_fold([made("dfme", name, f"{i}") for name, times in clips.items() for i in range(times)])
    assert [sorted({s.subject for s in fold.test}) for fold in folds] == [
        ["busy"],
        *([f"{i:02d}", f"{i + 9:02d}"] for i in range(9)),
    ]


def test_twelve_folds_are_in_the_order_of_their_numbers() -> None:
    assert [fold.name for fold in group_k_fold(of(20, "samm"), 12)] == [f"fold-{i}" for i in range(12)]


def test_ten_folds_of_dfme_are_named_by_number() -> None:
    folds = mer_zoo.get_protocol("dfme-7").folds([made("dfme", f"sub{i:04d}") for i in range(12)])
    assert [fold.name for fold in folds] == [f"fold-{i}" for i in range(10)]
    assert [s.subject for s in folds[0].test] == ["sub0000", "sub0010"]


def test_subjects_of_one_number_in_three_corpora_are_three_persons() -> None:
    samples = [made(corpus, "6") for corpus in APART]
    assert [fold.name for fold in leave_one_subject_out(samples)] == ["casme2/6", "samm/6", "smic/6"]


def test_a_corpus_held_out_is_not_learnt_from_and_others_are_not_tested() -> None:
    samples = of(3, *APART)
    [fold] = hold_out_corpus(samples, "casme2")
    assert (fold.name, fold.repeat) == ("casme2", 0)
    assert [s.corpus for s in fold.test] == ["casme2"] * 6
    assert [s.corpus for s in fold.train] == ["smic"] * 6 + ["samm"] * 6


# Repetitions


def groups_of(folds: list[Fold], repeat: int) -> frozenset[frozenset[str]]:
    return frozenset(frozenset(s.person for s in fold.test) for fold in folds if fold.repeat == repeat)


def test_repetitions_are_different_partitions_even_where_every_size_differs() -> None:
    samples = [made("samm", f"{person:02d}", f"{clip}") for person in range(20) for clip in range(person + 1)]
    folds = repeated_group_k_fold(samples, k=4, times=6)
    assert [(fold.name, fold.repeat) for fold in folds] == [
        (f"repeat-{repeat}/fold-{i}", repeat) for repeat in range(6) for i in range(4)
    ]
    assert len({groups_of(folds, repeat) for repeat in range(6)}) == 6


def test_persons_are_dealt_out_at_random() -> None:
    """Two of ten persons of as many clips are in one of two folds in four cases of nine."""
    folds = repeated_group_k_fold([made("samm", f"{i}") for i in range(10)], k=2, times=900)
    together = [
        sum({s.subject for s in fold.test} >= {"0", "1"} for fold in folds[i : i + 2]) for i in range(0, 1800, 2)
    ]
    assert 340 < sum(together) < 460  # 400, give or take four standard deviations of 15


def test_a_seed_says_which_partitions() -> None:
    samples = crowd(2)
    three, five = (repeated_group_k_fold(samples, times=times, seed=1) for times in (3, 5))
    assert sides(three) == sides(five)[:15]
    assert groups_of(three, 0) != groups_of(repeated_group_k_fold(samples, times=1, seed=2), 0)


# One person in two corpora


def test_one_participant_is_one_human_in_both_corpora_and_every_spelling() -> None:
    assert {human(made(*name)) for name in (("smic", "s1"), ("smic", "s01"), ("smic_e", "S01"))} == {"smic/s1"}
    assert {human(made(*name)) for name in (("samm", "006"), ("samm_lv", "6"))} == {"samm/6"}
    others = [("smic", "s1"), ("smic", "s11"), ("samm", "1"), ("casme", "sub01"), ("casme2", "sub01"), ("dfme", "1")]
    assert len({human(made(*name)) for name in others}) == len(others)


@pytest.mark.parametrize(("longer", "corpus"), SAME_PEOPLE.items())
def test_copies_of_corpora_that_share_people_name_them_alike(longer: str, corpus: str, tmp_path: Path) -> None:
    """A clip's name says the participant's number in both."""
    found = []
    for name in (longer, corpus):
        CORPORA.get(name).write_specimen(tmp_path / name)
        found.append(mer_zoo.open_corpus(name, tmp_path / name).samples)
    long, short = ({s.clip: human(s) for s in samples} for samples in found)
    common = long.keys() & short.keys()
    assert common
    assert {clip: long[clip] for clip in common} == {clip: short[clip] for clip in common}
    with pytest.raises(LeakError, match=f"{corpus}/.* = {longer}/"):
        leave_one_corpus_out([*found[0], *found[1]])


def test_a_participant_of_smic_and_smic_e_is_left_out_from_both() -> None:
    samples = [made("smic_e", "s01"), made("smic", "s1"), made("smic", "s01", "b"), made("smic", "s2")]
    first, second = leave_one_subject_out(samples)
    assert (first.name, first.test) == ("smic/s01", tuple(samples[:3]))
    assert (second.name, second.test) == ("smic/s2", tuple(samples[3:]))
    only_longer = leave_one_subject_out([made("smic_e", "s01"), made("smic_e", "s02")])
    assert [fold.name for fold in only_longer] == ["smic_e/s01", "smic_e/s02"]


@pytest.mark.parametrize("corpora", [("smic", "smic_e", "casme2"), ("samm_lv", "samm")])
def test_corpora_that_share_people_cannot_be_parted(corpora: tuple[str, ...]) -> None:
    samples = of(3, *corpora)
    one, other = sorted(set(corpora) - {"casme2"})
    words = rf"persons on both sides: \['{one}/0 = {other}/0', '{one}/1 = {other}/1', .*\]; that leaks"
    with pytest.raises(LeakError, match=words):
        leave_one_corpus_out(samples)
    for corpus in (one, other):
        with pytest.raises(LeakError, match=words):
            hold_out_corpus(samples, corpus)
    train, test = (tuple(s for s in samples if (s.corpus == one) == tested) for tested in (False, True))
    with pytest.raises(LeakError, match=words):
        check_folds([Fold("x", train, test)], samples)


def test_corpora_of_one_family_without_a_common_person_can_be_parted() -> None:
    samples = [made("smic", "s1"), made("smic_e", "s02")]
    assert [fold.name for fold in leave_one_corpus_out(samples)] == ["smic", "smic_e"]
    assert [fold.name for fold in hold_out_corpus(samples, "smic_e")] == ["smic_e"]


# What is refused


@pytest.mark.parametrize(
    ("maker", "few", "enough", "words"),
    [
        (leave_one_subject_out, [], of(2, "smic"), "needs two persons or more; found none"),
        (leave_one_subject_out, of(1, "smic"), of(1, "smic", "samm"), r"two persons or more; found \['smic/0'\]"),
        (leave_one_subject_out, of(1, "smic_e", "smic"), of(2, "smic"), r"two persons or more; found \['smic/0'\]"),
        (leave_one_corpus_out, [], of(1, "smic", "samm"), "needs two corpora or more; found none"),
        (leave_one_corpus_out, of(40, "smic"), of(2, "smic", "samm"), r"two corpora or more; found \['smic'\]"),
        (hold_out_samm, of(2, "samm"), of(1, "smic", "samm"), r"another corpus; found \['samm'\]"),
        (hold_out_samm, of(2, "smic"), of(1, "smic", "samm"), r"Holding out 'samm' .*found \['smic'\]"),
        (hold_out_samm, [], of(1, "smic", "samm"), "found none"),
        (group_k_fold, [], of(10, "dfme"), "10 folds of persons need 10 persons or more; found 0"),
        (group_k_fold, of(9, "dfme"), of(5, "dfme", "smic"), "10 folds of persons need 10 persons or more; found 9"),
        (group_k_fold, of(9, "samm", "samm_lv"), of(10, "samm"), "need 10 persons or more; found 9"),
        (repeated_group_k_fold, of(4, "dfme"), of(5, "dfme"), "5 folds of persons need 5 persons or more; found 4"),
    ],
)
def test_too_few_cannot_be_parted(maker: FoldMaker, few: list[Sample], enough: list[Sample], words: str) -> None:
    check_folds(maker(enough), enough)
    with pytest.raises(InputError, match=words):
        maker(few)


@pytest.mark.parametrize("value", [1, 0, -2, 2.0, True, None, "3"])
def test_a_number_of_folds_is_whole_and_two_or_more(value: Any) -> None:
    words = f"k is {value!r}; expected a whole number, 2 or more"
    for maker in (group_k_fold, repeated_group_k_fold):
        with pytest.raises(InputError, match=words):
            maker(of(20, "samm"), k=value)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"times": 0}, "times is 0; expected a whole number, 1 or more"),
        ({"times": 1.5}, "times is 1.5"),
        ({"times": True}, "times is True"),
        ({"seed": -1}, "seed is -1; expected a whole number, 0 or more"),
        ({"seed": None}, "seed is None"),
    ],
)
def test_repetitions_and_seeds_are_whole_numbers(options: Any, words: str) -> None:
    numpys: Any = {"k": np.int64(2), "times": np.int64(1), "seed": np.int64(0)}
    assert repeated_group_k_fold(of(20, "samm"), **numpys)
    with pytest.raises(InputError, match=words):
        repeated_group_k_fold(of(20, "samm"), **options)


A, B, C, D = (made("smic", subject, clip) for subject, clip in (("1", "a"), ("1", "b"), ("2", "a"), ("2", "b")))
HONEST = leave_one_subject_out([A, B, C, D])
AGAIN = [dataclasses.replace(fold, name=f"again/{fold.name}", repeat=1) for fold in HONEST]
STRANGER = made("smic", "3")


@pytest.mark.parametrize(
    ("folds", "words"),
    [
        ([], "There are no folds"),
        ([dataclasses.replace(fold, name="x") for fold in HONEST], r"share names: \['x'\]"),
        ([*HONEST, dataclasses.replace(HONEST[0], name="again")], "0 tests 2 clips more than once: .*smic/1/a"),
        ([Fold("x", (C, D), (A, A))], "Repetition 0 tests 1 clips more than once"),
        ([*HONEST, AGAIN[1]], "0 and 1 test different .*smic/1/a"),
        ([HONEST[0], *AGAIN], "0 and 1 test different clips, such as .*smic/2/a"),
        ([*HONEST, Fold("tested", (A, B), (STRANGER,))], "'tested' has 1 clips that are not among .*smic/3/a"),
        ([Fold("learnt", (C, STRANGER), (A,))], "'learnt' has 1 clips that are not among the samples"),
    ],
)
def test_folds_that_are_not_whole_are_refused(folds: list[Fold], words: str) -> None:
    with pytest.raises(InputError, match=words):
        check_folds(folds, [A, B, C, D])


def test_folds_that_leak_are_refused() -> None:
    with pytest.raises(LeakError, match=r"'x' has persons on both sides: \['smic/1', 'smic/2'\]; that leaks"):
        check_folds([Fold("x", (A, C), (B, D))], [A, B, C, D])
    late = Fold("y", (A, B, D), (C,), 1)
    with pytest.raises(LeakError, match=r"'y' has persons on both sides: \['smic/2'\]"):
        check_folds([*HONEST, late], [A, B, C, D])


def test_clips_may_be_only_learnt_from_and_repetitions_test_them_again() -> None:
    check_folds(HONEST[:1], [A, B, C, D])
    check_folds([*HONEST, *AGAIN], [A, B, C, D])
