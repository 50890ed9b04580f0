"""What a network says of one video, folder or array: probabilities over time, and a picture of how it came to them."""

import itertools
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from mer_zoo.asking import asked, classes_of, eaten_by, logits_of, probabilities
from mer_zoo.errors import FaceError, InputError
from mer_zoo.preprocessing.apex import find_apex
from mer_zoo.preprocessing.cook import magnified
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.forms import Array, cook_clip
from mer_zoo.preprocessing.video import Film, Source, open_film

if TYPE_CHECKING:
    import pandas as pd

logger = logging.getLogger("mer_zoo")

Frames = npt.NDArray[np.uint8]
Clip = tuple[int, int | None, int]  # onset, apex or None, offset

SECONDS = 0.5  # of a window: a micro-expression lasts as long at the most (Yan et al., J. Nonverbal Behavior 2013)
OVERLAP = 2  # windows that each frame is in

CAVEAT = (
    "These numbers say how much a clip resembles the classes of the training data; some class leads even where there "
    "is no expression at all. They do not say what a person feels, thinks or hides: decide nothing by them."
)


@dataclass(frozen=True)
class Window:
    """One clip that was looked at.

    Attributes:
        onset: Number of its first frame, from 0.
        apex: Of the frame that flow goes to.
        offset: Of its last frame.
        others: How many smaller faces were in its first frame.
        why: Why nothing can be said of it; empty if something can.
    """

    onset: int
    apex: int
    offset: int
    others: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class Prediction:
    """Probabilities of the windows of one source.

    Attributes:
        name: Of the source.
        classes: Names of the N classes.
        windows: W clips, in order.
        probabilities: (W, N), 0 to 1, NaN where no face was found. They sum to one over classes, or for networks of
            action units are each for itself.
        fps: Frames a second; None if nobody says.
        faces: (W, S, S) or (W, S, S, 3), the first frame of each window as it was cut out.
        looked: (W, s, s), 0 to 1: what of the input the answer leans on, by place: the gradient of the most probable
            class times how far the input is from its channel's median, absolute, summed over channels and time.
    """

    name: str
    classes: tuple[str, ...]
    windows: tuple[Window, ...]
    probabilities: Array
    fps: float | None
    faces: Frames = field(repr=False)
    looked: Array = field(repr=False)

    caveat = CAVEAT

    @cached_property
    def table(self) -> "pd.DataFrame":
        """A row a window, with onset, apex, offset, seconds (of the apex), p_<class>, faces, why there is none."""
        import pandas as pd

        rows = [
            {
                "onset": window.onset,
                "apex": window.apex,
                "offset": window.offset,
                "seconds": window.apex / self.fps if self.fps else float("nan"),
                **{f"p_{name}": float(p) for name, p in zip(self.classes, values, strict=True)},
                "faces": 0 if window.why else window.others + 1,
                "why": window.why,
            }
            for window, values in zip(self.windows, self.probabilities, strict=True)
        ]
        return pd.DataFrame(rows)

    def save(self, file: str | Path) -> Path:
        """A picture: faces, where the network looked, probabilities over time, and what they do not mean.

        Args:
            file: Ends in ``.png``, ``.svg`` or ``.pdf``.

        Raises:
            InputError: If it ends otherwise, or matplotlib, of the extra ``plot``, is not installed.
        """
        from mer_zoo.prediction_picture import draw

        return draw(self, Path(file).expanduser())

    def __str__(self) -> str:
        said = self.table.drop(columns="why").to_string(index=False, float_format="%.3f", na_rep="-")
        return f"{self.name}\n{said}\n{self.caveat}"


