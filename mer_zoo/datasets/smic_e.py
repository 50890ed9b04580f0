"""SMIC-E, as its owners ship it: long videos as folders of pictures, and a workbook for each of three cameras.

Source: Li et al., "A Spontaneous Micro-expression Database: Inducement, Collection and Baseline", FG 2013; the long
videos: Li et al., "Towards Reading Hidden Emotions", IEEE Transactions on Affective Computing 9(4), 2018.
"""

import logging
import random
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import Fix, register_corpus
from mer_zoo.datasets._folders import Place
from mer_zoo.datasets._labels import normal_emotion
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.datasets.smic import CAMERAS, EMOTIONS, SMIC, camera_in, clip_name, slow
from mer_zoo.errors import InputError
from mer_zoo.types import Counts, Sample

if TYPE_CHECKING:
    from mer_zoo.datasets._verify import Check

logger = logging.getLogger("mer_zoo")

CLIP = re.compile(r"s\d+_(?:ne|po|sur)_\d\d", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?\d{1,12}(\.0*)?")
INTERVALS = ("", "2", "3")  # what a column's field ends in
FIELDS = {
    "subject": "subject",
    "clip": "filename",
    **{f"{end}{k}": f"{end}{k}f" for k in INTERVALS for end in ("onset", "offset")},
    "first": "firstf",
    "last": "lastf",
    "emotion": "emotion",
}


Windows = dict[int, tuple[int, int]]  # onset and offset of each interval that counts, by number from 1


def _sheet(camera: str) -> Sheet:
    low = camera.lower()
    return Sheet(
        files=(f"smic-{low}-e_annotation*", f"smic*{low}*annotation*"),
        example=f"SMIC-{camera}-E_annotation.xlsx",
        columns={field: (f"{title}{low}", title) for field, title in FIELDS.items()},  # as OnsetF NIR, or OnsetF
        optional=frozenset(FIELDS) - {"clip", "onset", "offset"},
        page=f"{low}*",
    )


@register_corpus
class SMICE(SheetCorpus):
    """SMIC-E: 157 long videos at 100 frames a second, 71 at 25, each with one to three micro-expressions.

    A row of the sheet has up to three intervals, some of them left over from formulas. One counts if it goes forward,
    lies within the video and differs from the one before. The first is the clip ``s3_ne_02``, further ones are
    ``s3_ne_02#2`` and ``s3_ne_02#3``, from the same folder and with the same label. The label is that of the name. No
    apex is known. Where the camera lost pictures, an offset may lie one or two before the true one.

    Args:
        root: As of ``SheetCorpus``.
        form: ``raw``; there is no other.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        camera: ``HS`` (100 frames a second), ``VIS`` or ``NIR`` (25, visible and near infrared light).
    """

    name, title = "smic_e", "SMIC-E: spontaneous micro-expressions in long videos of a fast and two slower cameras"
    owner, homepage, terms, forbidden = SMIC.owner, SMIC.homepage, SMIC.terms, SMIC.forbidden
    fps = CAMERAS["HS"]
    sheet = _sheet("HS")
    layouts: ClassVar = {
        "raw": layout(
            r"(s\d+)/(s\d+_(?:ne|po|sur)_\d+)",
            r"(?:image)?(\d{5,})",
            "SMIC-E_raw image/HS_long/SMIC-HS-E/s03/s3_ne_02/image412345.jpg",
        )
    }
    counts: ClassVar = {"smic_e": Counts(16, 157, {"negative": 65, "positive": 51, "surprise": 41})}
    editions = (Counts(None, 162),)
    fixes = (
        Fix(
            "s18", "s18_sur_03", "emotion", "negative", "surprise", "the name, the folder in SMIC and MEGC 2019 say it"
        ),
    )

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
        camera: str = "HS",
    ) -> None:
        super().__init__(root, form, sheet, missing, index)
        if camera not in CAMERAS:
            raise InputError(f"{self.name}: camera is {camera!r}; expected one of {tuple(CAMERAS)}.")
        self.camera = camera
        for name, value in {**slow(self.name), "sheet": _sheet(camera)}.items() if camera != "HS" else ():
            setattr(self, name, value)

    def names(self, row: Row) -> tuple[str, str] | None:
        """``s3_ne_02`` is of ``s3``, whatever the column of subjects says; text below the table names no clip."""
        name = row.text("clip")
        return clip_name(name.partition("_")[0], name) if CLIP.fullmatch(name) else None

    def place(self, subject: str, name: str) -> Place:
        return clip_name(subject, name.partition("#")[0])

    def samples_of(self, row: Row, subject: str, clip: str) -> Iterator[Sample]:
        """One sample for each interval that counts."""
        shared, windows = self.sample(row, subject, clip), self.windows(row)
        if 1 not in windows:
            logger.warning("%s: the row of %s gives no onset and offset.", self.name, shared.key)
        for number, (onset, offset) in windows.items():
            name = clip if number == 1 else f"{clip}#{number}"
            yield replace(shared, clip=name, onset=onset, offset=offset)

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        """What the intervals of a row share."""
        written, emotion = row.text("emotion"), EMOTIONS[clip.split("_")[1]]
        person = re.sub("^s?0*", "", row.text("subject"), flags=re.IGNORECASE)
        flags = {
            "emotion_unexpected": normal_emotion(written) not in ("", emotion),
            "subject_disagrees": person not in ("", subject[1:]),
        }
        return Sample(
            corpus=self.name,
            subject=subject,
            clip=clip,
            emotion=emotion,
            fps=self.fps,
            flags=tuple(name for name, holds in flags.items() if holds),
            emotion_as_written=written,
        )

    def windows(self, row: Row) -> Windows:
        """Onset and offset of the intervals that count, by number from 1.

        Text in a cell, such as ``MISSING <-400000``, is no number; a video whose first or last picture is not known
        bounds nothing there.

        Raises:
            RowError: If a cell is a formula without a value.
        """
        ends = [(_number(row, f"onset{k}"), _number(row, f"offset{k}")) for k in INTERVALS]
        first, last = _number(row, "first"), _number(row, "last")
        found = {}
        for number, (onset, offset) in enumerate(ends, start=1):
            if onset is None or offset is None or not 0 < onset <= offset:
                continue
            inside = (first is None or first <= onset) and (last is None or offset <= last)
            if inside and (number == 1 or (onset, offset) != ends[number - 2]):
                found[number] = onset, offset
        return found

    def _find(self, form: str) -> dict[Place, list[str]]:
        """Only folders of this camera; where none of those above a clip names one, it may be any."""
        root = self.tree.name
        found = {
            place: [path for path in paths if camera_in(f"{root}/{path}") in (None, self.camera)]
            for place, paths in super()._find(form).items()
        }
        return {place: paths for place, paths in found.items() if paths}

    def nothing_found(self) -> str:
        """As of ``PictureCorpus``, and the camera."""
        return f"{super().nothing_found()} Asked for camera {self.camera}."

    def edition(self, clips: int) -> Counts | None:
        """None: what was counted are rows, not intervals; ``checks`` compares them."""
        return None

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``, where clips are intervals; what is known of rows is compared with the first ones."""
        from mer_zoo.datasets._verify import Check, counted

        yield from super().checks(pictures)
        rows = {names[1]: row for row in self.rows if (names := self.names(row))}
        first = [s for s in self.found_samples if "#" not in s.clip]
        for check in counted(self.name, first, super().edition(len(rows)) or Counts(None, len(rows))):
            yield replace(check, what=f"{check.what}, first intervals")
        without = [clip for clip in rows if 1 not in self.windows(rows[clip])]
        yield Check(self.name, "rows without onset and offset", "0", str(len(without)), not without, ", ".join(without))
        further = [s.clip for s in self.found_samples if "#" in s.clip]
        yield Check(self.name, "further intervals", "any", str(len(further)), True, ", ".join(further))
        left = [
            f"{clip}#{number}"
            for clip, row in rows.items()
            for number, end in enumerate(INTERVALS, start=1)
            if number not in self.windows(row) and (row.text(f"onset{end}") or row.text(f"offset{end}"))
        ]
        yield Check(self.name, "intervals that do not count", "any", str(len(left)), True, ", ".join(left))

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with videos of random names, one to three intervals each."""
        clips = []
        for subject in rng.sample(range(1, 30), 2):
            names = [(code, number) for code in EMOTIONS for number in range(1, 31)]
            for code, number in sorted(rng.sample(names, 3)):
                first = rng.choice([31234, 99990, 999990, rng.randrange(31234, 999999)])
                starts = rng.sample([2, 9, 15], rng.randrange(1, 4))  # a later interval may lie before the first
                windows = [(first + start, first + start + rng.randrange(2, 5)) for start in starts]
                clips += _made(subject, code, number, (first, first + 22), *windows)
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The workbook and the pictures of these clips by camera HS; all clips of a video are drawn into one folder."""
        videos = _videos(clips)
        _draw(folder, videos)
        _write(folder / PICTURES.format("HS") / "SMIC-HS-E_annotation.xlsx", {"HS": _rows(videos), **EMPTY})

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Persons with every irregular row, three cameras, and the sheet of HS in a second version."""
        videos = _videos(SPECIMEN)
        _draw(folder, videos)
        few = {clip: [made] for clip, (made, *_) in videos.items() if int(made.subject[1:]) >= 11}
        high = _rows(videos, GARBAGE)
        high += [[], ["Note: 3rd intervals were checked by hand"], [None, "MissingFrames"], ["mean", None, None, 12.5]]
        beside = folder / PICTURES.format("HS")
        _write(beside / "SMIC-HS-E_annotation.xlsx", {"HS": high, "VIS": _slow_rows(few, "", 3000), **EMPTY})
        _write(beside / "fourteen columns.xlsx", {"Sheet1": _fourteen(videos)})
        for camera, name, suffix, shift in (
            ("VIS", "SMIC-VIS-E_annotation.xlsx", "", 3000),
            ("NIR", "SMIC_NIR_E_annotation.xlsx", " NIR", 4000),
        ):
            _draw(folder, few, camera, shift)
            _write(folder / PICTURES.format(camera) / name, {camera: _slow_rows(few, suffix, shift)})
        _specimen.litter(beside / "SMIC-HS-E" / "s03")
        _specimen.litter(beside / "SMIC-HS-E" / "s03" / "s3_ne_02")


