"""``mer-zoo predict`` and ``explain``: what a network says of a video or a folder of frames, and why."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import mer_zoo
from mer_zoo.cli_runs import add_alignment, aligner_of
from mer_zoo.errors import FaceError, InputError, printable

if TYPE_CHECKING:
    from mer_zoo.prediction import Look

Words = argparse.Namespace


def add_predict(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo predict``."""
    _add_source(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="a picture: faces, where the network looked, probabilities"
    )
    add_alignment(parser, default="mtcnn")


def add_explain(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo explain``."""
    _add_source(parser)
    add = parser.add_argument
    add("--target", metavar="CLASS", help="which class to explain (the most probable)")
    add("--method", default="hirescam", metavar="NAME", help="how maps are weighted: hirescam, gradcam (%(default)s)")
    add("--out", type=Path, metavar="FILE", help="a picture, or with .npz the arrays")
    add_alignment(parser, default="mtcnn")


def _add_source(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a name with weights, as `mer-zoo models` lists them; or local-dir:, hf-hub:")
    add("source", type=Path, metavar="SOURCE", help="a video, or a folder of frames")
    add(
        "--clip", metavar="ONSET,APEX,OFFSET", help="numbers of frames from 0, the apex may be empty (windows over all)"
    )
    add("--fps", type=float, metavar="N", help="frames a second (what the video says)")
    add("--seconds", type=float, default=0.5, metavar="N", help="length of a window (%(default)s)")


def predict(words: Words) -> None:
    """Ask as ``mer_zoo.predict`` does, print the table, and draw the picture if one is asked for."""
    clip = _clip(words.clip) if words.clip else None
    said = mer_zoo.predict(
        words.model, words.source, clip=clip, fps=words.fps, aligner=aligner_of(words), seconds=words.seconds
    )
    print(printable(str(said), sys.stdout))
    if words.out:
        print(printable(f"Wrote {said.save(words.out)}", sys.stdout))


def explain(words: Words) -> None:
    """Ask as ``mer_zoo.explain`` does about the clip that is named, or else the window that says most.

    Raises:
        FaceError: If no window shows a face.
    """
    from mer_zoo.asking import asked
    from mer_zoo.prediction import Viewer
    from mer_zoo.preprocessing.video import open_film

    film = open_film(words.source, words.fps)
    with asked(words.model) as network:
        viewer = Viewer(network, film, aligner_of(words))
        window, answer = max(viewer.looks(_clip(words.clip) if words.clip else None, words.seconds), key=_most)
        if answer is None:
            raise FaceError(f"{film.name}: no window shows a face. {window.why}")
        apex = window.apex - window.onset
        how = {"target": words.target, "method": words.method}
        why = mer_zoo.explain(network, answer.clip, apex=apex, fps=film.fps, **how)
    print(printable(f"{film.name}, frames {window.onset} to {window.offset}\n{why}", sys.stdout))
    if words.out:
        print(printable(f"Wrote {why.save(words.out)}", sys.stdout))


def _most(look: "Look") -> float:
    """Probability of a window's most probable class."""
    return -1.0 if look.answer is None else float(look.answer.probabilities.max())


def _clip(text: str) -> tuple[int, int | None, int]:
    parts = text.split(",")
    try:
        onset, apex, offset = parts
        return int(onset), int(apex) if apex.strip() else None, int(offset)
    except ValueError:
        raise InputError(f"--clip {text!r}; expected ONSET,APEX,OFFSET such as 12,20,31, or 12,,31.") from None
