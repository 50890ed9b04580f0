"""Pictures of a report: plain arrays in, a matplotlib figure out, PNG and SVG on disk.

Hues are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind readers tell apart; shades go
from white to dark blue, evenly in lightness. Neither pyplot nor matplotlib's settings beyond a call are touched.
"""

import itertools
import os
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import matplotlib.style
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from mer_zoo.errors import InputError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Scored = tuple[float, float, float]  # a score, 0 to 1, with the lower and the upper end of its 95 % interval

BLUE, SKY, ORANGE, GREEN, PURPLE, VERMILLION = "#0072B2", "#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#D55E00"
INK, GREY, SILVER, PALE = "#222222", "#6E6E6E", "#A8A8A8", "#DDDDDD"
GROUPS = (BLUE, ORANGE, GREEN, PURPLE, SKY, INK)  # vermillion is kept for the mark of leaky results
STEPS = [1, 2, 5, 10]  # of tick marks
NAMED = 40  # persons, above which they are named by corpus only
FEW = 2  # folds, up to which each is drawn as what matters, and there is no median
RASTER = 20_000  # points, above which lines are pixels in the SVG, so that it stays small

STYLE = {
    "font.size": 9,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    **{f"axes.spines.{side}": False for side in ("top", "right")},
    "axes.edgecolor": GREY,
    "axes.axisbelow": True,
    "text.color": INK,
    "text.parse_math": False,  # a dollar in a name is a dollar
    "grid.color": PALE,
    "legend.edgecolor": "none",
    "figure.constrained_layout.w_pad": 0.12,
    "figure.constrained_layout.h_pad": 0.12,
    "svg.fonttype": "none",  # text stays text: it can be found and copied, and shows in any font
}


@contextmanager
def style() -> Iterator[None]:
    """Our settings upon matplotlib's own, whatever the user's file says; afterwards as before."""
    with matplotlib.style.context(["default", STYLE]):
        yield


@style()
def confusion_matrix(matrix: Ints, classes: Sequence[str]) -> Figure:
    """Clips by true class (row) and predicted one (column), each cell with its count and its share of the row.

    The matrix is (C, C), counts with the target class as row; ``classes`` are C names.

    Raises:
        InputError: If the matrix is not (C, C) of whole numbers from 0 up, or holds no clip.
    """
    size = len(classes)
    if matrix.shape != (size, size) or matrix.dtype.kind not in "iu" or matrix.min(initial=0) < 0 or not matrix.any():
        raise InputError(
            f"The confusion matrix has shape {matrix.shape} and type {matrix.dtype}; expected ({size}, {size}) counts, "
            f"a row and a column for each of {list(classes)}, of at least one clip."
        )
    figure, slanted = _square(classes)
    axes = figure.subplots()
    cells(axes, matrix)
    axes.set(aspect="equal", xlabel="predicted class", ylabel="true class", ylim=(size, 0))
    axes.set_title(f"{counted(matrix.sum(), 'clip')}, % of each row")
    middles = np.arange(size) + 0.5
    _name_columns(axes, middles, [_short(name, 25) for name in classes], slanted=slanted)
    clips = [counted(total, "clip") for total in matrix.sum(axis=1)]
    axes.set_yticks(middles, [f"{_wrapped(name, 18)}\n{total}" for name, total in zip(classes, clips, strict=True)])
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def _square(classes: Sequence[str]) -> tuple[Figure, bool]:
    """A figure with room for the cells and names of classes, and whether the names of columns must be slanted."""
    longest = 0.08 * max(map(len, classes))  # inches, about
    side = min(1.2, max(0.62, 4.2 / len(classes)))  # inches of a cell
    slanted = longest > side
    width, height = min(max(longest, 0.8), 1.5) + 1, 1.2 + slanted * 0.7 * min(longest, 2)
    inside = len(classes) * side
    return Figure((inside + width, inside + height), layout="constrained"), slanted


def cells(axes: Axes, matrix: Ints) -> None:
    """Counts with their shares of the row, on shades of the share."""
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    pale = 1.6  # black stands out from the darkest cell, too: contrast of 6 (WCAG 2, 1.4.3)
    axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=pale, edgecolors="white", linewidth=1.5)
    for (row, column), count in np.ndenumerate(matrix):
        text = f"{count:,}\n{shares[row, column]:.0%}" if count else "0"
        axes.text(column + 0.5, row + 0.5, text, ha="center", va="center", color="black")


