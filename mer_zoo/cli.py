"""The command ``mer-zoo``: a thin shell over the functions of the library, in the same words.

A command is a function of the parsed words and one entry in ``_parser``. It imports what it needs when it runs, so
that the others do not wait for it.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeAlias

import mer_zoo
from mer_zoo import cli_asking, cli_demo, cli_export, cli_prepare, cli_runs
from mer_zoo.errors import InputError, MerZooError, printable
from mer_zoo.rules import RULES

Words = argparse.Namespace
Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

FLAGS = re.compile(r"\b(i_know_this_leaks|incomplete)=True\b")  # how the library asks for what is an option here


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: The words after ``mer-zoo``; None takes those that the process was started with.

    Returns:
        The exit status: 0, or 1 for what the library refuses or cannot write, which stderr says, and where ``verify``
        finds something wrong, or 2 if no command is named.

    Raises:
        SystemExit: After ``--help`` and ``--version``, and with 2 where the words make no command, as argparse does.
    """
    words = _parser().parse_args(argv)
    if words.run is None:
        words.parser.print_help()
        return 2
    try:
        status: int | None = words.run(words)
    except (MerZooError, OSError) as error:
        said = FLAGS.sub(lambda flag: f"--{flag[1].replace('_', '-')}", str(error).strip())
        print(printable(f"mer-zoo: {said}", sys.stderr), file=sys.stderr)
        return 1
    return status or 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mer-zoo")
    parser.add_argument("--version", action="version", version=f"mer-zoo {mer_zoo.__version__}")
    _explain(parser, "Networks, corpora and honest evaluation for facial micro-expressions.", "mer-zoo corpora")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    models = _add(
        commands,
        "models",
        "List the networks, weights (with a tag), and what they eat.",
        "mer-zoo models 'dat_*'",
        _models,
    )
    models.add_argument(
        "pattern", nargs="?", default="*", metavar="PATTERN", help="only names like this: * is any text"
    )
    corpora = _add(commands, "corpora", "List the corpora, or say how to get one.", "mer-zoo corpora samm", _corpora)
    corpora.add_argument("corpus", nargs="?", metavar="CORPUS", help="whose owner, address and terms to print")
    _add(commands, "protocols", "List the protocols and where they come from.", "mer-zoo protocols", _protocols)
    what = "Write a made-up copy of a corpus, in its owners' layout, to try things on."
    specimen = _add(commands, "specimen", what, "mer-zoo specimen synthetic faces", _specimen)
    specimen.add_argument("corpus", metavar="CORPUS", help="a name that `mer-zoo corpora` lists")
    specimen.add_argument("folder", type=Path, metavar="FOLDER", help="where to; new or empty")
    _add_verify(commands)
    what = "Cook the clips of a protocol for a network, once; what is done is kept, and a second call goes on."
    example = "mer-zoo prepare casme2-3 --root casme2=CASME2 --model ststnet --jobs 2"
    cli_prepare.add_prepare(_add(commands, "prepare", what, example, cli_prepare.prepare))
    what = "List the inputs that are kept, or delete them."
    cli_prepare.add_cache(_add(commands, "cache", what, "mer-zoo cache ls", cli_prepare.cache))
    _add_evaluate(commands)
    _add_report(commands)
    _add_push(commands)
    what = "Write weights and network as one file for other programs, and beside it what it eats."
    example = "mer-zoo export ststnet.synth_3 --format onnx"
    cli_export.add_export(_add(commands, "export", what, example, cli_export.export))
    what = "Ask a network about a video or a folder of frames: probabilities over time, and a picture."
    example = "mer-zoo predict ststnet.synth_3 CLIP --align none"
    cli_asking.add_predict(_add(commands, "predict", what, example, cli_asking.predict))
    what = "Why a network says what it says of a clip: what each region of the face is worth, and a map."
    example = "mer-zoo explain ststnet.synth_3 CLIP --align none"
    cli_asking.add_explain(_add(commands, "explain", what, example, cli_asking.explain))
    what = "Open a page on which a video, a webcam or a rendered clip can be looked at; nothing leaves this machine."
    cli_demo.add_demo(_add(commands, "demo", what, "mer-zoo demo --open", cli_demo.demo))
    example = "mer-zoo synth sheet faces.png"
    synth = _add(commands, "synth", "Look at the rendered faces of the corpus synthetic.", example, None)
    _add_sheet(synth.add_subparsers(title="commands", metavar="COMMAND"))
    return parser


