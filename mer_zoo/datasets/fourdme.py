"""4DME, as its owners ship it: one sheet of micro-expressions, one folder of grey pictures a clip.

Source: Li, Cheng, Li, Behzad, Shen, Zafeiriou, Pantic and Zhao, "4DME: A Spontaneous 4D Micro-Expression Dataset With
Multimodalities", IEEE Transactions on Affective Computing 14(4), 2023. What is known here of the release comes from
public code that reads it (MEB, github.com/tvaranka/meb), but for the frame rate, 60, which is from memory of the paper
and was not checked. Whether pictures carry the numbers of the sheet is not known, so both ways are read.

MEB takes the action units of its rows 144 and 145, counted from 0, for swapped. Which clips these are is not public,
and rows move between versions, so nothing is mended here.
"""

import random
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Folder, Place
from mer_zoo.datasets._labels import EMOTIONS, normal_emotion
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.types import Counts, Sample

SESSION = r"S\d+[^/]*"  # S13_1st, S49_2, and also "S59_2,"
FOLD = r"\d[^/]*"  # 001_01_1; one ends in a dash
FRAME = r"(?:.*\D)?(\d+)"
GRAY = r"(?:^|/)gray_micro/"
STATIC = re.compile(r"(?:\([^()]*\)|\w+\??)?\s*\(\s*k\s*\)", re.IGNORECASE)
JOINED = re.compile(r"[+&,/]")


@register_corpus
class FourDME(SheetCorpus):
    """4DME: 267 micro-expressions, grey video at 60 frames a second.

    ``Sample.subject`` is the person, ``S13`` of the sessions ``S13_1st`` and ``S13_2nd``; ``Sample.clip`` joins session
    and folder, ``S13_1st_001_01_1``. Emotions may be joined: ``Surprise+Positive`` is ``positive+surprise``. Action
    units marked ``(k)`` are static, there before the clip begins; they are left out, and the sample is flagged
    ``aus_static``.

    A folder whose pictures are numbered from 0 or 1, while the sheet counts from the start of the recording, is read
    by position: its first picture is the onset, and the sample is flagged ``numbered_by_position``.

    Args:
        root: As of ``SheetCorpus``.
        form: ``gray`` (below ``gray_micro``) or ``any`` (below any other folder, such as crops of your own).
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
    """

    name, title, fps = "fourdme", "4DME: spontaneous micro-expressions in 4D, here its grey video", 60.0
    owner = "Center for Machine Vision and Signal Analysis, University of Oulu"
    homepage = "https://www.oulu.fi/cmvs/node/41319 (guoying.zhao@oulu.fi)"
    terms = "research only, by an agreement that a professor or supervisor signs, from an institution's address"
    forbidden = "pass it on to third parties"
    sheet = Sheet(
        files=("4dme_labelling_micro_release*", "4dme labelling micro release*"),
        example="4DME_Labelling_Micro_release v1.xlsx",
        columns={
            "session": ("subid",),
            "clip": ("foldname",),
            "emotion": ("emotion",),
            "onset": ("onset",),
            "apex": ("apex",),
            "offset": ("offset",),
            "aus": ("aus", "au"),
        },
    )
    naming = ("session", "clip")
    layouts: ClassVar = {
        "gray": layout(rf"({SESSION})/({FOLD})", FRAME, "gray_micro/S13_1st/001_01_1/1.jpg", within=GRAY),
        "any": layout(rf"({SESSION})/({FOLD})", FRAME, "S13_1st/001_01_1/1.jpg", without=GRAY),
    }
    counts: ClassVar = {"fourdme": Counts(None, 267)}

    def names(self, row: Row) -> tuple[str, str] | None:
        """``S13_1st`` and ``001_01_1`` are S13 and S13_1st_001_01_1; the row of sums below the table names no clip."""
        session, fold = row.text("session"), row.text("clip")
        person = re.match(r"S(\d+)", session, re.IGNORECASE)
        if not person or not re.fullmatch(SESSION, session, re.IGNORECASE) or not re.fullmatch(FOLD, fold):
            return None
        return f"S{int(person[1]):02d}", f"{session}_{fold}"

    def place(self, subject: str, name: str) -> Place:
        """Session and folder as one name, since sheets and samples join them."""
        return (f"{subject}_{name}".lower(),)

    def place_of(self, sample: Sample) -> Place:
        return (sample.clip.lower(),)

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        codes = unicodedata.normalize("NFKC", row.text("aus"))
        moving = STATIC.sub("", codes)
        sample = super().sample(row.with_cell("aus", moving), subject, clip)
        parts = {normal_emotion(part) for part in JOINED.split(sample.emotion_as_written)} - {""}
        flags = [flag for flag in sample.flags if flag != "emotion_unexpected"]
        flags += ["aus_static"] if moving != codes else []
        flags += [] if parts and parts <= EMOTIONS else ["emotion_unexpected"]
        return replace(sample, emotion="+".join(sorted(parts)) or "unknown", flags=tuple(flags))

    @cached_property
    def folders(self) -> dict[Place, Folder]:
        """As of ``PictureCorpus``, by the sheet's spelling where a folder's lacks a comma or dash at an end."""
        found = dict(super().folders)
        samples = {self.place_of(sample): sample for sample in self.annotated()}
        spare = {_bare(place): place for place in found if place not in samples}
        for place, sample in samples.items():
            if place not in found and _bare(place) in spare:
                found[place] = found.pop(spare.pop(_bare(place)))
            if place in found:
                found[place] = _numbered(found[place], sample)
        return found

    def flagged(self, sample: Sample) -> Sample:
        flagged = super().flagged(sample)
        folder = self.folders.get(self.place_of(sample))
        if folder is None or self.layout.numbers([folder.pictures[0][1]])[0] == folder.pictures[0]:
            return flagged
        return replace(flagged, flags=(*flagged.flags, "numbered_by_position"))

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons in one or two sessions, with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            sessions = rng.choice([["_1st", "_2nd"], ["_1", "_2,"], [""]])
            for number in range(1, 5):
                fold = f"{rng.randrange(1, 40):03d}_{rng.randrange(1, 20):02d}_{number}{rng.choice(['', '', '-'])}"
                onset, apex, offset = _specimen.some_window(rng)
                emotion = rng.choice(list(WRITTEN))
                made = Made(
                    subject=f"S{subject:02d}",
                    clip=f"S{subject:02d}{rng.choice(sessions)}_{fold}",
                    onset=onset,
                    apex=rng.choice([apex, None]),
                    offset=offset,
                    emotion=emotion,
                    written=WRITTEN[emotion],
                    aus=rng.choice([*_specimen.CODES, "AUR2+12(k)+45", "AU4 (k)+L7", "4(k)"]),
                )
                from_one = tuple(range(1, offset - onset + 2))
                clips.append(replace(made, frames=rng.choice([None, from_one])))
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheet, with a row of sums below, and the grey pictures of these clips."""
        rows = [_cells(made) for made in clips]
        for made in clips:
            session, *fold = made.clip.rsplit("_", 3)
            pictures = folder / "gray_micro" / session / "_".join(fold)
            _specimen.draw(pictures, [f"S1_image{number:05d}.jpg" for number in made.numbers])
        sums = [None] * 7 + ["Total", *(sum(column) for column in list(zip(*rows, strict=True))[8:])]
        _specimen.write_pages(folder / "4DME_Labelling_Micro_release v1.xlsx", {"Sheet1": [HEADER, *rows, sums]})

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Four persons and their irregularities; a folder lacks its session's comma, a sheet beside is another one."""
        cls.draw(folder, SPECIMEN)
        gray = folder / "gray_micro"
        (gray / "S59_2,").rename(gray / "S59_2")
        extra = _cells(_made("S13_1st_009_01_1", 5, 7, 12, "negative", "AU4"))
        _specimen.write_pages(folder / "4DME_Labelling_Micro_extras_release v1.xlsx", {"Sheet1": [HEADER, extra]})
        _specimen.litter(gray / "S13_1st")
        _specimen.litter(gray / "S13_1st" / "001_01_1")


