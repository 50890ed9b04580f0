"""The organisers' list of MEGC 2019: ``dataset, subject, file, label``, as it is found in public."""

import csv
from pathlib import Path

from mer_zoo.errors import CorpusError

Row = tuple[str, str, str, int]  # data set, subject, clip, label

CORPORA = ("smic", "casme2", "samm")
COLUMNS = {
    "dataset": ("dataset",),
    "subject": ("subject", "sub"),
    "file": ("file", "filename", "filename_o"),
    "label": ("label",),
}
EXPECTED = "the list dataset,subject,file,label of MEGC 2019 as a csv"


def read_list(root: Path, listing: Path | None = None) -> list[Row]:
    """The rows of the list that lies beside or above the pictures in ``root``, or of ``listing``.

    With a header or without, CRLF or LF, blank rows left out. Other csv files beside it are passed over.

    Raises:
        CorpusError: If there is no such list, or more than one.
    """
    if listing is not None:
        return _read(listing)
    found: dict[Path, list[Row]] = {}
    complaints = []
    for folder in (root, root.parent):
        for file in sorted(f for f in folder.glob("*.csv") if not f.name.startswith(".")):
            try:
                found[file] = _read(file)
            except CorpusError as error:
                complaints.append(str(error))
        if found:
            break
    if len(found) != 1:
        names = [file.name for file in found] or complaints or "no csv"
        raise CorpusError(
            f"Beside the pictures in {root} there is {names}; expected {EXPECTED}. Put it there, or pass "
            "listing='PATH' to open_corpus."
        )
    return next(iter(found.values()))


def _read(file: Path) -> list[Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as text:
            lines = [[cell.strip() for cell in line] for line in csv.reader(text)]
    except (OSError, UnicodeError, csv.Error) as error:
        raise CorpusError(f"{file} cannot be read as a csv in UTF-8 ({error}).") from error
    lines = [line for line in lines if any(line)]
    places = [0, 1, 2, 3]
    if lines and "label" in [cell.lower() for cell in lines[0]]:
        places = _columns([cell.lower() for cell in lines.pop(0)], file)
    if not lines:
        raise CorpusError(f"{file} has no rows; expected {EXPECTED}.")
    return [_row(line, places, f"{file}, row {number}") for number, line in enumerate(lines, start=1)]


def _row(line: list[str], places: list[int], where: str) -> Row:
    corpus, subject, clip, label = (line[i] if i < len(line) else "" for i in places)
    if corpus.lower() not in CORPORA or label not in ("0", "1", "2"):
        raise CorpusError(f"{where}: {line}; expected dataset,subject,file,label.")
    return corpus.lower(), subject, clip, int(label)


def _columns(header: list[str], file: Path) -> list[int]:
    """Where dataset, subject, file and label stand."""
    places = []
    for name, spellings in COLUMNS.items():
        found = [i for i, cell in enumerate(header) if cell in spellings]
        if not found:
            raise CorpusError(f"{file} has columns {header}; expected one for {name}, such as {spellings[0]!r}.")
        places.append(found[0])
    return places