Videos = Mapping[str, Sequence[Made]]  # the clips of each folder
PICTURES = "SMIC-E_raw image/{}_long"
EMPTY: dict[str, list[list[Any]]] = {"Sheet2": [], "Sheet3": []}
HEADER = [
    *("Subject", "Filename", None, "OnsetF", "OffsetF", "Onset2F", "Offset2F", "Onset3F", "Offset3F", None),
    *("FirstF", "LastF", "TotalMF1", "TotalMF2", "TotalMF3", "TotalVL", "Emotion"),
]


class _Sum(NamedTuple):
    """A formula and the value that a spreadsheet program saves with it."""

    text: str
    value: int


def _number(row: Row, name: str) -> int | None:
    return row.whole(name) if NUMBER.fullmatch(row.text(name)) else None


def _write(file: Path, pages: dict[str, list[list[Any]]]) -> None:
    """Write a workbook whose formulas have their values."""
    texts: dict[str, Sequence[Sequence[Any]]] = {
        name: [[cell.text if isinstance(cell, _Sum) else cell for cell in row] for row in rows]
        for name, rows in pages.items()
    }
    _specimen.write_pages(file, texts)
    with zipfile.ZipFile(file) as book:
        parts = {name: book.read(name) for name in book.namelist()}
    for number, rows in enumerate(pages.values(), start=1):
        values = iter([cell.value for row in rows for cell in row if isinstance(cell, _Sum)])
        page = f"xl/worksheets/sheet{number}.xml"
        parts[page] = re.sub(rb"</f><v ?(/>|></v>)", lambda _: b"</f><v>%d</v>" % next(values), parts[page])  # noqa: B023
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as book:
        for name, content in parts.items():
            book.writestr(name, content)


