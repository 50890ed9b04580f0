"""The optical-flow images that STSTNet's authors publish: SMIC, CASME II and SAMM as in MEGC 2019, onset to apex.

Three forms are in use and all are read:

- a folder of ``<subject>_<clip>.png`` beside the organisers' list, a csv with ``dataset, subject, file, label``;
- the leave-one-out tree ``<subject>/u_test/<0|1|2>/<subject>_<clip>.png`` (every image lies there 68 times; the test
  parts hold each once);
- an ``.npz`` with ``image``, ``label``, ``corpus``, ``subject`` and ``clip``.

Images are 28 x 28, channels u, v, strain in RGB order, each stretched per image to 0..255. Names may end in a blank
before ``.png``. Labels are 0 negative, 1 positive, 2 surprise.
"""

import logging
import re
import zipfile
import zlib
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
from mer_zoo.datasets._megc2019_list import read_list
from mer_zoo.errors import CorpusError
from mer_zoo.types import Counts, Sample, plain

EMOTIONS = ("negative", "positive", "surprise")
LATE = plain("032_032_3_1")  # SAMM's clip that the list of 30 November 2018 lacks and that of 7 December has
FORMS = "PNG files beside a csv, a tree <subject>/u_test/<0|1|2>/, or one .npz file"

# How each data set writes <subject>_<clip>; the longest subject pattern decides (sub01 is not s01).
NAMES = {
    "casme2": re.compile(r"(sub\d+)_(EP\d+(?:_\d+)*f?)"),
    "smic": re.compile(r"(s\d+)_(s\d+_(?:ne|po|sur)_\d+)"),
    "samm": re.compile(r"(\d+)_(\d+_\d+_\d+)"),
}

logger = logging.getLogger("mer_zoo")


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

    Args:
        root: A folder in one of the three forms, or an ``.npz`` file.
        listing: The organisers' list, where it does not lie in the folder of the pictures or the one above.
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

    def __init__(self, root: Path, listing: str | Path | None = None) -> None:
        super().__init__(root)
        self._root = root
        self._listing = Path(listing).expanduser() if listing else None

    def read(self) -> Iterator[Sample]:
        """One sample an image, in the order of the list, the tree or the file."""
        for entry in self._entries.values():
            yield _sample(entry)

    def flow_image(self, sample: Sample) -> Image:
        """Flow of one sample as published: (28, 28, 3), channels u, v, strain, 0..255.

        Raises:
            CorpusError: If the file cannot be read or has another shape.
        """
        entry = self._entry(sample)
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
        file = self._entry(sample).file
        stat = file.stat()
        return f"{file.name} {stat.st_size} {stat.st_mtime_ns}"

    def _entry(self, sample: Sample) -> Entry:
        if sample.key not in self._entries:
            raise CorpusError(f"{sample.key} is not in {self._root}; take samples of this corpus.")
        return self._entries[sample.key]

    @cached_property
    def _folder(self) -> Path:
        """The folder itself, or the one inside it that it was unpacked into once more."""
        inside = [] if self._root.is_file() else _visible(self._root.iterdir())
        return inside[0] if len(inside) == 1 and inside[0].is_dir() else self._root

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        npz = _find_npz(self._folder)
        if npz is not None:
            return _unique(_from_npz(self._arrays, npz))
        if any(self._folder.glob("*/u_test")):
            return _unique(_from_tree(self._folder))
        return _unique(_from_folder(self._folder, self._listing))

    @cached_property
    def _arrays(self) -> dict[str, Image]:
        return _load_npz(cast(Path, _find_npz(self._folder)))

    @classmethod
    def write_specimen(cls, folder: Path, form: str = "folder") -> None:
        """Draw a made-up copy: two persons of each data set, six clips each, as ``folder``, ``tree`` or ``npz``."""
        from mer_zoo.datasets._specimen_flow import write_flow_release

        write_flow_release(folder, form)


def _sample(entry: Entry) -> Sample:
    return Sample(corpus=entry.corpus, subject=entry.subject, clip=entry.clip, emotion=EMOTIONS[entry.label])


def _visible(files: Iterable[Path]) -> list[Path]:
    """Sorted, without what file managers leave behind (``.DS_Store``, ``._name.png``, ``Thumbs.db``)."""
    return sorted(file for file in files if not file.name.startswith(".") and file.name != "Thumbs.db")


def _pictures(files: Iterable[Path]) -> list[Path]:
    return [file for file in _visible(files) if file.suffix.lower() == ".png"]


