"""The page of the demo in a real browser: what a visitor sees, and that nothing is asked of any other machine.

Needs a chromium that is installed; without one these tests are skipped, and say so.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from _films import write_films
from playwright.sync_api import Browser, Locator, Page, sync_playwright

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed: apt-get install chromium")

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
QUIET += ["--disable-component-update", "--disable-sync", "--disable-default-apps", "--disable-domain-reliability"]
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PATIENCE = 60_000  # milliseconds, on a machine that is busy

# The server, with every address that Python asks for or connects to written down.
SERVER = """
import sys
asked = open(sys.argv.pop(1), "a", buffering=1)
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(event, arguments[1] if event == "socket.connect" else arguments[0], file=asked)
sys.addaudithook(note)
from mer_zoo.cli import main
sys.exit(main(sys.argv[1:]))
"""


class Served(NamedTuple):
    """A server: where it is, its log, and what it asked for."""

    address: str
    log: Path
    asked: Path


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("served")
    log, asked = folder / "log", folder / "asked"
    command = [sys.executable, "-c", SERVER, str(asked), "demo", "--limit", "2", "--seconds", "1.5"]
    environment = {**os.environ, "TMPDIR": str(folder), "GRADIO_ANALYTICS_ENABLED": "True"}  # it stays off all the same
    with log.open("w") as written:
        process = subprocess.Popen(command, stdout=written, stderr=written, env=environment)
    try:
        yield Served(_address(log, process), log, asked)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=30)
    kept = [file for file in folder.rglob("*") if file.is_file() and file not in (log, asked)]
    assert kept == [], "uploads are deleted when the server stops"


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    for _ in range(600):
        found = re.search(r"The page is at (\S+)/ until", log.read_text())
        if found:
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, *CAMERA])
        yield started
        started.close()


@pytest.fixture
def page(browser: Browser, served: Served) -> Iterator[Page]:
    opened = _open(browser, served)
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_films(tmp_path_factory.mktemp("films"), 50)
    (folder / "large.mp4").write_bytes(bytes(3 * 2**20))
    return folder


def _open(browser: Browser, served: Served) -> Page:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(served.address)
    page.get_by_role("button", name="Draw it and look").wait_for()
    return page


def _give(page: Page, file: Path) -> Locator:
    """A file in the field for videos; the button to press next."""
    page.get_by_role("tab", name="Video").click()
    page.locator('input[type="file"]').first.set_input_files(file)
    return page.get_by_role("button", name="Look at the video")


def _wait_for_film(page: Page) -> None:
    """A film is there once its field can be cleared; where a browser cannot play it, the error can be cleared, too."""
    page.get_by_test_id("video").get_by_label("Clear").wait_for()


def _ask(page: Page, file: Path) -> None:
    button = _give(page, file)
    _wait_for_film(page)
    button.click()


def test_a_synthetic_clip_by_keyboard_alone(page: Page) -> None:
    order = []
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.innerText"))
    assert order[0] == "Network"
    assert order[-1] == "Draw it and look"
    page.keyboard.press("Enter")
    page.locator("article.seen").wait_for()
    pictures = page.locator("article.seen img")
    assert pictures.count() == 6
    assert all(picture.get_attribute("alt") for picture in pictures.all())
    assert "True label: " in page.locator("article.seen").inner_text()


def test_a_video_and_its_result(page: Page, films: Path) -> None:
    _ask(page, films / "brows.mp4")
    result = page.locator("article.seen")
    result.wait_for()
    said = result.inner_text()
    assert "brows.mp4" in said
    assert "Only the first 1.5 s were looked at" in said
    assert "decide nothing by them" in said
    assert result.get_by_role("img", name="Probabilities over time").count() == 1
    assert page.get_by_text("forbids systems that infer emotions at work").is_visible()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("text.mp4", "text.mp4 is no video that can be read here"),
        ("cup.mp4", "No face was found"),
        ("still.mp4", "still.mp4: no motion found"),
    ],
)
def test_a_bad_video_is_a_sentence(name: str, words: str, page: Page, films: Path, served: Served) -> None:
    _ask(page, films / name)
    assert words in page.get_by_role("alert").filter(has_text=words).inner_text()
    assert "demo: refused: " in served.log.read_text()


def test_a_file_over_the_limit_is_refused_with_the_limit(page: Page, films: Path) -> None:
    _give(page, films / "large.mp4")
    page.get_by_text("exceed the maximum allowed size of 2").wait_for()


def test_another_client_cannot_send_more_either(served: Served, films: Path) -> None:
    with (films / "large.mp4").open("rb") as file:
        answer = httpx.post(f"{served.address}/gradio_api/upload", files={"files": file})
    assert (answer.status_code, answer.headers["content-security-policy"][:18]) == (413, "default-src 'self'")
    assert "demo: refused: These files are larger than 2 MB together, the limit." in served.log.read_text()


def test_many_files_are_not_more_than_one(served: Served) -> None:
    many = [("files", (f"{number}.png", bytes(600_000))) for number in range(6)]
    assert httpx.post(f"{served.address}/gradio_api/upload", files=many).status_code == 413


def test_another_name_for_this_machine_is_refused(served: Served) -> None:
    assert httpx.get(f"{served.address}/config", headers={"Host": "elsewhere.example"}).status_code == 400


def test_a_recording_by_the_webcam_is_looked_at(page: Page) -> None:
    """The browser's made-up camera shows a disk and a clock: a film, and no face."""
    page.get_by_role("tab", name="Video").click()
    page.get_by_label("Capture from camera").click()
    page.get_by_text("Click to Access Webcam").click()
    record = page.get_by_label("start recording")
    record.click()
    page.wait_for_timeout(2000)
    record.click()
    _wait_for_film(page)
    page.get_by_role("button", name="Look at the video").click()
    page.get_by_role("alert").filter(has_text="No face was found").wait_for()


