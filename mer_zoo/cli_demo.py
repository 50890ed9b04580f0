"""``mer-zoo demo``: a page in the browser on which the networks can be tried."""

import argparse
import logging
import os
import signal
import tempfile
import webbrowser

from mer_zoo.errors import InputError

Words = argparse.Namespace


def add_demo(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo demo``."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="to listen at; 0.0.0.0 lets others in (%(default)s)")
    add("--port", type=int, metavar="N", help="to listen at (the first free one from 7860)")
    add("--limit", type=int, default=200, metavar="MB", help="size of an uploaded file at the most (%(default)s)")
    add("--seconds", type=float, default=20.0, metavar="N", help="of a video that are looked at (%(default)s)")
    add("--open", action="store_true", help="show the page in a browser")


def demo(words: Words) -> None:
    """Serve the page until Ctrl-C.

    Raises:
        InputError: If the extra ``demo`` is not installed, or a number or the port cannot be had.
    """
    try:
        from mer_zoo.demo.app import launch
        from mer_zoo.demo.looking import Limits
    except ImportError as error:
        raise InputError(f'The demo needs an extra ({error}): pip install "mer-zoo[demo]".') from None
    limits = Limits(words.limit, words.seconds)
    logging.basicConfig(format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    logging.getLogger("mer_zoo").setLevel(logging.INFO)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, so that uploads are deleted
    with tempfile.TemporaryDirectory(prefix="mer-zoo-demo-") as uploads:
        os.environ["GRADIO_TEMP_DIR"] = uploads
        page = launch(limits, words.host, words.port)
        print(f"The page is at {page.local_url} until you press Ctrl-C; what is uploaded stays here.", flush=True)
        if words.open and not webbrowser.open(page.local_url):
            print(f"No browser could be started here; open {page.local_url} yourself.")
        page.block_thread()
