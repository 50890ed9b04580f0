"""Frames of a video file, a folder of pictures or an array, one after the other."""

import importlib.util
import itertools
import logging
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mer_zoo.datasets._pictures import read_picture
from mer_zoo.errors import CorpusError, InputError

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")

logger = logging.getLogger("mer_zoo")

LEAST_SHARE = 0.9  # of the frames that a video announces, by its length, which is not exact

TIMED = 120  # frames that a rate is measured on where the file does not say it

Frame = npt.NDArray[np.uint8]
Source = str | Path | npt.NDArray[Any]


@dataclass(frozen=True)
class Film:
    """Frames in order, each (H, W) grey or (H, W, 3) RGB, 0..255, of one size; a video is read as it is asked for.

    Attributes:
        name: For messages.
        fps: Frames a second, or None where nobody says.
        source: Where the frames are.
        most: How many frames are read at the most; None reads all.
    """

    name: str
    fps: float | None
    source: Path | list[Path] | npt.NDArray[np.uint8]
    most: int | None = None

    def frames(self) -> Iterator[Frame]:
        """Every frame.

        Raises:
            InputError: If there is none, or one cannot be read or is of another size than the first.
        """
        shape: tuple[int, ...] | None = None
        for number, frame in enumerate(itertools.islice(self._each(), self.most)):
            if shape is not None and frame.shape[:2] != shape[:2]:
                raise InputError(
                    f"{self.name}, frame {number}: {frame.shape[:2]} pixels; expected {shape[:2]} as the first."
                )
            shape = frame.shape
            yield frame
        if shape is None:
            raise InputError(f"{self.name} holds no frame. Is it whole? Fetch it anew.")

    def _each(self) -> Iterator[Frame]:
        if isinstance(self.source, Path):
            return _decoded(self.source)
        if isinstance(self.source, list):
            return _read(self.source)
        return iter(self.source)


def check_rate(fps: float | None) -> None:
    """Refuse a number of frames a second that is not positive; None says that it is not known.

    Raises:
        InputError: If it is no positive number.
    """
    if fps is not None and (isinstance(fps, bool) or not isinstance(fps, Real) or not 0 < fps < float("inf")):
        raise InputError(f"fps is {fps!r}; expected a positive number of frames a second.")


def open_film(source: Source, fps: float | None = None) -> Film:
    """The frames of a video file, of a folder of pictures in the order of their numbers, or of (T, H, W[, 3]) uint8.

    Videos are read by PyAV where the extra ``video`` is installed, else by OpenCV.

    Args:
        source: Where the frames are.
        fps: Frames a second; None takes what a video says of itself.

    Raises:
        InputError: If nothing is there, it is no such thing, or ``fps`` is not positive.
    """
    check_rate(fps)
    if isinstance(source, np.ndarray):
        return Film("the array", fps, _checked(source))
    if not isinstance(source, str | Path):
        raise InputError(
            f"The source is a {type(source).__name__}; expected a video, a folder of pictures or an array."
        )
    place = Path(source).expanduser()
    if place.is_dir():
        return Film(place.name, fps, _pictures(place))
    if not place.is_file():
        raise InputError(f"{place} is not there; expected a video, or a folder of pictures.")
    if _is_text(place):
        raise InputError(_no_video(place))
    return Film(place.name, fps or _rate(place), place)


def _checked(frames: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    if np.issubdtype(frames.dtype, np.floating) and not np.isfinite(frames).all():
        raise InputError(f"The array {frames.dtype} {frames.shape} holds NaN or infinity; expected uint8, 0..255.")
    if frames.dtype != np.uint8 or frames.ndim not in (3, 4) or frames.shape[3:] not in ((), (3,)) or not len(frames):
        raise InputError(
            f"The array is {frames.dtype} {frames.shape}; expected uint8 (T, H, W) or (T, H, W, 3), 0..255."
        )
    return frames


def _pictures(folder: Path) -> list[Path]:
    found = in_order(folder.iterdir())
    if not found:
        raise InputError(f"{folder} holds no picture ({', '.join(PICTURES)}); expected the frames of one clip.")
    return found


def in_order(files: Iterable[Path]) -> list[Path]:
    """Those that are pictures, by the last number in their names."""

    def order(file: Path) -> tuple[int, str]:
        numbers = re.findall(r"\d+", file.stem)
        return int(numbers[-1]) if numbers else -1, file.name

    return sorted((file for file in files if file.suffix.lower() in PICTURES), key=order)


def _read(files: list[Path]) -> Iterator[Frame]:
    for file in files:
        try:
            yield read_picture(file)
        except CorpusError as error:
            raise InputError(str(error)) from error


def _with_av() -> bool:
    return importlib.util.find_spec("av") is not None


def _rate(file: Path) -> float | None:
    """What the file says of itself.

    Raises:
        InputError: If it is no video.
    """
    if _with_av():
        import av

        try:
            with av.open(str(file)) as container:
                rate = _rate_of(container)
        except (av.FFmpegError, OSError) as error:
            raise InputError(_no_video(file)) from error
        return rate
    import cv2

    capture = cv2.VideoCapture(str(file))
    try:
        if not capture.isOpened():
            raise InputError(_no_video(file))
        rate = capture.get(cv2.CAP_PROP_FPS)
    finally:
        capture.release()
    return rate if rate and np.isfinite(rate) and rate > 0 else None


def _rate_of(container: Any) -> float | None:
    """What a container says, or else what its first frames' times say: a webcam's recording is written as it goes."""
    if not container.streams.video:
        return None
    video = container.streams.video[0]
    if video.average_rate:
        return float(video.average_rate)
    packets = itertools.islice(container.demux(video), TIMED)
    times = sorted(float(packet.pts * packet.time_base) for packet in packets if packet.pts is not None)
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 and times[-1] > times[0] else None


def _is_text(file: Path) -> bool:
    """Whether it begins as text does, which decoders would show as the picture of a terminal."""
    with file.open("rb") as opened:
        start = opened.read(4096)
    return not set(start) & (set(range(32)) - set(b"\t\n\r\f\x1b"))


def _no_video(file: Path) -> str:
    more = "" if _with_av() else ', or pip install "mer-zoo[video]"'
    return f"{file} is no video that can be read here; convert it to MP4 or AVI{more}."


def _say_if_short(file: Path, read: int, announced: float) -> None:
    """Where a video breaks off decoders just stop."""
    if 0 < read < LEAST_SHARE * announced:
        logger.warning("%s: frame %d of %d is the last that can be read; fetch it anew.", file, read, announced)


def _decoded(file: Path) -> Iterator[Frame]:
    return _by_av(file) if _with_av() else _by_opencv(file)


def _by_av(file: Path) -> Iterator[Frame]:
    import av

    try:
        with av.open(str(file)) as container:
            read = 0
            for frame in container.decode(video=0):
                read += 1
                yield np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90)
            _say_if_short(file, read, container.streams.video[0].frames)
    except (av.FFmpegError, IndexError) as error:
        raise InputError(f"{file} cannot be read to its end ({error}). Fetch it anew.") from error


def _by_opencv(file: Path) -> Iterator[Frame]:
    import cv2

    capture = cv2.VideoCapture(str(file))
    try:
        announced, read = capture.get(cv2.CAP_PROP_FRAME_COUNT), 0
        while True:
            more, frame = capture.read()
            if not more:
                break
            read += 1
            yield np.ascontiguousarray(frame[..., ::-1])
        _say_if_short(file, read, announced)
    finally:
        capture.release()
