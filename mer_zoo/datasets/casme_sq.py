"""CAS(ME)^2, as its owners ship it: macro- and micro-expressions, as clips and within the long videos.

Source: Qu et al., "CAS(ME)^2: A Database for Spontaneous Macro-Expression and Micro-Expression Spotting and
Recognition", IEEE Transactions on Affective Computing 9(4), 2018.
"""

import random
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Place
from mer_zoo.datasets._long_videos import LongVideoCorpus
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, RowError, Sheet, read_pages
from mer_zoo.datasets._tree import layout, shown
from mer_zoo.errors import CorpusError
from mer_zoo.types import Counts, Sample

if TYPE_CHECKING:
    from mer_zoo.datasets._verify import Check

CLIP = r"[a-z]+\d+_\d+"  # anger1_1: the first expression while the stimulus anger1 was seen


@register_corpus
class CASMESq(LongVideoCorpus):
    """CAS(ME)^2: 57 micro- and 300 macro-expressions of 22 persons at 30 frames a second.

    The sheet has no header. It counts persons and names stimuli in its own way; two more pages, ``naming rule1`` and
    ``naming rule2``, say whose folder (``s15``) and which video (``0401``) that is.

    Args:
        root: As of ``SheetCorpus``.
        form: ``cropped`` (faces), ``selected`` (whole pictures, onset to offset) or ``raw`` (the long videos; clips of
            one video share its folder).
        sheet: As of ``SheetCorpus``; the two pages of naming rules must be in it.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        expressions: ``micro``, ``macro`` or ``all``; macro-expressions carry the flag ``macro``.

    Raises:
        InputError: If an option has another value.
    """

    name, title, fps = "casme_sq", "CAS(ME)^2: spontaneous macro- and micro-expressions in long videos", 30.0
    owner = "Institute of Psychology, Chinese Academy of Sciences"
    homepage = "https://melabipcas.github.io/melab/en/databases.html or casme.psych.ac.cn (wangsujing@psych.ac.cn)"
    terms = "research only, by a form and a signed agreement"
    forbidden = "pass it on"
    sheet = Sheet(
        files=("cas*code_final*", "code_final*"),
        example="CAS(ME)^2code_final.xlsx",
        columns={"subject": 0, "clip": 1, "onset": 2, "apex": 3, "offset": 4, "aus": 5, "emotion": 6, "kind": 7},
        page="cas?ecode*",
    )
    layouts: ClassVar = {
        "cropped": layout(
            rf"cropped[^/]*/s?(\d+)/({CLIP})", r"img(\d+)", "cropped/15/anger1_1/img041.jpg", cropped=True
        ),
        "selected": layout(rf"selected[^/]*/s?(\d+)/({CLIP})", r"img(\d+)", "selectedpic/s15/anger1_1/img041.jpg"),
        "raw": layout(r"(\d+)_(\d{4})(?!\d)[^/]*", r"img(\d+)", "rawpic/s15/15_0101disgustingteeth/img001.jpg"),
    }
    by_expressions: ClassVar = {"micro": Counts(None, 57), "macro": Counts(None, 300), "all": Counts(22, 357)}

    # Rows

    def names(self, row: Row) -> tuple[str, str] | None:
        """Participant 1 is ``s15`` or whoever ``naming rule1`` says."""
        clip = "".join(row.text("clip").split())
        found = re.fullmatch(r"(s?)(\d+)", row.text("subject"), re.IGNORECASE)
        if not found or not re.fullmatch(CLIP, clip, re.IGNORECASE):
            return None
        number = int(found[2])
        subject = f"s{number}" if found[1] else self._persons.get(number)
        if subject is None:
            raise RowError(f"{row.where}: participant {number} is not among those of 'naming rule1'.")
        return subject, clip

    def is_macro(self, row: Row) -> bool:
        kind = row.text("kind")
        found = re.fullmatch(r"(macro|micro)\W*expressions?", kind, re.IGNORECASE)
        if not found:
            raise RowError(f"{row.where}: the type is {kind!r}; expected macro-expression or micro-expression.")
        return found[1].lower() == "macro"

    # Naming rules: found by content, since their pages have no header either

    @cached_property
    def _rules(self) -> list[list[str]]:
        """The filled cells of each row of the other pages, as text."""
        pages = read_pages(self.sheet_file)
        rows = [
            row
            for name, rows in pages.items()
            if not fnmatchcase(name.strip().lower(), self.sheet.page)
            for row in rows
        ]
        return [[Row({"cell": cell}, "naming rules").text("cell") for cell in row if cell is not None] for row in rows]

    @cached_property
    def _persons(self) -> dict[int, str]:
        """Subject by the participant's number, of rows such as ``15, s15, 1``.

        Raises:
            CorpusError: If there is no such row.
        """
        persons = {}
        for cells in self._rules:
            named = [int(cell[1:]) for cell in cells if re.fullmatch(r"s\d+", cell, re.IGNORECASE)]
            numbers = [int(cell) for cell in cells if cell.isdecimal()]
            if len(numbers) > 1 and named and named[0] in numbers:
                numbers.remove(named[0])
            if len(named) == len(numbers) == 1:
                persons[numbers[0]] = f"s{named[0]}"
        if not persons:
            raise CorpusError(self._no_rule("naming rule1", "15, s15, 1"))
        return persons

    @cached_property
    def _codes(self) -> dict[str, str]:
        """Code of a video by the name of its stimulus, of rows such as ``0401, anger1``.

        Raises:
            CorpusError: If there is no such row.
        """
        found = {}
        for cells in self._rules:
            names = [cell.lower() for cell in cells if re.fullmatch(r"[a-z]{2,}\d+", cell, re.IGNORECASE)]
            codes = [cell.zfill(4) for cell in cells if re.fullmatch(r"\d{3,4}", cell)]  # a number lost its zero
            if len(names) == len(codes) == 1:
                found[names[0]] = codes[0]
        if not found:
            raise CorpusError(self._no_rule("naming rule2", "0401, anger1"))
        return found

    def _no_rule(self, page: str, row: str) -> str:
        return (
            f"{shown(self.sheet_file)} has no page {page!r}; expected one with rows such as {row}. Take the owners' "
            "workbook with all its pages."
        )

    # Folders

    def place(self, subject: str, name: str) -> Place:
        return str(int(subject.lower().removeprefix("s"))), name.lower()

    def place_of(self, sample: Sample) -> Place:
        """The clip's folder, or that of the video it is cut from."""
        stimulus = sample.clip.lower().partition("_")[0]
        return self.place(sample.subject, self._codes.get(stimulus, stimulus) if self.form == "raw" else sample.clip)

    def _find(self, form: str) -> dict[Place, list[str]]:
        """Of two folders of one video, the one in its own person's: one of s23 lies with those of s19."""
        found = super()._find(form)
        if form == "raw":
            for place, paths in found.items():
                home = [path for path in paths if f"/{path}".lower().split("/")[-2] == f"s{place[0]}"]
                found[place] = home if len(home) == 1 else paths
        return found

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``; the last says which videos lie with another person's."""
        from mer_zoo.datasets._verify import Check

        yield from super().checks(pictures)
        astray = []
        for path in self.tree.folders:
            video = self.layouts["raw"].match(path)
            if video and path.lower().split("/")[-2:-1] not in ([], [f"s{int(video[1])}"]):
                astray.append(path)
        found = "found" if astray else "not there"
        yield Check(self.name, "a video of s23 among those of s19", "found", found, True, ", ".join(astray))

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with micro-expressions of random names."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            for stimulus in rng.sample(sorted(VIDEOS), 4):
                onset, apex, offset = _specimen.some_window(rng)
                emotion = rng.choice(["positive", "negative", "surprise", "others"])
                clips.append(
                    Made(
                        subject=f"s{subject}",
                        clip=f"{stimulus}_{rng.randrange(1, 30)}",
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
        """The workbook and the cropped pictures of these clips."""
        lines = [_Line(m.subject, m.clip, m.onset, m.apex or 0, m.offset, m.written, m.aus) for m in clips]
        _write_workbook(folder / "CAS(ME)^2code_final.xlsx", "CASMEcode_final", lines)
        for made in clips:
            pictures = folder / "cropped" / made.subject[1:] / made.clip
            _specimen.draw(pictures, [f"img{number:03d}.jpg" for number in made.numbers], colour=True)

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Four persons and their irregularities, cropped, selected and raw, each archive unpacked into its own name."""
        _write_workbook(folder / "CAS(ME)^2code_final(Updated).xlsx", "CASFEcode_final", SPECIMEN, careless=True)
        _specimen.write_pages(folder / "CAS(ME)^2blink-code.xlsx", {"blink": [[1, "anger1", 5, 9]]})
        for line in SPECIMEN:
            names = [f"img{n:03d}.jpg" for n in range(line.onset, line.last + 1)]
            names[-1] += ".jpg" if line.subject == "s23" else ""  # the ending comes twice
            _specimen.draw(folder / f"cropped/cropped/{line.subject[1:]}/{line.clip}", names, colour=True)
            selected = folder / f"selectedpic/selectedpic/{line.subject}/{line.clip}"
            _specimen.draw(selected, names, (48, 64), colour=True)
        for path, numbers in _videos(SPECIMEN).items():
            raw = [f"img{n:03d}.jpg" for n in numbers]
            _specimen.draw(folder / "rawpic" / "rawpic" / path, raw, (48, 64), colour=True)
        _specimen.litter(folder / "cropped" / "cropped" / "15")
        _specimen.litter(folder / "cropped" / "cropped" / "15" / "anger1_1")
        (folder / "rawvideo").mkdir()
        (folder / "rawvideo" / "15_0401girlcrashing.avi").write_bytes(b"RIFF made up")


VIDEOS = {  # code and rest of a video's folder, by its stimulus
    "anger1": ("0401", "girlcrashing"),
    "anger2": ("0402", "madeup"),
    "disgust1": ("0101", "disgustingteeth"),
    "disgust2": ("0102", "madeup"),
    "happy1": ("0502", "funnyerrors"),
    "happy2": ("0503", "unnyfarting"),  # spelt so in one place
}


class _Line(NamedTuple):
    """A row of the sheet as its owners would write it."""

    subject: str
    clip: str
    onset: int
    apex: int
    offset: int
    emotion: str
    aus: str
    kind: str = "micro-expression"

    @property
    def last(self) -> int:
        return self.offset or self.apex


def _write_workbook(file: Path, page: str, lines: Sequence[_Line], careless: bool = False) -> None:
    """The three pages; if careless, with a blank first row, blanks in cells, and a code that lost its zero."""
    subjects = list(dict.fromkeys(line.subject for line in lines))
    blank = " " if careless else ""
    rows: list[list[Any]] = [[]] if careless else []
    for line in lines:
        aus = int(line.aus) if line.aus.isdigit() else line.aus or None
        numbers = [line.onset, line.apex, line.offset]
        who = [subjects.index(line.subject) + 1, line.clip + blank]
        rows.append([*who, *numbers, aus, line.emotion + blank, blank + line.kind, "happiness"])
    who_is_who = [[int(subject[1:]), subject, number] for number, subject in enumerate(subjects, start=1)]
    codes = [[int(code) if careless and name == "disgust1" else code, name] for name, (code, _) in VIDEOS.items()]
    _specimen.write_pages(file, {page: rows, "naming rule1": who_is_who, "naming rule2": codes})


def _videos(lines: Sequence[_Line]) -> dict[str, range]:
    """Numbers of the pictures of each long video, by its folder; one lies with those of another person."""
    videos: dict[str, range] = {}
    for line in lines:
        code, rest = VIDEOS[line.clip.partition("_")[0]]
        parent = "s19" if (line.subject, code) == ("s23", "0502") else line.subject
        path = f"{parent}/{line.subject[1:]}_{code}{rest}"
        before = videos.get(path, range(line.onset, line.onset))
        videos[path] = range(max(1, min(before.start, line.onset - 3)), max(before.stop, line.last + 4))
    return videos


SPECIMEN = [
    _Line("s15", "anger1_1", 7, 9, 13, "negative", "4"),  # img009, img010
    _Line("s15", "anger1_11", 20, 22, 26, "others", "R12+R15"),  # a name that begins with another
    _Line("s15", "anger1_2", 30, 36, 44, "negative", "4+7 ", "macro-expression"),
    _Line("s15", "disgust1_1", 95, 98, 103, "negative", "4+ref(9)"),  # img099, img100
    _Line("s16", "happy2_1", 40, 45, 0, "positive", "12"),  # the offset is missing
    _Line("s16", "happy2_2", 60, 0, 72, "positive", "6+12", "macro-expression"),  # the apex is missing
    _Line("s16", "anger2_1", 20, 20, 26, "surprise", "1+2"),  # apex on the onset
    _Line("s19", "happy1_1", 50, 53, 57, "positive", "", "macro-expression"),
    _Line("s19", "disgust2_1", 30, 33, 36, "others", "?"),
    _Line("s23", "happy1_1", 995, 999, 1003, "surprise", "L1+2"),  # its video lies with those of s19
]
