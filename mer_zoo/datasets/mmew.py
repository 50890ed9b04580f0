"""MMEW, as its owners ship it: one sheet, one folder of faces a clip; macro-expressions are single pictures, not read.

Source: Ben et al., "Video-based Facial Micro-Expression Analysis: A Survey of Datasets, Features and Algorithms", IEEE
Transactions on Pattern Analysis and Machine Intelligence 44(9), 2022.
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
from mer_zoo.datasets._folders import Place
from mer_zoo.datasets._labels import normal_emotion
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.types import Counts, Sample

CLIP = re.compile(r"S(\d+)-(\d+-\d+)", re.IGNORECASE)  # S03-01-002
ONE_CLASS = {"repression": "others"}  # folders and sheets call the same clips by either


@register_corpus
class MMEW(SheetCorpus):
    """MMEW: 300 clips at 90 frames a second, faces of 231 by 231 pixels.

    Clips lie in a folder of their emotion, some copies have persons above that; the names of clips say the person. Each
    clip is numbered from 1, and the sheet counts so, too. What folders call ``repression`` is ``others`` in the sheet.
    A clip whose folder says another emotion than the sheet is flagged ``folder_disagrees``; the sheet's is taken.

    Args:
        root: As of ``SheetCorpus``.
        form: ``cropped``; there is no other.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
    """

    name, title, fps = "mmew", "MMEW: micro- and macro-expressions of the same persons, 90 frames a second", 90.0
    owner = "Shandong University"
    homepage = "http://www.dpailab.com/database.html (benxianyeye@163.com)"
    terms = "by a signed agreement"
    forbidden = (
        "do what your agreement forbids; no public text of it was found, so take it that nothing may be passed on"
    )
    sheet = Sheet(
        files=("mmew_micro_exp*", "mmew-micro-exp*"),
        example="MMEW_Micro_Exp.xlsx",
        columns={
            "clip": ("filename",),
            "onset": ("onsetframe",),
            "apex": ("apexframe",),
            "offset": ("offsetframe",),
            "aus": ("actionunits",),
            "emotion": ("estimatedemotion",),
        },
    )
    layouts: ClassVar = {
        "cropped": layout(
            r"(S\d+)-(\d+-\d+)",
            r"(\d+)",
            "MMEW_Final/Micro_Expression/anger/S13-07-001/1.jpg",
            cropped=True,
            without=r"(?:^|/)macro_?expressions?/",
        )
    }
    counts: ClassVar = {
        "mmew": Counts(
            None,
            300,
            {"surprise": 89, "disgust": 72, "others": 66, "happiness": 36, "fear": 16, "sadness": 13, "anger": 8},
        )
    }

    def names(self, row: Row) -> tuple[str, str] | None:
        """``S03-01-002`` is of ``S03``, whatever the column of subjects holds; other text names no clip."""
        name = row.text("clip")
        found = CLIP.fullmatch(name)
        return (f"S{int(found[1]):02d}", name.upper()) if found else None

    def place(self, subject: str, name: str) -> Place:
        found = CLIP.fullmatch(name) or CLIP.fullmatch(f"{subject}-{name}")
        return (f"S{int(found[1]):02d}", found[2]) if found else (subject, name)

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        sample = super().sample(row, subject, clip)
        sample = replace(sample, emotion=ONE_CLASS.get(sample.emotion, sample.emotion))
        folder = self.folders.get(self.place(subject, clip))
        said = normal_emotion(folder.path.parent.name) if folder else ""
        disagrees = (
            said in {*self.counts[self.name].classes, *ONE_CLASS} and ONE_CLASS.get(said, said) != sample.emotion
        )
        return replace(sample, flags=(*sample.flags, "folder_disagrees")) if disagrees else sample

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            names = [(session, number) for session in range(1, 21) for number in range(1, 13)]
            for session, number in rng.sample(names, 4):
                onset = rng.choice([1, 1, 2, 8, 97])
                offset = onset + rng.randrange(3, 9)
                emotion = rng.choice(list(cls.counts["mmew"].classes))
                clips.append(
                    _made(
                        f"S{subject:02d}-{session:02d}-{number:03d}",
                        (onset, rng.choice([rng.randrange(onset + 1, offset), None]), offset),
                        emotion,
                        rng.choice(_specimen.CODES),
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheet and the pictures of these clips, in folders of their emotions."""
        _write_sheet(folder / "MMEW_Final" / "MMEW_Micro_Exp.xlsx", clips)
        for made in clips:
            emotion = "repression" if made.written == "others" else made.written
            _draw(folder / "MMEW_Final" / "Micro_Expression" / emotion, made)

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Folders of emotions with two persons, a person with folders of emotions, and macro-expressions."""
        inner = folder / "MMEW_Final"
        for made in SPECIMEN:
            emotion = FOLDERS.get(made.clip, made.written)
            _draw(inner / "Micro_Expression" / ("S03" if made.subject == "S03" else "") / emotion, made)
        _write_sheet(inner / "MMEW_Micro_Exp.xlsx", SPECIMEN)
        (inner / "~$MMEW_Micro_Exp.xlsx").write_bytes(b"open elsewhere")
        _specimen.draw(inner / "Macro_Expression" / "S13" / "anger", ["S13-07-001.jpg", "S13-07-002.jpg"], colour=True)
        _specimen.draw(inner / "Micro_Expression" / "fear" / "S13-90-001", ["1.jpg", "2.jpg"], colour=True)
        _specimen.litter(inner / "Micro_Expression" / "anger")
        _specimen.litter(inner / "Micro_Expression" / "anger" / "S13-07-001")


HEADER = [
    "Subject",
    "Filename",
    "OnsetFrame",
    "ApexFrame",
    "OffsetFrame",
    "Action Units",
    "Estimated Emotion",
    "remarks",
]


def _write_sheet(file: Path, clips: Sequence[Made]) -> None:
    rows: list[list[Any]] = [HEADER]
    for made in clips:
        aus = made.aus_cell
        apex = "/" if made.apex is None else made.apex
        rows.append([int(made.subject[1:]), made.clip, made.onset, apex, made.offset, aus, made.written, None])
    _specimen.write_pages(file, {"Sheet1": rows, "Sheet2": [], "Sheet3": []})


def _draw(folder: Path, made: Made) -> None:
    _specimen.draw(folder / made.clip, [f"{number}.jpg" for number in made.numbers], (48, 48), colour=True)


def _made(clip: str, window: tuple[int, int | None, int], emotion: str, aus: str, last: int | None = None) -> Made:
    """A clip whose pictures are numbered from 1, to the offset or to ``last``."""
    onset, apex, offset = window
    return Made(
        subject=clip[:3],
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=emotion,
        aus=aus,
        frames=tuple(range(1, (last or offset) + 1)),
    )


SPECIMEN = [
    _made("S13-07-001", (1, 5, 11), "anger", "4+7 "),  # 9.jpg, 10.jpg: numbers without zeros
    _made("S13-07-012", (2, 4, 8), "others", "R12+R15"),  # in the folder repression
    _made("S13-01-001", (1, None, 7), "sadness", "?"),
    _made("S13-02-003", (1, 9, 7), "disgust", "4+9", last=9),  # the apex lies behind the offset
    _made("S05-11-004", (1, 4, 8), "fear", "1", last=6),  # the offset lies behind the last picture
    _made("S05-11-005", (1, 3, 7), "surprise", "1+2"),  # in the folder fear
    _made("S03-01-002", (1, 4, 7), "happiness", "12"),
    _made("S03-01-010", (1, 3, 6), "others", "14"),  # in the folder others
]
FOLDERS = {"S13-07-012": "repression", "S05-11-005": "fear"}
