"""From what a visitor asks to what the page says, as HTML: how far it is, and at last a result or a refusal."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace

from mer_zoo.demo.looking import FACE, Limits, Seen, aligner_of, in_words, open_frames, open_video, synthetic, watch
from mer_zoo.demo.showing import progress, refusal, result
from mer_zoo.errors import MerZooError
from mer_zoo.prediction import Clip
from mer_zoo.preprocessing.video import Film

logger = logging.getLogger("mer_zoo")

Opened = tuple[Film, Clip | None, str]  # what to look at, the clip if it is known, and the truth in words


def about_video(model: str, picture: str, file: str | None, limits: Limits) -> Iterator[str]:
    """Look at a video or a webcam recording; ``picture`` is FACE or SCENE."""
    return _answers(model, picture, lambda: (open_video(file, limits), None, ""))


def about_frames(model: str, picture: str, files: list[str] | None, fps: float | None, limits: Limits) -> Iterator[str]:
    """Look at the pictures of a folder; without frames a second all are one clip."""
    return _answers(model, picture, lambda: (open_frames(files, fps, limits), None, ""))


def about_synthetic(model: str, preset: str, person: int, clip: int) -> Iterator[str]:
    """Draw a clip of a person who does not exist, and look at it."""
    return _answers(model, FACE, lambda: synthetic(model, preset, person, clip))


def _answers(model: str, picture: str, opened: Callable[[], Opened]) -> Iterator[str]:
    """Whatever goes wrong is a sentence on the page and a line in the log, and the server goes on."""
    try:
        yield progress("Opening …")
        film, clip, truth = opened()
        for seen in watch(model, film, aligner_of(picture), clip):
            if isinstance(seen, Seen):
                logger.info("demo: %s looked at %s.", model, film.name)
                yield result(replace(seen, truth=truth))
            else:
                yield progress(f"Looking … {_far(film, seen + 1)}")
    except GeneratorExit:
        logger.info("demo: the page was closed while %s looked; it looks no further.", model)
        raise
    except MerZooError as error:
        logger.warning("demo: refused: %s", error)
        yield refusal(in_words(error))
    except Exception as error:
        logger.exception("demo: failed.")
        yield refusal(in_words(error))


def _far(film: Film, frames: int) -> str:
    return f"{frames / film.fps:.1f} s" if film.fps else f"{frames} frames"
