"""SAMM Long Videos, as their owners ship them: one sheet of micro- and macro-expressions, one folder a video.

Source: Yap, Kendrick and Yap, "SAMM Long Videos: A Spontaneous Facial Micro- and Macro-Expressions Dataset", FG 2020.
"""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Folder, Known, Place
from mer_zoo.datasets._long_videos import LongVideoCorpus
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import NoSheetError, Row, RowError, Sheet, find_sheet, read_sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.datasets.samm import SAMM, names_of, own_pictures, write_codes
from mer_zoo.errors import CorpusError
from mer_zoo.types import Counts, Sample


@register_corpus
class SAMMLongVideos(LongVideoCorpus):
    """SAMM Long Videos: 159 micro- and 343 macro-expressions in 147 videos at 200 frames a second.

    A clip ``006_1_2`` lies in the video ``006_1``, whose pictures are numbered from 1. The sheet says nothing of
    emotions: they and the objective classes come from SAMM's own sheet, ``SAMM_Micro_FACS_Codes_v2.xlsx``, where it
    lies beside, and else are ``unknown``; those of macro-expressions always are. Two offsets lie beyond the ends of
    their videos. An onset of 0 stands for one that is not known; the apex is then the first frame.

    Args:
        root: As of ``SheetCorpus``.
        form: ``raw``.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        expressions: ``micro``, ``macro`` (with the flag ``macro``) or ``all``.
        codes: SAMM's own sheet, where it has another name or lies elsewhere.
    """

    name, title = "samm_lv", "SAMM Long Videos: micro- and macro-expressions, 200 frames a second"
    fps = 200.0
    owner, homepage, terms, forbidden = SAMM.owner, SAMM.homepage, SAMM.terms, SAMM.forbidden
    sheet = Sheet(
        files=("samm*long*video*",),
        example="SAMM_LongVideos_V3_Release.xlsx",
        columns={
            "subject": ("subject",),
            "clip": ("filename",),
            "onset": ("onset", "onsetframe"),
            "apex": ("apex", "apexframe"),
            "offset": ("offset", "offsetframe"),
            "type": ("type",),
            "aus": ("actionunits",),
        },
        page="facs_movement_only*",
    )
    layouts: ClassVar = {
        "raw": layout(r"(?=(\d{3})_)(\d{3}_\d{1,2})", r"\d{3}_\d{1,2}_(\d+)", "SAMM_longvideos/009_4/009_4_0007.jpg")
    }
    by_expressions: ClassVar = {"micro": Counts(None, 159), "macro": Counts(None, 343), "all": Counts(None, 502)}
    known = (
        Known("020", "020_6_5", "frames_truncated", "the offset lies beyond the end of the video"),
        Known("036", "036_7_4", "frames_truncated", "the offset lies beyond the end of the video"),
    )

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
        expressions: str = "micro",
        codes: str | Path | None = None,
    ) -> None:
        super().__init__(root, form, sheet, missing, index, expressions)
        self._codes_named = Path(codes).expanduser() if codes is not None else None

    def names(self, row: Row) -> tuple[str, str] | None:
        return names_of(row)

    def is_macro(self, row: Row) -> bool:
        return _kind(row) == "macro"

    def place_of(self, sample: Sample) -> Place:
        return self.place(sample.subject, sample.clip.rpartition("_")[0])

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        macro = self.is_macro(row)
        codes = None if macro else self._codes.get(clip)
        if codes is not None:
            cells = {"emotion": codes.text("emotion"), "objective": codes.text("objective")}
            return super().sample(replace(row, cells={**row.cells, **cells}), subject, clip)
        sample = super().sample(row, subject, clip)
        flags = [flag for flag in sample.flags if flag != "emotion_unexpected"]
        flags += ["emotion_missing"] if self._codes and not macro else []
        return replace(sample, flags=tuple(flags))

    @cached_property
    def further_sheets(self) -> list[Path]:
        """SAMM's own sheet, where it is there."""
        try:
            return [find_sheet(SAMM.sheet, self.tree, self._codes_named)]
        except NoSheetError:
            return []
        except CorpusError as error:
            raise CorpusError(str(error).replace("sheet=PATH", "codes=PATH")) from error

    @cached_property
    def _codes(self) -> dict[str, Row]:
        """Rows of SAMM's own sheet by clip."""
        return {row.text("clip"): row for file in self.further_sheets for row in read_sheet(SAMM.sheet, file)}

    def folder_at(self, path: str) -> Folder:
        """Pictures that bear the video's name."""
        folder = super().folder_at(path)
        return own_pictures(folder, f"{folder.path.name}_")

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with micro-expressions of random names, some in one video."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            videos = [f"{subject:03d}_{inducement}" for inducement in rng.sample(range(1, 8), 2)]
            for number in rng.sample([1, 2, 11, 12, 20], 4):
                onset, apex, offset = _specimen.some_window(rng)
                emotion = rng.choice([*SAMM.counts["samm"].classes, "unknown"])
                known = emotion != "unknown"
                clips.append(
                    Made(
                        subject=f"{subject:03d}",
                        clip=f"{rng.choice(videos)}_{number}",
                        onset=rng.choice([onset, apex]),
                        apex=apex,
                        offset=offset,
                        emotion=emotion,
                        written={"others": "Other", "unknown": ""}.get(emotion, emotion.capitalize()),
                        aus=rng.choice(_specimen.CODES),
                        objective=rng.choice(["I", "III", "VII"]) if known else None,
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """Both sheets and the pictures of these micro-expressions; a clip of no known emotion is in one sheet only."""
        _draw(folder, clips, [])

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Six persons, micro- and macro-expressions, and their irregularities."""
        _draw(folder, MICRO, MACRO)
        videos = folder / "SAMM_longvideos"
        _specimen.draw(videos / "006_2", [f"006_2_{number:04d}.jpg" for number in range(1, 9)], (44, 64))  # no row
        _specimen.draw(videos / "006_1", ["006_12_0050.jpg", "016_1_0051.jpg", "006_1_0052 (1).jpg"], (44, 64))
        _specimen.litter(videos)
        _specimen.litter(videos / "006_1")


def _kind(row: Row) -> str:
    """``macro`` or ``micro``."""
    written = row.text("type")
    kind = written[:5].lower()
    if kind not in ("macro", "micro"):
        raise RowError(f"{row.where}: type is {written!r}; expected 'Macro' or 'Micro - 1/2'.")
    return kind


def _draw(folder: Path, micro: Sequence[Made], macro: Sequence[Made]) -> None:
    """Sheets and videos; where the onset is the apex, the sheet says 0."""
    rows: list[list[Any]] = [["SAMM Long Videos, made up"], ["Cite: nobody"], *([] for _ in range(7))]
    header = ["Subject", "Filename", "Inducement Code", "Onset", "Apex", "Offset", "Duration", "Type"]
    rows.append([*header, "Action Units", "Notes"])
    videos: dict[str, set[int]] = defaultdict(set)
    for made in [*micro, *macro]:
        video = made.clip.rpartition("_")[0]
        onset = 0.0 if made.onset == made.apex else float(made.onset)
        apex = None if made.apex is None else float(made.apex)
        window = [onset, apex, float(made.offset), made.offset - onset + 1]
        kind = "Macro" if made in macro else "Micro - 1/2"
        rows.append([int(made.subject), made.clip, int(video[4:]), *window, kind, made.aus, None])
        videos[video].update(made.numbers)
    _specimen.write_pages(folder / "SAMM_LongVideos_V3_Release.xlsx", {"FACS_Movement_Only": rows})
    write_codes(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", [made for made in micro if made.written])
    for video, numbers in videos.items():
        width = 5 if video == "016_7" or max(numbers) > 9999 else 4
        names = [f"{video}_{number:0{width}d}.jpg" for number in sorted(numbers)]
        _specimen.draw(folder / "SAMM_longvideos" / video, names, (44, 64))


def _made(clip: str, onset: int, apex: int, offset: int, written: str = "", aus: str = "12", end: int = 70) -> Made:
    emotion = {"Other": "others", "": "unknown"}.get(written, written.lower())
    return Made(
        subject=clip[:3],
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=written,
        aus=aus,
        objective="III" if written else None,
        frames=tuple(range(1, end + 1)),
    )


MICRO = [
    _made("006_1_1", 7, 9, 13, "Anger", "4"),
    _made("006_1_12", 40, 44, 48, "Other", "R12A"),  # two clips of one video, a name that begins with another
    _made("009_4_2", 20, 20, 28, "Surprise", "1+2 "),  # onset 0
    _made("016_7_1", 95, 99, 104, "Happiness", "12 or 14", 120),  # five digits
    _made("020_6_5", 60, 63, 75, "Disgust", "9"),  # the video ends at 70
    _made("020_6_6", 30, 34, 38, "", "?"),  # not in SAMM's own sheet
    _made("032_3_1", 50, 54, 58, "Contempt", "L14"),
]
MACRO = [
    _made("006_1_2", 15, 25, 38),
    _made("009_4_1", 30, 30, 60, "", "R12+L14"),  # onset 0
    _made("036_7_4", 50, 60, 90, "", "4+7"),  # the video ends at 70
]
