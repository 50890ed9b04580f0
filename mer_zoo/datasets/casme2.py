"""CASME II, as its owners ship it: one sheet, one folder of pictures a clip, raw, selected or cropped.

Source: Yan et al., "CASME II: An Improved Spontaneous Micro-Expression Database and the Baseline Evaluation", PLOS ONE
9(1): e86041, 2014. Objective classes: Davison, Merghani and Yap, J. Imaging 4(10), 2018.
"""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Known, Place
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import NoSheetError, Row, Sheet, find_sheet, read_sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.types import Counts, Sample

CLIP = r"EP\d{2}(?:_\d{1,2})*f?"  # EP02_01f, and also EP01_2, EP06_02_01, EP09f
SELECTED = r"(?:^|/)(?:casme2?[-_ ]*)?(?:raw[-_ ]*)?selected[^/a-z]*/"  # CASME2_RAW_selected, and copies of it
OBJECTIVE = Sheet(
    files=("casme2-objectiveclasses*", "casme2_objectiveclasses*"),
    example="CASME2-ObjectiveClasses.xlsx",
    columns={"subject": ("subject",), "clip": ("filename",), "objective": ("objectiveclass", "objectiveclasses")},
)


@register_corpus
class CASME2(SheetCorpus):
    """CASME II: 255 clips of 26 persons at 200 frames a second.

    A clip's name is unique only together with its subject. ``CASME2-ObjectiveClasses.xlsx`` is read where it lies
    beside the other sheet. The sheet of 2014 lacks two clips that are on disk; later versions have one of them.

    Args:
        root: As of ``SheetCorpus``.
        form: ``cropped`` (faces, as ``reg_img31.jpg``), ``raw_selected`` (onset to offset) or ``raw`` (with the time
            before and after).
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
    """

    name, title, fps = "casme2", "CASME II: spontaneous micro-expressions, 200 frames a second", 200.0
    owner = "Institute of Psychology, Chinese Academy of Sciences"
    homepage = "https://melabipcas.github.io/melab/en/databases.html or casme.psych.ac.cn (wangsujing@psych.ac.cn)"
    terms = "research only, by a form and a signed agreement"
    forbidden = "pass it on; show faces of sub12 and sub22 at all, or others without the line 'Copyright Xiaolan Fu'"
    sheet = Sheet(
        files=("casme2-coding*", "casme2_coding*", "casme2_label*", "casme2-label*"),
        example="CASME2-coding-20140508.xlsx",
        columns={
            "subject": ("subject",),
            "clip": ("filename",),
            "onset": ("onsetframe",),
            "apex": ("apexframe",),
            "offset": ("offsetframe",),
            "aus": ("actionunits",),
            "emotion": ("estimatedemotion",),
        },
    )
    layouts: ClassVar = {
        "cropped": layout(rf"sub(\d+)/({CLIP})", r"reg_img(\d+)", "Cropped/sub01/EP02_01f/reg_img31.jpg", cropped=True),
        "raw_selected": layout(
            rf"sub(\d+)/({CLIP})",
            r"img(\d+)",
            "CASME2_RAW_selected/sub01/EP02_01f/img31.jpg",
            within=SELECTED,
        ),
        "raw": layout(rf"sub(\d+)/({CLIP})", r"img(\d+)", "CASME2-RAW/sub01/EP02_01f/img1.jpg", without=SELECTED),
    }
    counts: ClassVar = {
        "casme2": Counts(
            26,
            255,
            {
                "others": 99,
                "disgust": 63,
                "happiness": 32,
                "repression": 27,
                "surprise": 25,
                "sadness": 7,
                "fear": 2,
            },
        )
    }
    editions = (replace(counts["casme2"], clips=256, classes={**counts["casme2"].classes, "disgust": 64}),)
    objective_counts: ClassVar = {"I": 25, "II": 15, "III": 99, "IV": 26, "V": 20, "VI": 1, "VII": 69}
    known = (
        Known("sub04", "EP12_01f", "apex_missing", "the apex is written '/'"),
        Known("sub05", "EP09_05f", "apex_is_onset", "so flow from onset to apex is nothing; MEGC 2019 leaves it out"),
        Known("sub05", "EP16_04f", "apex_is_offset", "in the sheet of 2014"),
        Known("sub12", "EP09_06", "apex_is_offset", "in the sheet of 2014"),
        Known("sub20", "EP16_01", "apex_is_offset", "in the sheet of 2014"),
        Known("sub25", "EP18_04f", "apex_is_offset", "in the sheet of 2014"),
        Known("sub16", "EP01_08", "frames_truncated", "the cropped clip ends 14 frames early", form="cropped"),
    )
    known_extra = frozenset({("sub09", "EP02_02f"), ("sub24", "EP02_07")})

    def names(self, row: Row) -> tuple[str, str] | None:
        """``01`` is ``sub01``; a row of text below the table names no clip."""
        clip, subject = row.text("clip"), row.text("subject")
        found = re.fullmatch(r"(?:sub)?(\d+)", subject, re.IGNORECASE)
        if not found or not re.fullmatch(CLIP, clip, re.IGNORECASE):
            return None
        return f"sub{int(found[1]):02d}", clip

    def place(self, subject: str, name: str) -> Place:
        return str(int(subject.lower().removeprefix("sub"))), name.lower()

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        objective = self._objective.get(self.place(subject, clip))
        return super().sample(row.with_cell("objective", objective), subject, clip)

    @cached_property
    def further_sheets(self) -> list[Path]:
        """The sheet of objective classes, where it is there."""
        try:
            return [find_sheet(OBJECTIVE, self.tree)]
        except NoSheetError:
            return []

    @cached_property
    def _objective(self) -> dict[Place, str]:
        """Objective class by clip."""
        rows = (row for file in self.further_sheets for row in read_sheet(OBJECTIVE, file))
        return {self.place(*names): row.text("objective") for row in rows if (names := self.names(row))}

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            tails = ["f", "_01", "_2", "_01f", "_02_01", "_02_02f"]
            for episode, tail in zip(rng.sample(range(100), 4), rng.sample(tails, 4), strict=True):
                onset, apex, offset = _specimen.some_window(rng)
                emotion = rng.choice(list(cls.counts["casme2"].classes))
                clips.append(
                    Made(
                        subject=f"sub{subject:02d}",
                        clip=f"EP{episode:02d}{tail}",
                        onset=onset,
                        apex=rng.choice([apex, None]),
                        offset=offset,
                        emotion=emotion,
                        written=emotion,
                        aus=rng.choice(_specimen.CODES),
                        objective=rng.choice(["I", "III", "VII"]),
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheets and the cropped pictures of these clips."""
        header = ["Subject", "Filename", None, "OnsetFrame", "ApexFrame", "OffsetFrame", None, "Action Units"]
        rows: list[list[Any]] = [[*header, "Estimated Emotion"]]
        classes: list[list[Any]] = [["Subject", "Filename", "Objective Class"]]
        for made in clips:
            aus = made.aus_cell
            numbers = [made.onset, "/" if made.apex is None else made.apex, made.offset]
            rows.append([made.subject[3:], made.clip, None, *numbers, None, aus, made.written])
            if made.objective:
                classes.append([made.subject[3:], made.clip, made.objective])
            pictures = folder / "Cropped" / made.subject / made.clip
            _specimen.draw(pictures, [f"reg_img{number}.jpg" for number in made.numbers], colour=True)
        _specimen.write_pages(folder / "CASME2-coding-20140508.xlsx", {"Sheet1": rows, "Sheet2": [], "Sheet3": []})
        _specimen.write_pages(folder / "CASME2-ObjectiveClasses.xlsx", {"Sheet1": classes})

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Four persons and their irregularities, cropped and raw; two clips on disk are in no sheet."""
        cls.draw(folder, SPECIMEN)
        for made in SPECIMEN:
            tail = f"{made.subject}/{made.clip}"
            selected = folder / "CASME2_RAW_selected" / "CASME2_RAW_selected" / tail
            _specimen.draw(selected, [f"img{n}.jpg" for n in range(made.onset, made.offset + 1)], (48, 64), colour=True)
            whole = range(max(1, made.onset - 3), made.offset + 3)
            raw = folder / "CASME2_RAW" / "CASME2-RAW" / tail
            _specimen.draw(raw, [f"img{n}.jpg" for n in whole], (48, 64), colour=True)
        for subject, clip in (("sub09", "EP02_02f"), ("sub24", "EP02_07")):
            _specimen.draw(folder / "Cropped" / subject / clip, ["reg_img5.jpg", "reg_img6.jpg"], colour=True)
        _specimen.litter(folder / "Cropped" / "sub04")
        _specimen.litter(folder / "Cropped" / "sub04" / "EP12_01f")
        (folder / "readme.pdf").write_bytes(b"%PDF made up")


def _made(subject: int, clip: str, onset: int, apex: int | None, offset: int, emotion: str, aus: str) -> Made:
    return Made(
        subject=f"sub{subject:02d}",
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=emotion,
        aus=aus,
        objective={"12": "I", "R12+R15": "VII", "4+7 ": "III", "2": "VII"}.get(aus, "III"),
    )


SPECIMEN = [
    _made(1, "EP01_2", 7, 9, 13, "happiness", "12"),  # img9, img10: numbers without zeros
    _made(1, "EP02_01f", 95, 99, 103, "surprise", "R12+R15"),
    _made(4, "EP12_01f", 40, None, 48, "disgust", "4+7 "),
    _made(4, "EP09f", 5, 8, 12, "repression", "(R6 or R12)+R15"),
    _made(5, "EP09_05f", 20, 20, 28, "surprise", "2"),  # apex on the onset
    _made(5, "EP12_03f", 30, 33, 38, "surprise", "1+2"),
    _made(5, "EP16_04f", 30, 38, 38, "surprise", "L1+2"),  # apex on the offset
    _made(7, "EP06_02_01", 3, 6, 10, "others", "4"),
    _made(7, "EP06_02_02", 50, 52, 57, "sadness", "?"),
    _made(7, "EP06_02", 70, 72, 77, "fear", "A14C"),  # a name that begins two others
    _made(11, "EP13_02f", 15, 18, 23, "disgust", "4"),  # SMIC and SAMM have an eleventh person, too
    replace(_made(16, "EP01_08", 31, 40, 62, "others", "4+ref(5)"), frames=tuple(range(31, 51))),
]
