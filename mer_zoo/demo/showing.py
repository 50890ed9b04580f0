"""Pictures and words of what was seen, as HTML: every picture has its text, every colour is seen on light and dark."""

import base64
import io
import re
from html import escape
from threading import Lock
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mer_zoo.demo.looking import Frames, Seen
from mer_zoo.figures import INK, style
from mer_zoo.prediction import Prediction
from mer_zoo.prediction_picture import in_colours, smoothed
from mer_zoo.preprocessing.flow import optical_flow
from mer_zoo.synth.sheet import flow_colours, flow_wheel

LINES = 6  # classes drawn over time, the most probable ones
PLACEHOLDERS = [f"#0000{number:02x}" for number in range(1, LINES + 1)]  # for colours that the page's style sheet says
MARKS = "osD^vX"
WHEEL = "Colour wheel: red to the right, yellow-green up, cyan to the left, violet down"
LEAST_FULL = 0.3  # pixels of motion that get the full colour, at the least: less is hardly measured
STRONG = 0.7  # of a colour that shows where the network looked

_drawing = Lock()  # matplotlib's settings are everybody's


def progress(sentence: str) -> str:
    """A sentence until there is a result."""
    return f'<p role="status">{escape(sentence)}</p>'


def refusal(sentence: str) -> str:
    """A sentence in place of a result."""
    return f'<p class="refusal" role="alert">{escape(sentence)}</p>'


def result(seen: Seen) -> str:
    """All that was seen."""
    pair = f'<div class="strip two">{_moved(seen)}{_leant_on(seen)}</div>'
    parts = [_heading(seen), _strip(seen), pair, _probabilities(seen), _regions(seen)]
    if len(seen.prediction.windows) > 1:
        parts.append(_over_time(seen))
    parts.append(f'<p class="caveat">{escape(seen.prediction.caveat)}</p>')
    return f'<article class="seen">{"".join(parts)}</article>'


def when(prediction: Prediction, frame: int) -> str:
    """The frame's time if it is known, else its number."""
    return f"{round(frame / prediction.fps, 2):g} s" if prediction.fps else f"frame {frame}"


def _heading(seen: Seen) -> str:
    said = seen.prediction
    window, probabilities = said.windows[seen.best], said.probabilities[seen.best]
    leading = said.classes[int(probabilities.argmax())]
    sentences = [f"Most probable: <strong>{escape(leading)}</strong>, {probabilities.max():.1%}."]
    if len(said.windows) > 1:
        sentences.append(
            f"Shown is {when(said, window.onset)} to {when(said, window.offset)}: of the {len(said.windows)} windows "
            "looked at, the one with the most probable class among those in which something moves."
        )
    if seen.cut_short:
        end = when(said, said.windows[-1].offset + 1)
        sentences.append(f"Only the first {end} were looked at.")
    if window.others:
        sentences.append(f"Of {window.others + 1} faces the largest was taken.")
    sentences.append(escape(seen.truth))
    return f"<h2>{escape(said.name)}</h2><p>{' '.join(filter(None, sentences))}</p>"


def _strip(seen: Seen) -> str:
    """The face at onset, apex and offset."""
    said, window = seen.prediction, seen.prediction.windows[seen.best]
    shown = {"Onset": (0, window.onset), "Apex": (seen.apex, window.apex), "Offset": (-1, window.offset)}
    figures = []
    for name, (position, frame) in shown.items():
        text = f"The aligned face at the {name.lower()}, {when(said, frame)}"
        figures.append(_figure(_image(seen.clip[position], text), f"{name}, {when(said, frame)}"))
    return f'<div class="strip">{"".join(figures)}</div>'


def _moved(seen: Seen) -> str:
    """How the face moved."""
    flow = optical_flow(seen.clip[0], seen.clip[seen.apex])
    amount = np.linalg.norm(flow, axis=-1)
    full = max(float(np.percentile(amount, 99)), LEAST_FULL)
    text = f"Optical flow from onset to apex, strongest in the {_place(amount)}, up to {full:.1f} pixels"
    caption = f"Motion from onset to apex; full colour at {full:.1f} of {seen.clip.shape[2]} pixels or more. "
    wheel = _image(flow_wheel(64), WHEEL, "wheel")
    return _figure(_image(flow_colours(flow, full), text), caption + wheel)


def _leant_on(seen: Seen) -> str:
    """Where the network looked."""
    most = f"the network looked most at the {_place(seen.looked)}" if seen.looked.any() else "no place speaks for it"
    text = f"The face at the onset; {most}"
    caption = "Where the network looked: the brighter, the more its last maps speak for the most probable class."
    return _figure(_image(_heated(seen), text), caption)


def _place(amount: npt.NDArray[np.floating]) -> str:
    """In words where on a picture, (H, W), most is."""
    y, x = np.unravel_index(cv2.GaussianBlur(amount, (0, 0), max(amount.shape) / 16).argmax(), amount.shape)
    row = ("upper", "middle", "lower")[int(3 * y / amount.shape[0])]
    column = ("left", "middle", "right")[int(3 * x / amount.shape[1])]
    return "middle" if row == column else f"{row} {column}".replace("middle", "").strip() + " part"


