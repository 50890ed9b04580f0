"""SMIC, as its owners ship it: no sheet, one folder of pictures a clip, raw or cropped, of three cameras.

Source: Li et al., "A Spontaneous Micro-expression Database: Inducement, Collection and Baseline", FG 2013. Clips of
each person: the public list of MEGC 2019.
"""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mer_zoo.datasets import _specimen
from mer_zoo.datasets._base import register_corpus
from mer_zoo.datasets._folders import Known, PictureCorpus, Place
from mer_zoo.datasets._specimen import Made
from mer_zoo.datasets._tree import layout, shown
from mer_zoo.errors import CorpusError, InputError
from mer_zoo.types import Counts, Sample

if TYPE_CHECKING:
    from mer_zoo.datasets._verify import Check

CAMERAS = {"HS": 100.0, "VIS": 25.0, "NIR": 25.0}  # frames a second
EMOTIONS = {"ne": "negative", "po": "positive", "sur": "surprise"}
CAMERA = re.compile(r"(?:SMIC[-_ ]?)?(HS|VIS|NIR)(?:[-_ ]?(?:E|long))?", re.IGNORECASE)
PICTURE = re.compile(r"(?:reg_)?(image)?\d{5,}\.\w+", re.IGNORECASE)
CLIP = re.compile(r"(?:s0*(\d+)_)?(ne|po|sur)_0*(\d+)", re.IGNORECASE)
LABELLED = re.compile(r"(?:(?:^|/)s0*(\d+)/micro/)?([a-z]+)/s0*(\d+)_(ne|po|sur)_\d+$", re.IGNORECASE)
FOLDER = r"(?:negative|positive|surprise)/(s\d+)_((?:ne|po|sur)_\d+)"
PERSONS = {  # negative, positive and surprised clips, each numbered from 01
    1: (3, 2, 1), 2: (0, 1, 5), 3: (22, 11, 6), 4: (10, 4, 5), 5: (1, 0, 1), 6: (2, 0, 2), 8: (9, 4, 0), 9: (0, 1, 3),
    11: (3, 3, 1), 12: (0, 8, 1), 13: (0, 10, 0), 14: (3, 2, 5), 15: (1, 1, 2), 18: (2, 0, 5), 19: (0, 1, 1),
    20: (14, 3, 5),
}  # fmt: skip
BY_ALL_CAMERAS = 11  # the first person whom the slow cameras filmed, too
SLOW = Counts(8, 71, {"negative": 23, "positive": 28, "surprise": 20})


def camera_in(path: str) -> str | None:
    """The camera that the nearest folder of a path names, such as ``HS``, ``HS_long`` or ``SMIC-HS-E``."""
    said = (CAMERA.fullmatch(folder) for folder in reversed(path.split("/")))
    return next((match[1].upper() for match in said if match), None)


def clip_name(subject: str, name: str) -> tuple[str, str]:
    """Subject and clip in one spelling: ``s01``, ``ne_01`` or ``s01_ne_01`` -> ``s1``, ``s1_ne_01``; others stay."""
    found, person = CLIP.fullmatch(name), re.fullmatch(r"s0*(\d+)", subject, re.IGNORECASE)
    if not found or not person or found[1] not in (None, person[1]):
        return subject, name
    return f"s{person[1]}", f"s{person[1]}_{found[2].lower()}_{int(found[3]):02d}"


def slow(corpus: str) -> dict[str, Any]:
    """What a class says of camera HS, for VIS and NIR."""
    return {"fps": CAMERAS["VIS"], "counts": {corpus: SLOW}, "editions": (), "known": ()}