def _unique(entries: Iterable[Entry]) -> dict[str, Entry]:
    """By key, each clip once and each person under one spelling: s1 beside s01 would be two persons."""
    by_key: dict[str, Entry] = {}
    spellings: dict[tuple[str, str], str] = {}
    for entry in entries:
        key = _sample(entry).key
        if key in by_key:
            raise CorpusError(f"{key} comes twice: {by_key[key].file} and {entry.file}; expected each clip once.")
        spelling = spellings.setdefault((entry.corpus, plain(entry.subject)), entry.subject)
        if spelling != entry.subject:
            raise CorpusError(
                f"One person of {entry.corpus} is written {spelling!r} and {entry.subject!r} (in {entry.file}), which "
                "would make two persons of one; write the name alike everywhere."
            )
        by_key[key] = entry
    return by_key


def _find_npz(root: Path) -> Path | None:
    """The ``.npz`` that root is or holds, if there is one."""
    files = [root] if root.is_file() else _visible(root.glob("*.npz"))
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
    """The arrays of the file, their kinds and lengths checked."""
    kinds = {"image": "u", "label": "iu", "corpus": "U", "subject": "U", "clip": "U"}
    try:
        with np.load(file, allow_pickle=False) as saved:
            arrays = {name: saved[name] for name in kinds if name in saved}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise CorpusError(f"{file} cannot be read as an .npz file ({type(error).__name__}); fetch it anew.") from error
    found = {name: f"{array.dtype} {array.shape}" for name, array in arrays.items()}
    sound = set(arrays) == set(kinds) and all(
        array.dtype.kind in kinds[name] and array.shape[:1] == arrays["label"].shape[:1] != ()
        for name, array in arrays.items()
    )
    if not sound:
        raise CorpusError(
            f"{file} holds {found}; expected image (N, 28, 28, 3) of uint8, label (N,) of whole numbers, and corpus, "
            "subject, clip (N,) of text."
        )
    _check_image(arrays["image"], str(file))
    return arrays


def _from_tree(root: Path) -> Iterator[Entry]:
    """Test parts only: together they hold each image once."""
    for file in _pictures(root.glob("*/u_test/[012]/*")):
        corpus, subject, clip = _parse(file)
        yield Entry(corpus, subject, clip, int(file.parent.name), file)


def _from_folder(root: Path, listing: Path | None) -> Iterator[Entry]:
    files: dict[str, Path] = {}
    for file in _pictures(root.rglob("*")):
        twin = files.setdefault(plain(file.stem), file)
        if twin != file:
            raise CorpusError(f"Two pictures are one clip: {twin} and {file}; name the folder that holds each once.")
    if not files:
        raise CorpusError(f"No clip found: {root} holds no PNG file; expected {FORMS}.")
    rows = read_list(root, listing)
    named = {plain(f"{subject}_{clip}"): (corpus, label) for corpus, subject, clip, label in rows}
    if len(named) != len(rows):
        raise CorpusError(f"The list in {root} names {len(rows) - len(named)} clips twice.")
    if len(rows) == 441 and LATE not in named:
        logger.warning("%s: the list of 441 clips is an older one; it lacks 032_3_1 of SAMM, which is left out.", root)
        files.pop(LATE, None)
    unlisted = [file.name for name, file in files.items() if name not in named]
    if unlisted:
        raise CorpusError(
            f"{len(unlisted)} pictures in {root} are not in the list of {len(rows)} clips: {unlisted[:3]}. Take the "
            "list of 442 clips."
        )
    absent = [corpus for name, (corpus, _) in named.items() if name not in files]
    if absent:
        logger.warning("%d clips of the list have no picture in %s: %s", len(absent), root, dict(Counter(absent)))
    for name, (corpus, label) in named.items():
        if name in files:
            found, subject, clip = _parse(files[name])
            if found != corpus:
                raise CorpusError(f"{files[name]} looks like {found}; the list says {corpus}.")
            yield Entry(corpus, subject, clip, label, files[name])


def _parse(file: Path) -> tuple[str, str, str]:
    """Data set, subject and clip out of a file's name."""
    for corpus, pattern in NAMES.items():
        match = pattern.fullmatch(file.stem.strip())
        if match:
            return corpus, match[1], match[2]
    raise CorpusError(f"{file.name!r} in {file.parent} is not named <subject>_<clip>.png as in SMIC, CASME II or SAMM.")


def _check_image(image: Image, where: str) -> None:
    if image.shape[-3:] != (28, 28, 3) or image.dtype != np.uint8:
        raise CorpusError(f"{where} has shape {image.shape}, {image.dtype}; expected (28, 28, 3), uint8.")
