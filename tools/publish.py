"""Push every shipped weight, with its card, to an organisation on the Hub: python tools/publish.py ORG [FOLDER ...].

Log in first (`hf auth login`, or HF_TOKEN). Each lands in ORG/NAME.TAG, private unless --public. Weights too large for
the wheel lie in folders of their own, named NAME.TAG, which are given as FOLDER. One that fails does not stop the
others; the status is then 1.
"""

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mer_zoo
from mer_zoo.errors import InputError, MerZooError, WeightsError
from mer_zoo.hub import check_folder
from mer_zoo.models._weights import CARD, CONFIG, ORGANISATION, SHIPPED, WEIGHTS

FILES = {".safetensors": WEIGHTS, ".json": CONFIG, ".md": CARD}  # as they lie in the wheel, and on the Hub


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("organisation", metavar="ORG", help="such as mer-zoo")
    words.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="of weights too large for the wheel")
    words.add_argument("--public", action="store_true", help="let everybody see repositories that are made now")
    words.add_argument("--dry-run", action="store_true", help="check everything, send nothing")
    words.add_argument("--shipped", type=Path, default=SHIPPED, metavar="FOLDER", help="weights of the wheel")
    return words


def main(argv: Sequence[str] | None = None) -> int:
    """1 if any weight was not pushed."""
    args = parser().parse_args(argv)
    given = {folder.resolve().name: folder for folder in args.folders}
    names = sorted({config.stem for config in args.shipped.glob("*.json")} | set(given))
    if not names:
        print(f"There are no weights in {args.shipped}, and no folder was given.")
        return 1
    failed = 0
    for name in names:
        repo = f"{args.organisation}/{name}"
        try:
            print(f"{repo}: {_publish(name, given.get(name), repo, args)}", flush=True)
        except (MerZooError, OSError) as error:
            failed += 1
            print(f"{repo}: FAILED. {error}", flush=True)
    print(f"{len(names) - failed} of {len(names)} {'are sound' if args.dry_run else 'were pushed'}.")
    return int(failed > 0)


def _publish(name: str, folder: Path | None, repo: str, args: argparse.Namespace) -> str:
    """What became of one weight, of a folder or of the wheel."""
    with tempfile.TemporaryDirectory() as aside:
        if folder is None:
            folder = Path(aside)
            _lay_out(name, args.shipped, folder)
            _address(folder / CARD, f"{ORGANISATION}/{name}", repo)
        if not (folder / CARD).is_file():
            raise InputError(f"There is no card, {CARD}; nothing is published without one.")
        if args.dry_run:
            config = check_folder(folder, private=not args.public)
            return f"{config['architecture']}, {config['num_classes']} classes, would be pushed."
        return mer_zoo.push_to_hub(folder, repo, private=not args.public)


def _lay_out(name: str, shipped: Path, folder: Path) -> None:
    """Copy the files of a shipped weight into a folder under the names that they have on the Hub."""
    if not (shipped / f"{name}.safetensors").is_file():
        raise WeightsError(f"Its weights are not in {shipped}; give the folder {name} in which they lie.")
    for suffix, there in FILES.items():
        file = shipped / f"{name}{suffix}"
        if file.is_file():
            shutil.copyfile(file, folder / there)


def _address(card: Path, written: str, repo: str) -> None:
    """Let a card speak of where it is going to lie."""
    if card.is_file():
        card.write_text(card.read_text(encoding="utf-8").replace(written, repo), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
