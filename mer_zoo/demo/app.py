"""The page: what a visitor chooses on one side, what comes of it on the other. Gradio draws and serves it.

Nothing leaves the machine: no analytics, no fonts or scripts from elsewhere, and a Content-Security-Policy by which
the browser refuses whatever Gradio or a component would still fetch.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.themes import Base
from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

from mer_zoo.demo.answering import about_frames, about_synthetic, about_video
from mer_zoo.demo.looking import FACE, MOST_PERSONS, SCENE, Limits, choices
from mer_zoo.errors import InputError
from mer_zoo.prediction import CAVEAT
from mer_zoo.synth.settings import PRESETS

VISITORS = 2  # who are answered at once; others wait in a row
WAITING = 20  # in that row at the most
UPLOADS = 10  # times the limit of one that all of them may take together
FRAME = 2**20  # bytes of a request beside its files, at the most
SWEEP, KEPT = 60, 1740  # seconds: how often uploads are looked through, and how old they become
STYLE = Path(__file__).with_name("page.css")

TITLE = "mer-zoo: facial micro-expressions"
INTRODUCTION = (
    "Choose a network, give it half a second or more of one face, and see what it says, how the face moved, and where "
    "the network looked."
)
RESPONSIBLE = (
    "Reading emotion from faces is often wrong and is regulated. In the European Union, Regulation (EU) 2024/1689 (AI "
    "Act) forbids systems that infer emotions at work and in education, medical and safety reasons aside (Article "
    "5(1)(f)), and counts other emotion recognition as high-risk (Annex III, point 1(c)). This library is for research "
    "on recorded, consenting participants. Do not use it to judge what a person feels, intends or hides."
)
POLICY = "; ".join(
    [
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio writes both into its page
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "worker-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
    ]
)
WEBCAM = {"width": {"ideal": 1280}, "height": {"ideal": 720}, "frameRate": {"ideal": 30}}
LOOPBACK = ("127.0.0.1", "localhost")
FONTS = ["system-ui", "sans-serif"]

logger = logging.getLogger("mer_zoo")


class OwnOnly:
    """Tells the browser to load from this server only, and refuses and logs uploads beyond the limits (ASGI)."""

    def __init__(self, app: Any, limits: Limits) -> None:
        self.app, self.limits = app, limits

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def send_with_policy(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = [*message["headers"], (b"content-security-policy", POLICY.encode())]
                message = {**message, "headers": [*headers, (b"referrer-policy", b"no-referrer")]}
            await send(message)

        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith("/upload"):
            why = self._too_much(int(Headers(scope=scope).get("content-length", self.limits.bytes + FRAME + 1)))
            if why:
                logger.warning("demo: refused: %s", why)
                await PlainTextResponse(why, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)(scope, receive, send_with_policy)
                return
        await self.app(scope, receive, send_with_policy)

    def _too_much(self, size: int) -> str:
        """Why an upload of so many bytes is refused; empty if it is not."""
        if size > self.limits.bytes + FRAME:
            return f"These files are larger than {self.limits.megabytes} MB together, the limit."
        if _bytes_in(Path(get_upload_folder())) + size > UPLOADS * self.limits.bytes:
            return "The room for uploads is full; it is emptied within half an hour."
        return ""


def _bytes_in(folder: Path) -> int:
    """Of all files, but for those that are deleted meanwhile."""
    total = 0
    for file in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError):
            total += file.stat().st_size
    return total


Asked = tuple[gr.Button, Callable[..., Iterator[str]], list[Any]]  # what is pressed, what answers, and to which fields


def build(limits: Limits | None = None) -> gr.Blocks:
    """The page, not yet served."""
    limits = limits or Limits()
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(SWEEP, KEPT)) as page:
        gr.Markdown(f"# {TITLE}\n\n{INTRODUCTION}\n\n{CAVEAT}")
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                names = choices()
                model = gr.Dropdown(names, value=names[0][1], label="Network", info="Learnt from rendered faces alone.")
                with gr.Tabs():
                    asked = [_synthetic_tab(model), _video_tab(model, limits), _frames_tab(model, limits)]
            with gr.Column(scale=3, min_width=320):
                shown = gr.HTML("<p>The answer will stand here.</p>", elem_id="shown", apply_default_css=False)
        for button, answer, fields in asked:
            button.click(
                answer,
                fields,
                shown,
                show_progress="hidden",
                concurrency_limit=VISITORS,
                concurrency_id="looking",
                api_visibility="undocumented",
            )
        gr.Markdown(f"## Use it responsibly\n\n{RESPONSIBLE}")
    return page.queue(max_size=WAITING)


def launch(limits: Limits | None = None, host: str = "127.0.0.1", port: int | None = None) -> gr.Blocks:
    """Serve the page, in the background; ``block_thread()`` of what comes back waits until Ctrl-C.

    Args:
        limits: What a visitor may ask for.
        host: Address to listen at; ``0.0.0.0`` for all, which lets others in.
        port: To listen at; None takes the first free one from 7860.

    Raises:
        InputError: If the address is none of this machine's, or the port is taken.
    """
    limits = limits or Limits()
    _check_address(host, port)
    page = build(limits)
    guards = [Middleware(OwnOnly, limits=limits)]
    if host in LOOPBACK:  # so that no page from elsewhere reaches it under a name of its own
        guards.append(Middleware(TrustedHostMiddleware, allowed_hosts=[*LOOPBACK]))
    try:
        page.launch(
            server_name=host,
            server_port=port,
            share=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            enable_monitoring=False,
            run_history=False,
            footer_links=[],
            max_file_size=limits.bytes,
            theme=Base(font=FONTS, font_mono=["ui-monospace", "monospace"]),
            css_paths=STYLE,
            app_kwargs={"middleware": guards},
            quiet=True,
            prevent_thread_lock=True,
        )
    except OSError as error:
        raise InputError(f"Port {port or 'from 7860 on'} of {host} cannot be had; name another. ({error})") from error
    return page


def _check_address(host: str, port: int | None) -> None:
    """Refuse what cannot be listened at, before anything is loaded."""
    if port is not None and not 0 < port < 2**16:
        raise InputError(f"port is {port}; expected 1 to {2**16 - 1}.")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port or 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError as error:
        raise InputError(f"{host}, port {port or 'any'}, cannot be listened at: {error}. Name another.") from error


def _synthetic_tab(model: gr.Dropdown) -> Asked:
    with gr.Tab("Synthetic"):
        gr.Markdown("A person who does not exist, drawn now. What is true of the clip is known, and shown.")
        preset = gr.Radio(list(PRESETS), value="default", label="How hard it is")
        with gr.Row():
            person = gr.Number(1, label="Person", precision=0, minimum=0, maximum=MOST_PERSONS, min_width=100)
            clip = gr.Number(1, label="Clip", precision=0, minimum=0, maximum=MOST_PERSONS, min_width=100)
        button = gr.Button("Draw it and look", variant="primary")

    def answer(model: str, preset: str, person: int, clip: int) -> Iterator[str]:
        yield from about_synthetic(model, preset, person, clip)

    return button, answer, [model, preset, person, clip]


def _video_tab(model: gr.Dropdown, limits: Limits) -> Asked:
    with gr.Tab("Video"):
        label = f"Video: up to {limits.megabytes} MB, first {limits.seconds:g} s"
        webcam = gr.WebcamOptions(constraints={"video": WEBCAM})
        # Without sound Gradio would call ffmpeg; a webcam's recording has none anyway.
        sources: Any = ["upload", "webcam"]
        video = gr.Video(label=label, sources=sources, include_audio=True, webcam_options=webcam, buttons=[])
        picture = _picture_field()
        button = gr.Button("Look at the video", variant="primary")

    def answer(model: str, picture: str, video: str | None) -> Iterator[str]:
        yield from about_video(model, picture, video, limits)

    return button, answer, [model, picture, video]


def _frames_tab(model: gr.Dropdown, limits: Limits) -> Asked:
    with gr.Tab("Frames"):
        files = gr.File(label="Folder of the pictures of one clip, numbered", file_count="directory", height=160)
        fps = gr.Number(0, label="Frames a second", info="0: all pictures are one clip.", minimum=0)
        picture = _picture_field()
        button = gr.Button("Look at the frames", variant="primary")

    def answer(model: str, picture: str, files: list[str] | None, fps: float | None) -> Iterator[str]:
        yield from about_frames(model, picture, files, fps, limits)

    return button, answer, [model, picture, files, fps]


def _picture_field() -> gr.Radio:
    choices = [("A scene: find the face", SCENE), ("The face only, cut out already", FACE)]
    return gr.Radio(choices, value=SCENE, label="The picture shows")
