"""CASME, the first of its owners' data sets: one sheet, one folder of pictures a clip, selected or cropped.

Source: Yan et al., "CASME Database: A Dataset of Spontaneous Micro-Expressions Collected from Neutralized Faces", FG
2013. Columns and names are as public loaders know them; the sheet's own name is not known, so any ``casme*`` is taken.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Folder, Place
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, RowError, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.datasets.casme2 import CASME2
from mer_zoo.types import Counts, Sample

CLIP = r"EP\d{1,2}[\w-]*"  # EP01_3; no list of the names is known
FOLDER = rf"sub(\d+)/({CLIP})"
EMOTIONS = ("contempt", "disgust", "fear", "happiness", "repression", "sadness", "surprise", "tense")


@register_corpus
class CASME(SheetCorpus):
    """CASME: 189 clips at 60 frames a second.

    The sheet has two columns of an apex: the first number that lies between onset and offset is taken. A picture's
    name has its clip's whole name in it; its number stands behind the last dash, with or without zeros. A loader in
    use mends the windows of five rows by their place in its copy of the sheet; whose they are is not known, so nothing
    is mended here. Clips and labels of the owners' paper are counted otherwise.

    Args:
        root: As of ``SheetCorpus``.
        form: ``cropped`` (faces, as ``reg_EP01_3-12.jpg``) or ``raw_selected``.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
    """

    name, title, fps = "casme", "CASME: spontaneous micro-expressions, 60 frames a second", 60.0
    owner, homepage, terms = CASME2.owner, CASME2.homepage, CASME2.terms
    forbidden = "pass it on"
    sheet = Sheet(
        files=("casme", "casme1*", "casme[_ -][!23i]*", "casme[!123i^_ -]*"),  # not CASME II's
        example="CASME.xlsx",
        columns={
            "subject": ("subject",),
            "clip": ("filename",),
            "onset": ("onsetf", "onsetframe"),
            "apex": ("apexf1", "apexf", "apexframe1", "apexframe"),
            "apex2": ("apexf2", "apexframe2"),
            "offset": ("offsetf", "offsetframe"),
            "aus": ("au", "aus", "actionunits"),
            "emotion": ("emotion", "estimatedemotion"),
        },
        optional=frozenset({"apex2"}),
    )
    layouts: ClassVar = {
        "cropped": layout(FOLDER, rf"reg_{CLIP}-(\d+)", "Cropped/sub01/EP01_3/reg_EP01_3-12.jpg", cropped=True),
        "raw_selected": layout(FOLDER, rf"{CLIP}-(\d+)", "CASME_raw_selected/sub01/EP01_3/EP01_3-12.jpg"),
    }
    counts: ClassVar = {"casme": Counts(None, 189)}

    def names(self, row: Row) -> tuple[str, str] | None:
        """``1`` is ``sub01``; a row of text below the table names no clip."""
        clip, subject = row.text("clip"), row.text("subject")
        found = re.fullmatch(r"(?:sub)?(\d+)(?:\.0+)?", subject, re.IGNORECASE)
        if not found or not re.fullmatch(CLIP, clip, re.IGNORECASE):
            return None
        return f"sub{int(found[1]):02d}", clip

    def place(self, subject: str, name: str) -> Place:
        return str(int(subject.lower().removeprefix("sub"))), name.lower()

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        apex, unread = _apex(row)
        sample = super().sample(row.with_cell("apex", apex), subject, clip)
        return replace(sample, flags=(*sample.flags, "apex_unread")) if unread else sample

    def folder_at(self, path: str) -> Folder:
        """Pictures that bear the clip's name."""
        folder = super().folder_at(path)
        own = re.compile(rf"(?:reg_)?{re.escape(folder.path.name)}-\d+\..*", re.IGNORECASE)
        return replace(folder, pictures=tuple(picture for picture in folder.pictures if own.fullmatch(picture[1])))

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 36), 2):
            episodes = rng.choices(range(1, 20), k=4)
            for episode, tail in zip(episodes, rng.sample(["1", "2", "3", "12", "1f", "21"], 4), strict=True):
                onset, apex, offset = _specimen.some_window(rng)
                emotion = rng.choice(EMOTIONS)
                clips.append(
                    Made(
                        subject=f"sub{subject:02d}",
                        clip=f"EP{episode:02d}_{tail}",
                        onset=onset,
                        apex=rng.choice([apex, None]),
                        offset=offset,
                        emotion=emotion,
                        written=emotion,
                        aus=rng.choice(_specimen.CODES),
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheet and the cropped pictures of these clips; later persons' numbers have three digits.

        The apex stands in either column, and something else in the other.
        """
        header = ["Subject", "Filename", None, "OnsetF", "ApexF1", "ApexF2", "OffsetF", None, "AU", "Emotion"]
        rows: list[list[Any]] = [header]
        for number, made in enumerate(clips):
            first, second = _apexes(made, number)
            aus = made.aus_cell
            cells = [made.onset, first, second, made.offset, None, aus, made.written]
            rows.append([int(made.subject[3:]), made.clip, None, *cells])
        _specimen.write_pages(folder / "CASME-coding.xlsx", {"Sheet1": rows, "Sheet2": []})
        _draw_tree(folder / "Cropped", clips, "reg_", (48, 40))

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Four persons and their irregularities, cropped and selected."""
        cls.draw(folder, SPECIMEN)
        selected = folder / "CASME_raw_selected"
        _draw_tree(selected, SPECIMEN, "", (48, 64))
        others = ["EP01_12-9.jpg", "EP01_1-9 (1).jpg", "xEP01_1-10.jpg", "EP01_1-9-10.jpg"]  # none of EP01_1
        _specimen.draw(selected / "sub01" / "EP01_1", others, (48, 64), colour=True)
        _specimen.draw(folder / "Cropped" / "sub01" / "EP01_1", [f"reg_{name}" for name in others], colour=True)
        _specimen.draw(folder / "Cropped" / "sub19" / "EP19_1", ["reg_EP19_1-001.jpg"], colour=True)  # in no row
        for clip in (selected / "sub01" / "EP01_1", folder / "Cropped" / "sub01" / "EP01_1"):
            _specimen.litter(clip)
            _specimen.litter(clip.parent)


def _apex(row: Row) -> tuple[int | None, bool]:
    """The first apex inside of the window, else the first there is; and whether there is one that is no number."""
    given, unread = [], False
    for name in ("apex", "apex2"):
        row.text(name)  # a formula without its value is refused, as everywhere
        try:
            given += [number] if (number := row.whole(name)) else []
        except RowError:
            unread = True
    first, last = row.whole("onset"), row.whole("offset")
    inside = [number for number in given if (first or number) <= number <= (last or number)]
    return next(iter(inside or given), None), unread


def _apexes(made: Made, number: int) -> tuple[Any, Any]:
    """What the two columns say of an apex, in turn."""
    if made.apex is None:
        return [("/", None), (None, made.offset + 3)][number % 2]
    pairs: list[tuple[Any, Any]] = [
        (made.apex, None),
        (made.apex, made.offset),
        (made.offset + 3, made.apex),
        ("/", made.apex),
        (0, made.apex),
    ]
    return pairs[number % len(pairs)]


def _draw_tree(folder: Path, clips: Sequence[Made], prefix: str, size: tuple[int, int]) -> None:
    for made in clips:
        width = 3 if made.subject > "sub09" else 1
        names = [f"{prefix}{made.clip}-{number:0{width}d}.jpg" for number in made.numbers]
        _specimen.draw(folder / made.subject / made.clip, names, size, colour=True)


def _made(subject: int, clip: str, onset: int, apex: int | None, offset: int, written: str, aus: str) -> Made:
    return Made(
        subject=f"sub{subject:02d}",
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=written.lower(),
        written=written,
        aus=aus,
    )


SPECIMEN = [
    _made(1, "EP01_1", 7, 10, 13, "tense", "4"),  # numbers without zeros
    _made(1, "EP01_12", 8, 11, 15, "disgust", "4+9"),  # a name that begins with another, numbers that overlap
    _made(1, "EP01_3", 97, 101, 104, "Repression", "R12+15"),
    _made(2, "EP01_1", 20, 23, 28, "surprise", "1+2 "),  # a name of two persons
    _made(2, "EP03_2f", 30, 33, 38, "contempt", "L14"),
    _made(11, "EP02_4", 95, 99, 103, "happiness", "12"),  # numbers of three digits
    _made(11, "EP02_5", 40, None, 48, "sadness", "?"),
    _made(11, "EP02_6", 50, None, 56, "fear", "4 or 5"),
    replace(_made(12, "EP07_1", 60, 65, 75, "disgust", "10"), frames=tuple(range(60, 70))),
]
