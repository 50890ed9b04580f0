"""Figures show the numbers that they were given, keep within their frame, and carry the mark of leaky results."""

import hashlib
import itertools
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from mer_zoo import calibration, figures, metrics
from mer_zoo.errors import InputError

NAN = float("nan")
MARK = "chosen on test subjects"
LONG = [f"objective class {i} with a <name> & $more$" if i % 2 else f"AU{i}" for i in range(12)]


def _matrix(classes: int, clips: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    target, pred = rng.integers(classes, size=(2, clips))
    return metrics.confusion(target, pred, classes)


def _persons(sizes: dict[str, int], seed: int = 0) -> dict[str, tuple[int, int]]:
    rng = np.random.default_rng(seed)
    names = [f"{corpus}/{i:03d}" for corpus, size in sizes.items() for i in range(size)]
    clips = {name: int(rng.integers(1, 40)) for name in names}
    return {name: (int(rng.integers(count + 1)), count) for name, count in clips.items()}


def _losses(lengths: list[int], seed: int = 0) -> dict[str, list[float]]:
    rng = np.random.default_rng(seed)
    return {f"casme2/{i}": np.exp(-0.1 * np.arange(n) + 0.1 * rng.random(n)).tolist() for i, n in enumerate(lengths)}


def _probabilities(clips: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.ones(classes) / 2, size=clips), rng.integers(classes, size=clips)


def _bars(classes: list[str]) -> dict[str, dict[str, tuple[float, float, float]]]:
    return {name: {"F1": (0.5 + 0.03 * i, 0.4, 0.9), "recall": (0.3, NAN, NAN)} for i, name in enumerate(classes)}


DRAWN: dict[str, Callable[[], Figure]] = {
    "confusion_2": lambda: figures.confusion_matrix(np.array([[1, 0], [0, 0]]), ["no", "yes"]),
    "confusion_7": lambda: figures.confusion_matrix(_matrix(7, 255), [f"emotion{i}" for i in range(7)]),
    "confusion_12": lambda: figures.confusion_matrix(_matrix(12, 99_999), LONG),
    "persons_1": lambda: figures.person_accuracy({"smic/s01": (1, 1)}),
    "persons_26": lambda: figures.person_accuracy(_persons({"casme2": 26})),
    "persons_68": lambda: figures.person_accuracy(_persons({"casme2": 24, "samm": 28, "smic": 16})),
    "persons_400": lambda: figures.person_accuracy(_persons({"dfme": 300, "casme3": 92, "4dmicro": 3, "mmew": 5})),
    "bars_3": lambda: figures.class_bars(_bars(["negative", "positive", "surprise"])),
    "bars_12": lambda: figures.class_bars(_bars(LONG)),
    "bars_nan": lambda: figures.class_bars({"a": {"F1": (NAN, NAN, NAN)}}),
    "losses_1": lambda: figures.loss_curves({"smic/s01": [1.1]}),
    "losses_68": lambda: figures.loss_curves(_losses([1] * 68)),
    "losses_uneven": lambda: figures.loss_curves(_losses([5, 40, 30, 60, 60])),
    "calibration_1": lambda: calibration.reliability_diagram(np.array([[0.7, 0.3]]), np.array([0])),
    "calibration_2031": lambda: calibration.reliability_diagram(*_probabilities(2031, 7)),
    "runs_1": lambda: figures.runs_side_by_side({"only": (0.5, NAN, NAN)}),
    "runs_12": lambda: figures.runs_side_by_side(dict.fromkeys(LONG, (0.5, 0.4, 0.6)), {"svm": 0.7, "chance": 0.3}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_keeps_within_its_frame_and_is_legible(name: str, tmp_path: Path) -> None:
    figure = DRAWN[name]()
    with Image.open(figures.save({name: figure}, tmp_path)[0]) as picture:
        width, height = picture.size
        assert np.asarray(picture.convert("L")).std() > 5
    inches = figure.get_size_inches()
    assert (width, height) == pytest.approx(inches * 150, abs=2)
    assert inches.min() >= 1
    assert inches.max() <= 11
    figure.draw_without_rendering()
    box = figure.get_tightbbox()
    assert min(box.x0, box.y0, inches[0] - box.x1, inches[1] - box.y1) >= 0
    assert min(float(text.get_fontsize()) for text in figure.findobj(Text) if text.get_text()) >= 8


@pytest.mark.parametrize(
    ("name", "axis"), [("persons_26", "x"), ("persons_68", "x"), ("bars_12", "y"), ("runs_12", "y")]
)
def test_names_do_not_touch_each_other(name: str, axis: str) -> None:
    figure = DRAWN[name]()
    figure.draw_without_rendering()
    labels = [label for label in getattr(figure.axes[-1], f"get_{axis}ticklabels")() if label.get_text()]
    ends = sorted(getattr(label.get_window_extent(), f"interval{axis}").tolist() for label in labels)
    assert len(ends) > 2
    assert all(first[1] < second[0] for first, second in itertools.pairwise(ends))


def _axes(figure: Figure) -> list[Any]:
    """Untyped, since what artists return depends on what they draw."""
    return list(figure.axes)


def _texts(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.texts]


def _labels(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


def test_cells_of_a_confusion_matrix_say_count_and_share_of_the_row() -> None:
    [axes] = _axes(figures.confusion_matrix(np.array([[30, 10, 0], [1, 1, 1], [0, 0, 0]]), ["a", "b", "c"]))
    assert _texts(axes) == ["30\n75%", "10\n25%", "0", "1\n33%", "1\n33%", "1\n33%", "0", "0", "0"]
    assert _labels(axes.yaxis) == ["a\n40 clips", "b\n3 clips", "c\n0 clips"]
    assert _labels(axes.xaxis) == ["a", "b", "c"]
    assert axes.yaxis_inverted()  # the first class above, as in the table


def test_names_of_any_length_take_three_lines_at_most() -> None:
    long = "a class whose name goes on " * 20
    [cells], [bars] = (
        _axes(figure)
        for figure in (
            figures.confusion_matrix(np.eye(2, dtype=np.int64), [long, "b"]),
            figures.class_bars({long: {"F1": (0.5, NAN, NAN)}}),
        )
    )
    assert [label.count("\n") for label in _labels(cells.yaxis)] == [2 + 1, 1]  # one more for the clips
    assert [label.count("\n") for label in _labels(bars.yaxis)] == [2]
    assert max(map(len, _labels(cells.xaxis))) <= 25


def test_counts_stand_out_from_every_shade() -> None:
    """Contrast of WCAG 2, 1.4.3: 4.5 or more."""
    figure = figures.confusion_matrix(np.array([[100, 0], [50, 50]]), ["a", "b"])
    figure.draw_without_rendering()
    [axes] = _axes(figure)
    shades = axes.collections[0].get_facecolors()[:, :3]
    linear = np.where(shades <= 0.04045, shades / 12.92, ((shades + 0.055) / 1.055) ** 2.4)
    assert {text.get_color() for text in axes.texts} == {"black"}
    assert ((linear @ [0.2126, 0.7152, 0.0722] + 0.05) / 0.05).min() > 4.5


def test_persons_stand_by_corpus_best_first_with_their_clips_beneath() -> None:
    right = {"b/1": (1, 4), "a/1": (1, 2), "b/2": (3, 3), "a/2": (4, 5)}
    top, bottom = _axes(figures.person_accuracy(right))
    order = ["a/2", "a/1", "b/2", "b/1"]
    assert _labels(bottom.xaxis) == order
    shares = [right[name][0] / right[name][1] for name in order]
    np.testing.assert_allclose(top.collections[0].get_offsets()[:, 1], shares)
    heights = [segment[1, 1] for segment in bottom.collections[0].get_segments()]
    assert heights == [right[name][1] for name in order]
    assert top.lines[0].get_ydata()[0] == 9 / 14
    assert top.get_title(loc="left") == "4 persons; dashed: all 14 clips, 0.643 right"
    colours = top.collections[0].get_facecolors()
    assert (colours[0] == colours[1]).all()
    assert (colours[1] != colours[2]).any()


def test_many_persons_are_named_by_corpus_only() -> None:
    _, bottom = _axes(DRAWN["persons_68"]())
    assert _labels(bottom.xaxis) == ["casme2 (24)", "samm (28)", "smic (16)"]


def test_bars_are_as_long_as_the_scores_and_whiskers_as_the_intervals() -> None:
    scores = {
        "a": {"F1": (0.5, 0.4, 0.7), "recall": (0.25, 0.0, 1.0)},
        "b": {"F1": (0.75, NAN, NAN), "recall": (NAN, NAN, NAN)},
    }
    [axes] = _axes(figures.class_bars(scores))
    lengths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in axes.containers}
    assert lengths == {"F1": [0.5, 0.75], "recall": [0.25, 0.0]}
    whiskers = [tuple(line.get_xdata()) for line in axes.lines]
    assert (0.4, 0.7) in whiskers
    assert (0.0, 1.0) in whiskers
    assert set(_texts(axes)) == {"0.500 (0.40 to 0.70)", "0.250 (0.00 to 1.00)", "0.750", "no score"}


def test_runs_are_dots_above_and_others_diamonds_below() -> None:
    [axes] = _axes(figures.runs_side_by_side({"x": (0.5, 0.4, 0.6), "y": (0.7, NAN, NAN)}, {"svm": 0.75}))
    dots = [(line.get_marker(), float(line.get_xdata()[0]), int(line.get_ydata()[0])) for line in axes.lines]
    assert [dot for dot in dots if dot[0] in "oD"] == [("o", 0.5, 0), ("o", 0.7, 1), ("D", 0.75, 2)]
    assert _texts(axes) == ["0.500 (0.40 to 0.60)", "0.700", "0.750"]
    assert _labels(axes.yaxis) == ["x", "y", "svm"]


def test_loss_curves_of_uneven_folds_have_a_median_as_far_as_half_of_them_go() -> None:
    losses = {"a": [3.0, 2.0], "b": [5.0, NAN, 1.0, 0.5], "c": [4.0, 3.0, 2.0], "d": [6.0, 5.0], "e": []}
    [axes] = _axes(figures.loss_curves(losses))
    lines = {line.get_label(): line for line in axes.lines}
    np.testing.assert_array_equal(lines["one fold"].get_ydata(), [3, 2, NAN, NAN])
    np.testing.assert_array_equal(lines["median of folds"].get_xydata(), [[1, 4.5], [2, 3], [3, 1.5]])
    np.testing.assert_array_equal(lines["its last epoch"].get_xydata(), [[2, 2], [4, 0.5], [3, 2], [2, 5]])
    assert axes.get_title(loc="left") == "Training loss of 4 folds"


def test_loss_curves_are_logarithmic_only_where_they_span_much() -> None:
    assert figures.loss_curves({"a": [1.0, 0.5]}).axes[0].get_yscale() == "linear"
    assert figures.loss_curves({"a": [1.0, 0.001]}).axes[0].get_yscale() == "log"
    assert figures.loss_curves({"a": [1.0, 0.0]}).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize(("folds", "label"), [(1, "one fold"), (2, "one fold"), (3, "median of folds")])
def test_few_folds_are_drawn_as_a_median_is(folds: int, label: str) -> None:
    [axes] = _axes(figures.loss_curves(_losses([20] * folds)))
    lines = [line for line in axes.lines if line.get_color() == figures.BLUE]
    assert len(lines) == (folds if folds < 3 else 1)
    assert lines[0].get_label() == label
    assert all(line.get_linewidth() > 1.5 for line in lines)


def test_a_few_tiny_losses_do_not_stretch_the_axis() -> None:
    noisy = np.exp(-0.05 * np.arange(300))
    noisy[[50, 190]] = 1e-12
    [axes] = _axes(figures.loss_curves({"a": noisy.tolist()}))
    assert axes.get_yscale() == "log"
    assert 1e-8 < axes.get_ylim()[0] < noisy[299]
    [smooth] = _axes(figures.loss_curves({"a": np.exp(-0.05 * np.arange(300)).tolist()}))
    assert smooth.get_ylim()[0] < np.exp(-0.05 * 299)


def _naive_error(probabilities: np.ndarray, target: np.ndarray) -> float:
    error = 0.0
    for number in range(10):
        inside = [
            (max(row), list(row).index(max(row)) == answer)
            for row, answer in zip(probabilities.tolist(), target.tolist(), strict=True)
            if number / 10 < max(row) <= (number + 1) / 10
        ]
        if inside:
            confidence = sum(sure for sure, _ in inside) / len(inside)
            right = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / len(target) * abs(right - confidence)
    return error


@pytest.mark.parametrize(("clips", "classes"), [(1, 2), (50, 3), (500, 7), (2031, 12)])
def test_calibration_error_equals_a_naive_loop(clips: int, classes: int) -> None:
    probabilities, target = _probabilities(clips, classes, seed=clips)
    assert calibration.expected_calibration_error(probabilities, target) == pytest.approx(
        _naive_error(probabilities, target)
    )
    rounded = np.round(probabilities, 1)  # on the edges of bins
    rounded[:, 0] += 1 - rounded.sum(axis=1)
    rounded = np.abs(rounded) / np.abs(rounded).sum(axis=1, keepdims=True)
    assert calibration.expected_calibration_error(rounded, target) == pytest.approx(_naive_error(rounded, target))


@pytest.mark.parametrize(
    ("probabilities", "target", "error"),
    [
        ([[1.0, 0.0], [0.0, 1.0]], [0, 1], 0.0),
        ([[1.0, 0.0], [0.0, 1.0]], [1, 0], 1.0),
        ([[0.8, 0.2], [0.8, 0.2]], [0, 1], 0.3),
        ([[0.8, 0.2], [0.71, 0.29]], [0, 1], 0.255),  # one bin: half right, 0.755 sure
        ([[0.8, 0.2], [0.81, 0.19]], [0, 1], 0.505),  # two bins: 0.2 and 0.81 off
        ([[0.5, 0.5]], [0], 0.5),  # the first of equals is predicted
    ],
)
def test_calibration_error_of_known_answers(probabilities: list[list[float]], target: list[int], error: float) -> None:
    found = calibration.expected_calibration_error(np.array(probabilities), np.array(target))
    assert found == pytest.approx(error, abs=1e-12)


def test_calibration_shows_bins_as_they_are() -> None:
    probabilities = np.array([[0.8, 0.2], [0.75, 0.25], [0.06, 0.94], [0.55, 0.45]])
    top, bottom = _axes(calibration.reliability_diagram(probabilities, np.array([0, 1, 1, 1])))
    assert [bar.get_height() for bar in bottom.patches] == [0, 0, 0, 0, 0, 1, 0, 2, 0, 1]
    assert [text.get_text() for text in bottom.texts if text.get_text()] == ["1", "2", "1"]
    points = np.asarray(top.collections[-1].get_offsets())
    np.testing.assert_allclose(points[np.isfinite(points[:, 1])], [[0.55, 0], [0.775, 0.5], [0.94, 1]])
    assert "expected calibration error 0.290" in top.get_title(loc="left")


def test_a_mark_is_in_every_picture_and_cannot_be_cut_off_unseen(tmp_path: Path) -> None:
    plain, marked = figures.runs_side_by_side({"x": (0.5, 0.4, 0.6)}), figures.runs_side_by_side({"x": (0.5, 0.4, 0.6)})
    figures.save({"runs": plain}, tmp_path / "plain")
    png, svg = figures.save({"runs": marked}, tmp_path / "marked", MARK)
    texts = [element.text for element in ET.parse(svg).iter("{http://www.w3.org/2000/svg}text")]
    assert MARK in texts
    assert MARK not in (tmp_path / "plain/runs.svg").read_text()
    with Image.open(png) as picture, Image.open(tmp_path / "plain/runs.png") as before:
        assert picture.info["Description"] == MARK
        assert picture.height > before.height
        assert picture.width == before.width
        pixels = np.asarray(picture.convert("RGB"))
    frame = [pixels[2], pixels[-3], pixels[:, 2], pixels[:, -3]]
    assert all((side == (0xD5, 0x5E, 0)).all() for side in frame)


def test_a_long_mark_is_wrapped_within_the_frame(tmp_path: Path) -> None:
    figure = DRAWN["confusion_2"]()
    figures.save({"confusion": figure}, tmp_path, "augmented copies of one clip on both sides of every split; " + MARK)
    assert figure.get_suptitle().count("\n") >= 2
    figure.draw_without_rendering()
    box, inches = figure.get_tightbbox(), figure.get_size_inches()
    assert min(box.x0, box.y0, inches[0] - box.x1, inches[1] - box.y1) >= 0


@pytest.mark.parametrize("mark", [None, MARK])
def test_the_same_figures_give_the_same_bytes(mark: str | None, tmp_path: Path) -> None:
    names = ("confusion_2", "persons_1", "bars_3", "losses_uneven", "calibration_1")
    drawn = {name: DRAWN[name]() for name in names}
    runs = [
        [hashlib.sha256(file.read_bytes()).hexdigest() for file in figures.save(each, tmp_path / str(i), mark)]
        for i, each in enumerate([drawn, {name: DRAWN[name]() for name in names}, drawn])
    ]
    assert runs[0] == runs[1] == runs[2]


def test_files_are_png_and_svg_whole_and_nothing_else(tmp_path: Path) -> None:
    files = figures.save({"runs": DRAWN["runs_12"](), "bars": DRAWN["bars_12"]()}, tmp_path / "a/b")
    names = ["runs.png", "runs.svg", "bars.png", "bars.svg"]
    assert files == [tmp_path / "a/b" / name for name in names]
    assert sorted(file.name for file in (tmp_path / "a/b").iterdir()) == sorted(names)
    texts = " ".join(element.text or "" for element in ET.parse(files[3]).iter())
    assert "<name> & $more$" in " ".join(texts.split())
    assert "<dc:date>" not in files[3].read_text()


def test_lines_of_many_folds_are_pixels_so_that_the_svg_stays_small(tmp_path: Path) -> None:
    _, svg = figures.save({"losses": figures.loss_curves(_losses([300] * 100))}, tmp_path)
    assert "<image" in svg.read_text()
    assert svg.stat().st_size < 500_000


def test_settings_of_matplotlib_stay_and_do_not_matter(tmp_path: Path) -> None:
    expected = figures.save({"runs": DRAWN["runs_1"]()}, tmp_path / "plain")
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black", "svg.fonttype": "path", "figure.dpi": 33}):
        before = dict(matplotlib.rcParams)
        found = figures.save({"runs": DRAWN["runs_1"]()}, tmp_path / "odd")
        assert dict(matplotlib.rcParams) == before
    assert all(a.read_bytes() == b.read_bytes() for a, b in zip(found, expected, strict=True))


def test_pyplot_is_not_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it is an error now
    assert len(figures.save({"runs": DRAWN["runs_1"]()}, tmp_path)) == 2


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.confusion_matrix(np.zeros((2, 2), np.int64), ["a", "b"]),
        lambda: figures.confusion_matrix(np.ones((2, 3), np.int64), ["a", "b"]),
        lambda: figures.confusion_matrix(np.full((2, 2), 0.5), ["a", "b"]),
        lambda: figures.confusion_matrix(np.array([[2, -1], [0, 1]]), ["a", "b"]),
        lambda: figures.confusion_matrix(np.zeros((0, 0), np.int64), []),
        lambda: figures.person_accuracy({}),
        lambda: figures.person_accuracy({"a/1": (0, 0)}),
        lambda: figures.person_accuracy({"a/1": (3, 2)}),
        lambda: figures.person_accuracy({"a/1": (-1, 2)}),
        lambda: figures.class_bars({}),
        lambda: figures.class_bars({"a": {}}),
        lambda: figures.class_bars({"a": {"F1": (0.5, 0.4, 0.6)}, "b": {"recall": (0.5, 0.4, 0.6)}}),
        lambda: figures.class_bars({"a": {"F1": (50.0, 40.0, 60.0)}}),
        lambda: figures.loss_curves({}),
        lambda: figures.loss_curves({"a": [], "b": []}),
        lambda: figures.loss_curves({"a": [NAN, float("inf")]}),
        lambda: figures.runs_side_by_side({}),
        lambda: figures.runs_side_by_side({"a": (0.5, 0.4, 0.6)}, {"svm": 74.6}),
        lambda: calibration.reliability_diagram(np.zeros((0, 3)), np.zeros(0, np.int64)),
        lambda: calibration.reliability_diagram(np.array([0.5, 0.5]), np.array([0, 1])),
        lambda: calibration.reliability_diagram(np.array([[0.5, 0.5]]), np.array([2])),
        lambda: calibration.reliability_diagram(np.array([[0.5, 0.5]]), np.array([0, 1])),
        lambda: calibration.reliability_diagram(np.array([[0.5, 0.9]]), np.array([0])),
        lambda: calibration.reliability_diagram(np.array([[-0.5, 1.5]]), np.array([0])),
        lambda: calibration.reliability_diagram(np.array([[NAN, NAN]]), np.array([0])),
        lambda: figures.save({"../x": DRAWN["runs_1"]()}, "nowhere"),
    ],
)
def test_bad_input_is_refused(draw: Callable[[], object]) -> None:
    with pytest.raises(InputError, match=r"expected|leave out"):
        draw()
    assert not Path("nowhere").exists()