@style()
def person_accuracy(right: Mapping[str, tuple[int, int]]) -> Figure:
    """Each person's share of clips that were predicted right, and below, how many clips there are.

    Takes clips predicted right, and all clips, by person, ``corpus/subject``. Persons stand by corpus, best first.

    Raises:
        InputError: If there is no person, or one has no clip or more right ones than clips.
    """
    bad = {person: pair for person, pair in right.items() if not 0 <= pair[0] <= pair[1] or not pair[1]}
    if bad or not right:
        raise InputError(
            f"{len(bad)} of {len(right)} persons cannot be: {dict(list(bad.items())[:3])}; expected a person or more, "
            "and for each how many clips were predicted right and how many there are, at least one."
        )
    persons = sorted(right, key=lambda name: (name.rpartition("/")[0], -right[name][0] / right[name][1], name))
    corpora, corpus = np.unique([name.rpartition("/")[0] for name in persons], return_inverse=True)
    x = np.arange(len(persons)) + corpus * max(1.0, len(persons) / 60)  # a gap between corpora
    inches = min(10.0, max(4.6, 0.2 * x[-1] + 1.4))
    figure = Figure((inches, 4.6), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    slot = 72 * (inches - 0.9) / max(x[-1] + 1, 4)  # points across that a person has, about
    hits, clips = np.array([right[person] for person in persons]).T
    _dots_and_bars(top, bottom, x, (hits, clips), [GROUPS[i % len(GROUPS)] for i in corpus], slot)
    if len(persons) <= NAMED:
        bottom.set_xticks(x, [_short(person, 28) for person in persons], rotation=90, fontsize=8)
    else:
        _name_corpora(bottom, x, corpora[corpus])
    for axes in (top, bottom):
        axes.grid(axis="y")
        axes.tick_params(axis="x", length=0)
    return figure


def _dots_and_bars(
    top: Axes, bottom: Axes, x: Floats, counts: tuple[Ints, Ints], colours: Sequence[str], slot: float
) -> None:
    """Shares of right clips above, clips below; ``counts`` are of right clips and of all, a person each."""
    hits, clips = counts
    top.scatter(x, hits / clips, min(5, max(3, slot)) ** 2, colours)
    bottom.vlines(x, 0, clips, colours, linewidth=0.75 * slot)
    share = hits.sum() / clips.sum()
    top.axhline(share, color=INK, linestyle="--", linewidth=1)
    top.set(ylabel="share predicted right", ylim=(-0.04, 1.04))
    top.set_title(f"{counted(len(x), 'person')}; dashed: all {counted(clips.sum(), 'clip')}, {share:.3f} right")
    margin = max(0.8, 2 - x[-1] / 2)
    bottom.set(ylabel="clips", ylim=(0, 1.05 * clips.max()), xlim=(-margin, x[-1] + margin))
    bottom.yaxis.set_major_locator(MaxNLocator(3, integer=True, steps=STEPS))


def _name_corpora(axes: Axes, x: Floats, corpora: npt.NDArray[np.str_]) -> None:
    """Name each corpus in the middle of its persons; slanted, if that is narrow."""
    names, sizes = np.unique(corpora, return_counts=True)
    labels = [f"{_short(name, 20)} ({size})" for name, size in zip(names, sizes, strict=True)]
    middles = [x[corpora == name].mean() for name in names]
    _name_columns(axes, middles, labels, slanted=min(sizes) < 0.2 * len(x) and len(names) > 1)
    axes.set_xlabel("corpus (persons)")


def _name_columns(axes: Axes, x: npt.ArrayLike, names: Sequence[str], *, slanted: bool) -> None:
    axes.set_xticks(x, names, rotation=40 * slanted, ha="right" if slanted else "center", rotation_mode="anchor")


@style()
def class_bars(scores: Mapping[str, Mapping[str, Scored]]) -> Figure:
    """Bars of the scores of each class, with their intervals as whiskers and in figures.

    Args:
        scores: Class -> score, such as ``F1`` and ``recall``, one to three -> value, low, high. The ends may be NaN
            where there is no interval, the value where there is no score.

    Raises:
        InputError: If there is no class, the classes have other scores, or one lies outside 0 to 1.
    """
    kinds = list(next(iter(scores.values()), {}))
    if not 1 <= len(kinds) <= 3 or any(list(each) != kinds for each in scores.values()):
        found = {name: list(each) for name, each in scores.items()}
        raise InputError(f"Scores are {found}; expected a class or more, and for each the same one to three.")
    height = 0.8 / len(kinds)
    figure = Figure((7.2, 1.3 + (0.25 * len(kinds) + 0.1) * len(scores)), layout="constrained")
    axes = figure.subplots()
    for i, (kind, colour) in enumerate(zip(kinds, GROUPS, strict=False)):
        places = np.arange(len(scores)) + (i - (len(kinds) - 1) / 2) * height
        scored = [each[kind] for each in scores.values()]
        axes.barh(places, [np.nan_to_num(each[0]) for each in scored], 0.9 * height, color=colour, label=kind)
        for place, each in zip(places, scored, strict=True):
            _whisker(axes, place, each, "black")
    _score_axis(axes, [_wrapped(name, 30) for name in scores], " and ".join(kinds))
    axes.set_title(f"{' and '.join(kinds)} of each class")
    axes.legend(loc="lower left", bbox_to_anchor=(1, 0.99), ncols=len(kinds), columnspacing=1, handlelength=1)
    return figure


@style()
def runs_side_by_side(scores: Mapping[str, Scored], others: Mapping[str, float] | None = None) -> Figure:
    """UF1 of several runs with their intervals, and, below, of others without: majority, svm, chance.

    Takes value, low and high by run, where NaN is as in ``class_bars``, and the values of others by name.

    Raises:
        InputError: If there is no run, or a score lies outside 0 to 1.
    """
    if not scores:
        raise InputError("No run to draw; expected at least one.")
    marks = others or {}
    names = [_wrapped(name, 30) for name in [*scores, *marks]]
    figure = Figure((7.2, 1.0 + 0.3 * len(names) + 0.12 * "".join(names).count("\n")), layout="constrained")
    axes = figure.subplots()
    for place, scored in enumerate(scores.values()):
        _whisker(axes, place, scored, BLUE)
        axes.plot(scored[0], place, "o", color=BLUE)
    for place, value in enumerate(marks.values(), start=len(scores)):
        _whisker(axes, place, (value, np.nan, np.nan), GREY)
        axes.plot(value, place, "D", color=GREY, fillstyle="none")
    if marks:
        axes.axhline(len(scores) - 0.5, color=GREY, linewidth=0.8)
    _score_axis(axes, names, "UF1")
    axes.set_title("UF1 of runs" + (" (dots) and of references (diamonds)" if marks else ""))
    return figure


def _whisker(axes: Axes, y: float, scored: Scored, colour: str) -> None:
    """The interval as a line, and the score in figures to the right of the axes."""
    value, low, high = scored
    if any(part < 0 or part > 1 for part in scored):
        raise InputError(f"A score is {scored}; expected value, low and high from 0 to 1, or NaN.")
    between = f" ({low:.2f} to {high:.2f})" if np.isfinite([low, high]).all() else ""
    axes.plot([low, high], [y, y], "|-", color=colour, linewidth=1.2)
    text = f"{value:.3f}{between}" if np.isfinite(value) else "no score"
    axes.text(1.03, y, text, transform=axes.get_yaxis_transform(), va="center")


def _score_axis(axes: Axes, names: Sequence[str], label: str) -> None:
    axes.set_yticks(np.arange(len(names)), names)
    axes.set(xlim=(0, 1), ylim=(len(names) - 0.4, -0.6), xlabel=f"{label}, whiskers: 95 % interval")
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x")
    axes.spines["left"].set_visible(False)


@style()
def loss_curves(losses: Mapping[str, Sequence[float]]) -> Figure:
    """Training loss of each fold over epochs, with the median and the middle 80 % of three folds or more.

    Takes the mean loss of each epoch by fold; lengths may differ, and NaN leaves a gap.

    Raises:
        InputError: If there is no finite loss.
    """
    lengths = np.array([len(curve) for curve in losses.values() if len(curve)])
    curves = np.array(list(itertools.zip_longest(*filter(len, losses.values()), fillvalue=np.nan)), np.float64)
    curves[~np.isfinite(curves)] = np.nan
    if np.isnan(curves).all():
        raise InputError(f"{len(losses)} folds and no finite loss; expected a loss of at least one epoch.")
    figure = Figure((6.6, 4.0), layout="constrained")
    axes = figure.subplots()
    epochs = np.arange(1, len(curves) + 1)
    colour, width = (SILVER, 0.7) if len(lengths) > FEW else (BLUE, 1.8)
    folds = axes.plot(epochs, curves, color=colour, linewidth=width, rasterized=curves.size > RASTER)
    folds[0].set_label("one fold")
    if lengths.min() < len(curves) or len(curves) == 1:
        ends = curves[lengths - 1, np.arange(len(lengths))]
        axes.plot(lengths, ends, ".", color=GREY, markersize=4, label="its last epoch")
    if len(lengths) > FEW:
        _middle(axes, epochs, curves)
    _scale_losses(axes, curves)
    axes.set(xlabel="epoch", ylabel="mean training loss", xlim=(0.5, len(curves) + 0.5))
    axes.set_title(f"Training loss of {counted(len(lengths), 'fold')}")
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1, steps=STEPS))
    axes.grid()
    axes.legend(loc="upper right")
    return figure


