"""What weights are worth: on new rendered persons of both families, and, for flow, on real images and real persons."""

from pathlib import Path
from typing import Any

import numpy as np
from clip_pool import PROTOCOLS

import mer_zoo
from mer_zoo.metrics import accuracy, confusion, uar, uf1
from mer_zoo.training import ClipDataset, predict
from mer_zoo.types import InputSpec

PERSONS = 60  # times nine clips
TEST_SEED = 5_001  # below all seeds that are learnt from
TESTS = {  # preset and family -> what the tables call it
    "default-head": "new persons",
    "default-field": "other family",
}
HARDNESS = {"easy-head": "new persons, easy", "hard-head": "new persons, hard"}


def clips_of(test: str, task: str, spec: InputSpec, cache: Path) -> ClipDataset:
    """New persons, with labels as they are meant: no label noise."""
    preset, family = test.split("-")
    classes: Any = task if task == "au" else int(task)
    corpus = mer_zoo.open_corpus(
        "synthetic",
        subjects=PERSONS,
        clips_per_subject=9,
        seed=TEST_SEED,
        preset=preset,
        family=family,
        classes=classes,
        label_noise=0.0,
    )
    return mer_zoo.create_dataset(PROTOCOLS[task], {"synthetic": corpus}, spec, cache=cache)


def scores_of(model: Any, data: ClipDataset) -> dict[str, float]:
    """UF1, UAR and accuracy; of units the mean of their F1 and the share that is right."""
    said = predict(model, data).numpy()
    if data.many:
        target, pred = np.array(data.targets, bool), said > 0.5
        both, either = (target & pred).sum(axis=0), target.sum(axis=0) + pred.sum(axis=0)
        return {"mean F1": float((2 * both / either).mean()), "accuracy": float((target == pred).mean())}
    matrix = confusion(np.array(data.targets), said.argmax(axis=1), len(data.classes))
    return {"UF1": uf1(matrix), "UAR": uar(matrix), "accuracy": accuracy(matrix)}