@register_corpus
class SMIC(PictureCorpus):
    """SMIC: 164 short clips of 16 persons at 100 frames a second, 71 of them by two slower cameras, too.

    There is no sheet: the folder gives the label, its first and last picture are onset and offset, and no apex is
    known. A clip whose folder is empty, or there in another form only, is missing.

    Args:
        root: As of ``PictureCorpus``.
        form: ``cropped`` (registered faces, as ``reg_image041235.bmp``) or ``raw`` (as ``image041235.bmp``).
        missing: As of ``PictureCorpus``.
        index: As of ``PictureCorpus``.
        camera: ``HS`` (100 frames a second), ``VIS`` or ``NIR`` (25, visible and near infrared light; pictures as
            ``reg_04123.bmp`` and ``04123.bmp``).
    """

    name, title = "smic", "SMIC: spontaneous micro-expressions, short clips of a fast and two slower cameras"
    owner = "Center for Machine Vision and Signal Analysis, University of Oulu"
    homepage = "https://www.oulu.fi/en, older https://www.oulu.fi/cmvs/node/41319 (guoying.zhao@oulu.fi)"
    terms = "research only, by an agreement that a professor or supervisor signs, sent from an institution's address"
    forbidden = "pass it on to third parties"
    fps = CAMERAS["HS"]
    layouts: ClassVar = {
        "cropped": layout(
            FOLDER,
            r"reg_(?:image)?(\d{5,})",
            "SMIC_all_cropped/HS/s1/micro/negative/s1_ne_01/reg_image041235.bmp",
            cropped=True,
            without="(?:^|/)non_?micro/",
        ),
        "raw": layout(
            FOLDER,
            r"(?:image)?(\d{5,})",
            "SMIC_all_raw/HS/s1/micro/negative/s1_ne_01/image041235.bmp",
            without="(?:^|/)non_?micro/",
        ),
    }
    counts: ClassVar = {"smic": Counts(16, 164, {"negative": 70, "positive": 51, "surprise": 43})}
    known = tuple(
        Known(clip.partition("_")[0], clip, "frames_with_gaps", f"camera HS lost {lost}")
        for clip, lost in (("s3_po_08", 2), ("s3_sur_01", 1), ("s3_sur_05", 1), ("s3_ne_16", 1))
    )

    def __init__(
        self, root: Path, form: str | None = None, missing: str = "error", index: bool = False, camera: str = "HS"
    ) -> None:
        super().__init__(root, form, missing, index)
        if camera not in CAMERAS:
            raise InputError(f"{self.name}: camera is {camera!r}; expected one of {tuple(CAMERAS)}.")
        self.camera = camera
        for name, value in slow(self.name).items() if camera != "HS" else ():
            setattr(self, name, value)

    def place(self, subject: str, name: str) -> Place:
        return clip_name(subject, name)

    def annotated(self) -> Iterator[Sample]:
        """One sample for each folder of a clip, persons in the order of their numbers.

        Raises:
            CorpusError: If there are no pictures of this camera, or if folders and names contradict each other.
        """
        if not self.folders:
            raise CorpusError(f"{self.name}: {self.nothing_found()}\n{self.how_to_obtain}")
        for subject, clip in sorted(self._clips, key=lambda place: (int(place[0][1:]), place[1])):
            folder = self.folders.get((subject, clip))
            emotion = EMOTIONS[clip.split("_")[1]]
            yield Sample(
                corpus=self.name,
                subject=subject,
                clip=clip,
                emotion=emotion,
                onset=folder.pictures[0][0] if folder else None,
                offset=folder.pictures[-1][0] if folder else None,
                fps=self.fps,
                emotion_as_written=emotion,
            )

    @cached_property
    def _clips(self) -> set[Place]:
        """Every clip of this camera that has a folder, in whatever form, be it empty.

        Raises:
            CorpusError: If a folder's label or person is not the one that its name says; it names all that are not.
        """
        clips, wrong = set(), []
        for path, match in self._paths():
            if not self._is_ours(path):
                continue
            clips.add(self.place(*match.groups()))
            said = LABELLED.search(path)
            if said and (said[2].lower() != EMOTIONS[said[4].lower()] or said[1] not in (None, said[3])):
                wrong.append(shown(path))
        if wrong:
            raise CorpusError(
                f"{self.name}: {len(wrong)} clips lie in the folder of another label or person: {', '.join(wrong)}; "
                "expected such as s1/micro/negative/s1_ne_01. Unpack the archive anew."
            )
        return clips

    def _paths(self) -> Iterator[tuple[str, re.Match[str]]]:
        """Path and names of each clip's folder, of every camera and form, the root's own name first."""
        for path in self.tree.folders:
            match = self.layout.match(self._named(path))
            if match:
                yield path, match

    def _named(self, path: str) -> str:
        root = self.tree.name
        return f"{root}/{path}" if path else root

    def _is_ours(self, path: str) -> bool:
        """Whether a folder is this camera's; where no folder says whose it is, names of pictures tell HS from others.

        Those of VIS and NIR look alike, so for them the two folders above the root are asked, too.
        """
        above = [] if self.camera == "HS" else [folder.name for folder in self.tree.root.resolve().parents[1::-1]]
        said = camera_in("/".join([*above, self._named(path)]))
        if said is not None:
            return said == self.camera
        pictures = [picture for picture in map(PICTURE.fullmatch, self.tree.folders[path]) if picture]
        return not pictures or any(picture[1] for picture in pictures) == (self.camera == "HS")

    def _find(self, form: str) -> dict[Place, list[str]]:
        found = (
            (place, [path for path in paths if self._is_ours(path)]) for place, paths in super()._find(form).items()
        )
        return {place: paths for place, paths in found if paths}

    def nothing_found(self) -> str:
        """As of ``PictureCorpus``, and the cameras."""
        cameras = sorted({camera_in(self._named(path)) or "one without a name" for path, _ in self._paths()})
        return f"{super().nothing_found()} Asked for camera {self.camera}; there is {', '.join(cameras) or 'none'}."

    def fingerprint(self, sample: Sample) -> str:
        """As of ``PictureCorpus``, and the camera."""
        return f"{self.camera} {super().fingerprint(sample)}"

    def checks(self, pictures: bool = False) -> "Iterator[Check]":
        """The lines of ``verify``; the last says which clips are not there at all."""
        from mer_zoo.datasets._verify import Check

        yield from super().checks(pictures)
        expected, found = _all_clips(self.camera), [s.clip for s in self.found_samples]
        absent, strange = [c for c in expected if c not in found], [c for c in found if c not in expected]
        notes = [f"{what}: {_some(clips)}" for what, clips in (("absent", absent), ("unknown", strange)) if clips]
        there = len(expected) - len(absent)
        yield Check(self.name, "clips by name", str(len(expected)), str(there), not notes, "; ".join(notes))

    # A specimen

    @classmethod
    def made_up(cls, rng: random.Random) -> list[Made]:
        """Two persons with clips of random names, some of which lack a picture."""
        clips = []
        for subject in rng.sample(range(1, 30), 2):
            names = [(code, number) for code in EMOTIONS for number in range(1, 31)]
            for code, number in sorted(rng.sample(names, 4)):
                onset = rng.choice([31234, 99998, 999997, 9999996, rng.randrange(31234, 40000000)])
                clips.append(_made(subject, code, number, onset, rng.choice([(), (), (2,)])))
        return clips

    @classmethod
    def draw(cls, folder: Path, clips: Sequence[Made]) -> None:
        """The cropped pictures of these clips by camera HS."""
        _draw(folder, clips)

    @classmethod
    def write_specimen(cls, folder: Path) -> None:
        """Persons with clips of all three cameras, raw and cropped; the slow ones filmed those from 11 on."""
        padded = [made for made in SPECIMEN if made.subject == "s2"]
        _draw(folder, SPECIMEN)
        _draw(folder, [made for made in SPECIMEN if made not in padded], form="raw")
        _draw(folder, padded, form="raw", zeros=2)
        for camera, begin in (("VIS", 99998), ("NIR", 7012)):
            slow = [m for m in SPECIMEN if int(m.subject[1:]) > 10]
            clips = [
                replace(made, onset=begin + 9 * i, offset=begin + 9 * i + 4, frames=None) for i, made in enumerate(slow)
            ]
            _draw(folder, clips, camera)
            _draw(folder, clips, camera, "raw")
        for form, name in (("cropped", "reg_image{:06d}.bmp"), ("raw", "image{:06d}.bmp")):
            still = folder / f"SMIC_all_{form}" / "HS" / "s1" / "non_micro" / "s1_n1"
            _specimen.draw(still, [name.format(n) for n in range(51000, 51004)])
        _specimen.litter(folder / "SMIC_all_cropped" / "HS" / "s1" / "micro" / "negative")
        _specimen.litter(folder / "SMIC_all_cropped" / "HS" / "s1" / "micro" / "negative" / "s1_ne_01")
        (folder / "SMIC_all_cropped" / "li2013microexpressions.pdf").write_bytes(b"%PDF made up")


