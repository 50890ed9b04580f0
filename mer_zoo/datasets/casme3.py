"""CAS(ME)^3, as its owners ship it: part A (seen videos) and part C (a mock crime), micro-expressions of both.

Source: Li et al., "CAS(ME)^3: A Third Generation Facial Spontaneous Micro-Expression Database With Depth Information
and High Ecological Validity", IEEE Transactions on Pattern Analysis and Machine Intelligence 45(3), 2023.
"""

import random
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import CLASSES, SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Folder, Known, Place
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, RowError, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.errors import InputError
from mer_zoo.types import Counts, Sample

PARTS = ("A", "C")
LONG = 100  # frames; 27 windows of part A are as long, though a micro-expression at 30 a second has about 15
ROMAN = dict(zip("1234567", CLASSES, strict=True))
PART_C: dict[str, Any] = {  # what the class says of part A, for part C
    "sheet": Sheet(
        files=("cas*part_c_me*",),
        example="CAS(ME)3_part_C_ME.xlsx",
        columns={
            "subject": ("sub", "subject"),
            "count": ("count",),
            "onset": ("onset",),
            "offset": ("offset",),
            "aus": ("au", "aus"),
            "emotion": ("emotion",),
        },
    ),
    "layouts": {
        "long": layout(r"part_?c/(\d+)/(a)/color", r"(\d+)", "part_C/RGB_Depth/part_C/part_C/01/a/color/1.jpg")
    },
    "counts": {"casme3": Counts(30, 165, {"negative": 99, "surprise": 30, "others": 20, "positive": 16})},
    "editions": (),
    "known": (),
}


