"""Write what the examples print into the pages that show it: python tools/outputs.py [--check].

An output stands between `<!-- output: NAME -->` and `<!-- end -->`, NAME being that of a file of examples/, which is
run as it is by default. A finished run under runs/ is read, not repeated, so that after `python examples/finetune.py`
its output costs seconds. With --check nothing is written, and the exit status is 1 when a page shows something else:
other words, or numbers further away than other machines make them.
"""

import argparse
import re
import subprocess
import sys
from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

ROOT = Path(__file__).parent.parent
OUTPUT = re.compile(r"(<!-- output: (\w+) -->\n```text\n)(.*?)(```\n<!-- end -->)", re.DOTALL)
NUMBER = re.compile(r"\d+(?:\.\d+)?")
SHARE, CLIPS = 0.15, 6  # how far apart scores, and numbers of clips among 60, may lie


def printed(example: str) -> str:
    """What an example says, without the versions that it ran with."""
    command = [sys.executable, f"examples/{example}.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)  # noqa: S603  # our own file
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
    kept = [line.rstrip() for line in done.stdout.splitlines() if not line.startswith("- Versions:")]
    return "\n".join(kept).strip() + "\n"


def fill(text: str, outputs: Mapping[str, str]) -> str:
    """A page with every output in it put anew."""
    return OUTPUT.sub(lambda found: f"{found[1]}{outputs[found[2]]}{found[4]}", text)


def differences(shown: str, now: str) -> list[str]:
    """Lines that say something else; sentences after a dash follow from the numbers, and may."""
    pairs = zip_longest(_lines(shown), _lines(now), fillvalue="(nothing)")
    return [f"shown: {old}\nnow:   {new}" for old, new in pairs if not _alike(old, new)]


def _lines(text: str) -> list[str]:
    """Lines to compare; p-values, which move in jumps over few persons, are cut off."""
    kept, jumps = [], False
    for line in text.splitlines():
        if line and not line.startswith("- "):
            jumps = line.rstrip(" |").endswith(" p") or (jumps and line.startswith("|"))
            kept.append(line.rpartition("|")[0].rpartition("|")[0] if jumps else line)
    return kept


def _alike(shown: str, now: str) -> bool:
    words = [NUMBER.sub("", line).split() for line in (shown, now)]
    numbers = [NUMBER.findall(line) for line in (shown, now)]
    return words[0] == words[1] and all(
        abs(float(old) - float(new)) <= (SHARE if "." in old else CLIPS) for old, new in zip(*numbers, strict=True)
    )


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--check", action="store_true")
    return words


def main() -> int:
    """Run the examples; say which pages were written, or what they should say."""
    check, stale = parser().parse_args().check, []
    for page in sorted((ROOT / "docs").glob("*.md")):
        text = page.read_text()
        outputs = {name: printed(name) for _, name, _, _ in OUTPUT.findall(text)}
        for _, name, shown, _ in OUTPUT.findall(text):
            stale += [f"{page.name}, {name}:\n{each}" for each in differences(shown, outputs[name])]
        if not check:
            page.write_text(fill(text, outputs))
    print("\n".join(stale) or "Every page shows what the examples print.")
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