def _scale_losses(axes: Axes, curves: Floats) -> None:
    """Logarithmic where losses span much, down to half of the lowest but for a hundredth, which is noise."""
    least, low = np.nanmin(curves), np.nanquantile(curves, 0.01, method="lower")
    if least > 0 and np.nanmax(curves) > 30 * low:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
        axes.yaxis.set_major_formatter("{x:g}")
        if least < low / 2:
            axes.set_ylim(bottom=low / 2)


def _middle(axes: Axes, epochs: Ints, curves: Floats) -> None:
    """Median and middle 80 % over folds, as far as half of them go: of fewer, they would say which folds stop late."""
    half = np.isfinite(curves).sum(axis=1) * 2 >= curves.shape[1]
    low, median, high = np.nanquantile(curves[half], [0.1, 0.5, 0.9], axis=1)
    axes.fill_between(epochs[half], low, high, color=BLUE, alpha=0.3, linewidth=0, label="middle 80 %", zorder=2)
    dot = "o" if half.sum() == 1 else ""
    axes.plot(epochs[half], median, marker=dot, color=BLUE, linewidth=2, label="median of folds", zorder=3)


def _wrapped(name: str, width: int) -> str:
    return "\n".join(textwrap.wrap(name, width, max_lines=3, placeholder=" …"))


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"


