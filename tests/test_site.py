"""The tools that look at the site, and at what its pages show: they find what is wrong."""

import importlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

TOOLS = Path(__file__).parent.parent / "tools"
SOUND = """<html><head><link rel="stylesheet" href="style.css"></head><body>
<h1 id="top">A</h1><a href="#top">up</a> <a href="b.html#there">b</a> <a href="https://example.org">elsewhere</a>
<img src="picture.png" alt="a picture"></body></html>"""
SHOWN = "| start | UF1 |\n|---|---|\n| from scratch | 0.847 |\n| clips | 18 |\n- they differ by 0.12\n"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "a.html").write_text(SOUND)
    (tmp_path / "b.html").write_text('<p id="there">b</p>')
    (tmp_path / "picture.png").touch()
    (tmp_path / "style.css").write_text("p { color: black }")
    return tmp_path


def _look(site: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(TOOLS / "check_site.py"), str(site)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_sound_site(site: Path) -> None:
    done = _look(site)
    assert done.returncode == 0, done.stdout
    assert "2 pages, 3 links, 1 addresses elsewhere." in done.stdout


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ("b.html#there", "c.html", "a.html: c.html leads nowhere."),
        ("b.html#there", "b.html#here", "a.html: b.html#here has an anchor that is not there."),
        ('"#top"', '"#bottom"', "a.html: #bottom has an anchor that is not there."),
        ('alt="a picture"', 'alt=" "', "a.html: the picture picture.png has no text."),
        ("picture.png", "gone.png", "a.html: gone.png leads nowhere."),
        ("picture.png", "https://example.org/x.png", "a.html: https://example.org/x.png is fetched from elsewhere."),
        ('"style.css"', '"//example.org/x.css"', "a.html: //example.org/x.css is fetched from elsewhere."),
        (
            "</head>",
            "<script src='https://x.org/y.js'></script></head>",
            "https://x.org/y.js is fetched from elsewhere.",
        ),
        ("</head>", "<style>@import 'https://x.org/y.css'</style></head>", "https://x.org/y.css is fetched from"),
    ],
)
def test_what_is_wrong_is_said(was: str, now: str, said: str, site: Path) -> None:
    assert SOUND.count(was) == 1
    (site / "a.html").write_text(SOUND.replace(was, now))
    done = _look(site)
    assert done.returncode == 1
    assert said in done.stdout


def test_a_font_from_elsewhere_in_a_style(site: Path) -> None:
    (site / "style.css").write_text("@font-face { src: url('https://fonts.example.org/a.woff') }")
    assert "style.css: https://fonts.example.org/a.woff is fetched from elsewhere." in _look(site).stdout


def test_a_folder_without_a_site(tmp_path: Path) -> None:
    done = _look(tmp_path)
    assert done.returncode == 1
    assert "has no page; build the site first" in done.stdout


@pytest.fixture
def outputs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("outputs")


@pytest.mark.parametrize(("was", "now"), [("0.847", "0.951"), ("18", "15"), ("differ by 0.12", "are alike")])
def test_numbers_may_differ_as_machines_do(was: str, now: str, outputs: Any) -> None:
    assert outputs.differences(SHOWN, SHOWN.replace(was, now)) == []


@pytest.mark.parametrize(
    ("was", "now"),
    [("0.847", "0.5"), ("18", "11"), ("from scratch", "afresh"), ("| clips | 18 |\n", ""), ("0.847", "-")],
)
def test_other_words_and_numbers_are_found(was: str, now: str, outputs: Any) -> None:
    assert len(outputs.differences(SHOWN, SHOWN.replace(was, now))) == 1
