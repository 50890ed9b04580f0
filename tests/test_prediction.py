"""One video, folder or array, asked about: the same numbers as by hand, and a word about every wrong input."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import PIL.Image
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

import mer_zoo
from mer_zoo.cli import main
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import FaceError, InputError
from mer_zoo.preprocessing.cook import cook
from mer_zoo.preprocessing.faces import Aligner
from mer_zoo.preprocessing.forms import cook_clip, cook_flow, cook_frames
from mer_zoo.preprocessing.video import open_film

Frames = npt.NDArray[np.uint8]
AS_IT_IS = Aligner("none")


@pytest.fixture(scope="module")
def clip() -> Frames:
    corpus: Any = mer_zoo.open_corpus("synthetic", subjects=2, clips_per_subject=3)
    return np.asarray(corpus.clip(corpus.samples[0]))


def _probabilities(model: Any, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    with torch.no_grad():
        logits = model.eval()(torch.from_numpy(values)[None])[0]
    many = model.classes[0].startswith("AU")
    return np.asarray((logits.sigmoid() if many else logits.softmax(0)).numpy())


# The same numbers as by hand


@pytest.mark.parametrize("name", mer_zoo.list_models(pretrained=True))
def test_an_array_is_cooked_by_the_spec_of_the_weights(name: str, clip: Frames) -> None:
    model: Any = mer_zoo.create_model(name, pretrained=True)
    spec = mer_zoo.input_spec(model)
    apex = len(clip) // 2
    values = cook_flow(clip[0], clip[apex], spec) if spec.kind == "flow" else cook_frames(clip, spec)
    said = mer_zoo.predict(name, clip, aligner=AS_IT_IS)
    np.testing.assert_allclose(said.probabilities, _probabilities(model, values)[None], rtol=1e-4, atol=1e-6)
    assert said.classes == tuple(model.classes)
    assert [(w.onset, w.apex, w.offset) for w in said.windows] == [(0, apex, len(clip) - 1)]
    assert said.probabilities.sum() == pytest.approx(1, abs=1e-5) or "AU1" in said.classes


def test_a_clip_that_is_named_is_taken(clip: Frames) -> None:
    long = np.concatenate([clip[:1].repeat(7, axis=0), clip, clip])
    alone = mer_zoo.predict("ststnet.synth_3", clip, aligner=AS_IT_IS, clip=(0, 5, len(clip) - 1))
    found = mer_zoo.predict("ststnet.synth_3", long, aligner=AS_IT_IS, clip=(7, 12, 6 + len(clip)))
    np.testing.assert_array_equal(found.probabilities, alone.probabilities)
    assert (found.windows[0].onset, found.windows[0].apex, found.windows[0].offset) == (7, 12, 6 + len(clip))


@pytest.mark.parametrize(
    ("frames", "expected"), [(10, [0]), (7, [0]), (15, [0, 5]), (17, [0, 5, 7]), (23, [0, 5, 10, 13])]
)
def test_windows_overlap_by_half_and_reach_the_end(frames: int, expected: list[int], clip: Frames) -> None:
    film = np.concatenate([clip, clip])[:frames]
    said = mer_zoo.predict("ststnet.synth_3", film, aligner=AS_IT_IS, fps=20)
    assert [window.onset for window in said.windows] == expected
    assert said.windows[-1].offset == frames - 1
    for window, values in zip(said.windows, said.probabilities, strict=True):
        part = film[window.onset : window.offset + 1]
        alone = mer_zoo.predict("ststnet.synth_3", part, aligner=AS_IT_IS)
        np.testing.assert_array_equal(alone.probabilities[0], values)
    assert said.table["seconds"].tolist() == [window.apex / 20 for window in said.windows]


@pytest.mark.parametrize("with_av", [True, False])
def test_a_folder_and_a_video_say_what_the_array_says(
    with_av: bool, clip: Frames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers order the pictures, not letters; a video without losses is the array."""
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / "frames" / f"img{number + 5}.png")
    (tmp_path / "frames" / "notes.txt").write_text("mine")
    writer = cv2.VideoWriter(str(tmp_path / "film.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 100, clip.shape[:0:-1])
    for frame in clip:
        writer.write(cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR))
    writer.release()
    monkeypatch.setattr("mer_zoo.preprocessing.video._with_av", lambda: with_av)
    array = mer_zoo.predict("ststnet.synth_3", clip, aligner=AS_IT_IS)
    folder = mer_zoo.predict("ststnet.synth_3", tmp_path / "frames", aligner=AS_IT_IS)
    film = mer_zoo.predict("ststnet.synth_3", str(tmp_path / "film.avi"), aligner=AS_IT_IS)
    np.testing.assert_array_equal(folder.probabilities, array.probabilities)
    np.testing.assert_allclose(film.probabilities, array.probabilities, atol=0.02)
    assert (array.fps, folder.fps, film.fps) == (None, None, 100)
    assert (folder.name, film.name) == ("frames", "film.avi")


class Corner(nn.Module):
    """Looks at the upper left quarter of its input only."""

    input_spec = mer_zoo.InputSpec("clip", ("grey",), size=16, frames=4)
    classes = ("dark", "light")

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        light = self.scale * x[..., :8, :8].mean(dim=(1, 2, 3, 4))
        return torch.stack([-light, light], dim=1)


def test_where_a_network_looks_is_where_it_looks(clip: Frames) -> None:
    model = Corner().train()
    said = mer_zoo.predict(model, clip, aligner=AS_IT_IS)
    assert said.looked.shape == (1, 16, 16)
    assert said.looked[0, :8, :8].max() == 1
    assert not said.looked[0, 8:].any()
    assert not said.looked[0, :, 8:].any()
    assert model.training
    assert model.scale.grad is None


def test_what_is_not_said_of_the_classes_is_numbered(clip: Frames) -> None:
    class Nameless(Corner):
        classes = ()  # type: ignore[assignment]

    assert mer_zoo.predict(Nameless(), clip, aligner=AS_IT_IS).classes == ("class 0", "class 1")


# What comes out


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
@pytest.mark.parametrize("fps", [None, 20])
def test_a_picture_is_saved(kind: str, fps: float | None, clip: Frames, tmp_path: Path) -> None:
    said = mer_zoo.predict("ststnet.synth_3", np.concatenate([clip] * 3), aligner=AS_IT_IS, fps=fps)
    file = said.save(tmp_path / "new" / f"said.{kind}")
    assert file.stat().st_size > 5_000
    assert [path.name for path in file.parent.iterdir()] == [f"said.{kind}"]


def test_it_says_what_the_numbers_do_not_mean(clip: Frames) -> None:
    said = mer_zoo.predict("ststnet.synth_3", clip, aligner=AS_IT_IS)
    assert "They do not say what a person feels, thinks or hides: decide nothing" in str(said)
    assert "p_negative" in str(said)


def test_a_picture_of_another_kind_is_refused(clip: Frames, tmp_path: Path) -> None:
    said = mer_zoo.predict("ststnet.synth_3", clip, aligner=AS_IT_IS)
    with pytest.raises(InputError, match=r"said\.gif does not end in \.png, \.svg, \.pdf"):
        said.save(tmp_path / "said.gif")


# Faces


def _film_with_a_face() -> Frames:
    """Two seconds at ten frames: nothing, then a photograph, then nothing."""
    from skimage import data

    face = data.astronaut()[:320, 60:380]
    return np.stack([face if 6 <= number < 14 else np.zeros_like(face) for number in range(20)])


def test_windows_without_a_face_say_so() -> None:
    said = mer_zoo.predict("ststnet.synth_3", _film_with_a_face(), fps=10)
    starts_on_face = [6 <= window.onset < 14 for window in said.windows]
    assert any(starts_on_face)
    assert [not window.why for window in said.windows] == starts_on_face
    assert np.isfinite(said.probabilities).all(axis=1).tolist() == starts_on_face
    assert said.faces.shape[1:] == (224, 224, 3)
    assert "finds no face in 320 x 320 pixels" in said.table["why"][0]


def test_no_face_at_all_is_an_error() -> None:
    with pytest.raises(FaceError, match="the array: none of 4 windows shows a face"):
        mer_zoo.predict("ststnet.synth_3", np.zeros((10, 80, 80), np.uint8), fps=10)


# Wrong inputs


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.full((5, 40, 40), np.nan), "holds NaN or infinity; expected uint8"),
        (np.zeros((5, 40, 40), np.float32), r"is float32 \(5, 40, 40\); expected uint8"),
        (np.zeros((5, 40, 40), np.uint16), "is uint16"),
        (np.zeros((40, 40), np.uint8), r"is uint8 \(40, 40\)"),
        (np.zeros((0, 40, 40), np.uint8), r"is uint8 \(0, 40, 40\)"),
        (np.zeros((1, 40, 40), np.uint8), "has 1 frame; an expression is a change"),
        (np.zeros((5, 40, 40, 4), np.uint8), r"is uint8 \(5, 40, 40, 4\)"),
    ],
)
def test_arrays_that_are_no_clip(array: npt.NDArray[Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.predict("ststnet.synth_3", array, aligner=AS_IT_IS)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clip": (3, 2, 9)}, r"clip is \(3, 2, 9\); expected onset, apex and offset"),
        ({"clip": (-1, None, 9)}, "expected onset, apex and offset"),
        ({"clip": (1, 2)}, r"clip is \(1, 2\); expected three numbers of frames"),
        ({"clip": "1,2,3"}, "expected three numbers of frames"),
        ({"clip": (1.5, 2, 3)}, "expected three numbers of frames"),
        ({"clip": (None, 2, 3)}, "expected three numbers of frames"),
        ({"aligner": "mtcnn"}, "aligner is 'mtcnn'; expected mer_zoo.Aligner"),
        ({"clip": (0, None, 99)}, "reaches to 99"),
        ({"fps": 0}, "fps is 0; expected a positive number"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 10, "seconds": 0}, "seconds is 0; expected a positive length"),
    ],
)
def test_wrong_options(options: dict[str, Any], words: str, clip: Frames) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.predict("ststnet.synth_3", clip, **{"aligner": AS_IT_IS, **options})


