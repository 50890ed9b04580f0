"""The picture of a prediction: faces, where the network looked, probabilities over time, and what they do not mean."""

import itertools
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from mer_zoo.prediction import Prediction

KINDS = (".png", ".svg", ".pdf")
SHOWN = 8  # faces in the strip, evenly over the windows
WIDTH = 9.6  # inches


def draw(prediction: "Prediction", file: Path) -> Path:
    """Write the picture under a temporary name and rename it.

    Raises:
        InputError: If the file's name ends otherwise than KINDS, or matplotlib is not installed.
    """
    if file.suffix.lower() not in KINDS:
        raise InputError(f"{file} does not end in {', '.join(KINDS)}; a picture of one of these kinds is written.")
    try:
        from mer_zoo.figures import style, write
    except ImportError as error:
        raise InputError(f'A picture needs matplotlib ({error}): pip install "mer-zoo[plot]".') from None
    file.parent.mkdir(parents=True, exist_ok=True)
    with style():
        return write(_figure(prediction), file, {"Title": prediction.name})


def _figure(prediction: "Prediction") -> "Figure":
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, 5.8), layout="constrained")
    chosen = _chosen(len(prediction.windows))
    rows = figure.add_gridspec(3, len(chosen), height_ratios=[1.0, 1.0, 2.2])
    for column, index in enumerate(chosen):
        faces = [figure.add_subplot(rows[row, column]) for row in (0, 1)]
        _face(faces[0], faces[1], prediction, index)
    (_curves if len(prediction.windows) > 1 else _bars)(figure.add_subplot(rows[2, :]), prediction)
    figure.suptitle(prediction.name, x=0.01, ha="left", fontsize=12)
    figure.supxlabel("\n".join(textwrap.wrap(prediction.caveat, 125)), fontsize=9, x=0.01, ha="left")
    return figure


def _chosen(windows: int) -> list[int]:
    """Windows whose faces are shown, the first and the last among them."""
    return sorted({round(at) for at in np.linspace(0, windows - 1, min(windows, SHOWN))})


def _face(plain: "Axes", looked: "Axes", prediction: "Prediction", index: int) -> None:
    """The face of a window, and over it what the answer leans on."""
    window, picture = prediction.windows[index], in_colours(prediction.faces[index])
    height, width = picture.shape[:2]
    plain.imshow(picture)
    plain.set_title(_when(prediction, index), fontsize=8.5, loc="center")
    looked.imshow(picture, alpha=0.55)
    if not window.why:
        shade: dict[str, Any] = {"extent": (-0.5, width - 0.5, height - 0.5, -0.5), "interpolation": "bilinear"}
        looked.imshow(smoothed(prediction.looked[index]), cmap="inferno", alpha=0.55, vmin=0, vmax=1, **shade)
    for axes in (plain, looked):
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    if window.why:
        plain.text(0.5, 0.5, "no face", transform=plain.transAxes, ha="center", va="center")
    if index == 0:
        plain.set_ylabel("onset", fontsize=9)
        looked.set_ylabel("leant on", fontsize=9)


def smoothed(looked: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Without the grid that strides and pooling leave in gradients; the greatest value stays 1."""
    import cv2

    even = cv2.GaussianBlur(looked, (0, 0), len(looked) / 24)
    return np.asarray(even / max(float(even.max()), 1e-12), np.float32)


def in_colours(face: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """A picture (H, W) or (H, W, 3) -> (H, W, 3)."""
    return face if face.ndim == 3 else np.stack([face] * 3, axis=-1)


def _when(prediction: "Prediction", index: int) -> str:
    frame = prediction.windows[index].onset
    return f"{frame / prediction.fps:.2f} s" if prediction.fps else f"frame {frame}"


def _bars(axes: "Axes", prediction: "Prediction") -> None:
    """Of one window, a bar for each class."""
    from mer_zoo.figures import BLUE

    axes.barh(list(prediction.classes)[::-1], prediction.probabilities[0][::-1], color=BLUE, height=0.6)
    axes.set(xlim=(0, 1), xlabel="probability")
    axes.grid(axis="x")


def _curves(axes: "Axes", prediction: "Prediction") -> None:
    """Probabilities at the apexes; a gap where there is no face."""
    from mer_zoo.figures import GROUPS

    at = np.array([window.apex for window in prediction.windows], float)
    times = at / prediction.fps if prediction.fps else at
    looks = itertools.cycle([(colour, line) for line in ("-", "--") for colour in GROUPS])
    for name, values, (colour, line) in zip(prediction.classes, prediction.probabilities.T, looks, strict=False):
        axes.plot(times, values, line, color=colour, label=name, marker="o", markersize=3.5, linewidth=1.6)
    ends = np.array([0, prediction.windows[-1].offset]) / (prediction.fps or 1)
    axes.set(xlim=ends, ylim=(0, 1.02), ylabel="probability", xlabel="seconds" if prediction.fps else "frame")
    axes.grid(axis="y")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False, fontsize=8)
