"""Classifiers of scikit-learn that can stand where a model name stands: what a network should beat.

They see each clip as means over a 7 x 7 grid, without augmentation. Their settings are scikit-learn's defaults, with
classes weighted inversely to their clips and inputs standardised; none was chosen by a score on a test part. The grid
and the number of time steps are ours.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from sklearn.dummy import DummyClassifier
from sklearn.linear_model import RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from torch.nn.functional import adaptive_avg_pool2d, adaptive_avg_pool3d

from mer_zoo.errors import InputError, UnknownNameError
from mer_zoo.seeds import one_blas_thread
from mer_zoo.training import ClipDataset

GRID = 7  # pixels a side
STEPS = 4  # rise, peak and fall fit in; a channel then has 196 numbers, near the 147 of flow's three

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Baseline:
    """A baseline: what it is in one line, and how to make a fresh, untrained scikit-learn classifier."""

    summary: str
    make: Callable[[], Any]


def _ridge() -> Any:
    return make_pipeline(StandardScaler(), RidgeClassifier(alpha=1.0, class_weight="balanced"))


def _svm() -> Any:
    machine = SVC(C=1.0, kernel="rbf", gamma="scale", class_weight="balanced", break_ties=True)
    return make_pipeline(StandardScaler(), machine)


BASELINES = {
    "majority": Baseline(
        "the class of most training clips, of equal ones the first", lambda: DummyClassifier(strategy="most_frequent")
    ),
    "ridge": Baseline("ridge regression on the classes (alpha 1), standardised 7 x 7 means, balanced classes", _ridge),
    "svm": Baseline("support-vector machine (RBF, C 1), standardised 7 x 7 means, balanced classes", _svm),
}


def baseline_answers(name: str, train: ClipDataset, test: ClipDataset) -> Numbers:
    """Train a baseline on one part and let it answer another: (N_test, C), each number in 0..1.

    The mean and the standard deviation of each input are those of the training part. Clips are pooled first; ones
    that ``pooled`` gave stay as they are. The same data give the same numbers, whatever the number of threads.

    Args:
        name: One of ``BASELINES``.
        train: What may be learnt from.
        test: What is answered; its targets are not looked at.

    Returns:
        Rows that sum to one, the softmax of the decision function (one-hot for ``majority``); the largest is the
        classifier's own answer. A class without training clips gets 0, the only class of a training part 1. For action
        units each column is a classifier of its own, the sigmoid of its decision function, shown above one half;
        a unit that no training clip or every one shows gets 0 or 1. These numbers rank classes. They are not
        calibrated: 0.8 does not mean right in 8 of 10 clips.

    Raises:
        UnknownNameError: If no baseline has this name.
        InputError: If the two parts differ in what their inputs or classes are.
    """
    if name not in BASELINES:
        raise UnknownNameError("baseline", name, BASELINES)
    if (train.spec, train.classes) != (test.spec, test.classes):
        raise InputError(
            f"The training part holds {train.spec} of classes {train.classes}, the test part {test.spec} of classes "
            f"{test.classes}; expected the same. Take both from one dataset by subset."
        )
    make, targets = BASELINES[name].make, np.array(train.targets)
    x, x_test = _rows(train), _rows(test)
    with one_blas_thread():
        if targets.ndim == 1:
            return _shares(make, x, targets, x_test, len(train.classes))
        return np.column_stack([_shares(make, x, shown, x_test, 2)[:, 1] for shown in targets.T])


def pooled(data: ClipDataset) -> ClipDataset:
    """The same clips as means over areas: (C, H, W) -> (C, 7, 7), (C, T, H, W) -> (C, 4, 7, 7).

    Each clip is pooled by itself, so that this can be done once for all folds. A side of fewer numbers keeps them.
    Areas are those of torch's adaptive average pooling, which overlap where sides do not divide.
    """
    spec = replace(data.spec, size=min(data.spec.size, GRID), frames=min(data.spec.frames, STEPS))
    if spec == data.spec:
        return data
    pool: Callable[..., torch.Tensor] = adaptive_avg_pool2d if len(spec.shape) == 3 else adaptive_avg_pool3d
    inputs = np.concatenate(
        [pool(torch.tensor(data.inputs[i : i + 64]), spec.shape[1:]).numpy() for i in range(0, len(data), 64)]
    )
    return ClipDataset(inputs, data.targets, data.samples, spec, data.classes)


def _rows(data: ClipDataset) -> Numbers:
    """One row of numbers a clip: (N, F)."""
    return pooled(data).inputs.reshape(len(data), -1).astype(np.float64)


def _shares(
    make: Callable[[], Any], x: Numbers, targets: npt.NDArray[np.int64], x_test: Numbers, num_classes: int
) -> Numbers:
    """Shares of the classes for each test row, (N_test, num_classes)."""
    shares = np.zeros((len(x_test), num_classes))
    seen = np.unique(targets)
    if len(seen) == 1:
        shares[:, seen] = 1.0
        return shares
    model = make().fit(x, targets)
    if isinstance(model, DummyClassifier):
        shares[:, seen] = model.predict_proba(x_test)
        return shares
    scores = model.decision_function(x_test)
    if scores.ndim == 1:  # of two classes scikit-learn gives the second one's score; the first one's is then 0
        scores = np.column_stack([np.zeros(len(scores)), scores])
    shares[:, seen] = torch.softmax(torch.tensor(scores), dim=1).numpy()
    return shares
