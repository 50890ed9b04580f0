"""The picture of an explanation: the clip, where its maps speak for a class, what regions are worth, and a caveat."""

import os
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.specs import InputSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

    from mer_zoo.explaining import Explanation

Pictures = npt.NDArray[np.uint8]

KINDS = (".png", ".svg", ".pdf")
SHOWN = 6  # steps in time, evenly over the clip
WIDTH = 9.6  # inches
CAVEAT = (
    "Brighter: where the last maps of the network speak for the class. It shows what this network used, "
    "not what the face did, nor what a person feels."
)


def shown(frames: Pictures, spec: InputSpec, apex: int) -> Pictures:
    """Frames (T', H, W[, 3]) -> one for each step of the input, (T, H, W, 3); of flow or one image the apex."""
    if len(spec.shape) == 3:
        steps = [apex]
    elif spec.kind in ("pair", "phases"):
        steps = [0, apex] if spec.kind == "pair" else [apex, len(frames) - 1]
    else:  # flow goes from the onset to later frames
        times = np.linspace(0, len(frames) - 1, spec.frames + spec.is_flow)[int(spec.is_flow) :]
        steps = [round(at) for at in times]
    return _coloured(frames[steps])


def pictures_of(values: npt.NDArray[np.floating], spec: InputSpec) -> Pictures:
    """An input (C, [T,] S, S) -> a picture of each step, (T, S, S, 3): flow by its strength, all else as it is."""
    steps = np.asarray(values if values.ndim == 4 else values[:, None], np.float64)
    if spec.is_flow:
        moved = [i for i, name in enumerate(spec.channels) if name != "strain"] or [0]
        away = steps[moved] - np.median(steps[moved], axis=(-2, -1), keepdims=True)
        strength = np.sqrt((away**2).sum(axis=0))
        return _coloured(_to_bytes(strength, 0, float(strength.max())))
    grey = steps.transpose(1, 2, 3, 0) if spec.channels == ("red", "green", "blue") else steps[0]
    return _coloured(_to_bytes(grey, spec.low, spec.high))


def write_arrays(explanation: "Explanation", file: Path) -> Path:
    """The arrays as ``.npz``, under a temporary name and renamed; no objects, so that they load without pickle."""
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    arrays: dict[str, Any] = {
        "classes": np.array(explanation.classes),
        "target": np.array(explanation.target),
        "probabilities": explanation.probabilities,
        "cam": explanation.cam,
        "regions": np.array([*explanation.regions]),
        "falls": np.array([*explanation.regions.values()], np.float32),
        "pictures": explanation.pictures,
    }
    try:
        with temporary.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
    return file


def draw(explanation: "Explanation", file: Path) -> Path:
    """Write the picture under a temporary name and rename it.

    Raises:
        InputError: If the file's name ends otherwise than KINDS, or matplotlib is not installed.
    """
    if file.suffix.lower() not in KINDS:
        raise InputError(
            f"{file} does not end in {', '.join(KINDS)} or, for the arrays, .npz; one of these is written."
        )
    try:
        from mer_zoo.figures import style, write
    except ImportError as error:
        raise InputError(f'A picture needs matplotlib ({error}): pip install "mer-zoo[plot]".') from None
    file.parent.mkdir(parents=True, exist_ok=True)
    with style():
        return write(figure_of(explanation), file, {"Title": f"why {explanation.target}"})


def figure_of(explanation: "Explanation") -> "Figure":
    """The clip above, bars below; needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure((WIDTH, 5.6), layout="constrained")
    parts = figure.add_gridspec(2, 1, height_ratios=[1.8, 1.0])
    above, below = figure.add_subfigure(parts[0]), figure.add_subfigure(parts[1])
    _strip(above, explanation)
    timed = len(explanation.cam) > 1
    axes = below.subplots(1, 3 if timed else 2, width_ratios=[1.0, 1.0, 1.2] if timed else None)
    _bars(axes[0], dict(zip(explanation.classes, explanation.probabilities, strict=True)), "probability", 0)
    _bars(axes[1], explanation.regions, "fall of the probability when held still", -1)
    if timed:
        _course(axes[2], explanation)
    figure.suptitle(f"Why {explanation.target}: {explanation.probability:.2f}", x=0.01, ha="left", fontsize=12)
    figure.supxlabel("\n".join(textwrap.wrap(CAVEAT, 125)), fontsize=9, x=0.01, ha="left")
    return figure


def overlaid(explanation: "Explanation", step: int) -> Pictures:
    """A picture of one step, (S', S', 3), with the map over it."""
    import cv2
    import matplotlib

    picture = explanation.pictures[step]
    cam = cv2.resize(explanation.cam[step], picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    heat = matplotlib.colormaps["inferno"](cam)[..., :3] * 255
    return np.asarray(np.rint(0.5 * picture + 0.5 * heat), np.uint8)


def _strip(above: "SubFigure", explanation: "Explanation") -> None:
    """Steps of the clip, and below each the same with the map."""
    steps = len(explanation.cam)
    chosen = sorted({round(at) for at in np.linspace(0, steps - 1, min(steps, SHOWN))})
    rows = above.subplots(2, len(chosen), squeeze=False) if steps > 1 else above.subplots(1, 2, squeeze=False).T
    for column, step in enumerate(chosen):
        rows[0, column].imshow(explanation.pictures[step])
        rows[1, column].imshow(overlaid(explanation, step))
        if steps > 1:
            rows[0, column].set_title(f"step {step + 1} of {steps}", fontsize=8.5, loc="center")
    for axes in rows.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    rows[0, 0].set_ylabel("shown", fontsize=9)
    rows[1, 0].set_ylabel("speaks for it", fontsize=9)


def _bars(axes: "Axes", values: dict[str, float], label: str, low: float) -> None:
    from mer_zoo.figures import BLUE, GREY

    names = [*values][::-1]
    axes.barh(names, [values[name] for name in names], color=BLUE, height=0.6)
    axes.set(xlim=(low, 1), xticks=np.linspace(low, 1, 5), xlabel=label)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.tick_params(axis="y", labelsize=8 if len(names) < 8 else 6.5)
    axes.grid(axis="x")


def _course(axes: "Axes", explanation: "Explanation") -> None:
    """The map's mean over each step."""
    from mer_zoo.figures import BLUE

    steps = np.arange(1, len(explanation.cam) + 1)
    axes.plot(steps, explanation.cam.mean(axis=(1, 2)), color=BLUE, marker="o", markersize=3)
    axes.set(xlabel="step", ylabel="map, mean", ylim=(0, None))
    axes.grid(axis="y")


def _coloured(pictures: Pictures) -> Pictures:
    return pictures if pictures.ndim == 4 else np.stack([pictures] * 3, axis=-1)


def _to_bytes(values: npt.NDArray[np.float64], low: float, high: float) -> Pictures:
    return np.asarray(np.rint(255 * ((values - low) / max(high - low, 1e-12)).clip(0, 1)), np.uint8)
