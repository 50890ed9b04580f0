"""``mer-zoo evaluate`` and ``mer-zoo report``: from words to the folder of a run, and from folders to reports."""

import argparse
import dataclasses
import importlib.util
import inspect
import re
import shlex
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

import mer_zoo
from mer_zoo.errors import InputError, RunError, printable

if TYPE_CHECKING:
    import pandas as pd

    from mer_zoo.datasets import Corpus
    from mer_zoo.preprocessing.cook import Preparation
    from mer_zoo.preprocessing.faces import Aligner
    from mer_zoo.protocols import Protocol
    from mer_zoo.recipe import Recipe
    from mer_zoo.report_text import Written

RUNS = Path("runs")
PAGE, EXTRA = "report.html", ("markdown", "matplotlib")  # what the page needs, by the extra ``plot``

Words = argparse.Namespace


def add_recipe(parser: argparse.ArgumentParser) -> None:
    """An option for each field of ``Recipe``, with its default and what its docstring says of it."""
    from mer_zoo.recipe import Recipe

    group = parser.add_argument_group("recipe")
    kinds, meanings = get_type_hints(Recipe), _meanings(Recipe)
    for field in dataclasses.fields(Recipe):
        kind = kinds[field.name]
        if kind is bool:
            how: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
        else:
            how = {"type": kind if kind in (int, float) else str, "metavar": "N" if kind is int else "VALUE"}
        said = f"{meanings.get(field.name, '')} (%(default)s)"
        group.add_argument(f"--{field.name.replace('_', '-')}", default=field.default, help=said, **how)


def add_corpora(parser: argparse.ArgumentParser) -> None:
    """Options that say where corpora lie and how they are opened."""
    add = parser.add_argument
    add(
        "--root",
        action="append",
        default=[],
        metavar="CORPUS=FOLDER",
        dest="roots",
        help="where a corpus lies; once for each, not at all for one that is made",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="CORPUS.NAME=VALUE",
        dest="options",
        help="an option of a corpus, such as smic.camera=HS or casme2.missing=skip",
    )


def add_preparation(parser: argparse.ArgumentParser) -> None:
    """Options that say what is done to frames before a network's own spec."""
    how = "where no apex is coded: middle, difference or lbp (%(default)s)"
    parser.add_argument("--apex", default="middle", metavar="HOW", help=how)
    add_alignment(parser, default="none")


def add_alignment(parser: argparse.ArgumentParser, default: str) -> None:
    """Options that say how faces are cut out."""
    add = parser.add_argument
    what = "how faces are found: mtcnn, dlib, mediapipe, precomputed, or none for faces that are cut out (%(default)s)"
    add("--align", default=default, metavar="HOW", help=what)
    add("--align-file", metavar="FILE", help="what dlib, mediapipe or precomputed read")
    add("--fallback", default="error", choices=("error", "center"), help="where no face is found (%(default)s)")


def preparation_of(words: Words) -> "Preparation":
    """What these options say."""
    return mer_zoo.Preparation(aligner_of(words), words.apex)


def aligner_of(words: Words) -> "Aligner":
    """What these options say of faces."""
    return mer_zoo.Aligner(words.align, fallback=words.fallback, model=words.align_file)


def evaluate(words: Words) -> None:
    """Evaluate as ``mer_zoo.evaluate`` does, and write the report beside the folds.

    Raises:
        RunError: If folds failed.
    """
    protocol = mer_zoo.get_protocol(words.protocol)
    out = (words.out or RUNS / re.sub(r"[^\w.-]+", "-", f"{words.model}-{protocol.name}")).expanduser()
    table = mer_zoo.evaluate(
        words.model,
        protocol,
        corpora_of(words, protocol),
        recipe=_recipe(words),
        selection=words.selection,
        jobs=words.jobs,
        device=words.device,
        backend=words.backend,
        max_parallel=int(words.max_parallel) if words.max_parallel.isdecimal() else words.max_parallel,
        out=out,
        cache=words.cache,
        preparation=preparation_of(words),
        keep_weights=words.keep_weights,
        i_know_this_leaks=words.i_know_this_leaks,
    )
    _check_failures(table, out)
    _tell(_report(table, out, incomplete=False), out)


def report(words: Words) -> None:
    """Score one run, or compare several.

    Raises:
        InputError: If there is no run, or those named are of several protocols or one of them comes twice.
    """
    if words.open:
        _check_page()
    runs = words.runs or [_newest()]
    out = (words.out or (runs[0] if len(runs) == 1 else RUNS / "comparison")).expanduser()
    if len(runs) > 1 and words.incomplete:
        raise InputError("--incomplete is for one run; several are compared over the same clips, which all must have.")
    tables = _read(runs)
    one = next(iter(tables.values()))
    made = _compare(tables, out) if len(runs) > 1 else _report(one, out, words.incomplete)
    _tell(made, out)
    if words.open:
        _show(out / PAGE)


def value_of(text: str) -> object:
    """``yes``, ``true``, ``no`` and ``false`` are what they say."""
    return {"yes": True, "true": True, "no": False, "false": False}.get(text.lower(), text)


