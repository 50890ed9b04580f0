"""``mer-zoo export``: a network with its weights, as one file for other programs."""

import argparse
import re
import sys
from pathlib import Path

from mer_zoo.errors import printable
from mer_zoo.exporting import FORMATS, description, export_model

Words = argparse.Namespace


def add_export(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo export``."""
    add = parser.add_argument
    name = "a name as `mer-zoo models` lists them, with its tag; or local-dir:FOLDER, hf-hub:OWNER/REPO"
    add("name", metavar="NAME", help=f"whose weights: {name}")
    add("--format", choices=list(FORMATS), default="onnx", help="ONNX, or what torch.export.load reads (%(default)s)")
    add("--out", type=Path, metavar="FILE", help="what to write (NAME.onnx or NAME.pt2, here)")


def export(words: Words) -> None:
    """Export as ``mer_zoo.export_model`` does, and say what was written."""
    file = export_model(words.name, words.out or _file(words.name, words.format), format=words.format)
    print(printable(f"Wrote {file}, and what it eats and says to {description(file)}", sys.stdout))


def _file(name: str, format: str) -> Path:  # noqa: A002
    """Named as the weights are, without where they lie: ``hf-hub:me/x`` gives ``x.onnx``."""
    last = Path(name.partition(":")[2] or name).expanduser().resolve().name
    return Path(re.sub(r"[^\w.-]+", "-", last) + FORMATS[format])