def _videos(clips: Sequence[Made]) -> Videos:
    videos: dict[str, list[Made]] = {}
    for made in clips:
        videos.setdefault(made.clip.partition("#")[0], []).append(made)
    return videos


def _draw(folder: Path, videos: Videos, camera: str = "HS", shift: int = 0) -> None:
    for clip, (made, *_) in videos.items():
        where = folder / PICTURES.format(camera) / f"SMIC-{camera}-E" / f"s{int(made.subject[1:]):02d}" / clip
        _specimen.draw(where, [f"image{number + shift:06d}.jpg" for number in made.numbers], (48, 64), colour=True)


def _rows(videos: Videos, garbage: Mapping[str, Sequence[Any]] | None = None) -> list[list[Any]]:
    """The page HS: subjects as numbers, ends and totals as formulas, some leftovers in columns of the third."""
    rows: list[list[Any]] = [HEADER]
    for at, (clip, intervals) in enumerate(videos.items(), start=2):
        made, video = intervals[0], list(intervals[0].numbers)
        ends: list[Any] = [None] * 6
        for i, interval in enumerate(intervals):
            ends[2 * i : 2 * i + 2] = [interval.onset, interval.offset]
        ends[4:6] = list((garbage or {}).get(clip, ends[4:6]))
        long = made.offset - made.onset + 1
        ends[1] = _Sum(f"=D{at}+M{at}-1", made.offset)
        first, last = _Sum(f"=VIS!J{at}*4", video[0]), _Sum(f"=K{at}+P{at}-1", video[-1])
        totals = [long, *(_Sum(f"={b}{at}-{a}{at}+1", 1 + at) for a, b in ("FG", "HI")), _Sum(f"=COUNT(A{at})", 9)]
        rows.append([int(made.subject[1:]), clip, None, *ends, None, first, last, *totals, made.written])
    return rows