def test_a_network_that_does_not_say_what_it_eats(clip: Frames) -> None:
    with pytest.raises(InputError, match="Linear does not say what it eats"):
        mer_zoo.predict(nn.Linear(2, 2), clip, aligner=AS_IT_IS)


def test_sources_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "sizes").mkdir()
    for number, size in enumerate((40, 40, 44)):
        Image.new("L", (size, 40)).save(tmp_path / "sizes" / f"{number}.png")
    (tmp_path / "cut").mkdir()
    Image.new("L", (40, 40)).save(tmp_path / "cut" / "1.png")
    (tmp_path / "cut" / "2.png").write_bytes((tmp_path / "cut" / "1.png").read_bytes()[:40])
    for name, words in {
        "nowhere.mp4": "nowhere.mp4 is not there",
        "empty": "holds no picture",
        "text.mp4": "is no video that can be read here",
        "sizes": r"sizes, frame 2: \(40, 44\) pixels; expected \(40, 40\) as the first",
        "cut": r"2\.png is no readable picture",
    }.items():
        with pytest.raises(InputError, match=words):
            mer_zoo.predict("ststnet.synth_3", tmp_path / name, aligner=AS_IT_IS)


@pytest.mark.parametrize("with_av", [True, False])
def test_a_video_that_breaks_off(
    with_av: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What can be decoded is, with a warning; where nothing can, that is an error."""
    monkeypatch.setattr("mer_zoo.preprocessing.video._with_av", lambda: with_av)
    file = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 64))
    noise = np.random.default_rng(0).integers(0, 256, (20, 64, 64, 3), np.uint8)
    for frame in noise:
        writer.write(frame)
    writer.release()
    whole = file.read_bytes()
    assert sum(1 for _ in open_film(file).frames()) == 20
    assert not caplog.messages
    file.write_bytes(whole[: len(whole) // 2])
    assert 0 < sum(1 for _ in open_film(file).frames()) < 20
    assert re.search(r"film\.avi: frame \d+ of 20 is the last that can be read; fetch it anew", caplog.text)
    file.write_bytes(whole[:3000])
    with pytest.raises(InputError, match=r"film\.avi"):
        list(open_film(file).frames())


# The command


def test_the_command_says_the_table_and_draws(clip: Frames, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for number, frame in enumerate(clip):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{number}.png")
    words = ["predict", "ststnet.synth_3", "frames", "--align", "none", "--clip", "0,,9", "--out", "said.png"]
    program = [sys.executable, "-m", "mer_zoo.cli", *words]
    done = subprocess.run(program, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "p_negative" in done.stdout
    assert "They do not say what a person feels" in done.stdout
    assert done.stdout.endswith("Wrote said.png\n")
    assert (tmp_path / "said.png").exists()


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", "ststnet.synth_3", str(tmp_path / "nothing.mp4")]) == 1
    assert capsys.readouterr().err.endswith("nothing.mp4 is not there; expected a video, or a folder of pictures.\n")
    assert main(["predict", "ststnet.synth_3", str(tmp_path), "--clip", "3"]) == 1
    assert "--clip '3'; expected ONSET,APEX,OFFSET" in capsys.readouterr().err


def test_a_text_is_no_video(tmp_path: Path) -> None:
    """Decoders draw it as a terminal would."""
    (tmp_path / "notes.txt").write_text("mine\n" * 50)
    with pytest.raises(InputError, match=r"notes\.txt is no video"):
        mer_zoo.predict("ststnet.synth_3", tmp_path / "notes.txt", aligner=AS_IT_IS)


def test_frames_that_are_not_square_are_cooked_as_they_are_prepared(tmp_path: Path) -> None:
    """An official crop, asked about, gives what a corpus of such crops gives."""
    corpus: Any = CORPORA.get("smic")
    corpus.write_specimen(tmp_path)
    smic = mer_zoo.open_corpus("smic", tmp_path)
    sample = smic.samples[0]
    clip = smic.take(sample, grey=True)
    assert clip.shape[1] != clip.shape[2]
    for name in ("ststnet.synth_3", "dat_densenet3d.synth_3"):
        model: Any = mer_zoo.create_model(name, pretrained=True)
        values = cook(smic, sample, mer_zoo.input_spec(model))
        found = mer_zoo.predict(model, clip, aligner=AS_IT_IS)
        np.testing.assert_allclose(found.probabilities[0], _probabilities(model, values), atol=1e-5)


def test_pictures_are_turned_as_the_camera_was_held(clip: Frames, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[0x0112] = 6  # turn it by 90 degrees to the right
    for number, frame in enumerate(clip):
        Image.fromarray(np.rot90(frame)).save(tmp_path / f"{number}.png", exif=exif)
    found = [*open_film(tmp_path).frames()]
    np.testing.assert_array_equal(found, clip)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"model": 7}, "model is a int; expected a module, or a name"),
        ({"source": 7}, "The source is a int; expected a video, a folder of pictures or an array"),
        ({"fps": True}, "fps is True; expected a positive number"),
        ({"fps": "25"}, "fps is '25'; expected a positive number"),
        ({"seconds": "1"}, "seconds is '1'; expected a positive length"),
    ],
)
def test_what_is_no_argument_is_said(options: dict[str, Any], words: str, clip: Frames) -> None:
    arguments: dict[str, Any] = {"model": "ststnet.synth_3", "source": clip, "aligner": AS_IT_IS, **options}
    with pytest.raises(InputError, match=words):
        mer_zoo.predict(**arguments)


def test_numbers_of_numpy_are_numbers(clip: Frames) -> None:
    named: Any = tuple(np.array([0, 5, 9]))
    said = mer_zoo.predict("ststnet.synth_3", clip, aligner=AS_IT_IS, clip=named)
    assert (said.windows[0].onset, said.windows[0].apex, said.windows[0].offset) == (0, 5, 9)


@pytest.mark.parametrize("kind", ["image", "pair", "phases", "dynamic", "flow"])
def test_every_kind_of_input_can_be_asked_for(kind: Any, clip: Frames) -> None:
    frames = {"pair": 2, "phases": 2, "flow": 3}.get(kind, 1)
    channels = ("u", "v") if kind in ("phases", "flow") else ("grey",)
    spec = mer_zoo.InputSpec(kind, channels, size=28, frames=frames, low=-9, high=9)
    model: Any = nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(spec.shape)), 3))
    model.input_spec = spec
    said = mer_zoo.predict(model, clip, aligner=AS_IT_IS, clip=(0, 5, len(clip) - 1))
    values = cook_clip(clip, spec, 5)
    with torch.no_grad():
        expected = model(torch.from_numpy(values)[None]).softmax(1)
    np.testing.assert_allclose(said.probabilities, expected, rtol=1e-4)
    assert said.looked.shape == (1, 28, 28)
