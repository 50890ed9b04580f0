"""SAMM, as its owners ship it: one sheet, one folder of raw pictures a clip; also the crops that users make of it.

Source: Davison et al., "SAMM: A Spontaneous Micro-Facial Movement Dataset", IEEE Trans. Affective Computing 9(1), 2018.
Objective classes: Davison, Merghani and Yap, J. Imaging 4(10), 2018; they stand in the same sheet.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._annotated import SheetCorpus
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Folder, Known
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tables import Row, RowError, Sheet
from mer_zoo.datasets._tree import layout
from mer_zoo.types import Counts

CLIP = r"(\d{3})_\d{1,2}_\d{1,3}"  # 006_1_12: person, inducement, running number
FOLDER = r"(\d{3})/(\1_\d{1,2}_\d{1,3})"
FRAME = r"\d{3}_(\d+)"  # mostly 4 or 5 digits; six clips are said to be named otherwise, so any number of them
CROPS = r"(?:^|/)(?:samm[-_ ]*)?crop(?:s|ped)?[^/a-z]*/"  # SAMM_CROP, SAMM_Cropped, cropped


@register_corpus
class SAMM(SheetCorpus):
    """SAMM: 159 clips of 29 persons at 200 frames a second.

    The owners ship raw pictures, 960 by 650, grey; their numbers are those of the recording, with 4 or 5 digits.
    There is no official crop: a tree such as ``SAMM_CROP`` with the same names inside is taken for a user's own. The
    header of the sheet is found by its words, since edited copies lack the rows of text above it. The offset of
    013_1_9 and the apex of 032_3_2 are said to be wrong, too; the owners' cells are kept as they are.

    Args:
        root: As of ``SheetCorpus``.
        form: ``cropped`` (below a folder that begins with ``crop``, or with ``samm`` and has ``crop`` in it), or
            ``raw``.
        sheet: As of ``SheetCorpus``.
        missing: As of ``SheetCorpus``.
        index: As of ``SheetCorpus``.
    """

    name, title, fps = "samm", "SAMM: spontaneous micro-facial movements, 200 frames a second", 200.0
    owner = "Manchester Metropolitan University"
    homepage = "http://www2.docm.mmu.ac.uk/STAFF/M.Yap/dataset.php (M.Yap@mmu.ac.uk)"
    terms = "non-commercial, by a signed release agreement; ask for the present one, it has a date of deletion"
    forbidden = "copy, change, pass on or publish without written approval; some persons may never be shown"
    sheet = Sheet(
        files=("samm*micro*facs*codes*",),
        example="SAMM_Micro_FACS_Codes_v2.xlsx",
        columns={
            "subject": ("subject",),
            "clip": ("filename",),
            "onset": ("onsetframe", "onset"),
            "apex": ("apexframe", "apex"),
            "offset": ("offsetframe", "offset"),
            "aus": ("actionunits",),
            "emotion": ("estimatedemotion", "emotion"),
            "objective": ("objectiveclasses", "objectiveclass"),
        },
        optional=frozenset({"objective"}),
        page="micro_only*",
    )
    layouts: ClassVar = {
        "cropped": layout(FOLDER, FRAME, "SAMM_CROP/006/006_1_2/006_01234.jpg", cropped=True, within=CROPS),
        "raw": layout(FOLDER, FRAME, "SAMM/006/006_1_2/006_01234.jpg", without=CROPS),
    }
    counts: ClassVar = {
        "samm": Counts(
            29,
            159,
            {
                "anger": 57,
                "others": 26,
                "happiness": 26,
                "surprise": 15,
                "contempt": 12,
                "disgust": 9,
                "fear": 8,
                "sadness": 6,
            },
        )
    }
    objective_counts: ClassVar = {"I": 24, "II": 13, "III": 20, "IV": 8, "V": 3, "VI": 7, "VII": 84}
    known = (
        Known("028", "028_4_1", "apex_outside", "repaired in some copies"),
        Known("032", "032_3_1", "apex_outside", "repaired in some copies; the MEGC list of 441 clips lacks it"),
    )

    def names(self, row: Row) -> tuple[str, str] | None:
        return names_of(row)

    def folder_at(self, path: str) -> Folder:
        """Pictures that bear the person's number."""
        folder = super().folder_at(path)
        return own_pictures(folder, folder.path.name[:4])

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with clips of random names."""
        clips = []
        for subject in rng.sample(range(1, 100), 2):
            recordings = [f"{subject:03d}_{inducement}" for inducement in rng.sample(range(1, 8), 2)]
            for number in rng.sample([1, 2, 11, 12, 20], 4):
                onset, apex, offset = _specimen.some_window(rng)
                later = rng.choice([0, 0, 9000])  # now and then a window passes 9999
                emotion = rng.choice(list(cls.counts["samm"].classes))
                clips.append(
                    Made(
                        subject=f"{subject:03d}",
                        clip=f"{rng.choice(recordings)}_{number}",
                        onset=onset + later,
                        apex=rng.choice([apex + later, None]),
                        offset=offset + later,
                        emotion=emotion,
                        written=rng.choice(["Other", "Others"]) if emotion == "others" else emotion.capitalize(),
                        aus=rng.choice(_specimen.CODES),
                        objective=rng.choice(["I", "III", "VII"]),
                    )
                )
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The sheet and the raw pictures of these clips; where one has no apex, the sheet's lies after its offset."""
        write_codes(folder / "SAMM_Micro_FACS_Codes_v2.xlsx", clips)
        _draw_tree(folder / "SAMM", clips, (44, 64))

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Seven persons and their irregularities, raw and cropped, and the sheet as users edit it, too."""
        cls.draw(folder, SPECIMEN)
        _draw_tree(folder / "SAMM_CROP", SPECIMEN, (48, 40))
        header, *rows = _table(SPECIMEN, 2)
        edited = [header, *([int(subject), *cells] for subject, *cells in rows)]
        _specimen.write_pages(folder / "edited" / "header in the first row.xlsx", {"Sheet1": edited})
        for tree in ("SAMM", "SAMM_CROP"):
            clip = folder / tree / "006" / "006_1_1"
            _specimen.draw(clip, ["007_00100.jpg", "006_00101 (1).jpg", "x006_00102.jpg"])  # none of this clip
            _specimen.litter(clip)
            _specimen.litter(clip.parent)


def names_of(row: Row) -> tuple[str, str] | None:
    """Person and clip by the clip's name; the person's cell may be a number and must agree.

    Raises:
        RowError: If it does not.
    """
    clip = row.text("clip")
    found = re.fullmatch(CLIP, clip)
    if not found:
        return None
    subject = row.whole("subject")
    if subject not in (None, int(found[1])):
        raise RowError(f"{row.where}: subject is {subject}, but the clip {clip}; expected one number in both.")
    return found[1], clip


def own_pictures(folder: Folder, start: str) -> Folder:
    """The folder without pictures whose names begin otherwise."""
    return replace(folder, pictures=tuple(picture for picture in folder.pictures if picture[1].startswith(start)))


# What the specimens of SAMM and SAMM Long Videos share


def write_codes(file: Path, clips: Sequence[Made]) -> None:
    """The sheet of the micro-expressions: thirteen rows of text, a header, and a formula in each row."""
    above: list[list[Any]] = [
        ["SAMM Micro-Expressions, made up"],
        ["Cite: nobody"],
        [],
        ["R", "right side of the face"],
    ]
    above += [[letter, "a symbol"] for letter in "LABT"] + [[], ["A to E", "intensity"], ["or", "unclear"], [], []]
    _specimen.write_pages(file, {"MICRO_ONLY": [*above, *_table(clips, len(above) + 2)]})


def _table(clips: Sequence[Made], start: int) -> list[list[Any]]:
    """Header and rows, the first of which stands in row ``start`` of the sheet, from 1."""
    header = [
        "Subject",
        "Filename",
        "Inducement Code",
        "Onset Frame",
        "Apex Frame",
        "Offset Frame",
        "Duration",
        "Micro",
    ]
    rows: list[list[Any]] = [[*header, "Action Units", "Estimated Emotion", "Objective Classes", "Notes"]]
    for number, made in enumerate(clips, start):
        window = [made.onset, made.offset + 7 if made.apex is None else made.apex, made.offset]
        inducement = int(made.clip.split("_")[1])
        aus = made.aus_cell
        cells = [*window, f"=SUM(F{number}-D{number})+1", "Micro - 1/2", aus, made.written, made.objective]
        rows.append([made.subject, made.clip, inducement, *cells, None if number % 5 else "a note"])
    return rows


def _draw_tree(folder: Path, clips: Iterable[Made], size: tuple[int, int]) -> None:
    clips = list(clips)
    long = {_recording(made) for made in clips if made.offset > 9999} | FIVE_DIGITS
    for made in clips:
        width = 1 if made.clip == "017_3_2" else 5 if _recording(made) in long else 4
        names = [f"{made.subject}_{number:0{width}d}.jpg" for number in made.numbers]
        _specimen.draw(folder / made.subject / made.clip, names, size)


def _recording(made: Made) -> str:
    return made.clip.rpartition("_")[0]


def _made(clip: str, onset: int, apex: int | None, offset: int, written: str, aus: str, objective: str) -> Made:
    emotion = "others" if written in ("Other", "Others") else written.lower()
    return Made(
        subject=clip[:3],
        clip=clip,
        onset=onset,
        apex=apex,
        offset=offset,
        emotion=emotion,
        written=written,
        aus=aus,
        objective=objective,
    )


FIVE_DIGITS = {"006_1", "011_1", "013_1", "016_7"}  # recordings whose names have them

SPECIMEN = [
    _made("006_1_1", 97, 101, 106, "Anger", "4", "III"),
    _made("006_1_12", 95, 99, 102, "Anger", "4+7 ", "III"),  # a name that begins with another, numbers that overlap
    _made("006_1_2", 300, 304, 309, "Surprise", "1A+2B", "II"),
    _made("007_6_1", 996, 1001, 1004, "Happiness", "R12 or R15", "VII"),
    _made("007_6_5", 20, 25, 28, "Other", "B12/T10", "VII"),
    _made("011_1_3", 9997, 10000, 10003, "Contempt", "L14C", "VII"),  # past four digits
    _made("011_4_2", 40, 40, 48, "Disgust", "9+ref(10)", "IV"),  # apex on the onset
    _made("017_3_2", 997, 1000, 1002, "Fear", "20C", "VI"),  # said to be named otherwise: no zeros, we suppose
    _made("028_4_1", 60, None, 68, "Surprise", "5", "II"),  # apex outside
    _made("032_3_1", 80, None, 88, "Others", "A14E", "VII"),
    replace(_made("035_7_2", 50, 54, 59, "Sadness", "(R14 or 14A)", "V"), frames=(50, 51, 52, 54, 55, 56, 57, 58, 59)),
]
