"""What the page of the demo says: of good films the same as ``predict``, of every bad one a sentence and a line."""

import json
import logging
import re
import runpy
import socket
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from _films import moving, portrait, still, write_film, write_films
from huggingface_hub import metadata_load
from PIL import Image
from starlette.responses import PlainTextResponse
from starlette.testclient import TestClient

import mer_zoo
from mer_zoo.cards import USES
from mer_zoo.cli import main
from mer_zoo.demo import answering
from mer_zoo.demo.answering import about_frames, about_synthetic, about_video
from mer_zoo.demo.app import RESPONSIBLE, OwnOnly, build, launch
from mer_zoo.demo.looking import FACE, MOST_PICTURES, SCENE, Limits, Seen, aligner_of, choices, open_video, watch
from mer_zoo.errors import InputError
from mer_zoo.explaining import REGIONS
from mer_zoo.prediction import CAVEAT
from mer_zoo.synth.settings import PRESETS

ROOT = Path(__file__).parent.parent
MODEL = "ststnet.synth_3"
LIMITS = Limits(megabytes=5, seconds=2)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_films(tmp_path_factory.mktemp("films"), 45)
    (folder / "empty.mp4").write_bytes(b"")
    write_film(folder / "none.mp4", [portrait()])
    whole = (folder / "brows.mp4").read_bytes()
    (folder / "half.mp4").write_bytes(whole[: len(whole) // 2])
    return folder


def _last(said: Iterator[str]) -> str:
    *_, last = said
    return last


def _refused(said: Iterator[str]) -> str:
    last = _last(said)
    assert last.startswith('<p class="refusal" role="alert">'), last
    return last


# What is shown


def test_a_film_is_looked_at_as_predict_looks(films: Path) -> None:
    *far, seen = watch(MODEL, open_video(str(films / "brows.mp4"), LIMITS), aligner_of(SCENE))
    expected = mer_zoo.predict(MODEL, films / "brows.mp4")
    assert isinstance(seen, Seen)
    np.testing.assert_array_equal(seen.prediction.probabilities, expected.probabilities)
    assert far == [window.offset for window in expected.windows]
    most = np.where(seen.moving, expected.probabilities.max(axis=1), -1)
    assert seen.best == most.argmax()
    assert any(seen.moving)
    assert not all(seen.moving)
    np.testing.assert_array_equal(seen.clip[0], expected.faces[seen.best])
    window = expected.windows[seen.best]
    why = mer_zoo.explain(MODEL, seen.clip, apex=seen.apex)
    assert why.target == expected.classes[int(expected.probabilities[seen.best].argmax())]
    assert seen.regions == pytest.approx(why.regions, abs=1e-6)
    np.testing.assert_allclose(seen.looked, why.cam[0], atol=1e-6)
    assert (seen.apex, len(seen.clip)) == (window.apex - window.onset, window.offset - window.onset + 1)
    assert not seen.cut_short


def test_everything_is_on_the_page(films: Path) -> None:
    *far, last = about_video(MODEL, SCENE, str(films / "brows.mp4"), LIMITS)
    assert far[0] == '<p role="status">Opening …</p>'
    assert all(re.fullmatch(r'<p role="status">Looking … \d\.\d s</p>', said) for said in far[1:])
    texts = re.findall(r'<img[^>]* alt="([^"]+)"', last)
    assert len(texts) == last.count("<img") == 6
    for word in ("onset", "apex", "offset", "Optical flow", "looked most at the"):
        assert any(word in text for text in texts), word
    assert 'role="img" aria-label="Probabilities over time, 0 s to ' in last
    assert CAVEAT in last
    assert not re.search(r"#0000\d\d|#000000|#222222", last)
    for name in mer_zoo.predict(MODEL, films / "brows.mp4").classes:
        assert f'<th scope="row">{name}</th>' in last
    for region in REGIONS:
        assert f'<th scope="row">{region}</th>' in last


@pytest.mark.parametrize("name", mer_zoo.list_models(pretrained=True))
def test_every_network_sees_a_synthetic_clip_in_its_own_classes(name: str) -> None:
    assert name in [choice for _, choice in choices()]
    last = _last(about_synthetic(name, "easy", 2, 3))
    truth = re.search(r"True label: (.*); apex in frame (\d+) of 20\.", last)
    assert truth
    model: Any = mer_zoo.create_model(name, pretrained=True)
    assert truth[1].split(", by ")[0] in model.classes or "au" in name
    assert "AU" in truth[1]


@pytest.mark.parametrize("preset", PRESETS)
def test_no_synthetic_clip_is_called_still(preset: str) -> None:
    for clip in range(4):
        assert "Most probable: " in _last(about_synthetic(MODEL, preset, clip, clip))


def test_a_folder_is_one_clip_or_windows(tmp_path: Path) -> None:
    for number, frame in enumerate(moving(20)):
        Image.fromarray(frame).save(tmp_path / f"img{number + 5}.png")
    (tmp_path / "notes.txt").write_text("mine")
    files = [str(file) for file in tmp_path.iterdir()]
    whole = _last(about_frames(MODEL, SCENE, files, 0, LIMITS))
    assert "Offset, frame 19" in whole
    assert "over time" not in whole
    windows = _last(about_frames(MODEL, SCENE, files, 20, LIMITS))
    assert "of the 3 windows looked at" in windows


def test_names_cannot_write_into_the_page(tmp_path: Path) -> None:
    file = write_film(tmp_path / "<b>&.mp4", still(16))
    said = _refused(about_video(MODEL, SCENE, str(file), LIMITS))
    assert "&lt;b&gt;&amp;.mp4: no motion found" in said


# Bad input: a sentence, a line in the log


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.mp4", "text.mp4 is no video that can be read here; convert it to MP4 or AVI"),
        ("empty.mp4", "empty.mp4 is no video that can be read here"),
        ("half.mp4", "half.mp4"),
        ("none.mp4", "none.mp4 has 1 frame; an expression is a change, so expected 2 or more"),
        ("cup.mp4", "No face was found. Film one face from the front"),
        ("still.mp4", "still.mp4: no motion found"),
        (None, "No video is given. Upload one, or record one with the webcam."),
    ],
)
def test_a_bad_video_is_a_sentence(name: str | None, words: str, films: Path, caplog: pytest.LogCaptureFixture) -> None:
    said = _refused(about_video(MODEL, SCENE, name and str(films / name), LIMITS))
    assert words in said
    assert str(films) not in said
    assert "demo: refused: " in caplog.text
    assert "<article" in _last(about_synthetic(MODEL, "easy", 0, 0))  # and the next visitor is answered


