"""``mer-zoo prepare`` and ``cache``: from raw frames to inputs."""

import argparse
import sys
from collections import Counter
from pathlib import Path

import mer_zoo
from mer_zoo.cli_runs import add_corpora, add_preparation, corpora_of, preparation_of
from mer_zoo.errors import InputError, printable

Words = argparse.Namespace


def add_prepare(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo prepare``."""
    add = parser.add_argument
    add("protocol", metavar="PROTOCOL", help="whose clips: a name that `mer-zoo protocols` lists")
    add("--model", default="ststnet", metavar="MODEL", help="the network that will eat them (%(default)s)")
    add("--out", type=Path, metavar="FOLDER", help="where to keep them (the user's cache directory)")
    add("--jobs", type=int, default=1, metavar="N", help="processes side by side (%(default)s)")
    add(
        "--on-error", default="raise", choices=("raise", "skip"), help="about clips that cannot be cooked (%(default)s)"
    )
    add_preparation(parser)
    add_corpora(parser)


def add_cache(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``mer-zoo cache``."""
    parser.add_argument("action", choices=("ls", "rm"), help="list what is kept, or delete it")
    parser.add_argument("name", nargs="?", metavar="NAME", help="only what begins so; `rm` needs it, or --all")
    parser.add_argument("--folder", type=Path, metavar="FOLDER", help="where it lies (the user's cache directory)")
    parser.add_argument("--all", action="store_true", help="delete everything")


def prepare(words: Words) -> None:
    """Cook as ``mer_zoo.prepare`` does, and say what is there."""
    from mer_zoo.preprocessing.shelf import user_folder

    protocol = mer_zoo.get_protocol(words.protocol)
    cache = mer_zoo.prepare(
        protocol,
        corpora_of(words, protocol),
        mer_zoo.input_spec(words.model),
        words.out or user_folder(),
        preparation=preparation_of(words),
        jobs=words.jobs,
        on_error=words.on_error,
    )
    guessed = Counter(how for how in cache.table["apex_by"] if how)
    print(f"{len(cache)} of {len(cache.digests)} clips of {protocol.name} for {words.model}:")
    for shelf in cache.shelves:
        print(printable(f"  {shelf.file}", sys.stdout))
    if guessed:
        print(f"Apexes that no sheet gives: {', '.join(f'{number} by {how}' for how, number in guessed.items())}.")
    for key, why in cache.left_out.items():
        print(printable(f"Left out, {key}: {why}", sys.stdout))


def cache(words: Words) -> None:
    """List what is kept, or delete it.

    Raises:
        InputError: If ``rm`` is told neither a name nor ``--all``, or nothing has that name.
    """
    from mer_zoo.preprocessing.shelf import shelves_in, user_folder

    folder = (words.folder or user_folder()).expanduser()
    if words.action == "rm" and not words.name and not words.all:
        raise InputError("cache rm needs the beginning of a name that `mer-zoo cache ls` lists, or --all.")
    shelves = [shelf for shelf in shelves_in(folder) if shelf.file.name.startswith(words.name or "")]
    if words.name and not shelves:
        raise InputError(f"Nothing in {folder} begins with {words.name!r}; `mer-zoo cache ls` lists what is there.")
    for shelf in shelves:
        rows = shelf.rows()
        size = shelf.file.stat().st_size / 1e6 if shelf.file.exists() else 0.0
        print(printable(f"{shelf.file.stem}  {len(rows)} clips  {size:.1f} MB  {shelf.says}", sys.stdout))
        if words.action == "rm":
            shelf.remove()
    print(printable(f"{'Deleted' if words.action == 'rm' else 'There are'} {len(shelves)} in {folder}", sys.stdout))