def test_two_at_once_are_both_answered(browser: Browser, served: Served, films: Path) -> None:
    pages = [_open(browser, served) for _ in range(2)]
    for page in pages:
        _ask(page, films / "brows.mp4")
    for page in pages:
        page.locator("article.seen").wait_for()
        page.context.close()


def test_a_tab_that_is_closed_in_the_middle(browser: Browser, served: Served, films: Path, page: Page) -> None:
    leaving = _open(browser, served)
    _ask(leaving, films / "brows.mp4")
    leaving.get_by_text("Looking …").wait_for()
    leaving.close()
    page.get_by_role("button", name="Draw it and look").click()
    page.locator("article.seen").wait_for()
    for _ in range(300):
        if "the page was closed while" in served.log.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(served.log.read_text())


def test_nothing_is_asked_of_another_machine(browser: Browser, served: Served, films: Path, tmp_path: Path) -> None:
    """By the page's events, by the browser's own log of the network, and by what the server's Python connects to."""
    log = tmp_path / "net.json"
    logging = browser.browser_type.launch(executable_path=CHROMIUM, args=[*QUIET, f"--log-net-log={log}"])
    page = _open(logging, served)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    _ask(page, films / "brows.mp4")
    page.locator("article.seen").wait_for()
    for name in ("Synthetic", "Frames"):
        page.get_by_role("tab", name=name).click()
    refused = page.evaluate("fetch('https://example.org').then(() => 'answered', () => 'refused')")
    logging.close()
    assert refused == "refused"
    elsewhere = [url for url in asked if not url.startswith((served.address, "data:", "blob:"))]
    assert elsewhere in ([], ["https://example.org/"])  # Playwright tells of what the policy refuses, too
    sent = _sent_by(served.address, log)
    assert any(url.startswith(f"{served.address}/gradio_api/upload") for url in sent)
    assert [url for url in sent if not url.startswith(served.address)] == []
    assert all("127.0.0.1" in line for line in served.asked.read_text().splitlines())


def _sent_by(page: str, log: Path) -> list[str]:
    """Addresses that a page had the browser ask for, as the browser's network log has them."""
    parameters = [event.get("params", {}) for event in json.loads(log.read_text())["events"]]
    return [one["url"] for one in parameters if one.get("initiator") == page and "url" in one]
