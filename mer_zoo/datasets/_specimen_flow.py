"""A made-up copy of the flow images of MEGC 2019: invented clips in the names of the release."""

import csv
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from mer_zoo.errors import InputError

# Data set, subject and clip as a file name writes them, and as the organisers' list does; {} is the clip's number.
SPELLINGS = [
    ("casme2", "sub01", "EP01_{:02d}f", "sub01", "EP01_{:02d}f"),
    ("casme2", "sub17", "EP02_{:d}", "sub17", "EP02_{:d}"),
    ("smic", "s01", "s01_{}_{:02d}", "s01", "s01_{}_{:02d}"),
    ("smic", "s3", "s3_{}_{:02d}", "s03", "s03_{}_{:02d}"),
    ("samm", "006", "006_1_{:d}", "6", "006_1_{:d}"),
    ("samm", "011", "011_2_{:d}", "11", "011_2_{:d}"),
]


def write_flow_release(folder: Path, form: str) -> None:
    """The flow images of MEGC 2019 as ``folder``, ``tree`` or ``npz``, drawn by the synthetic generator."""
    from mer_zoo.datasets.synthetic_flow import SyntheticFlow

    corpus = SyntheticFlow(subjects=len(SPELLINGS), clips_per_subject=6)
    clips = []
    for i, sample in enumerate(corpus.samples):
        clips.append((*_names(i // 6, i % 6, label=i % 3), i % 3, corpus.flow_image(sample)))
    writers = {"folder": _write_folder, "tree": _write_tree, "npz": _write_npz}
    if form not in writers:
        raise InputError(f"form is {form!r}; expected one of {', '.join(writers)}.")
    folder.mkdir(parents=True, exist_ok=True)
    writers[form](folder, clips)


Clip = tuple[str, str, str, str, str, int, np.ndarray]  # corpus, subject and clip on disk, as listed, label, image


def _names(subject: int, number: int, label: int) -> tuple[str, str, str, str, str]:
    corpus, *names = SPELLINGS[subject]
    code = ("ne", "po", "sur")[label]
    on_disk, clip, listed, listed_clip = (
        name.format(code, number + 1) if corpus == "smic" else name.format(number + 1) for name in names
    )
    return corpus, on_disk, clip, listed, listed_clip


def _picture(folder: Path, subject: str, clip: str, image: np.ndarray) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    blank = " " if subject == "006" else ""  # as in the release
    PILImage.fromarray(image).save(folder / f"{subject}_{clip}{blank}.png")


def _write_folder(folder: Path, clips: list[Clip]) -> None:
    for _, subject, clip, _, _, _, image in clips:
        _picture(folder / "flow", subject, clip, image)
    with (folder / "combined_3class_gt.csv").open("w", newline="") as text:
        writer = csv.writer(text)  # CRLF, no header, a blank row: as the organisers' files
        writer.writerows([corpus, subject, clip, label] for corpus, _, _, subject, clip, label, _ in clips)
        writer.writerow(["", "", "", ""])


def _write_tree(folder: Path, clips: list[Clip]) -> None:
    for left_out in {subject for _, subject, *_ in clips}:
        for _, subject, clip, _, _, label, image in clips:
            part = "u_test" if subject == left_out else "u_train"
            _picture(folder / left_out / part / str(label), subject, clip, image)


def _write_npz(folder: Path, clips: list[Clip]) -> None:
    corpora, subjects, names, _, _, labels, images = zip(*clips, strict=True)
    np.savez(folder / "flow.npz", image=np.stack(images), label=labels, corpus=corpora, subject=subjects, clip=names)