UNITS = (1, 2, 4, 5, 6, 7, 12, 45)
MARKED = ("Positive", "Negative", "Surprise", "Repression", "Others")
HEADER = [
    *("sub_ID", "fold", "fold_name", "Emotion", "Onset", "Apex", "Offset", "AUs"),
    *(f"AU{unit}" for unit in UNITS),
    "eye blink",
    *MARKED,
    "Total",
]
WRITTEN = {
    "positive": "Positive",
    "negative": "Negative",
    "surprise": "Surprise",
    "repression": "Repression",
    "others": "Others",
    "positive+surprise": "Surprise+Positive",
    "negative+surprise": "Negative+Surprise",
    "negative+repression": "Repression+Negative",
}


def _bare(place: Place) -> str:
    """A clip's name without commas and dashes at the ends of its session and its folder."""
    return re.sub(r"\W+(?=_|$)", "", place[0])


def _numbered(folder: Folder, sample: Sample) -> Folder:
    """The folder, its pictures counted from the onset where their own numbers plainly begin with the clip."""
    numbers = [number for number, _ in folder.pictures]
    if sample.onset is None or sample.offset is None or numbers[0] > 1 or numbers[0] == sample.onset:
        return folder
    if folder.within(sample) and len(numbers) != sample.offset - sample.onset + 1:
        return folder
    first = sample.onset - numbers[0]
    return replace(folder, pictures=tuple((first + number, name) for number, name in folder.pictures))


def _cells(made: Made) -> list[Any]:
    session, *fold = made.clip.rsplit("_", 3)
    coded = {int(unit) for unit in re.findall(r"\d+", made.aus)}
    units = [int(unit in coded) for unit in UNITS]
    marks = [int(word in made.written) for word in MARKED]
    window = [float(made.onset), made.apex, float(made.offset)]
    return [session, fold[0], "_".join(fold), made.written, *window, made.aus, *units, 0, *marks, sum(units)]


def _made(clip: str, onset: int, apex: int | None, offset: int, emotion: str, aus: str) -> Made:
    return Made(
        subject=clip[:3],
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=WRITTEN[emotion],
        aus=aus,
    )


SPECIMEN = [
    _made("S13_1st_001_01_1", 97, 99, 104, "positive", "AU6+12"),
    _made("S13_1st_001_01_2", 40, 44, 48, "positive+surprise", "AUR2+12(k)+45"),  # two emotions, a static unit
    _made("S13_2nd_001_01_1", 8, 10, 12, "negative+repression", "AU4 (k)+L7"),  # the same person on another day
    _made("S30_2nd_003_02_1-", 995, 999, 1003, "others", "4(k)"),  # a dash; no unit is left
    _made("S49_2_002_03_1", 60, None, 66, "surprise", "1+2"),
    replace(_made("S49_2_002_03_2", 2000, 2004, 2008, "negative", "4"), frames=tuple(range(1, 10))),  # by position
    replace(_made("S49_2_002_03_3", 3000, 3004, 3008, "repression", "14"), frames=tuple(range(6))),  # and cut short
    _made("S59_2,_005_01_1", 30, 33, 37, "negative+surprise", "1+4"),
]