def _add_verify(commands: Commands) -> None:
    what = "Compare a copy of a corpus with what its owners and their papers say; nothing of it is shown or sent."
    verify = _add(commands, "verify", what, "mer-zoo verify smic SMIC_all_cropped --set camera=VIS", _verify)
    verify.add_argument("corpus", metavar="CORPUS", help="a name that `mer-zoo corpora` lists")
    verify.add_argument("folder", type=Path, metavar="FOLDER", help="as its owners' archive makes it")
    verify.add_argument("--pictures", action="store_true", help="open every picture, too")
    verify.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        dest="options",
        help="an option of the corpus, such as form=raw or positions=no",
    )


def _add_evaluate(commands: Commands) -> None:
    what = "Train a fresh network for every fold, test it on persons whom it has not seen, and report over all folds."
    example = "mer-zoo evaluate svm synthetic-3 --set synthetic.subjects=4 --out runs/svm"
    evaluate = _add(commands, "evaluate", what, example, cli_runs.evaluate)
    add = evaluate.add_argument
    model = "a name as `mer-zoo models` lists them, with a tag or source if weights are to be loaded; or a baseline: "
    add("model", metavar="MODEL", help=f"{model}majority, ridge or svm")
    add("protocol", metavar="PROTOCOL", help="a name that `mer-zoo protocols` lists")
    cli_runs.add_corpora(evaluate)
    add("--jobs", type=int, default=1, metavar="N", help="folds side by side (%(default)s)")
    kept = "where each finished fold is kept; a second call goes on where the first stopped (runs/MODEL-PROTOCOL)"
    add("--out", type=Path, metavar="FOLDER", help=kept)
    add("--selection", default="last", metavar="RULE", help=f"which epoch is scored: {', '.join(RULES)} (%(default)s)")
    add("--i-know-this-leaks", action="store_true", help="for a rule that chooses on test persons")
    add("--device", default="auto", help="auto, cpu or cuda (%(default)s)")
    how = "how folds are computed: auto, loop, processes, graphs or folds (%(default)s)"
    add("--backend", default="auto", metavar="HOW", help=how)
    add("--max-parallel", default="auto", metavar="N", help="folds at once, of folds: auto, or a number (%(default)s)")
    add("--cache", type=Path, metavar="FOLDER", help="where inputs are kept (frames: the user's cache directory)")
    cli_runs.add_preparation(evaluate)
    add("--keep-weights", action="store_true", help="keep the weights of each fold in the run's folder")
    cli_runs.add_recipe(evaluate)


def _add_report(commands: Commands) -> None:
    what = "Score a run, or set several of one protocol side by side; as text, and with the extra plot as a page."
    report = _add(commands, "report", what, "mer-zoo report runs/svm", cli_runs.report)
    add = report.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="folder of a run (the newest below ./runs)")
    add("--out", type=Path, metavar="FOLDER", help="where to write (the run's folder; runs/comparison for several)")
    add("--open", action="store_true", help="show the page in a browser")
    add("--incomplete", action="store_true", help="score what is there, and say what is missing")


def _add_push(commands: Commands) -> None:
    what = "Put a saved model on the Hugging Face Hub, for yourself alone unless told otherwise."
    push = _add(commands, "push", what, "mer-zoo push my_model me/my_model", _push)
    add = push.add_argument
    add(
        "folder", type=Path, metavar="MODEL_FOLDER", help="written by save_pretrained; with anything else in it refused"
    )
    add("repo", metavar="OWNER/REPO", help="made if it is not there")
    add("--public", action="store_true", help="let everybody see a repository that is made now")
    add("--revision", metavar="R", help="a branch, made if it is not there (main)")
    add("--message", metavar="M", help="of the commit")


def _add_sheet(commands: Commands) -> None:
    what = "Draw a contact sheet of rendered faces: onset, apex, offset, difference, true flow; one person a row."
    sheet = _add(commands, "sheet", what, "mer-zoo synth sheet faces.png --size 64 --preset easy", _sheet)
    sheet.add_argument("file", type=Path, metavar="FILE.png", help="what to write; replaced if it exists")
    sheet.add_argument("--size", type=int, default=128, metavar="PIXELS", help="of a frame, 32 to 512 (%(default)s)")
    sheet.add_argument("--persons", type=int, default=6, metavar="N", help="rows, 1 to 100 (%(default)s)")
    sheet.add_argument("--seed", type=int, default=0, metavar="N", help="other seeds, other persons (%(default)s)")
    sheet.add_argument("--preset", default="default", help="easy, default or hard (%(default)s)")
    sheet.add_argument("--family", default="head", help="how units move the face: head or field (%(default)s)")


