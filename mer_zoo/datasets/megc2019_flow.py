"""The optical-flow images that STSTNet's authors publish: SMIC, CASME II and SAMM as in MEGC 2019, onset to apex.

Three forms are in use and all are read:

- a folder of ``<subject>_<clip>.png`` beside the organisers' list, a csv with ``dataset, subject, file, label``;
- the leave-one-out tree ``<subject>/u_test/<0|1|2>/<subject>_<clip>.png`` (every image lies there 68 times; the test
  parts hold each once);
- an ``.npz`` with ``image``, ``label``, ``corpus``, ``subject`` and ``clip``.

Images are 28 x 28, channels u, v, strain in RGB order, each stretched per image to 0..255. Names may end in a blank
before ``.png``. Labels are 0 negative, 1 positive, 2 surprise.
"""

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import ClassVar, cast

import numpy as np
from PIL import Image as PILImage
from PIL import UnidentifiedImageError

from mer_zoo.datasets._base import FLOW_IMAGE, Corpus, Image, register_corpus
from mer_zoo.errors import CorpusError
from mer_zoo.types import Counts, Sample

EMOTIONS = ("negative", "positive", "surprise")
FORMS = "PNG files beside a csv, a tree <subject>/u_test/<0|1|2>/, or one .npz file"

# How each data set writes <subject>_<clip>; the longest subject pattern decides (sub01 is not s01).
NAMES = {
    "casme2": re.compile(r"(sub\d+)_(EP\d+(?:_\d+)*f?)"),
    "smic": re.compile(r"(s\d+)_(s\d+_(?:ne|po|sur)_\d+)"),
    "samm": re.compile(r"(\d+)_(\d+_\d+_\d+)"),
}
COLUMNS = {"dataset": ("dataset",), "subject": ("subject", "sub"), "file": ("file", "filename", "filename_o")}


@dataclass(frozen=True)
class Entry:
    """One image: whose it is, its label, the file of its pixels and, in an ``.npz``, its row."""

    corpus: str
    subject: str
    clip: str
    label: int
    file: Path
    row: int | None = None


@register_corpus
class MEGC2019Flow(Corpus):
    """Published flow images of SMIC (HS), CASME II and SAMM: 442 clips of 68 persons, or those of them that are there.

    Samples say ``smic``, ``casme2`` or ``samm``; subject and clip are written as in the release. Source: Liong et al.,
    FG 2019; See et al., MEGC 2019.
    """

    name, title = "megc2019_flow", "Optical-flow images of the MEGC 2019 composite"
    homepage = "the README of STSTNet's authors links them; the clips are SMIC, CASME II and SAMM"
    terms = "derived from data sets under signed agreements: ask their owners, and do not pass the images on"
    native_spec = FLOW_IMAGE
    counts: ClassVar = {
        "smic": Counts(16, 164, {"negative": 70, "positive": 51, "surprise": 43}),
        "casme2": Counts(24, 145, {"negative": 88, "positive": 32, "surprise": 25}),
        "samm": Counts(28, 133, {"negative": 92, "positive": 26, "surprise": 15}),
    }

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._root = root

    def read(self) -> Iterator[Sample]:
        """One sample an image, in the order of the list, the tree or the file."""
        for entry in self._entries.values():
            yield _sample(entry)

    def flow_image(self, sample: Sample) -> Image:
        """Flow of one sample as published: (28, 28, 3), channels u, v, strain, 0..255.

        Raises:
            CorpusError: If the file cannot be read or has another shape.
        """
        entry = self._entries[sample.key]
        if entry.row is not None:
            return np.asarray(self._arrays["image"][entry.row])
        try:
            with PILImage.open(entry.file) as picture:
                image = np.asarray(picture.convert("RGB") if picture.mode == "RGBA" else picture)
        except (OSError, UnidentifiedImageError) as error:
            raise CorpusError(f"{sample.key}: {entry.file} is no readable picture ({error}); fetch it anew.") from error
        _check_image(image, f"{sample.key}: {entry.file}")
        return image

    def fingerprint(self, sample: Sample) -> str:
        """Name, size and time of the file that holds this image."""
        file = self._entries[sample.key].file
        stat = file.stat()
        return f"{file.name} {stat.st_size} {stat.st_mtime_ns}"

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        npz = _find_npz(self._root)
        if npz is not None:
            return _unique(_from_npz(self._arrays, npz))
        if any(self._root.glob("*/u_test")):
            return _unique(_from_tree(self._root))
        return _unique(_from_folder(self._root))

    @cached_property
    def _arrays(self) -> dict[str, Image]:
        return _load_npz(cast(Path, _find_npz(self._root)))

    @classmethod
    def write_specimen(cls, folder: Path, form: str = "folder") -> None:
        """Draw a made-up copy: two persons of each data set, six clips each, as ``folder``, ``tree`` or ``npz``."""
        from mer_zoo.datasets._specimen import write_flow_release

        write_flow_release(folder, form)


def _sample(entry: Entry) -> Sample:
    return Sample(corpus=entry.corpus, subject=entry.subject, clip=entry.clip, emotion=EMOTIONS[entry.label])


def _unique(entries: Iterable[Entry]) -> dict[str, Entry]:
    entries = list(entries)
    keys = [_sample(entry).key for entry in entries]
    twice = [key for key, times in Counter(keys).items() if times > 1]
    if twice:
        raise CorpusError(f"{len(twice)} clips come more than once: {twice[:3]}; expected each once.")
    return dict(zip(keys, entries, strict=True))