@register_corpus
class CASME3(SheetCorpus):
    """CAS(ME)^3: 860 micro-expressions of 94 persons in part A, 165 of 30 others in part C; 30 frames a second.

    Part A: a clip is named by the letter of its video and the onset as written, ``a_40``, since persons have many in
    one video; where a row repeats even that, ``#2`` follows. Most videos lack their first seven or eight pictures and
    some lack others, say the owners. Windows that cannot be right are flagged, those of 100 frames and more
    ``window_long``. Depth is not read.

    Part C: a clip is named by person and count, ``1_3``, as its owners do; there is no apex. Onset and offset count
    the pictures in the folder, the first being 1, as one source says; another takes them for names of files.

    Args:
        root: As of ``SheetCorpus``.
        form: For part A ``clips`` (onset to offset) or ``long`` (the whole videos); for part C ``long``.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        part: ``A`` or ``C``.
        positions: Of part C: whether onset and offset are positions in the folder; otherwise they are names of files.

    Raises:
        InputError: If an option has another value.
    """

    name, title, fps = "casme3", "CAS(ME)^3: micro-expressions with depth and high ecological validity", 30.0
    owner = "Institute of Psychology, Chinese Academy of Sciences"
    homepage = "https://melabipcas.github.io/melab/en/databases.html or casme.psych.ac.cn/casme/e4 (lijt@psych.ac.cn)"
    terms = (
        "research only, by a form and a signed agreement, a supervisor's for students, from an institution's address"
    )
    forbidden = "pass it on in any form; use or test anything commercial with it; show faces of most subjects"
    sheet = Sheet(
        files=("cas*part_a_me_label*",),
        example="cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx",
        columns={
            "subject": ("subject",),
            "letter": ("filename",),
            "onset": ("onset",),
            "apex": ("apex",),
            "offset": ("offset",),
            "aus": ("au", "aus"),
            "objective": ("objectiveclass",),
            "emotion": ("emotion",),
        },
        optional=frozenset({"objective"}),
        page="label",
    )
    naming = ("subject", "letter", "count")
    layouts: ClassVar = {
        "clips": layout(
            r"sp_?no\.?(\d+)_([a-z]_\d+)",
            r"(\d+)",
            "Part_A_ME_clip/frame/spNo.1_a_40/40.jpg",
            without=r"(?:^|/)(?:depth|video)/|mae_?clip",
        ),
        "long": layout(r"sp_?no\.?(\d+)/([a-z])/color", r"(\d+)", "part_A/data/part_A/spNO.1/a/color/1.jpg"),
    }
    counts: ClassVar = {
        "casme3": Counts(
            94,
            860,
            {
                "disgust": 250,
                "surprise": 187,
                "others": 161,
                "fear": 86,
                "anger": 64,
                "sadness": 57,
                "happiness": 55,
            },
        )
    }
    editions = (Counts(None, 921),)
    lossy = "most videos lack their first pictures, say the owners"
    known = (
        Known("spNO.14", "j_*", "", "the letter is upper case"),
        Known("spNO.40", "e_*", "offset_missing", "two rows have the offset 0; the apex stands in"),
        Known("spNO.149", "d_*", "apex_outside", "the apex lies before the onset"),
        Known("spNO.214", "c_*", "window_long", "a window of two minutes"),
        Known("spNO.216", "d_*", "apex_outside", "the onset lies behind the apex"),
        Known("spNO.216", "e_*", "onset_missing", "the onset is 0; the apex stands in"),
    )

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
        part: str = "A",
        positions: bool = True,
    ) -> None:
        for name, value, allowed in (("part", part, PARTS), ("positions", positions, (True, False))):
            if value not in allowed:
                raise InputError(f"{self.name}: {name} is {value!r}; expected one of {allowed}.")
        for name, value in PART_C.items() if part == "C" else ():
            setattr(self, name, value)
        super().__init__(root, form, sheet, missing, index)
        self.part, self.positions = part, positions

    # Rows

    def annotated(self) -> Iterator[Sample]:
        """One sample for each row of a clip; a key that comes again gets ``#2`` and the flag ``row_twice``."""
        times: Counter[str] = Counter()
        for sample in super().annotated():
            times[sample.key] += 1
            time = times[sample.key]
            if time > 1:
                sample = replace(sample, clip=f"{sample.clip}#{time}", flags=(*sample.flags, "row_twice"))
            yield sample

    def names(self, row: Row) -> tuple[str, str] | None:
        """``spNO.1`` and ``a_40``, or of part C ``01`` and ``1_3``; a row of text below the table names no clip."""
        found = re.fullmatch(r"(?:sp_?no\.?)?(\d+)", row.text("subject"), re.IGNORECASE)
        if not found:
            return None
        number = int(found[1])
        if self.part == "C":
            count = row.whole("count")
            if count is None:
                raise RowError(f"{row.where}: there is no count; expected that of a person's micro-expressions.")
            return f"{number:02d}", f"{number}_{count}"
        letter = row.text("letter").lower()
        return (f"spNO.{number}", f"{letter}_{row.whole('onset') or 0}") if re.fullmatch("[a-z]", letter) else None

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        objective = row.text("objective")
        sample = super().sample(row.with_cell("objective", ROMAN.get(objective, objective)), subject, clip)
        too_long = (sample.offset or 0) - (sample.onset or 0) + 1 >= LONG
        flags = (*sample.flags, *(("window_long",) if too_long else ()))
        return replace(sample, flags=flags)

    # Folders

    def place(self, subject: str, name: str) -> Place:
        return str(int(re.sub(r"\D", "", subject))), name.lower()

    def place_of(self, sample: Sample) -> Place:
        """The clip's folder, or that of the video it is cut from; the only one of a person of part C is ``a``."""
        letter, _, onset = sample.clip.partition("#")[0].partition("_")
        if self.part == "C":
            return self.place(sample.subject, "a")
        return self.place(sample.subject, letter if self.form == "long" else f"{letter}_{onset}")

    def folder_at(self, path: str) -> Folder:
        """Pictures by number, or of part C by position in that order, from 1."""
        folder = super().folder_at(path)
        if self.part == "C" and self.positions:
            return replace(folder, pictures=tuple(enumerate((name for _, name in folder.pictures), start=1)))
        return folder

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random, part: str = "A") -> list[Made]:
        """Two persons with random windows, of part A or C."""
        clips = []
        for subject in rng.sample(range(1, 250) if part == "A" else range(1, 32), 2):
            for count, letter in enumerate(rng.sample("abcdefghijklm", 4), start=1):
                onset, apex, offset = _specimen.some_window(rng)
                of_part_c = rng.choice(["negative", "positive", "surprise", "others"])
                written = rng.choice(sorted(WRITTEN)) if part == "A" else of_part_c
                clips.append(
                    Made(
                        subject=f"spNO.{subject}" if part == "A" else f"{subject:02d}",
                        clip=f"{letter}_{onset}" if part == "A" else f"{subject}_{count}",
                        onset=onset,
                        apex=rng.choice([apex, onset]) if part == "A" else None,
                        offset=offset,
                        emotion=WRITTEN.get(written, written),
                        written=written,
                        aus=rng.choice(_specimen.CODES),
                        objective=rng.choice(["I", "IV", "VII"]) if part == "A" else None,
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made], part: str = "A") -> None:
        """The sheet and the pictures of these clips, of part A or C."""
        if part == "C":
            _draw_part_c(folder, clips)
            return
        cells = [(m.subject, m.clip[0], m.onset, m.apex or 0, m.offset, m.aus, m.objective, m.written) for m in clips]
        _write_part_a(folder, cells)
        for made in clips:
            name = f"{made.subject.replace('NO', 'No')}_{made.clip}"
            _specimen.draw(folder / "Part_A_ME_clip" / "frame" / name, [f"{n}.jpg" for n in made.numbers], colour=True)

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Eight persons of part A with their irregularities, as clips and long videos, and three of part C."""
        _write_part_a(folder, SPECIMEN)
        _specimen.write_pages(
            folder / "cas(me)3_part_A_MaE_label_JpgIndex_v2_emotion.xlsx", {"Sheet1": [["sub", "seq"]]}
        )
        clips = folder / "Part_A_ME_clip" / "Part_A_ME_clip"
        for (subject, letter, written, *_), numbers in zip(SPECIMEN, PICTURES, strict=True):
            tail = f"{subject.replace('NO', 'No')}_{letter}_{written}"
            video = folder / "part_A_split" / "part_A" / subject / letter.lower()
            for kind, parent in (("clip", clips / "frame" / tail), ("video", video / "color")):
                some = numbers if kind == "clip" else [*numbers, numbers[-1] + 1, numbers[-1] + 2]
                _specimen.draw(parent, [f"{n}.jpg" for n in some], colour=True)
            for parent in (clips / "depth" / tail, video / "depth"):
                _specimen.draw(parent, [f"{n}.png" for n in numbers])
        _specimen.draw(
            folder / "Part_A_MaE_clip" / "frame" / "spNo.1_a_7", ["7.jpg"], colour=True
        )  # a macro-expression
        _specimen.litter(clips / "frame")
        _specimen.litter(clips / "frame" / "spNo.1_a_7")
        _draw_part_c(folder, MADE_C)
        _specimen.draw(folder / "part_C" / "RGB_Depth" / "part_C" / "part_C" / "31" / "a" / "color", ["1.jpg"])


WRITTEN = {  # emotions as the sheet of part A spells them, and as a sample does
    "Others": "others",
    "anger": "anger",
    "disgust": "disgust",
    "fear": "fear",
    "happy": "happiness",
    "others": "others",
    "sad": "sadness",
    "surprise": "surprise",
}


def _write_part_a(folder: Path, cells: Sequence[Sequence[Any]]) -> None:
    header = ["Subject", "Filename", "Onset", "Apex", "Offset", "AU", "Objective class", "emotion"]
    file = folder / "cas(me)3_part_A_ME_label_JpgIndex_v2.xlsx"
    _specimen.write_pages(file, {"label": [header, *cells]})


def _draw_part_c(folder: Path, clips: Sequence[Made]) -> None:
    """The sheet of part C, and for each person pictures whose numbers are not their positions."""
    rows: list[list[Any]] = [["sub", "count", "onset", "offset", "au", "emotion"]]
    for made in clips:
        aus = made.aus_cell
        rows.append([*map(int, made.clip.split("_")), made.onset, made.offset, aus, made.written])
    _specimen.write_pages(folder / "CAS(ME)3_part_C_ME.xlsx", {"mockCrimeME": rows})
    for subject in sorted({made.subject for made in clips}):
        last = max(made.offset for made in clips if made.subject == subject)
        numbers = [n for n in range(9, 2 * last + 20) if n % 7][:last]  # the first are lost, and some on the way
        parent = folder / "part_C" / "RGB_Depth" / "part_C" / "part_C" / subject / "a"
        _specimen.draw(parent / "color", [f"{n}.jpg" for n in numbers], colour=True)
        _specimen.draw(parent / "depth", [f"{n}.png" for n in numbers[:3]])


SPECIMEN: list[tuple[Any, ...]] = [  # rows as the owners would write them
    ("spNO.1", "a", 7, 9, 13, "4", "III", "disgust"),  # 9.jpg, 10.jpg
    ("spNO.1", "a", 70, 73, 76, "1+2", "II", "surprise"),  # a key that begins with another; video a again
    ("spNO.1", "b", 95, 95, 103, 12, "I", "happy"),  # apex on the onset; 99.jpg, 100.jpg
    ("spNO.14", "J", 20, 24, 29, "15+17", "V", "sad"),  # the one letter in upper case
    ("spNO.14", "k", 40, 42, 46, "14", "VII", "Others"),
    ("spNO.40", "e", 30, 34, 0, "4+7 ", "VII", "fear"),  # the offset is missing, twice
    ("spNO.40", "e", 60, 65, 0, "4", "IV", "anger"),
    ("spNO.149", "d", 212, 190, 218, "R12+R15", "VII", "others"),  # the apex lies before the onset
    ("spNO.214", "c", 15, 22, 140, "1", "II", "surprise"),  # far too long, and its first pictures are lost
    ("spNO.216", "d", 60, 52, 66, "?", "VII", "disgust"),  # the onset lies after the apex
    ("spNO.216", "e", 0, 9, 14, "4", "IV", "anger"),  # the onset is missing
    ("spNO.217", "f", 50, 53, 57, "12", "I", "happy"),
    ("spNO.217", "f", 50, 54, 58, "12/14", "VII", "others"),  # the whole key again
]
PICTURES = [  # numbers of the pictures of each of these rows
    range(7, 14),
    range(70, 77),
    range(95, 104),
    range(20, 30),
    [40, 41, 43, 44, 45, 46],  # one is missing
    range(30, 41),
    range(60, 71),
    range(212, 219),
    [*range(18, 30), *range(135, 141)],
    range(60, 67),
    range(1, 15),
    range(50, 59),
    range(50, 59),
]
MADE_C = [
    Made(subject="01", clip="1_1", onset=2, apex=None, offset=9, emotion="negative", written="negative", aus="4"),
    Made(
        subject="01", clip="1_2", onset=12, apex=None, offset=20, emotion="others", written="others", aus="14\uff0c17"
    ),
    Made(subject="04", clip="4_1", onset=8, apex=None, offset=12, emotion="surprise", written="surprise", aus="1,2"),
    Made(subject="30", clip="30_1", onset=1, apex=None, offset=6, emotion="positive", written="positive", aus="12"),
]
