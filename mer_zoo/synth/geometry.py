"""The head that all synthetic persons are made of: mesh, shapes, and the rims of eyes and mouth.

Mesh and shapes are MakeHuman's base mesh, its targets for adults' faces, and Mika Suominen's "Face Units 01", all
CC0 1.0; ``head.md`` beside the file says more, ``tools/synthetic_head.py`` makes it. Lengths are decimetres, x to the
person's left, y up, z to the front.
"""

import functools
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import CorpusError

Floats = npt.NDArray[np.floating]
Ints = npt.NDArray[np.int64]

FILE = Path(__file__).with_name("head.npz")
SHA256 = "75ad585bd157524b7e919ee61d455d1a9723ce6ab1318f1693a8c77379ba663c"
STEP = 1e-4  # decimetres to one step of a stored displacement
OPENINGS = ("eye_left", "eye_right", "mouth")
ORIGINS, SEXES, AGES = ("african", "asian", "caucasian"), ("female", "male"), ("young", "old")


@dataclass(frozen=True)
class Head:
    """The mesh and what may be done to it.

    Attributes:
        vertices: (N, 3); the last two are the centres of the left and the right eyeball and belong to no triangle.
        triangles: (M, 3).
        shapes: Displacements (N, 3) at full strength by name: ``unit/…``, ``macro/…`` and ``detail/…``.
        rims: Vertices of the upper and the lower rim of each opening, such as ``mouth_upper``, in the order of x.
    """

    vertices: Floats
    triangles: Ints
    shapes: dict[str, Floats]
    rims: dict[str, Ints]

    def unit(self, name: str) -> Floats:
        """Displacements (N, 3) of one action-unit shape at full strength."""
        return self.shapes[f"unit/{name}"]


@functools.cache
def load_head(file: Path = FILE) -> Head:
    """Read the head that comes with the library.

    Raises:
        CorpusError: If the file is missing or is not the one that was shipped.
    """
    found = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "no file"
    if found != SHA256:
        raise CorpusError(
            f"{file}: expected the head of the synthetic faces, sha256 {SHA256}; found {found}. Install mer-zoo anew, "
            "or make the file with tools/synthetic_head.py."
        )
    with np.load(file, allow_pickle=False) as saved:
        shapes, vertices = saved["shapes"].astype(np.float32) * np.float32(STEP), saved["vertices"]
        for array in (shapes, vertices):
            array.setflags(write=False)
        return Head(
            vertices=vertices,
            triangles=saved["triangles"].astype(np.int64),
            shapes=dict(zip(saved["shape_names"].tolist(), shapes, strict=True)),
            rims={name: saved[name].astype(np.int64) for name in saved.files if name.endswith(("_upper", "_lower"))},
        )


@dataclass(frozen=True)
class Traits:
    """What a made-up person is like, apart from the details of the shape.

    Attributes:
        origin: Shares of the African, Asian and European base shapes; they sum to one.
        male: Share of the male shape, 0 to 1.
        old: Share of the shape of old age, 0 to 1.
        heavy: From lean, -1, to heavy, 1.
    """

    origin: tuple[float, float, float]
    male: float
    old: float
    heavy: float

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Traits":
        """Anyone: origins mixed, sexes mostly one or the other, ages from twenty to seventy, the young more often."""
        african, asian, caucasian = rng.dirichlet((0.5, 0.5, 0.5))
        return cls((african, asian, caucasian), rng.beta(0.4, 0.4), rng.beta(1.0, 1.8), float(rng.normal(0, 0.4)))


def face_of(head: Head, traits: Traits, rng: np.random.Generator, variety: float) -> Floats:
    """Vertices (N, 3) of a person at rest.

    Args:
        head: The mesh.
        traits: Origin, sex, age and weight.
        rng: Draws the details: nose, mouth, eyes, cheeks, chin, brows and form of the head.
        variety: Standard deviation of each detail as a share of its full shape.
    """
    vertices = head.vertices.copy()
    for weights in (_macros(traits), _details(head, rng, variety)):
        for name, weight in weights.items():
            vertices += np.float32(weight) * head.shapes[name]
    return vertices