def predict(
    model: nn.Module | str,
    source: Source,
    *,
    clip: Clip | None = None,
    fps: float | None = None,
    aligner: Aligner | None = None,
    seconds: float = SECONDS,
) -> Prediction:
    """Ask a network about a video, a folder of frames or an array, prepared as its own input spec says.

    The face is found on the first frame of each window and all frames of it are cut out by one transform. Without a
    frame rate the whole source is one clip.

    Args:
        model: A model, or the name of one with weights, such as ``ststnet.synth_3``.
        source: A video file, a folder of pictures, or uint8 (T, H, W) or (T, H, W, 3).
        clip: Onset, apex and offset as numbers of frames from 0, the apex perhaps None; None looks at windows.
        fps: Frames a second; None takes what a video says of itself.
        aligner: Cuts the face out; None takes mtcnn, of the extra ``face``. ``Aligner("none")`` for frames that show
            the face only.
        seconds: Length of a window; each begins where the one before is half over.

    Raises:
        InputError: If the source is none, has too few frames, the clip lies outside, or the model does not say what
            it eats.
        FaceError: If no window shows a face.
        WeightsError: If a name has no weights.
    """
    with asked(model) as network:
        viewer = Viewer(network, open_film(source, fps), aligner or Aligner())
        return viewer.prediction([look.brief() for look in viewer.looks(clip, seconds)])


class Answer(NamedTuple):
    """What came of a window with a face.

    Attributes:
        probabilities: (N,).
        clip: (T, S, S) or (T, S, S, 3), its frames as they were cut out.
        looked: (s, s), as in ``Prediction``.
    """

    probabilities: Array
    clip: Frames
    looked: Array


class Look(NamedTuple):
    """A window, and what the network says of it if there is a face."""

    window: Window
    answer: Answer | None

    def most(self, index: int | None = None) -> float:
        """Probability of a class, or of the most probable one; -1 where there is no face."""
        if self.answer is None:
            return -1.0
        shares = self.answer.probabilities
        return float(shares.max() if index is None else shares[index])

    def brief(self) -> "Look":
        """The same with the first frame only, so that a long film need not be kept."""
        return self._replace(answer=self.answer and self.answer._replace(clip=self.answer.clip[:1].copy()))


class _Part(NamedTuple):
    """Frames of a window, T of (H, W[, 3]), the number of the first, and the position of the apex if it is known."""

    frames: Sequence[Frames]
    onset: int
    apex: int | None = None


