"""What the page shows, computed: one film, window by window, and the window that says most."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import FaceError, InputError, MerZooError
from mer_zoo.explaining import explain
from mer_zoo.models import create_model, list_models
from mer_zoo.prediction import SECONDS, Clip, Look, Prediction, Viewer
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.motion import moves
from mer_zoo.preprocessing.video import PICTURES, Film, in_order, open_film
from mer_zoo.synth.emotions import CLASS_SETS, class_names
from mer_zoo.synth.generator import Generator
from mer_zoo.synth.settings import settings_of

Frames = npt.NDArray[np.uint8]
Array = npt.NDArray[np.float32]

MOST_PICTURES = 300  # of a folder that is one clip
MOST_BYTES = 400_000_000  # of the frames of one window, which are in memory together
MOST_PERSONS = 9999  # the number of the last one, and of a person's last clip
SHOWN = 224  # pixels a side that faces are shown at, at the most
FACE, SCENE = "face only", "a scene"  # what the picture shows
SYNTH_SEED, SYNTH_SIZE = 20_261, 128  # no person that shipped weights were trained or tested on; pixels a side


@dataclass(frozen=True)
class Limits:
    """What a visitor may ask for.

    Attributes:
        megabytes: Size of an uploaded file, at the most.
        seconds: How much of a film is looked at, from its beginning.

    Raises:
        InputError: If one is not positive.
    """

    megabytes: int = 200
    seconds: float = 20.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < float("inf"):
                raise InputError(f"{name} is {value!r}; expected a positive number.")

    @property
    def bytes(self) -> int:
        """Size of an uploaded file, at the most."""
        return self.megabytes * 2**20


@dataclass(frozen=True, eq=False)
class Seen:
    """What is shown of a film.

    Attributes:
        prediction: Of all windows.
        best: Number of the window that says most: of those in which something moves, that of the most probable class.
        moving: (W,), whether something moves.
        clip: (T, H, W) or (T, H, W, 3), the faces of the best window, SHOWN pixels a side or less.
        looked: (s, s), 0 to 1: where the network looked in the best window, added up over time.
        regions: How far the probability of its most probable class falls when a region of the face is held still.
        cut_short: Whether the film may go on beyond what was looked at.
        truth: What is known of a synthetic clip; empty for others.
    """

    prediction: Prediction
    best: int
    moving: tuple[bool, ...]
    clip: Frames
    looked: Array
    regions: dict[str, float]
    cut_short: bool = False
    truth: str = ""

    @property
    def apex(self) -> int:
        """Position of the apex in ``clip``."""
        window = self.prediction.windows[self.best]
        return window.apex - window.onset


def choices() -> list[tuple[str, str]]:
    """Networks with weights: what the page calls each, and its name."""
    return [(f"{name}, {_counted(network(name).classes)}", name) for name in list_models(pretrained=True)]


def _counted(classes: Sequence[str]) -> str:
    return f"{len(classes)} {'units' if classes[0].startswith('AU') else 'classes'}"


@lru_cache
def network(name: str) -> Any:
    """A network with its weights, for all visitors."""
    return create_model(name, pretrained=True).eval().requires_grad_(False)


def aligner_of(picture: str) -> Aligner:
    """How to cut out what the picture shows, FACE or SCENE."""
    return Aligner("none" if picture == FACE else "mtcnn")


def open_video(file: str | None, limits: Limits) -> Film:
    """The beginning of a video, by the file's name.

    Raises:
        InputError: If there is none, it is no video, it is too large, or it does not say how fast it is.
    """
    if not file:
        raise InputError("No video is given. Upload one, or record one with the webcam.")
    film = open_film(file)
    if film.fps is None:
        raise InputError(f"{film.name} does not say how many frames a second it has. Convert it to MP4.")
    if Path(file).stat().st_size > limits.bytes:  # the page refuses it, another client may not
        raise InputError(f"{film.name} is larger than {limits.megabytes} MB, the limit. Cut it, or make it smaller.")
    return _beginning(film, film.fps, limits)


def open_frames(files: Sequence[str] | None, fps: float | None, limits: Limits) -> Film:
    """The pictures among the files of a folder, in the order of their numbers.

    Raises:
        InputError: If there is none, or there are too many for one clip.
    """
    pictures = in_order(map(Path, files or ()))
    if not pictures:
        what = f"The {len(files)} files hold no picture" if files else "No folder is given"
        raise InputError(f"{what}; expected the frames of one clip, as {', '.join(PICTURES)}.")
    film = Film("The folder", fps or None, pictures)
    if film.fps is not None:
        return _beginning(film, film.fps, limits)
    if len(pictures) > MOST_PICTURES:
        raise InputError(
            f"The folder holds {len(pictures)} pictures; one clip has {MOST_PICTURES} at the most. Say how many frames "
            "a second were filmed, and they are looked at in windows of half a second."
        )
    _check_size(film, len(pictures), f"its {len(pictures)} pictures take")
    return film


def _beginning(film: Film, fps: float, limits: Limits) -> Film:
    """So many seconds of a film, if its frames are not too large to be held together."""
    _check_size(film, SECONDS * fps, f"half a second at {fps:.0f} frames a second takes")
    return replace(film, most=max(2, round(limits.seconds * fps)))


def _check_size(film: Film, frames: float, what: str) -> None:
    """Refuse so many frames if they are too large to be held together."""
    first = next(film.frames())
    held = first.nbytes * frames
    if held > MOST_BYTES:
        height, width = first.shape[:2]
        raise InputError(
            f"{film.name} has {width} x {height} pixels: {what} {held / 1e6:.0f} MB, and at most "
            f"{MOST_BYTES / 1e6:.0f} MB are allowed. Make the picture smaller."
        )


def synthetic(model: str, preset: str, person: int, clip: int) -> tuple[Film, Clip, str]:
    """A rendered clip labelled in the model's classes: its film, onset, apex and offset, and the truth in words.

    Raises:
        InputError: If a number is negative or not whole, or there is no such preset.
    """
    if any(not isinstance(number, int) or not 0 <= number <= MOST_PERSONS for number in (person, clip)):
        raise InputError(f"Person {person} and clip {clip}; expected whole numbers, 0 to {MOST_PERSONS}.")
    names = network(model).classes
    classes = "au" if names[0].startswith("AU") else next(k for k in CLASS_SETS if set(class_names(k)) == set(names))
    generator = Generator(settings_of(preset, classes=classes, size=SYNTH_SIZE), SYNTH_SEED)
    coding, frames = generator.script(person, clip).coding, generator.clip(person, clip)
    label = "" if classes == "au" else f"{generator.label(person, clip)[0]}, by "
    units = ", ".join(f"AU{unit}" for unit in coding.units)
    truth = f"True label: {label}{units}; apex in frame {coding.apex} of {len(frames)}."
    film = Film(f"Person {person}, clip {clip}", coding.fps, frames)
    return film, (0, coding.apex, len(frames) - 1), truth


def watch(model: str, film: Film, aligner: Aligner, clip: Clip | None = None) -> Iterator[int | Seen]:
    """Yields the number of each frame up to which all was looked at, and at last what was seen.

    Args:
        model: The name of one with weights.
        film: What to look at; its ``most`` frames bound time, half a second of it memory.
        aligner: Cuts the face out.
        clip: Onset, apex and offset if they are known; None looks at windows.

    Raises:
        InputError: If nothing moves, or the film cannot be read.
        FaceError: If there is no face.
    """
    viewer = Viewer(network(model), film, aligner)
    looks: list[Look] = []
    moving: list[bool] = []
    best, answer, most = 0, None, -1.0
    for number, look in enumerate(viewer.looks(clip)):
        moving.append(look.answer is not None and moves(look.answer.clip))
        if moving[-1] and look.most() > most:
            best, answer, most = number, look.answer, look.most()
        looks.append(look.brief())
        yield look.window.offset
    prediction = viewer.prediction(looks)
    if answer is None:
        raise InputError(_still(film.name))
    short = film.most is not None and looks[-1].window.offset + 1 >= film.most
    window = looks[best].window
    why = explain(viewer.network, answer.clip, apex=window.apex - window.onset, fps=film.fps)
    looked = why.cam.sum(axis=0)
    looked /= max(float(looked.max()), 1e-12)
    yield Seen(prediction, best, tuple(moving), _small(answer.clip), looked, why.regions, short)


def in_words(error: Exception) -> str:
    """What the page says of an error, without the names of functions and folders."""
    if isinstance(error, FaceError):
        return (
            "No face was found. Film one face from the front, in even light, not too small; or, if the picture is the "
            f"face and nothing else, choose “{FACE}”."
        )
    if isinstance(error, MerZooError):
        return re.sub(r"(?:/[^/\s]+)+/(?=[^/\s])", "", str(error))
    return "Something went wrong here that should not; the log of the server says what."


def _still(name: str) -> str:
    return (
        f"{name}: no motion found. Nothing in the face moves more than a camera's noise would. A network would name a "
        "class all the same, and it would mean nothing, so none is shown."
    )


def _small(clip: Frames) -> Frames:
    """At most SHOWN pixels a side."""
    import cv2

    height, width = clip.shape[1:3]
    scale = SHOWN / max(height, width)
    if scale >= 1:
        return clip
    size = max(12, round(width * scale)), max(12, round(height * scale))
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip])