def _all_clips(camera: str) -> list[str]:
    """Names of all clips of a camera."""
    return [
        f"s{person}_{code}_{number:02d}"
        for person, numbers in PERSONS.items()
        if camera == "HS" or person >= BY_ALL_CAMERAS
        for code, last in zip(EMOTIONS, numbers, strict=True)
        for number in range(1, last + 1)
    ]


def _some(clips: Sequence[str]) -> str:
    return ", ".join(clips) if len(clips) <= 20 else f"{', '.join(clips[:20])} and {len(clips) - 20} more"


def _draw(folder: Path, clips: Sequence[Made], camera: str = "HS", form: str = "cropped", zeros: int = 1) -> None:
    name = "image{:06d}.bmp" if camera == "HS" else "{:05d}.bmp"
    for made in clips:
        person, _, tail = made.clip.partition("_")
        padded = f"s{int(person[1:]):0{zeros}d}"
        where = folder / f"SMIC_all_{form}" / camera / padded / "micro" / made.written / f"{padded}_{tail}"
        names = [("reg_" if form == "cropped" else "") + name.format(number) for number in made.numbers]
        _specimen.draw(where, names, (48, 40) if form == "cropped" else (48, 64), colour=True)


def _made(subject: int, code: str, number: int, onset: int, lost: Sequence[int] = ()) -> Made:
    """A clip of eight pictures but for those ``lost``, counted from the first."""
    label = {"ne": "negative", "po": "positive", "sur": "surprise"}[code]
    return Made(
        subject=f"s{subject}",
        clip=f"s{subject}_{code}_{number:02d}",
        onset=onset,
        apex=None,
        offset=onset + 7,
        emotion=label,
        written=label,
        frames=tuple(onset + i for i in range(8) if i not in lost),
    )


SPECIMEN = [
    _made(1, "ne", 1, 40011),
    _made(1, "sur", 1, 999996),  # image999996 to image1000003: more digits within a clip
    _made(2, "po", 1, 50021),  # s02/micro/positive/s02_po_01 in the raw form
    _made(3, "ne", 1, 60001),
    _made(3, "ne", 16, 60101, lost=(3,)),
    _made(3, "po", 8, 60201, lost=(2, 5)),
    _made(3, "sur", 1, 60301, lost=(6,)),
    _made(3, "sur", 5, 60401, lost=(1,)),
    _made(11, "ne", 1, 9999997),
    _made(11, "po", 2, 12345001),
    _made(18, "sur", 3, 22345001),
    _made(20, "ne", 14, 30000001),
]