class Viewer:
    """One network, in evaluation mode, looking at one film, window by window.

    Attributes:
        classes: Names of what the network tells apart.

    Raises:
        InputError: If the model does not say what it eats, or the aligner is none.
    """

    def __init__(self, network: nn.Module, film: Film, aligner: Aligner) -> None:
        if not isinstance(aligner, Aligner):
            raise InputError(f"aligner is {aligner!r}; expected mer_zoo.Aligner(…).")
        self.network, self.spec, self.film, self.aligner = network, eaten_by(network), film, aligner
        number = logits_of(network, torch.full((1, *self.spec.shape), float(self.spec.low))).shape[1]
        self.classes = classes_of(network, number)

    def looks(self, clip: Clip | None = None, seconds: float = SECONDS) -> Iterator[Look]:
        """One window after the other, as soon as it is answered; ``clip`` and ``seconds`` as in ``predict``.

        Raises:
            InputError: If the film is none, has too few frames, or an argument is not allowed.
        """
        if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < seconds < float("inf"):
            raise InputError(f"seconds is {seconds!r}; expected a positive length of a window.")
        yield from map(self._look, _parts(self.film, clip, seconds))

    def prediction(self, looks: Sequence[Look]) -> Prediction:
        """All looks at this film together.

        Raises:
            FaceError: If no window shows a face.
        """
        windows, answers = tuple(look.window for look in looks), [look.answer for look in looks if look.answer]
        crowded = sum(window.others > 0 for window in windows)
        if crowded:
            said = "%s: in %d of %d windows of several faces the largest is taken."
            logger.warning(said, self.film.name, crowded, len(windows))
        if not answers:
            raise FaceError(f"{self.film.name}: none of {len(looks)} windows shows a face. The first: {windows[0].why}")
        nothing = Answer(*(np.full_like(part, fill) for part, fill in zip(answers[0], (np.nan, 255, 0), strict=True)))
        shown = [look.answer or nothing for look in looks]
        return Prediction(
            name=self.film.name,
            classes=self.classes,
            windows=windows,
            probabilities=np.stack([answer.probabilities for answer in shown]),
            fps=self.film.fps,
            faces=np.stack([answer.clip[0] for answer in shown]),
            looked=np.stack([answer.looked for answer in shown]),
        )

    def _look(self, part: _Part) -> Look:
        offset = part.onset + len(part.frames) - 1
        try:
            name = f"{self.film.name}, frame {part.onset}"
            faces, others = self._cut_out(part.frames, name)
        except FaceError as error:
            return Look(Window(part.onset, part.onset + len(part.frames) // 2, offset, why=str(error)), None)
        apex = part.apex if part.apex is not None else find_apex(faces)
        large = magnified(faces, self.spec, self.film.fps)
        values = torch.from_numpy(cook_clip(large, self.spec, apex))[None]
        answer = Answer(self._probabilities(values), faces, self._looked(values))
        return Look(Window(part.onset, part.onset + apex, offset, others), answer)

    def _cut_out(self, frames: Sequence[Frames], name: str) -> tuple[Frames, int]:
        """The face of every frame by the first one's place, and how many other faces are there."""
        if self.aligner.backend == "none":
            return _stacked(frames), 0
        matrix, others = self.aligner.place(frames[0], self.film.name, name)
        return _stacked([self.aligner.cut(frame[None], matrix)[0] for frame in frames]), others

    @torch.no_grad()
    def _probabilities(self, values: Tensor) -> Array:
        return probabilities(logits_of(self.network, values)[0], self.classes)

    def _looked(self, values: Tensor) -> Array:
        values = values.clone().requires_grad_()
        (slope,) = torch.autograd.grad(logits_of(self.network, values).max(), values)
        still = values.detach()
        middle, _ = still.flatten(2).median(dim=2)
        away = still - middle.reshape(*still.shape[:2], *[1] * (still.ndim - 2))
        weight = (slope * away).abs()[0].flatten(0, -3).sum(0)
        return np.asarray((weight / weight.max().clamp(min=1e-12)).numpy(), np.float32)


def _parts(film: Film, clip: Clip | None, seconds: float) -> Iterator[_Part]:
    """The clip that is named, or windows over all of it."""
    if clip is not None:
        yield _named(film, clip)
    elif film.fps is None:
        yield _part([*film.frames()], film)
    else:
        yield from _windows(film, max(2, round(seconds * film.fps)))


def _named(film: Film, clip: Clip) -> _Part:
    three = isinstance(clip, tuple) and len(clip) == 3
    if not three or not all(isinstance(n, int | np.integer) or (n is None and i == 1) for i, n in enumerate(clip)):
        raise InputError(f"clip is {clip!r}; expected three numbers of frames, (onset, apex or None, offset).")
    onset, apex, offset = clip
    if not 0 <= onset < offset or not (apex is None or onset < apex <= offset):
        raise InputError(f"clip is {clip}; expected onset, apex and offset, 0 <= onset < apex <= offset.")
    frames = [*itertools.islice(film.frames(), onset, offset + 1)]
    if len(frames) < offset - onset + 1:
        raise InputError(f"{film.name} has {onset + len(frames)} frames or fewer; clip {clip} reaches to {offset}.")
    return _Part(frames, onset, None if apex is None else apex - onset)


def _windows(film: Film, length: int) -> Iterator[_Part]:
    """Windows of so many frames, each from the middle of the one before; the last one ends with the film."""
    held: deque[Frames] = deque(maxlen=length)
    number, due = 0, length
    for number, frame in enumerate(film.frames(), start=1):
        held.append(frame)
        if number == due:
            yield _part([*held], film, number - length)
            due += max(1, length // OVERLAP)
    if number < length or number > due - max(1, length // OVERLAP):
        yield _part([*held], film, number - len(held))


def _part(frames: list[Frames], film: Film, onset: int = 0) -> _Part:
    if len(frames) < 2:
        raise InputError(f"{film.name} has {len(frames)} frame; an expression is a change, so expected 2 or more.")
    return _Part(frames, onset)


def _stacked(frames: Sequence[Frames]) -> Frames:
    """(T, H, W) if all are grey, else (T, H, W, 3)."""
    if len({frame.ndim for frame in frames}) == 1:
        return np.stack([*frames])
    return np.stack([frame if frame.ndim == 3 else np.stack([frame] * 3, axis=-1) for frame in frames])
