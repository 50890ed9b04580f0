"""``mer-zoo predict`` and ``explain``: what a network says of a video or a folder of frames, and why."""

import argparse
import sys
from pathlib import Path

import mer_zoo
from mer_zoo.cli_runs import add_alignment, aligner_of
from mer_zoo.errors import FaceError, InputError, printable

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
    """Ask as ``mer_zoo.explain`` does about the clip that is named, or else the window that says most of the target.

    Raises:
        FaceError: If no window shows a face.
    """
    from mer_zoo.asking import asked
    from mer_zoo.explanation_picture import KINDS
    from mer_zoo.prediction import Viewer
    from mer_zoo.preprocessing.video import open_film

    if words.out and words.out.suffix.lower() not in (*KINDS, ".npz"):
        raise InputError(f"--out {words.out}; expected a file that ends in {', '.join(KINDS)} or .npz.")
    film = open_film(words.source, words.fps)
    with asked(words.model) as network:
        viewer = Viewer(network, film, aligner_of(words))
        if words.target not in (None, *viewer.classes):
            raise InputError(f"--target {words.target}; the network knows {', '.join(viewer.classes)}.")
        index = viewer.classes.index(words.target) if words.target else None
        looks = viewer.looks(_clip(words.clip) if words.clip else None, words.seconds)
        window, answer = max(looks, key=lambda look: look.most(index))
        if answer is None:
            raise FaceError(f"{film.name}: no window shows a face. {window.why}")
        apex = window.apex - window.onset
        how = {"target": words.target, "method": words.method}
        why = mer_zoo.explain(network, answer.clip, apex=apex, fps=film.fps, **how)
    others = f", the largest of {window.others + 1} faces" if window.others else ""
    print(printable(f"{film.name}, frames {window.onset} to {window.offset}{others}\n{why}", sys.stdout))
    if words.out:
        print(printable(f"Wrote {why.save(words.out)}", sys.stdout))


def _clip(text: str) -> tuple[int, int | None, int]:
    parts = text.split(",")
    try:
        onset, apex, offset = parts
        return int(onset), int(apex) if apex.strip() else None, int(offset)
    except ValueError:
        raise InputError(f"--clip {text!r}; expected ONSET,APEX,OFFSET such as 12,20,31, or 12,,31.") from None