def _slow_rows(videos: Videos, suffix: str, shift: int) -> list[list[Any]]:
    """The page of VIS, and of NIR with its suffix: no last picture, no third interval."""
    header = [*HEADER[:7], None, "FirstF", "TotalMF1", "TotalMF2", "TotalVL", "Emotion"]
    rows: list[list[Any]] = [[f"{title}{suffix}" if title and title.endswith("F") else title for title in header]]
    for clip, (made, *_) in videos.items():
        ends = [made.onset + shift, made.offset + shift, None, None, None, min(made.numbers) + shift]
        rows.append([int(made.subject[1:]), clip, None, *ends, made.offset - made.onset + 1, 1, 23, made.written])
    return rows


def _fourteen(videos: Videos) -> list[list[Any]]:
    """The version of 162 rows: no blank columns, text where pictures were lost, a row for a clip that is not there."""
    rows: list[list[Any]] = [[title for title in HEADER if title and title != "TotalMF3"]]
    for clip, intervals in videos.items():
        ends = [end for interval in intervals for end in (interval.onset, interval.offset)]
        first, last = min(intervals[0].numbers), max(intervals[0].numbers)
        begin: int | str = f"MISSING <-{first}" if clip == "s3_po_08" else first
        subject = int(intervals[0].subject[1:])
        rows.append([subject, clip, *ends, *[None] * (6 - len(ends)), begin, last, 5, 1, 23, intervals[0].written])
    lost = ["MISSING <-70000", "MISSING <-70000", *[None] * 4, "MISSING <-70000", "MISSING", 0, 0, 0, "negative"]
    return [*rows, [1, "s1_ne_02", *lost]]


def _made(subject: int, code: str, number: int, video: tuple[int, int], *windows: tuple[int, int]) -> list[Made]:
    """The intervals of a video; they share its pictures."""
    label = {"ne": "negative", "po": "positive", "sur": "surprise"}[code]
    clip = f"s{subject}_{code}_{number:02d}"
    return [
        Made(
            subject=f"s{subject}",
            clip=clip if i == 1 else f"{clip}#{i}",
            onset=onset,
            apex=None,
            offset=offset,
            emotion=label,
            written="negative" if clip == "s18_sur_03" else label,
            frames=tuple(range(video[0], video[1] + 1)),
        )
        for i, (onset, offset) in enumerate(windows, start=1)
    ]


GARBAGE: dict[str, Sequence[Any]] = {  # columns of the third interval
    "s20_ne_06": [_Sum("=F2-D2-99", -59), _Sum("=F2-D2-99", -59)],
    "s18_sur_03": [_Sum("=F3-D3-2", -12), _Sum("=F3-D3-9", -19)],
    "s9_sur_01": [81012, 81016],  # the second once more
    "s11_po_02": [94990, 94995],  # before the video
    "s3_po_08": [61509, 61504],  # backwards
    "s3_ne_02": [1000009, 1000013],  # its end behind the video
}
GAPS = _made(3, "po", 8, (61500, 61522), (61503, 61508))
SPECIMEN = [
    *_made(20, "ne", 6, (91000, 91022), (91004, 91008), (91012, 91015)),
    *_made(18, "sur", 3, (92000, 92022), (92012, 92016), (92002, 92006)),  # the second lies before the first
    *_made(11, "po", 2, (95000, 95022), (95004, 95009)),
    *_made(9, "sur", 1, (81000, 81022), (81003, 81008), (81012, 81016)),
    *_made(4, "ne", 4, (71000, 71022), (71002, 71005), (71008, 71011), (71014, 71018)),
    *_made(3, "ne", 2, (999990, 1000012), (999992, 999996), (999998, 1000003)),
    *(replace(made, frames=(*range(61500, 61505), *range(61507, 61523))) for made in GAPS),
]