def test_a_file_over_the_limit(films: Path, tmp_path: Path) -> None:
    file = tmp_path / "large.mp4"
    file.write_bytes((films / "brows.mp4").read_bytes())
    with file.open("r+b") as opened:
        opened.truncate(6 * 2**20)
    assert "large.mp4 is larger than 5 MB, the limit" in _refused(about_video(MODEL, SCENE, str(file), LIMITS))


def test_frames_that_are_too_large_or_too_many(tmp_path: Path) -> None:
    Image.new("RGB", (7680, 4320)).save(tmp_path / "1.png")
    files = [str(tmp_path / "1.png")] * (MOST_PICTURES + 1)
    assert "The folder has 7680 x 4320 pixels: half a second at 30 frames a second takes" in _refused(
        about_frames(MODEL, FACE, files, 30, LIMITS)
    )
    assert "301 pictures; one clip has 300 at the most" in _refused(about_frames(MODEL, FACE, files, 0, LIMITS))
    assert "No folder is given" in _refused(about_frames(MODEL, FACE, [], 0, LIMITS))
    assert "The 1 files hold no picture" in _refused(about_frames(MODEL, FACE, ["notes.txt"], 0, LIMITS))


@pytest.mark.parametrize(("person", "clip"), [(-1, 0), (0, 10_000)])
def test_persons_that_are_not_there(person: int, clip: int) -> None:
    assert "expected whole numbers, 0 to 9999" in _refused(about_synthetic(MODEL, "easy", person, clip))


def test_limits_are_positive() -> None:
    with pytest.raises(InputError, match="seconds is 0; expected a positive number"):
        Limits(seconds=0)


def test_of_a_long_film_the_beginning_is_looked_at_in_little_memory(tmp_path: Path) -> None:
    """40 s at 640 x 480 are 550 MB."""
    face = portrait()
    file = write_film(tmp_path / "long.mp4", (np.roll(face, n % 7, axis=0) for n in range(600)), fps=15)
    before = psutil.Process().memory_info().rss
    said = about_video(MODEL, SCENE, str(file), LIMITS)
    most = before
    for last in said:  # noqa: B007  # it is read below
        most = max(most, psutil.Process().memory_info().rss)
    assert "Only the first 2 s were looked at." in last
    assert most - before < 300e6


def test_whatever_else_goes_wrong_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def broken(*_: object) -> Iterator[int]:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(answering, "watch", broken)
    said = _refused(about_synthetic(MODEL, "easy", 0, 0))
    assert "Something went wrong here that should not; the log of the server says what." in said
    assert "ZeroDivisionError: of ours" in caplog.text