def _add(
    commands: Commands, name: str, what: str, example: str, run: Callable[[Words], int | None] | None
) -> argparse.ArgumentParser:
    """A command; without a function it prints its help."""
    parser = commands.add_parser(name, help=what)
    _explain(parser, what, example)
    parser.set_defaults(run=run)
    return parser


def _explain(parser: argparse.ArgumentParser, what: str, example: str) -> None:
    """Say what it does, and give an example that runs."""
    parser.description, parser.epilog = what, f"example:\n  {example}"
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.set_defaults(run=None, parser=parser)


def _models(words: Words) -> None:
    every = sorted([*mer_zoo.list_models(), *mer_zoo.list_models(pretrained=True)])
    names = [n for n in every if fnmatch(n, words.pattern) or fnmatch(n.partition(".")[0], words.pattern)]
    if not names:
        known = ", ".join(mer_zoo.list_models())
        raise InputError(
            f"No model is named like {words.pattern!r}; a pattern is like '*densenet*'. There are: {known}."
        )
    specs = {name: mer_zoo.input_spec(name) for name in names}
    _print({n: f"{s.kind} {' x '.join(map(str, s.shape))}, {', '.join(s.channels)}" for n, s in specs.items()})
    if any("." in name for name in names):
        print("\nA name with a tag has weights: mer_zoo.create_model(NAME, pretrained=True).")


def _corpora(words: Words) -> None:
    from mer_zoo.datasets._base import CORPORA

    if words.corpus is not None:
        print(CORPORA.get(words.corpus).obtaining())
        return
    _print({name: CORPORA.get(name).title for name in mer_zoo.list_corpora()})


def _protocols(_: Words) -> None:
    _print({name: mer_zoo.get_protocol(name).source for name in mer_zoo.list_protocols()})


def _print(table: dict[str, str]) -> None:
    """One name a line, and in a second column what it is."""
    width = max(map(len, table))
    for name, what in table.items():
        print(f"{name:{width}}  {what}")


def _specimen(words: Words) -> None:
    from mer_zoo.datasets._base import CORPORA

    corpus, folder = CORPORA.get(words.corpus), words.folder.expanduser()
    _make_empty(folder)
    corpus.write_specimen(folder)
    files = sum(path.is_file() for path in folder.rglob("*"))
    print(f"Wrote {files} files, made up, to {folder}: {corpus.title}")
    if corpus.needs_root or corpus.folder_form is not None:
        where = json.dumps(str(folder), ensure_ascii=False)
        if corpus.owner:
            print("`mer-zoo verify` will call their counts wrong: a specimen is small.")
        print(f'Open them: mer_zoo.open_corpus("{corpus.name}", {where})')
    else:
        print(f'They are to look at; nothing reads them back. The corpus: mer_zoo.open_corpus("{corpus.name}")')


def _verify(words: Words) -> int:
    """1 where something is wrong."""
    options = dict(map(_option, words.options))
    if taken := sorted({"name", "root"} & set(options)):
        raise InputError(f"--set {taken[0]}: that is CORPUS or FOLDER itself, and no option.")
    corpus = mer_zoo.open_corpus(words.corpus, words.folder, **options)
    return int(not corpus.verify(words.pictures)["ok"].all())


def _push(words: Words) -> None:
    address = mer_zoo.push_to_hub(
        words.folder, words.repo, private=not words.public, revision=words.revision, message=words.message
    )
    print(f"Pushed {words.folder} to {address}")


def _option(text: str) -> tuple[str, object]:
    """``form=raw`` as a name and a value."""
    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise InputError(f"--set {text!r} is no option; expected NAME=VALUE, such as form=raw.")
    return name, cli_runs.value_of(value)


def _make_empty(folder: Path) -> None:
    """Make a folder, which may be there already if nothing is in it."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; name a folder that is new or empty.")
    if folder.is_dir() and (found := next(folder.iterdir(), None)):
        raise InputError(f"{folder} is not empty, it holds {found.name}; name a folder that is new or empty.")
    folder.mkdir(parents=True, exist_ok=True)


def _sheet(words: Words) -> None:
    from mer_zoo.datasets.synthetic import Synthetic
    from mer_zoo.synth.sheet import save_sheet

    corpus = Synthetic(seed=words.seed, preset=words.preset, size=words.size, family=words.family)
    file = words.file.expanduser()
    save_sheet(corpus.generator, words.persons, file)
    print(f"Wrote {file}")


if __name__ == "__main__":
    sys.exit(main())