def counted(number: int, what: str) -> str:
    """The number with its noun.

    >>> counted(1200, "clip")
    '1,200 clips'
    """
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def save(figures: Mapping[str, Figure], folder: str | Path, mark: str | None = None) -> list[Path]:
    """Write each figure as ``<name>.png``, 150 pixels an inch, and ``<name>.svg``, each whole or not at all.

    The same figures give the same bytes on the same machine. The folder is made if it is not there.

    The mark is what readers must know, such as "chosen on test subjects". It is written large above the axes of every
    figure, which keeps it, with a frame all around that lacks a side where it was cut off, and into the files' facts.

    Raises:
        InputError: If a name is no name of a file.
    """
    bad = [name for name in figures if not name or name.startswith(".") or Path(name).name != name]
    if bad:
        raise InputError(f"Figures cannot be named {bad}; expected names of files without folder or suffix.")
    folder = Path(folder).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name, figure in figures.items():
        with style(), matplotlib.rc_context({"svg.hashsalt": name}):
            if mark:
                _stamp(figure, mark)
            engine = figure.get_layout_engine()
            if engine is not None:
                engine.execute(figure)
                figure.set_layout_engine(None)  # laid out once: anew, everything would move by a hair
            said = {"Title": name, "Description": mark or ""}
            files.append(write(figure, folder / f"{name}.png", said))
            files.append(write(figure, folder / f"{name}.svg", {**said, "Date": None}))
    return files


def write(figure: Figure, file: Path, facts: Mapping[str, str | None]) -> Path:
    """Write one figure whole or not at all, with facts such as its title, in the format that the file's name says."""
    temporary = file.with_name(f".{file.name}.{os.getpid()}")
    figure.savefig(temporary, format=file.suffix[1:].lower(), dpi=150, metadata=dict(facts))
    temporary.replace(file)
    return file


def _stamp(figure: Figure, mark: str) -> None:
    """Write the mark above the axes, which stay as large as they were, and draw the frame."""
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(mark, int(width * 6.5))
    if figure.get_suptitle() == "\n".join(lines):
        return
    figure.suptitle("\n".join(lines), color=VERMILLION, fontsize=14, fontweight="bold")
    figure.set_size_inches(width, height + 0.24 * len(lines) + 0.1)
    figure.patch.set(edgecolor=VERMILLION, linewidth=8)
    figure.set_layout_engine("constrained")