def test_a_page_that_is_closed_stops_the_work(films: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "mer_zoo")
    said = about_video(MODEL, SCENE, str(films / "brows.mp4"), LIMITS)
    assert "Opening" in next(said)
    assert "Looking" in next(said)
    said.close()  # type: ignore[attr-defined]
    assert "the page was closed while ststnet.synth_3 looked; it looks no further" in caplog.text


def test_two_at_once_get_what_each_alone_gets(films: Path) -> None:
    def ask(model: str) -> str:
        return re.sub(r"(?s)<svg.*</svg>", "", _last(about_video(model, SCENE, str(films / "brows.mp4"), LIMITS)))

    names = [MODEL, "dat_densenet3d.synth_3", "dat_densenet3d.synth_3"]
    with ThreadPoolExecutor(3) as pool:
        assert [*pool.map(ask, names)] == [ask(name) for name in names]


def test_a_recording_of_a_webcam_has_a_rate(tmp_path: Path) -> None:
    """A browser writes WebM as it goes, without saying how many frames a second there will be."""
    import av

    live = tmp_path / "live.webm"
    with av.open(str(live), "w", format="webm", options={"live": "1"}) as container:
        stream = container.add_stream("libvpx", rate=20)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        noise: npt.NDArray[np.uint8] = np.random.default_rng(0).integers(0, 256, (12, 64, 64, 3), np.uint8)
        for frame in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    assert open_video(str(live), LIMITS).fps == pytest.approx(20, rel=0.05)


# The command


def test_a_port_that_is_taken_is_said() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1, port {port}, cannot be listened at: .*Name another"):
            launch(LIMITS, port=port)


@pytest.mark.parametrize(
    ("address", "words"),
    [({"port": 99_999}, "port is 99999; expected 1 to 65535"), ({"host": "300.0.0.1"}, "300.0.0.1, port any, cannot")],
)
def test_an_address_that_cannot_be_is_said_at_once(address: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        launch(LIMITS, **address)


def test_uploads_of_all_visitors_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    asked = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        asked.append(scope)
        await PlainTextResponse("taken")(scope, receive, send)

    client = TestClient(OwnOnly(app, Limits(1, 2)))
    (tmp_path / "others").write_bytes(bytes(9_000_000))
    assert client.post("/upload", files={"files": bytes(900_000)}).text == "taken"
    (tmp_path / "more").write_bytes(bytes(900_000))
    refused = client.post("/upload", files={"files": bytes(900_000)})
    assert (refused.status_code, len(asked)) == (413, 1)
    assert "The room for uploads is full" in refused.text


def test_large_pictures_of_one_clip_are_refused(tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(150)]
    Image.fromarray(np.zeros((1000, 1000, 3), np.uint8)).save(files[0])
    for file in files[1:]:
        file.hardlink_to(files[0])
    said = [*about_frames(MODEL, FACE, [str(file) for file in files], 0, LIMITS)][-1]
    assert "its 150 pictures take 450 MB, and at most 400 MB are allowed" in said


def test_the_command_refuses_in_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--limit", "0"]) == 1
    assert capsys.readouterr().err == "mer-zoo: megabytes is 0; expected a positive number.\n"
    monkeypatch.setitem(sys.modules, "mer_zoo.demo.app", None)
    assert main(["demo"]) == 1
    assert capsys.readouterr().err.endswith('pip install "mer-zoo[demo]".\n')


# The page and the Space


def test_the_page_says_what_the_readme_says() -> None:
    assert RESPONSIBLE in (ROOT / "README.md").read_text()
    assert RESPONSIBLE in (ROOT / "examples" / "space" / "README.md").read_text()
    assert "Article 5(1)(f)" in USES
    assert "Annex III" in USES
    assert RESPONSIBLE in str(build().get_config_file())


def test_the_space_has_a_card_and_is_the_same_page() -> None:
    """https://huggingface.co/docs/hub/spaces-config-reference"""
    folder = ROOT / "examples" / "space"
    card = metadata_load(folder / "README.md")
    assert card
    assert (card["sdk"], card["app_file"], card["license"]) == ("gradio", "app.py", "mit")
    assert (folder / card["app_file"]).is_file()
    lower = re.search(r'demo = \["gradio>=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert lower
    assert card["sdk_version"].startswith(lower[1])
    assert len(card["short_description"]) <= 60
    assert {card["colorFrom"], card["colorTo"]} <= {
        *("red", "yellow", "green", "blue", "indigo", "purple", "pink", "gray")
    }
    assert (folder / "requirements.txt").read_text() == "mer-zoo[demo]\n"
    app = runpy.run_path(str(folder / "app.py"))
    assert app["launch"].__module__ == "mer_zoo.demo.app"
    page = json.dumps(build(app["LIMITS"]).get_config_file())
    assert "Video: up to 50 MB, first 10 s" in page