def _find_npz(root: Path) -> Path | None:
    """The ``.npz`` that root is or holds, if there is one."""
    files = [root] if root.is_file() else sorted(root.glob("*.npz"))
    if len(files) > 1:
        raise CorpusError(f"{root} holds {len(files)} .npz files: {[f.name for f in files]}; name one.")
    if files and files[0].suffix != ".npz":
        raise CorpusError(f"{files[0]} is not an .npz file; expected {FORMS}.")
    return files[0] if files else None


def _from_npz(arrays: dict[str, Image], file: Path) -> Iterator[Entry]:
    for i, (corpus, subject, clip, label) in enumerate(
        zip(*(arrays[name].tolist() for name in ("corpus", "subject", "clip", "label")), strict=True)
    ):
        if corpus not in NAMES or label not in range(len(EMOTIONS)):
            raise CorpusError(f"{file}, row {i}: corpus {corpus!r}, label {label!r}; expected {list(NAMES)} and 0..2.")
        yield Entry(corpus, subject.strip(), clip.strip(), label, file, i)


def _load_npz(file: Path) -> dict[str, Image]:
    """The arrays of the file; each image checked once for all."""
    names = {"image", "label", "corpus", "subject", "clip"}
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in names & set(saved)}
    except (OSError, ValueError) as error:
        raise CorpusError(f"{file} cannot be read ({error}); fetch it anew.") from error
    lengths = {name: len(array) for name, array in arrays.items()}
    if set(arrays) != names or len(set(lengths.values())) != 1:
        raise CorpusError(f"{file} holds {lengths}; expected {sorted(names)}, all of one length.")
    _check_image(arrays["image"][0] if len(arrays["image"]) else arrays["image"], str(file))
    return arrays


def _from_tree(root: Path) -> Iterator[Entry]:
    """Test parts only: together they hold each image once."""
    for file in sorted(root.glob("*/u_test/[012]/*.png")):
        corpus, subject, clip = _parse(file)
        yield Entry(corpus, subject, clip, int(file.parent.name), file)


def _from_folder(root: Path) -> Iterator[Entry]:
    files = {_plain(file.stem): file for file in sorted(root.rglob("*.png"))}
    if not files:
        raise CorpusError(f"No clip found: {root} holds no PNG file; expected {FORMS}.")
    rows = _read_list(root)
    named = {_plain(f"{subject}_{clip}"): (corpus, label) for corpus, subject, clip, label in rows}
    if len(named) != len(rows):
        raise CorpusError(f"The list in {root} names {len(rows) - len(named)} clips twice.")
    unlisted = [file.name for name, file in files.items() if name not in named]
    if unlisted:
        raise CorpusError(f"{len(unlisted)} pictures in {root} are not in the list: {unlisted[:3]}. Another list?")
    for name, (corpus, label) in named.items():
        if name in files:
            found, subject, clip = _parse(files[name])
            if found != corpus:
                raise CorpusError(f"{files[name]} looks like {found}; the list says {corpus}.")
            yield Entry(corpus, subject, clip, label, files[name])


def _read_list(root: Path) -> list[tuple[str, str, str, int]]:
    """The organisers' list, beside or above the pictures, with a header or without, blank lines left out."""
    files = sorted(root.glob("*.csv")) or sorted(root.parent.glob("*.csv"))
    if len(files) != 1:
        found = [f.name for f in files] or "no csv"
        raise CorpusError(
            f"Beside the pictures in {root} there is {found}; expected the list dataset,subject,file,label of MEGC "
            f"2019 as one csv, or another form: {FORMS}."
        )
    with files[0].open(newline="", encoding="utf-8-sig") as text:
        lines = [[cell.strip() for cell in line] for line in csv.reader(text) if any(cell.strip() for cell in line)]
    places = [0, 1, 2, 3]
    if lines and not lines[0][-1].isdigit():
        places = _columns([cell.lower() for cell in lines.pop(0)], files[0])
    rows = []
    for number, line in enumerate(lines, start=1):
        corpus, subject, clip, label = (line[i] if i < len(line) else "" for i in places)
        if corpus.lower() not in NAMES or label not in ("0", "1", "2"):
            raise CorpusError(f"{files[0]}, row {number}: {line}; expected dataset,subject,file,label.")
        rows.append((corpus.lower(), subject, clip, int(label)))
    return rows


def _columns(header: list[str], file: Path) -> list[int]:
    places = []
    for name, spellings in {**COLUMNS, "label": ("label",)}.items():
        found = [i for i, cell in enumerate(header) if cell in spellings]
        if not found:
            raise CorpusError(f"{file} has columns {header}; expected one for {name}, such as {spellings[0]!r}.")
        places.append(found[0])
    return places


def _parse(file: Path) -> tuple[str, str, str]:
    """Data set, subject and clip out of a file's name."""
    for corpus, pattern in NAMES.items():
        match = pattern.fullmatch(file.stem.strip())
        if match:
            return corpus, match[1], match[2]
    raise CorpusError(f"{file.name!r} in {file.parent} is not named <subject>_<clip>.png as in SMIC, CASME II or SAMM.")


def _plain(name: str) -> str:
    """A name without blanks at its ends and zeros before numbers: list and files differ in both."""
    return re.sub(r"\d+", lambda digits: str(int(digits[0])), name.strip().lower())


def _check_image(image: Image, where: str) -> None:
    if image.shape[-3:] != (28, 28, 3) or image.dtype != np.uint8:
        raise CorpusError(f"{where} has shape {image.shape}, {image.dtype}; expected (28, 28, 3), uint8.")
