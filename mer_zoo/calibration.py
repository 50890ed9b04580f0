"""How far a network's probabilities can be trusted: its calibration error, and the picture of it."""

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mer_zoo.errors import InputError
from mer_zoo.figures import BLUE, GREY, ORANGE, STEPS, counted, style

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 10  # of confidence


def expected_calibration_error(probabilities: Floats, target: Ints) -> float:
    """Mean over clips of how far confidence and share of right clips lie apart in ten equal bins, from 0 to 1.

    Confidence is the probability of the predicted class, which is the most probable one (the first of equals). The
    bin of a clip is the one with lower end < confidence <= upper end.

    Args:
        probabilities: (N, C), rows that sum to one.
        target: (N,) class indices.

    Raises:
        InputError: If the shapes do not fit, a row is no distribution, or an index is none of 0..C-1.

    Source:
        Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, eq. 3.
    """
    clips, confidence, right = _bins(probabilities, target)
    return float(np.nansum(clips * np.abs(right - confidence)) / clips.sum())


def _bins(probabilities: Floats, target: Ints) -> tuple[Ints, Floats, Floats]:
    """Clips, mean confidence and share of right clips of each bin; NaN where a bin is empty."""
    fits = probabilities.ndim == 2 and target.shape == probabilities.shape[:1] and target.size > 0
    if not fits or not np.isin(target, np.arange(probabilities.shape[1])).all():
        raise InputError(
            f"Probabilities of shape {probabilities.shape} and targets of shape {target.shape}; expected (N, C) and "
            "(N,), of one clip or more, and targets among 0..C-1."
        )
    if not (np.abs(probabilities.sum(axis=1) - 1) < 1e-3).all() or probabilities.min() < 0:
        raise InputError("Some rows of probabilities are negative, NaN or do not sum to 1; leave out failed folds.")
    confidence = np.minimum(probabilities.max(axis=1), 1.0)
    which = np.digitize(confidence, np.arange(BINS) / BINS, right=True) - 1
    clips = np.bincount(which, minlength=BINS)
    hit = probabilities.argmax(axis=1) == target
    sums = [np.bincount(which, weights=values, minlength=BINS) for values in (confidence, hit)]
    means = [np.divide(total, clips, out=np.full(BINS, np.nan), where=clips > 0) for total in sums]
    return clips, means[0], means[1]


@style()
def reliability_diagram(probabilities: Floats, target: Ints) -> Figure:
    """Reliability diagram: share of right clips against confidence above, clips of each bin below.

    Args, bins and errors are those of ``expected_calibration_error``, whose value the title gives.
    """
    clips, confidence, right = _bins(probabilities, target)
    figure = Figure((5.2, 5.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1, label="as often right as sure")
    top.vlines(confidence, confidence, right, color=ORANGE, linewidth=3, label="gap")
    top.scatter(confidence, right, 8 + 60 * clips / clips.max(), color=BLUE, label="clips of one bin", zorder=3)
    top.set(ylabel="share predicted right", xlim=(0, 1), ylim=(-0.04, 1.04))
    error = expected_calibration_error(probabilities, target)
    top.set_title(f"{counted(clips.sum(), 'clip')}, expected calibration error {error:.3f}")
    top.legend(loc="upper left")
    bars = bottom.bar((np.arange(BINS) + 0.5) / BINS, clips, 0.9 / BINS, color=BLUE)
    bottom.bar_label(bars, [f"{count:,}" if count else "" for count in clips], padding=2, fontsize=8)
    bottom.set(xlabel="confidence: probability of the predicted class", ylabel="clips", ylim=(0, 1.25 * clips.max()))
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True, steps=STEPS))
    for axes in (top, bottom):
        axes.set_xticks(np.arange(0, BINS + 1, 2) / BINS)
        axes.grid()
    return figure
