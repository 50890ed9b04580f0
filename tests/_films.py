"""Short films of a photograph, whose brows move, or of none."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
from skimage import data

Frames = npt.NDArray[np.uint8]


def portrait(width: int = 640) -> Frames:
    return np.asarray(cv2.resize(data.astronaut()[:384], (width, width * 3 // 4)))


def moving(frames: int, noise: int = 2) -> Frames:
    """Brows go up by 3 pixels around the middle frame, as a camera films it: (T, 480, 640, 3)."""
    face, rng = portrait(), np.random.default_rng(0)
    y, x = np.mgrid[: face.shape[0], : face.shape[1]].astype(np.float32)
    brows = np.exp(-(((y - 120) / 25) ** 2 + ((x - 275) / 60) ** 2)).astype(np.float32)
    strengths = 3 * np.exp(-(((np.arange(frames) - frames / 2) / 4.5) ** 2))
    clip = [cv2.remap(face, x, y + strength * brows, cv2.INTER_LINEAR) for strength in strengths.astype(np.float32)]
    return _filmed(np.stack(clip), rng, noise)


def still(frames: int, noise: int = 2) -> Frames:
    return _filmed(np.stack([portrait()] * frames), np.random.default_rng(0), noise)


def faceless(frames: int) -> Frames:
    cup = cv2.resize(data.coffee(), (640, 480))
    return np.stack([np.roll(cup, shift, axis=0) for shift in range(frames)])


def _filmed(clip: Frames, rng: np.random.Generator, noise: int) -> Frames:
    grains = rng.integers(-noise, noise + 1, clip.shape, np.int16)
    return np.asarray((clip + grains).clip(0, 255), np.uint8)


def write_film(file: Path, frames: Iterable[Frames], fps: int = 30) -> Path:
    """H.264, or what else the file's name says."""
    with av.open(str(file), "w") as container:
        stream: Any = None
        for frame in frames:
            if stream is None:
                stream = container.add_stream("libvpx" if file.suffix == ".webm" else "h264", rate=fps)
                stream.height, stream.width, stream.pix_fmt = frame.shape[0], frame.shape[1], "yuv420p"
                stream.options = {"preset": "ultrafast"} if file.suffix != ".webm" else {"deadline": "realtime"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return file


def write_films(folder: Path, frames: int) -> Path:
    """A face of so many frames that moves, one that rests, no face, and no film; the folder."""
    write_film(folder / "brows.mp4", moving(frames))
    write_film(folder / "still.mp4", still(20))
    write_film(folder / "cup.mp4", faceless(20))
    (folder / "text.mp4").write_text("notes and no film\n" * 100)
    return folder