def _heated(seen: Seen) -> Frames:
    """The face at the onset, with warm colours where the network looked: (H, W, 3)."""
    face = in_colours(seen.clip[0])
    height, width = face.shape[:2]
    heat = cv2.resize(smoothed(seen.looked), (width, height), interpolation=cv2.INTER_LINEAR)[..., None]
    warm = cv2.applyColorMap(np.rint(255 * heat).astype(np.uint8), cv2.COLORMAP_INFERNO)[..., ::-1]
    return np.asarray(np.rint(face * (1 - STRONG * heat) + warm * STRONG * heat), np.uint8)


def _probabilities(seen: Seen) -> str:
    """Each class with its probability."""
    said, values = seen.prediction, seen.prediction.probabilities[seen.best]
    each = " Each action unit is for itself." if said.classes[0].startswith("AU") else ""
    rows = {said.classes[index]: float(values[index]) for index in np.argsort(-values)}
    return _bars(f"Probabilities, as the network gives them.{each}", rows)


def _regions(seen: Seen) -> str:
    """What each region of the face is worth."""
    said = seen.prediction
    leading = said.classes[int(said.probabilities[seen.best].argmax())]
    return _bars(f"How far the probability of {leading} falls when a region of the face is held still.", seen.regions)


def _bars(caption: str, values: dict[str, float]) -> str:
    """Each name with its share, as a bar and as a number."""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th>'
        f'<td><span class="bar" style="width:{max(value, 0):.1%}"></span></td><td>{value:z.1%}</td></tr>'
        for name, value in values.items()
    )
    return f"<table><caption>{escape(caption)}</caption>{rows}</table>"


def _over_time(seen: Seen) -> str:
    said = seen.prediction
    least, most = np.nanmin(said.probabilities, axis=0), np.nanmax(said.probabilities, axis=0)
    ranges = [f"{name} {low:.0%} to {high:.0%}" for name, low, high in zip(said.classes, least, most, strict=True)]
    drawn = f" Drawn are the {LINES} most probable." if len(said.classes) > LINES else ""
    grey = "" if all(seen.moving) else " Grey: nothing moves, or there is no face."
    text = f"Probabilities over time, {when(said, 0)} to {when(said, said.windows[-1].offset)}: {', '.join(ranges)}."
    return (
        f'<figure class="curves"><div role="img" aria-label="{escape(text)}">{_curves(seen)}</div>'
        f"<figcaption>Probabilities over time, at the middle of each window.{drawn}{grey}</figcaption></figure>"
    )


def _curves(seen: Seen) -> str:
    """An SVG whose colours are the page's."""
    with _drawing, style(), rc_context({"font.size": 11}):  # so that it is legible on a telephone
        figure = Figure((4.4, 3.2), layout="constrained")
        _draw_curves(figure.subplots(), seen)
        drawn = io.StringIO()
        figure.savefig(drawn, format="svg", transparent=True)
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :]
    for number, colour in enumerate(PLACEHOLDERS, start=1):
        svg = svg.replace(colour, f"var(--line-{number})")
    return re.sub(r"#(?:222222|6e6e6e|000000)\b", "currentColor", svg)


def _draw_curves(axes: Axes, seen: Seen) -> None:
    """The most probable classes over time, grey where nothing moves."""
    said, rate = seen.prediction, seen.prediction.fps or 1.0
    times, end = np.array([window.apex for window in said.windows]) / rate, said.windows[-1].offset / rate
    chosen = sorted(np.argsort(-np.nanmax(said.probabilities, axis=0))[:LINES])
    for index, colour, mark in zip(chosen, PLACEHOLDERS, MARKS, strict=False):
        look: dict[str, Any] = {"color": colour, "marker": mark, "markersize": 4, "linewidth": 1.8}
        axes.plot(times, said.probabilities[:, index], label=said.classes[index], **look)
    edges = [0.0, *(times[1:] + times[:-1]) / 2, end]
    for moving, left, right in zip(seen.moving, edges[:-1], edges[1:], strict=True):
        if not moving:
            axes.axvspan(left, right, color=INK, alpha=0.15, linewidth=0)
    axes.set(xlim=(0, end), ylim=(0, 1.02), xlabel="seconds" if said.fps else "frame", ylabel="probability")
    axes.grid(axis="y", color=INK, alpha=0.2)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, frameon=False)


def _figure(image: str, caption: str) -> str:
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _image(picture: Frames, text: str, kind: str = "") -> str:
    png = io.BytesIO()
    Image.fromarray(picture).save(png, "PNG")
    data = base64.b64encode(png.getvalue()).decode()
    named = f' class="{kind}"' if kind else ""
    return f'<img{named} alt="{escape(text)}" src="data:image/png;base64,{data}">'