def _macros(traits: Traits) -> dict[str, float]:
    weights: dict[str, float] = {}
    build = "maxweight" if traits.heavy > 0 else "minweight"
    extra = min(abs(traits.heavy), 1.0) * 0.6
    for sex, of_sex in zip(SEXES, (1 - traits.male, traits.male), strict=True):
        for age, of_age in zip(AGES, (1 - traits.old, traits.old), strict=True):
            for origin, share in zip(ORIGINS, traits.origin, strict=True):
                weights[f"macro/{origin}-{sex}-{age}"] = share * of_sex * of_age
            common = f"macro/universal-{sex}-{age}-averagemuscle"
            weights[f"{common}-averageweight"] = of_sex * of_age * (1 - extra)
            weights[f"{common}-{build}"] = of_sex * of_age * extra
    return weights


OPPOSITES = (
    ("-decr", "-incr"),
    ("-down", "-up"),
    ("-in", "-out"),
    ("-backward", "-forward"),
    ("-concave", "-convex"),
    ("-compress", "-uncompress"),
)


@functools.cache
def _axes(names: tuple[str, ...]) -> tuple[tuple[str, str | None], ...]:
    """Shapes that undo each other, as pairs; a shape without an opposite stands alone."""
    axes: list[tuple[str, str | None]] = []
    for name in names:
        ends = [(low, high) for low, high in OPPOSITES if name.endswith((low, high))]
        if not ends:
            axes.append((name, None))
        elif name.endswith(ends[0][0]):
            axes.append((name, name.removesuffix(ends[0][0]) + ends[0][1]))
    return tuple(axes)


def _details(head: Head, rng: np.random.Generator, variety: float) -> dict[str, float]:
    """One number for each axis; left and right share most of theirs, as faces are nearly symmetric."""
    axes = _axes(tuple(name for name in head.shapes if name.startswith("detail/")))
    shared: dict[str, float] = {}
    weights = {}
    for low, high in axes:
        middle = low.replace("/l-", "/").replace("/r-", "/")
        amount = shared.setdefault(middle, float(rng.normal(0, variety)))
        amount = float(np.clip(amount + rng.normal(0, 0.15 * variety), -0.8, 0.8))
        if high is None:
            weights[low] = max(amount, 0.0)
        else:
            weights[low if amount < 0 else high] = abs(amount)
    return weights


def vertex_normals(vertices: Floats, triangles: Ints) -> Floats:
    """Unit normals (N, 3), the mean of the faces around each vertex, weighted by area."""
    return _unit(_around_vertices(vertices, triangles))


def normal_changes(vertices: Floats, triangles: Ints, displacements: Floats) -> Floats:
    """How unit normals turn: displacements (N, C, 3) -> (N, C, 3) for each at full strength, to first order."""
    a, b, c = (vertices[triangles[:, i], None] for i in range(3))
    da, db, dc = (displacements[triangles[:, i]] for i in range(3))
    faces = _cross(db - da, c - a) + _cross(b - a, dc - da)
    total = _gather(faces.reshape(len(triangles), -1), triangles, len(vertices)).reshape(displacements.shape)
    whole = _around_vertices(vertices, triangles)
    length = np.maximum(np.linalg.norm(whole, axis=-1), 1e-12)[:, None, None]
    normals = (whole / length[:, 0])[:, None]
    turned = total / length
    return np.asarray(turned - (turned * normals).sum(axis=-1, keepdims=True) * normals, np.float32)


def _around_vertices(vertices: Floats, triangles: Ints) -> Floats:
    """Normals of the faces around each vertex, as long as twice their areas, added up: (N, 3)."""
    a, b, c = (vertices[triangles[:, i]] for i in range(3))
    return _gather(_cross(b - a, c - a), triangles, len(vertices))


def _cross(p: Floats, q: Floats) -> Floats:
    """The cross product along the last axis, much faster than numpy's for many short vectors."""
    (p0, p1, p2), (q0, q1, q2) = (np.moveaxis(v, -1, 0) for v in (p, q))
    return np.stack([p1 * q2 - p2 * q1, p2 * q0 - p0 * q2, p0 * q1 - p1 * q0], axis=-1)


def _gather(faces: Floats, triangles: Ints, vertices: int) -> Floats:
    """Sums over the faces around each vertex: (M, C) -> (N, C)."""
    order, starts, present = _around(triangles.tobytes())
    sums = np.zeros((vertices, faces.shape[1]), np.float32)
    sums[present] = np.add.reduceat(faces[order], starts, axis=0)
    return sums


@functools.lru_cache(maxsize=2)
def _around(triangles: bytes) -> tuple[Ints, Ints, Ints]:
    corners = np.frombuffer(triangles, np.int64)
    order = np.argsort(corners, kind="stable")
    present, starts = np.unique(corners[order], return_index=True)
    return order // 3, starts, present


def _unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12), np.float32)