def _meanings(kind: type) -> dict[str, str]:
    """What the docstring of a dataclass says of each field, as the help of an option."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    found = re.findall(r"^    (\w+): (.*(?:\n     .*)*)", section, re.MULTILINE)
    plain = {name: " ".join(said.replace("``", "").split()).rstrip(".") for name, said in found}
    return {name: f"{said[0].lower()}{said[1:]}".replace("%", "%%") for name, said in plain.items()}


def _recipe(words: Words) -> "Recipe":
    from mer_zoo.recipe import Recipe

    return Recipe(**{field.name: getattr(words, field.name) for field in dataclasses.fields(Recipe)})


def corpora_of(words: Words, protocol: "Protocol") -> "dict[str, Corpus] | None":
    """Those that ``--root`` and ``--set`` name; None if they name none and the protocol makes its own."""
    folders, options = _folders(words.roots), _options(words.options)
    named = list(dict.fromkeys([*folders, *options]))
    if not named and not protocol.made:
        first = next(iter(protocol.counts))
        raise InputError(
            f"{protocol.name} is of {', '.join(protocol.counts)}; say where each lies, as --root {first}=FOLDER. "
            f"`mer-zoo corpora {first}` says how to get it."
        )
    return {name: _open(name, folders.get(name), options.get(name, {}), protocol) for name in named} or None


def _open(name: str, folder: str | None, options: Mapping[str, str], protocol: "Protocol") -> "Corpus":
    """A corpus in a folder, or one that is made, whose options may be numbers."""
    if folder is not None:
        return mer_zoo.open_corpus(name, folder, **{option: value_of(text) for option, text in options.items()})
    numbers = {option: _number(text) for option, text in options.items()}
    return mer_zoo.open_corpus(name, **{**protocol.made.get(name, {}), **numbers})


def _folders(texts: Sequence[str]) -> dict[str, str]:
    """``casme2=FOLDER``, each corpus once."""
    folders: dict[str, str] = {}
    for text in texts:
        corpus, _, folder = text.partition("=")
        if not (corpus and folder):
            raise InputError(f"--root {text!r} names no folder; expected CORPUS=FOLDER, such as casme2=FOLDER.")
        if corpus in folders:
            raise InputError(f"--root names {corpus} twice, {folders[corpus]} and {folder}; give one of them.")
        folders[corpus] = folder
    return folders


def _options(texts: Sequence[str]) -> dict[str, dict[str, str]]:
    """``smic.camera=HS``, by corpus."""
    options: dict[str, dict[str, str]] = {}
    for text in texts:
        place, equals, value = text.partition("=")
        corpus, _, option = place.partition(".")
        if not (corpus.isidentifier() and option.isidentifier() and equals):
            raise InputError(
                f"--set {text!r} is no option of a corpus; expected CORPUS.NAME=VALUE, such as smic.camera=HS."
            )
        if option in ("name", "root"):
            raise InputError(f"--set {place}: that is no option; give the folder as --root {corpus}=FOLDER.")
        options.setdefault(corpus, {})[option] = value
    return options


def _number(text: str) -> object:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return value_of(text)


def _check_failures(table: "pd.DataFrame", out: Path) -> None:
    """Refuse a table with failed folds, saying which and why."""
    from mer_zoo.report_text import failures

    if "error" in table:
        rest = shlex.join(["mer-zoo", "report", str(out), "--incomplete"])
        raise RunError(
            f"{' '.join(failures(table, table['error'] != ''))} The same command again runs only those; `{rest}` "
            "scores the others."
        )


def _report(table: "pd.DataFrame", out: Path, incomplete: bool) -> "Written":
    protocol = mer_zoo.get_protocol(table.attrs["run"]["protocol"])
    score = mer_zoo.report_units if protocol.units else mer_zoo.report
    return score(table, protocol, out, incomplete=incomplete)


def _compare(tables: "Mapping[str, pd.DataFrame]", out: Path) -> "Written":
    from mer_zoo.comparing import compare

    names = {run: table.attrs["run"]["protocol"] for run, table in tables.items()}
    if len(set(names.values())) > 1:
        said = ", ".join(f"{run} is of {name}" for run, name in names.items())
        raise InputError(f"Runs of several protocols cannot be compared: {said}. Name runs of one protocol.")
    protocol = mer_zoo.get_protocol(next(iter(names.values())))
    if protocol.units:
        raise InputError(f"{protocol.name} is of action units; such runs are not compared. Report each by itself.")
    made = compare(tables, protocol)
    made.save(out)
    return made


def _newest() -> Path:
    """The run below ./runs that was begun last."""
    from mer_zoo.runs import RUN

    begun = {file.parent: file.stat().st_mtime for file in RUNS.rglob(RUN)}
    if not begun:
        raise InputError(f"There is no run below {RUNS.resolve()}; name its folder: mer-zoo report FOLDER.")
    return max(begun, key=lambda run: begun[run])


def _read(runs: Sequence[Path]) -> "dict[str, pd.DataFrame]":
    """Tables by the last part of each path, or by the whole path where those are not told apart."""
    from mer_zoo.runs import read_run

    places = [run.expanduser().resolve() for run in runs]
    twice = [run for run, place in zip(runs, places, strict=True) if places.count(place) > 1]
    if twice:
        raise InputError(f"{twice[0]} is named twice; expected runs that differ.")
    names = [place.name for place in places]
    names = names if len(set(names)) == len(names) else list(map(str, places))
    return {name: read_run(run) for name, run in zip(names, runs, strict=True)}


def _tell(made: "Written", out: Path) -> None:
    print(printable(made.to_markdown(), sys.stdout))
    files = [file for file in (out / "report.md", out / PAGE) if file.exists()]
    print(printable(f"Wrote {' and '.join(map(str, files))}", sys.stdout))


def _check_page() -> None:
    """Refuse to open a page that cannot be written."""
    missing = [name for name in EXTRA if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f'--open shows a page with figures, and {missing[0]} is not installed: pip install "mer-zoo[plot]"'
        )


def _show(page: Path) -> None:
    if not webbrowser.open(page.resolve().as_uri()):
        raise InputError(f"No browser could be started here; open {page} yourself.")
