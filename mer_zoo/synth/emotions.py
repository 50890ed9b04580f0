"""Which action units make which emotion, in one place, with sources; and which labels there are.

Classes overlap on purpose: brows lower in anger and in sadness, a corner of the mouth tightens in contempt and in
repression. Real labels overlap more: boosted trees given the action units recover self-reported emotions with a
macro-F1 of 0.32 to 0.35 only (Varanka et al., "Data leakage and evaluation issues in micro-expression analysis",
table 2).
"""

from typing import Literal

import numpy as np

from mer_zoo.synth.units import AUS

ClassSet = Literal[3, 5, 7, "objective", "au"]
Table = Literal["miex", "counts"]
Units = dict[int, float]  # action unit -> probability that it is active

# "miex": the expert table of Liu et al., "How to Synthesize a Large-Scale and Trainable Micro-Expression Dataset?",
# ECCV 2022. Repression, which they lack, is ours: after the criteria of CASME II (Yan et al., PLOS ONE 9(1), 2014,
# table 1: units 15 and 17, alone or together), with 14 and 24. Others, ours: what CASME II's criteria leave.
MIEX: dict[str, Units] = {
    "happiness": {12: 1.0, 6: 0.5, 25: 0.5},
    "surprise": {1: 1.0, 2: 1.0, 5: 0.5, 25: 0.5, 26: 0.5},
    "anger": {4: 1.0, 7: 0.5, 23: 0.5},
    "disgust": {9: 1.0, 10: 0.5, 17: 1.0},
    "repression": {14: 0.6, 15: 0.6, 17: 0.5},
    "contempt": {14: 1.0},
    "fear": {5: 0.5, 20: 0.5, 25: 0.5, 26: 0.5},
    "sadness": {4: 1.0, 1: 0.5, 15: 0.5},
    "others": {4: 0.5, 7: 0.3, 14: 0.2, 1: 0.15, 24: 0.15, 17: 0.1},
}

# "counts": how often each unit was coded in real corpora. CASME II's units (130 clips with unit 4, 39 with 7, 34 with
# 12, 27 with 14, 26 with 1, 25 with 17, 22 with 2, 16 each with 10 and 15, 13 each with 6 and 9: Varanka et al.,
# table 4) over its 32 clips of happiness, 63 of disgust, 25 of surprise, 27 of repression, 7 of sadness and 99 of
# others. Only the sums are published; how they fall on the emotions is ours, after the criteria of Yan et al., 2014.
# Emotions that CASME II lacks, and units 5, 25 and 26, which were not counted there, follow the expert table.
COUNTS: dict[str, Units] = {
    "happiness": {12: 0.80, 6: 0.38, 14: 0.15},
    "surprise": {1: 0.90, 2: 0.84, 5: 0.3, 25: 0.15, 26: 0.1},
    "anger": {4: 0.80, 7: 0.60, 23: 0.20, 24: 0.10},
    "disgust": {4: 0.91, 7: 0.44, 9: 0.19, 10: 0.16, 17: 0.03},
    "repression": {17: 0.48, 15: 0.44, 14: 0.33, 12: 0.15},
    "contempt": {14: 0.80, 12: 0.20},
    "fear": {20: 0.40, 4: 0.30, 5: 0.30, 1: 0.20, 25: 0.20},
    "sadness": {4: 0.57, 1: 0.43, 15: 0.29, 17: 0.20},
    "others": {4: 0.67, 14: 0.13, 7: 0.11, 17: 0.10, 10: 0.06, 12: 0.05},
}
TABLES: dict[Table, dict[str, Units]] = {"counts": COUNTS, "miex": MIEX}

# Negative clips by emotion: ours, near the negative clips of MEGC 2019 in CASME II and SAMM (anger 0.32, disgust 0.39,
# repression 0.15, contempt 0.07, fear 0.04, sadness 0.03); SMIC's sheet says "negative" only.
NEGATIVE = {"anger": 0.32, "disgust": 0.33, "repression": 0.15, "contempt": 0.08, "fear": 0.06, "sadness": 0.06}

# Label -> emotions it stands for, with their shares.
LABELS: dict[ClassSet, dict[str, dict[str, float]]] = {
    3: {"negative": NEGATIVE, "positive": {"happiness": 1.0}, "surprise": {"surprise": 1.0}},
    5: {name: {name: 1.0} for name in ("happiness", "surprise", "disgust", "repression", "others")},
    7: {name: {name: 1.0} for name in ("happiness", "surprise", "anger", "disgust", "fear", "sadness", "contempt")},
}

# Davison, Merghani and Yap, "Objective Classes for Micro-Facial Expression Recognition", J. Imaging 4(10), 2018: the
# combinations of units that make each class; VII is whatever they do not list. Those with units 38 and 40 are left
# out, as no face here moves them; the examples of VII are ours.
OBJECTIVE: dict[str, tuple[frozenset[int], ...]] = {
    name: tuple(frozenset(map(int, units.split("+"))) for units in text.split())
    for name, text in {
        "I": "6 12 6+12 6+7+12 7+12",
        "II": "1+2 5 25 1+2+25 25+26 5+24",
        "III": "23 4 4+7 4+5 4+5+7 17+24 4+6+7",
        "IV": "10 9 4+9 4+7+9 4+9+17 4+7+10 4+5+7+9 7+10",
        "V": "1 15 1+4 6+15 15+17",
        "VI": "1+2+4 20",
        "VII": "2 7 14 17 24 12+14 4+14 7+14 4+17",
    }.items()
}
CLASS_SETS: tuple[ClassSet, ...] = (3, 5, 7, "objective", "au")


STRAY = 0.25  # share of clips of an emotion with one unit more, of any: real labels follow from units only in part


def objective_class(units: frozenset[int]) -> str:
    """The class I to VII of a combination of action units, whatever their sides."""
    return next((name for name, listed in OBJECTIVE.items() if units in listed), "VII")


def unit_number(code: str) -> int:
    """Action unit of a FACS code, whatever its side: ``L12`` -> 12."""
    return int(code.lstrip("LR"))


def unit_numbers(codes: tuple[str, ...]) -> frozenset[int]:
    """Action units of several FACS codes: ``("4", "L12")`` -> 4 and 12."""
    return frozenset(map(unit_number, codes))


def class_names(classes: ClassSet) -> tuple[str, ...]:
    """The labels of a class set; for ``au``, which has many labels at once, the action units."""
    if classes == "objective":
        return tuple(OBJECTIVE)
    if classes == "au":
        return tuple(str(unit) for unit in AUS)
    return tuple(LABELS[classes])


def draw_units(classes: ClassSet, table: Table, label: str, rng: np.random.Generator) -> frozenset[int]:
    """Action units of one clip with this label; for ``au`` the label is the unit that must be there."""
    if classes == "objective":
        listed = OBJECTIVE[label]
        return listed[rng.integers(len(listed))]
    if classes == "au":
        others = rng.choice(AUS, size=int(rng.choice(3, p=(0.5, 0.35, 0.15))), replace=False)
        return frozenset({int(label), *map(int, others)})
    emotions = LABELS[classes][label]
    emotion = str(rng.choice(list(emotions), p=np.array(list(emotions.values()))))
    chances = TABLES[table][emotion]
    weights = np.array(list(chances.values()))
    units = {unit for unit, chance in chances.items() if rng.random() < chance}
    units = units or {int(rng.choice(list(chances), p=weights / weights.sum()))}
    if rng.random() < STRAY:
        units.add(int(rng.choice([unit for unit in AUS if unit not in units])))
    return frozenset(units)
