"""DFME, as its owners ship the part with labels: three splits, each a sheet and folders of pictures, one a clip.

Source: Zhao et al., "DFME: A New Benchmark for Dynamic Facial Micro-Expression Recognition", IEEE Transactions on
Affective Computing 15(3), 2024. The paper counts 7,526 clips of 671 persons; the sheets of the splits, 2,629 clips.
How the folders of the test splits are called is not known, so a clip's folder is found by its own name.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Place
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import NoSheetError, Row, Sheet, find_sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.types import Counts, Sample

CLIP = r"sub\d+_\d+\w*"
EMOTION_IDS = ("anger", "contempt", "disgust", "fear", "happiness", "sadness", "surprise")


@dataclass(frozen=True)
class Split:
    """One split: patterns of its sheet's name, and what is in it."""

    files: tuple[str, ...]
    counts: Counts


SPLITS = {
    "train": Split(("*train*with_au*",), Counts(176, 1856)),
    "testA": Split(("*testa*with_au*", "*test_a*with_au*"), Counts(42, 474)),
    "testB": Split(("*testb*with_au*", "*test_b*with_au*"), Counts(41, 299)),
}


@register_corpus
class DFME(SheetCorpus):
    """DFME: 2,629 micro-expressions in three splits, at 200, 300 or 500 frames a second.

    Frames may be numbered from 0, so 0 is a number like others here. The sheet gives each emotion as text and as a
    number; where the two differ, the text is taken and the sample flagged ``emotion_unexpected``.

    Args:
        root: As of ``SheetCorpus``.
        form: ``frames`` is the only one.
        sheet: As of ``SheetCorpus``; then only this sheet is read, whichever the split.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
        split: ``train``, ``testA``, ``testB``, or ``all`` for those whose sheets are there.
    """

    name, title = "dfme", "DFME: dynamic facial micro-expressions, up to 500 frames a second"
    zero = True
    owner = "University of Science and Technology of China"
    homepage = "https://mea-lab-421.github.io (sirui@mail.ustc.edu.cn, iamthy@mail.ustc.edu.cn)"
    terms = (
        "not for commerce, by an agreement that a supervisor signs; its clause 7 gives the University of Science and "
        "Technology of China the intellectual property that arises from use, perhaps that in trained weights, too"
    )
    forbidden = (
        "pass it on, whole or in part; show persons whom the agreement lists as never to be shown; take what arises "
        "from use, perhaps trained weights included, for your own (clause 7)"
    )
    sheet = Sheet(
        files=tuple(pattern for split in SPLITS.values() for pattern in split.files),
        example="training_full_with_AU.xlsx",
        columns={
            "clip": ("filename",),
            "onset": ("onsetframe",),
            "apex": ("apexframe",),
            "offset": ("offsetframe",),
            "emotion": ("emotion",),
            "emotion_id": ("emotionid",),
            "fps": ("fps",),
            "aus": ("au", "aus"),
        },
        optional=frozenset({"emotion_id", "aus"}),
    )
    layouts: ClassVar = {"frames": layout(rf"(?=(sub\d+))({CLIP})", r"(\d+)", "train_data/sub0003_01/00042.png")}
    counts: ClassVar = {"dfme": Counts(None, 2629)}
    editions = tuple(split.counts for split in SPLITS.values())

    def __init__(
        self,
        root: Path,
        form: str | None = None,
        sheet: str | Path | None = None,
        missing: str = "error",
        index: bool = False,
        split: str = "all",
    ) -> None:
        super().__init__(root, form, sheet, missing, index)
        if split not in (*SPLITS, "all"):
            raise InputError(f"{self.name}: split is {split!r}; expected one of {(*SPLITS, 'all')}.")
        self.split = split

    # Sheets

    @cached_property
    def splits(self) -> dict[str, Path]:
        """The sheet of each split that is read.

        Raises:
            CorpusError: If the sheet that was asked for is not there, or none is.
        """
        if self.named_sheet is not None:
            return {self.split: find_sheet(self.sheet, self.tree, self.named_sheet)}
        if self.split != "all":
            return {self.split: find_sheet(replace(self.sheet, files=SPLITS[self.split].files), self.tree)}
        found = {name: self._sheet_of(split) for name, split in SPLITS.items()}
        there = {name: file for name, file in found.items() if file is not None}
        return there or {"all": find_sheet(self.sheet, self.tree)}  # which says what it looked for

    def _sheet_of(self, split: Split) -> Path | None:
        try:
            return find_sheet(replace(self.sheet, files=split.files), self.tree)
        except NoSheetError:
            return None

    @cached_property
    def sheet_files(self) -> list[Path]:
        return list(self.splits.values())

    def edition(self, clips: int) -> Counts | None:
        """What the splits that are read hold together; how many persons are in more than one is not published."""
        parts = [SPLITS[name].counts for name in self.splits if name in SPLITS]
        if self.named_sheet is not None or not parts:
            return super().edition(clips)
        return parts[0] if len(parts) == 1 else Counts(None, sum(part.clips for part in parts))

    # Samples

    def read(self) -> Iterator[Sample]:
        """As of ``PictureCorpus``.

        Raises:
            CorpusError: As there; where pictures of several splits were looked for, it says how to read one.
        """
        try:
            yield from super().read()
        except CorpusError as error:
            if "no picture" not in str(error) or len(self.splits) == 1:
                raise
            raise CorpusError(f"{error}\nOr read one split: split={'|'.join(self.splits)}.") from error

    def names(self, row: Row) -> tuple[str, str] | None:
        """``sub0003_01`` is of sub0003; a row of text below the table names no clip."""
        clip = row.text("clip")
        if not re.fullmatch(CLIP, clip, re.IGNORECASE):
            return None
        return f"sub{int(clip[3:].partition('_')[0]):04d}", clip

    def place(self, subject: str, name: str) -> Place:
        """The clip's name, which begins with its subject."""
        return (name.lower(),)

    def sample(self, row: Row, subject: str, clip: str) -> Sample:
        sample = super().sample(row, subject, clip)
        number, fps = row.whole("emotion_id"), row.whole("fps")
        agree = number is None or (0 <= number < len(EMOTION_IDS) and EMOTION_IDS[number] == sample.emotion)
        unexpected = () if agree or "emotion_unexpected" in sample.flags else ("emotion_unexpected",)
        return replace(
            sample,
            fps=None if fps is None else float(fps),
            flags=(*sample.flags, *unexpected),
        )

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons, of two splits, with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 10000), 2):
            for number in rng.sample(range(1, 100), 4):
                onset, apex, offset = rng.choice([_specimen.some_window(rng), (0, rng.randrange(1, 4), 5)])
                emotion = rng.choice(list(WRITTEN_IDS))
                clips.append(
                    Made(
                        subject=f"sub{subject:04d}",
                        clip=f"sub{subject:04d}_{number:02d}",
                        onset=onset,
                        apex=rng.choice([apex, None]),
                        offset=offset,
                        emotion=emotion,
                        written=rng.choice([emotion, emotion.title(), f"{emotion} "]),
                        aus=rng.choice(_specimen.CODES),
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheets and pictures of these clips, each person in one split."""
        header = ["Subject", "Filename", "OnsetFrame", "ApexFrame", "OffsetFrame", "Emotion", "EmotionId", "Fps", "AU"]
        persons = list(dict.fromkeys(made.subject for made in clips))
        for place, (sheet, data) in enumerate(DRAWN):
            rows: list[list[Any]] = [header]
            for made in clips:
                person = persons.index(made.subject)
                if person % len(DRAWN) == place:
                    number = WRONG_ID if made.clip in WRONG else WRITTEN_IDS[made.emotion]
                    window = [made.onset, made.apex, made.offset]
                    subject = made.subject if place else int(made.subject[3:])
                    fps = (500, 300, 200)[person % 3]
                    rows.append([subject, made.clip, *window, made.written, number, fps, made.aus])
                    _specimen.draw(folder / data / made.clip, [f"{n:05d}.png" for n in made.numbers], colour=True)
            if len(rows) > 1:
                _specimen.write_pages(folder / "full_release_annotation" / sheet, {"Sheet1": rows})

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Four persons in three splits, and irregularities; one clip on disk is in no sheet."""
        cls.draw(folder, SPECIMEN)
        train = folder / "train_data" / "train_data"
        _specimen.draw(train / "sub0003_99", ["00001.png", "00002.png"], colour=True)
        _specimen.litter(train)
        _specimen.litter(train / "sub0003_01")


DRAWN = (
    ("training_full_with_AU.xlsx", "train_data/train_data"),
    ("testA_full_with_AU.xlsx", "testA_data"),
    ("DFME_test_B_full_with_AU.xlsx", "test_B"),
)
WRITTEN_IDS = {
    "surprise": 6,
    "sadness": 5,
    "happiness": 4,
    "fear": 3,
    "disgust": 2,
    "contempt": 1,
    "anger": 0,
}
WRONG, WRONG_ID = frozenset({"sub0003_03"}), 6  # the number of surprise beside another emotion


def _made(clip: str, onset: int, apex: int | None, offset: int, emotion: str, aus: str) -> Made:
    return Made(
        subject=clip[:7],
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=emotion.title(),
        aus=aus,
    )


SPECIMEN = [
    _made("sub0003_01", 97, 99, 103, "happiness", "6+12"),
    _made("sub0003_02", 0, 3, 6, "surprise", "1+2"),  # numbered from 0
    _made("sub0003_03", 5, 8, 11, "sadness", "L4"),  # text and number of the emotion differ
    replace(_made("sub0003_10", 998, 1001, 1004, "anger", "4+7"), written="anger "),
    _made("sub0003_100", 7, None, 12, "fear", "1+4"),  # a name that another begins
    _made("sub0120_01", 0, 0, 5, "contempt", "R14"),  # apex on the onset, both 0
    _made("sub0120_02", 9996, 9999, 10002, "disgust", "9"),
    _made("sub0200_01", 20, 24, 28, "fear", "?"),
    _made("sub0310_01", 50, 54, 58, "happiness", "12"),
]
