"""Motion is told from noise, flicker and compression: expressions of every preset are never called still."""

import io
from itertools import product
from typing import Any

import av
import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mer_zoo.preprocessing.motion import motion, moves
from mer_zoo.synth.generator import Generator
from mer_zoo.synth.settings import PRESETS, settings_of

Frames = npt.NDArray[np.uint8]

CODECS: dict[str, dict[str, str]] = {"h264": {"crf": "28"}, "libvpx": {"b": "300k"}, "mpeg4": {}, "mjpeg": {}}


def _generator(preset: str, family: Any = "head") -> Generator:
    return Generator(settings_of(preset, family=family), 11)


@pytest.fixture(scope="module")
def faces() -> list[Frames]:
    generator = _generator("default")
    return [cv2.resize(generator.clip(person, 0)[0], (224, 224)) for person in range(3)]


def _encoded(clip: Frames, codec: str) -> Frames:
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as container:
        stream: Any = container.add_stream(codec, rate=30)
        stream.width, stream.height, stream.options = clip.shape[2], clip.shape[1], CODECS[codec]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for frame in clip:
            picture = av.VideoFrame.from_ndarray(np.stack([frame] * 3, axis=-1), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    file.seek(0)
    with av.open(file) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


@pytest.mark.parametrize(("preset", "family"), [*product(PRESETS, ("head", "field"))])
def test_expressions_move(preset: str, family: str) -> None:
    generator = _generator(preset, family)
    assert all(moves(generator.clip(number // 3, number)) for number in range(12))


@pytest.mark.parametrize("codec", CODECS)
def test_expressions_still_move_when_compressed(codec: str) -> None:
    for preset in PRESETS:
        clip = _generator(preset).clip(0, 1)
        large = np.stack([cv2.resize(frame, (224, 224), interpolation=cv2.INTER_CUBIC) for frame in clip])
        assert moves(_encoded(large, codec)), preset


@pytest.mark.parametrize("noise", [0, 2, 4])
def test_a_portrait_is_still(noise: float, faces: list[Frames]) -> None:
    """The light flickers and the camera has noise; nothing of the face moves."""
    light = 1 + 0.02 * np.sin(np.arange(15))[:, None, None]
    assert not any(moves(_filmed(face * light, noise)) for face in faces)


@pytest.mark.parametrize(("codec", "noise"), [*product(CODECS, (0, 2))])
def test_a_portrait_is_still_when_compressed(codec: str, noise: float, faces: list[Frames]) -> None:
    assert not any(moves(_encoded(_filmed(np.stack([face] * 15), noise), codec)) for face in faces)


def _filmed(light: npt.NDArray[Any], noise: float) -> Frames:
    rng = np.random.default_rng(0)
    return np.asarray(np.rint(light + rng.normal(0, noise, light.shape)).clip(0, 255), np.uint8)


def test_two_frames_will_do(faces: list[Frames]) -> None:
    face = faces[0]
    assert motion(np.stack([face, face])) == 0
    assert moves(np.stack([face, np.roll(face, 3, axis=0)]))


def test_a_grey_surface_has_nothing_that_could_move() -> None:
    assert motion(np.full((9, 40, 30, 3), 128, np.uint8)) == 0
