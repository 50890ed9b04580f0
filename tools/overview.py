"""Draw docs/overview.png and docs/explain.png: python tools/overview.py [--out runs/overview].

The README's picture: above, one rendered clip, its flow, and what `explain` says of it; below, the report of the
README's five lines (STSTNet on `synthetic-3`, a fresh network for each person left out). The other: the clip explained.
All of it is made by the library when this runs.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import mer_zoo
from mer_zoo.explanation_picture import overlaid
from mer_zoo.figures import BLUE, GREY, PALE, cells, style, write
from mer_zoo.preprocessing.flow import optical_flow
from mer_zoo.synth import Generator
from mer_zoo.synth.settings import settings_of
from mer_zoo.synth.sheet import flow_colours

DOCS = Path(__file__).parent.parent / "docs"
CLIP = (1, 1)  # person and clip: AU1, inner brow raiser
RECIPE = mer_zoo.Recipe(epochs=20, lr=2e-3)


def parser() -> argparse.ArgumentParser:
    """The words it takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--out", type=Path, default=Path("runs/overview"), help="the run is kept here (%(default)s)")
    return words


def main() -> None:
    args = parser().parse_args()
    table = mer_zoo.evaluate("ststnet", "synthetic-3", recipe=RECIPE, out=args.out)
    report = mer_zoo.report(table, "synthetic-3")
    with style():
        figure = Figure((10.4, 4.3), layout="constrained")
        rows = figure.add_gridspec(2, 1, height_ratios=[1.0, 1.15])
        draw_clip(figure.add_subfigure(rows[0]))
        draw_report(figure.add_subfigure(rows[1]), report)
        write(figure, DOCS / "overview.png", {"Title": "mer-zoo"})


def draw_clip(figure: Any) -> None:
    """Onset, apex and offset, the flow between the first two, and where the network looked."""
    generator = Generator(settings_of("default", size=224, head_motion=0.0, blink_rate=0.0, gaze_rate=0.0), 7)
    clip, coding = generator.clip(*CLIP), generator.coding(*CLIP)
    why = mer_zoo.explain("dat_densenet3d.synth_3", clip, apex=coding.apex)
    why.save(DOCS / "explain.png")
    flow = optical_flow(clip[0], clip[coding.apex])
    step = int(why.cam.mean(axis=(1, 2)).argmax())
    pictures = {
        "onset": clip[0],
        f"apex: AU {'+'.join(coding.units)}": clip[coding.apex],
        "offset": clip[-1],
        "optical flow, onset to apex": flow_colours(flow, float(np.hypot(*np.moveaxis(flow, -1, 0)).max())),
        f"{why.target} {why.probability:.2f}: leant on": overlaid(why, step),
    }
    for axes, (title, picture) in zip(np.ravel(figure.subplots(1, len(pictures))), pictures.items(), strict=True):
        axes.imshow(picture, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, loc="center")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=PALE)


def draw_report(figure: Any, report: mer_zoo.Report) -> None:
    """The confusion matrix, and UF1 with its interval beside the baselines."""
    left, right = figure.subplots(1, 2, width_ratios=[1.0, 1.5])
    classes = report.protocol.classes
    cells(left, report.matrix)
    left.set(xlabel="predicted class", ylabel="true class", ylim=(len(classes), 0))
    left.set_title(f"{report.matrix.sum()} clips of {len(report.people)} persons, each left out in turn")
    middles = np.arange(len(classes)) + 0.5
    left.set_xticks(middles, classes)
    left.set_yticks(middles, classes)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    scores = report.to_dict()
    draw_scores(right, {"ststnet": scores["pooled"], **scores["baselines"]})


def draw_scores(axes: Axes, scores: dict[str, Any]) -> None:
    """A dot and a 95 % interval for each."""
    for y, each in enumerate(scores.values()):
        value, ends = each["uf1"], each["intervals_95"]["uf1"]
        colour = BLUE if not y else GREY
        axes.plot(ends, [y, y], color=colour, linewidth=2)
        axes.plot([value], [y], "o", color=colour)
        axes.annotate(f"{value:.3f}", (value, y), (0, 7), textcoords="offset points", ha="center", color=colour)
    axes.set_yticks(range(len(scores)), [*scores])
    axes.set(xlim=(0, 1), ylim=(len(scores) - 0.5, -0.7), xlabel="UF1, with the 95 % interval over persons")
    axes.set_title("beside simple baselines on the same clips and folds")
    axes.grid(axis="x")


if __name__ == "__main__":
    main()
