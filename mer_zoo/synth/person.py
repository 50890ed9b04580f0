"""A made-up person in front of a made-up camera, as maps over the picture: rasterised once, moved many times."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mer_zoo.synth.geometry import OPENINGS, Head, Traits, face_of, load_head, vertex_normals
from mer_zoo.synth.raster import Visible, rasterise
from mer_zoo.synth.texture import Look, paint
from mer_zoo.synth.units import CHANNELS, SKIN, Family, displacements, turns

Floats = npt.NDArray[np.floating]

EYE_DISTANCE, EYE_LINE = 0.54, 0.24  # shares of the picture's width and height
# The official crops are higher than wide (CASME II: about 280 x 340 pixels), and networks eat squares: faces get wider.
STRETCH = 1.22
TURNS = ("turn_x", "turn_y", "turn_z", "shift_x", "shift_y")  # of the head; radians and decimetres
MOTIONS = (*CHANNELS, *TURNS)
IRIS_HEIGHT = 0.055  # decimetres above the lower lid at most, so that no white shows below the iris
LIP_GAP = 0.002  # decimetres between lips at rest
EYE_RADIUS = 0.125  # decimetres from the middle of the eyeball to the iris
LID_BLUR = 0.05  # decimetres over which a lid's skin is blended from that around the eye
FINE = 2  # skin is warped at twice the picture's size, so that edges keep their sharpness


@dataclass(frozen=True)
class Camera:
    """Where a person sits: pose in radians, place in the picture, distance in decimetres, light.

    Attributes:
        pose: Turn about x (nod), y (shake) and z (tilt), radians.
        scale: Pixels a decimetre at the eyes, downwards; to the side they are ``stretch`` times as many.
        stretch: How much wider the picture is squeezed into its square than it is high.
        centre: Place of the middle between the eyes, pixels.
        distance: From the camera, decimetres; the nearer, the larger the nose.
        light: Direction to the main light, a unit vector.
        ambient: Share of light from everywhere, 0 to 1.
        exposure: Mean grey level of the face.
        background: Grey levels of the backdrop at its upper and lower edge.
    """

    pose: Floats
    scale: float
    stretch: float
    centre: Floats
    distance: float
    light: Floats
    ambient: float
    exposure: float
    background: tuple[float, float]

    @classmethod
    def draw(cls, size: int, eye_distance: float, skin: float, rng: np.random.Generator) -> "Camera":
        """A frontal view with small differences, for eyes ``eye_distance`` decimetres apart."""
        side, height = math.radians(np.clip(rng.normal(0, 35), -60, 60)), math.radians(rng.uniform(5, 60))
        light = (math.sin(side) * math.cos(height), math.sin(height), math.cos(side) * math.cos(height))
        stretch = STRETCH * rng.normal(1, 0.03)
        place = (0.5 + rng.normal(0, 0.01), EYE_LINE + rng.normal(0, 0.012))
        return cls(
            pose=np.radians(rng.normal(0, (4.0, 5.0, 1.0))).astype(np.float32),
            scale=size * EYE_DISTANCE * rng.normal(1, 0.03) / eye_distance / stretch,
            stretch=stretch,
            centre=np.array(place, np.float32) * size,
            distance=rng.uniform(8, 25),
            light=np.array(light, np.float32),
            ambient=rng.uniform(0.35, 0.65),
            exposure=float(np.clip(rng.normal(85 + 60 * skin, 12), 55, 150)),
            background=(rng.uniform(20, 220), rng.uniform(20, 220)),
        )

    def turned(self, vectors: Floats) -> Floats:
        """Vectors (…, 3) of the head as the camera sees them."""
        (sx, sy, sz), (cx, cy, cz) = np.sin(self.pose), np.cos(self.pose)
        nod = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        shake = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        tilt = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
        turn = (tilt @ shake @ nod).astype(np.float32)
        return np.asarray(np.einsum("...i,ji->...j", vectors, turn), np.float32)

    def project(self, points: Floats) -> Floats:
        """Points (…, 3) around the middle between the eyes -> pixels (…, 2)."""
        near = self.scale / (1 - points[..., 2:] / self.distance)
        return np.asarray(self.centre + points[..., :2] * near * (self.stretch, -1), np.float32)

    def project_motion(self, points: Floats, motion: Floats) -> Floats:
        """Motion (…, 3) at points (…, 3) -> pixels (…, 2), to first order."""
        near = 1 / (1 - points[..., 2:] / self.distance)
        flat = motion[..., :2] + points[..., :2] * motion[..., 2:] * near / self.distance
        return np.asarray(flat * (self.scale * near) * (self.stretch, -1), np.float32)


@dataclass(frozen=True)
class Rim:
    """One edge of an opening: places (R, 2) at rest in pixels, in the order of x, and their motions (C, R, 2)."""

    places: Floats
    motions: Floats

    def height(self, x: Floats) -> Floats:
        """How far down the rim lies at rest at columns x, in pixels."""
        return np.asarray(np.interp(x, np.maximum.accumulate(self.places[:, 0]), self.places[:, 1]), np.float32)


@dataclass(frozen=True)
class Person:
    """Maps of one person for pictures of S x S pixels; C motions, as ``MOTIONS`` names them, each at full strength.

    Attributes:
        size: S.
        look: The surface.
        camera: Pose, place and light.
        albedo: (2 S, 2 S) of the skin, also where an opening lies over it.
        mask: (2 S, 2 S), 1 on the head and 0 on the backdrop.
        normals: (S, S, 3) unit normals.
        turns: (C, S, S, 3) how each motion turns the normals.
        flows: (C, S, S, 2) pixels that each motion moves the skin; nought for lids, whose rim alone moves.
        shade: (S, S) share of the light from everywhere that folds leave, 0 to 1.
        rims: Upper and lower rim of each opening.
        eyes: (2, 2) centres of the irises at rest, left and right, in pixels.
        eye_motions: (C, 2, 2) pixels that each motion moves them; only turns and shifts of the head do.
    """

    size: int
    look: Look
    camera: Camera
    albedo: Floats
    mask: Floats
    normals: Floats
    turns: Floats
    flows: Floats
    shade: Floats
    rims: dict[str, tuple[Rim, Rim]]
    eyes: Floats
    eye_motions: Floats


@dataclass(frozen=True)
class View:
    """The mesh of a person before the camera: N vertices, C motions.

    Attributes:
        points: (N, 3) decimetres, as the camera sees them, around the middle between the eyes.
        pixels: (N, 2) where they fall on the picture, and ``flows`` (N, C, 2) how far motions move them there.
        rims: Upper and lower rim of each opening.
        size: Height and width of the picture in pixels.
    """

    points: Floats
    pixels: Floats
    flows: Floats
    rims: dict[str, tuple[Rim, Rim]]
    size: int

    def seen(self, factor: int) -> tuple[Visible, npt.NDArray[np.bool_]]:
        """What a picture ``factor`` times as large shows, and its pixels within an opening."""
        triangles, size = load_head().triangles, factor * self.size
        visible = rasterise(self.pixels * factor, self.points[:, 2], triangles, size)
        hole = np.zeros((size, size), np.uint8)
        for upper, lower in self.rims.values():
            outline = np.concatenate([upper.places, lower.places[::-1]]) * factor - 0.5
            cv2.fillPoly(hole, [np.rint(outline * 16).astype(np.int32)], 1, shift=4)
        return visible, hole.astype(bool)


def make_person(rng: np.random.Generator, size: int, family: Family = "head") -> Person:
    """Draw a person and everything that does not depend on the clip; its arrays cannot be changed.

    Args:
        rng: The person's own generator.
        size: Height and width of the pictures in pixels.
        family: ``head`` or ``field``: how action units move the face; faces of ``field`` vary more widely, too.
    """
    variety = 1.0 if family == "head" else 1.5
    traits = Traits.draw(rng)
    face = face_of(load_head(), traits, rng, 0.17 * variety)
    look = Look.draw(traits, rng, variety)
    camera = Camera.draw(size, float(np.linalg.norm(face[-2] - face[-1])), look.skin, rng)
    view = _view(camera, face, family, size)
    albedo, mask = _surface(view, look, camera, rng)
    irises = view.points[-2:] + np.array((0, 0, EYE_RADIUS), np.float32)
    eyes = camera.project(irises)
    for eye, name in zip(eyes, OPENINGS, strict=False):
        eye[1] = max(eye[1], view.rims[name][1].height(eye[0]) - IRIS_HEIGHT * camera.scale)
    maps = {"albedo": albedo, "mask": mask, **_skin(view, camera, family)}
    for array in maps.values():
        array.setflags(write=False)
    return Person(
        size=size,
        look=look,
        camera=camera,
        **maps,
        rims={**view.rims, "mouth": _closed(*view.rims["mouth"], gap=LIP_GAP * camera.scale)},
        eyes=eyes,
        eye_motions=_eye_motions(camera, irises),
    )


def _view(camera: Camera, face: Floats, family: Family, size: int) -> View:
    points = camera.turned(face - face[-2:].mean(axis=0))
    motions = _with_turns(camera.turned(displacements(family)), points)
    flows, pixels = camera.project_motion(points[:, None], motions), camera.project(points)
    rims = {name: _rims(load_head(), name, pixels, flows) for name in OPENINGS}
    return View(points, pixels, flows, rims, size)


def _skin(view: View, camera: Camera, family: Family) -> dict[str, Floats]:
    """Maps of normals, of how motions turn and move the skin, and of the light that folds leave."""
    seen, hole = view.seen(1)
    filled, blend = _nearest(seen.mask & ~hole), LID_BLUR * camera.scale
    normals = vertex_normals(view.points, load_head().triangles)
    turned = _with_turns(camera.turned(turns(family)), normals)
    turned[:, -2:] = 0  # shifts turn nothing
    moved = view.flows.copy()
    moved[:, SKIN : len(CHANNELS)] = 0
    depth = _maps(seen, filled, view.points[:, 2:])[..., 0]
    return {
        "normals": _smoothed(_maps(seen, filled, normals), hole, blend),
        "turns": _stacked(seen, filled, turned),
        "flows": _stacked(seen, filled, moved),
        "shade": _smoothed(_occlusion(depth, camera.scale), hole, blend),
    }


def _surface(view: View, look: Look, camera: Camera, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Albedo and mask at twice the picture's size."""
    seen, hole = view.seen(FINE)
    canvas, skin = paint(look, FINE * camera.scale * camera.stretch, rng)
    filled = _nearest(seen.mask & ~hole)
    places = _maps(seen, filled, load_head().vertices[:, :2])
    column, row = canvas.where((places[..., 0], places[..., 1]))
    albedo = cv2.remap(skin, column, row, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    mask = cv2.GaussianBlur(seen.mask.astype(np.float32), (0, 0), 0.8)
    blended = _smoothed(np.asarray(albedo, np.float32), hole, LID_BLUR * camera.scale * FINE)
    return blended, np.asarray(mask, np.float32)


def _with_turns(motions: Floats, points: Floats) -> Floats:
    """Motions (N, C, 3) of points and after them those of the head as a whole: (N, C + 5, 3)."""
    x, y, z = points.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    whole = [(zero, -z, y), (z, zero, -x), (-y, x, zero), (one, zero, zero), (zero, one, zero)]
    return np.concatenate([motions, np.stack([np.stack(m, axis=-1) for m in whole], axis=1)], axis=1)


def _eye_motions(camera: Camera, irises: Floats) -> Floats:
    still = np.zeros((2, len(CHANNELS), 3), np.float32)
    return camera.project_motion(irises[:, None], _with_turns(still, irises)).transpose(1, 0, 2)


def _rims(head: Head, name: str, pixels: Floats, flows: Floats) -> tuple[Rim, Rim]:
    upper, lower = (head.rims[f"{name}_{part}"] for part in ("upper", "lower"))
    return Rim(pixels[upper], flows[upper].transpose(1, 0, 2)), Rim(pixels[lower], flows[lower].transpose(1, 0, 2))


def _closed(upper: Rim, lower: Rim, gap: float) -> tuple[Rim, Rim]:
    """Lips that meet along their mean line, but for a gap in pixels: shapes of faces leave them open or crossed."""
    parts = []
    for rim, side in ((upper, -0.5), (lower, 0.5)):
        x = rim.places[:, 0]
        middle = (upper.height(x) + lower.height(x)) / 2
        parts.append(Rim(np.stack([x, middle + side * gap], axis=1), rim.motions))
    return parts[0], parts[1]


def _nearest(valid: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """For every pixel the flat index of the nearest valid one, itself where it is valid: (S, S)."""
    away = (~valid).astype(np.uint8)
    _, labels = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    index_of = np.zeros(labels.max() + 1, np.int64)
    index_of[labels[valid]] = np.flatnonzero(valid)
    nearest: npt.NDArray[np.int64] = index_of[labels]
    return nearest


def _smoothed(maps: Floats, hole: npt.NDArray[np.bool_], sigma: float) -> Floats:
    """Maps (S, S[, K]) with openings filled smoothly from around them: the skin of a lid that closes over the eye."""
    blurred = cv2.GaussianBlur(maps, (0, 0), max(sigma, 0.5))
    return np.asarray(np.where(hole if maps.ndim == 2 else hole[..., None], blurred, maps), np.float32)


def _maps(seen: Visible, filled: npt.NDArray[np.int64], values: Floats) -> Floats:
    """Values of vertices (N, K) as maps (S, S, K) without holes."""
    sampled = seen.sample(values)
    return sampled.reshape(-1, values.shape[1])[filled]


def _stacked(seen: Visible, filled: npt.NDArray[np.int64], values: Floats) -> Floats:
    """Values of vertices (N, C, K) as C maps without holes, (C, S, S, K)."""
    maps = _maps(seen, filled, values.reshape(len(values), -1))
    return np.ascontiguousarray(maps.reshape(*maps.shape[:2], *values.shape[1:]).transpose(2, 0, 1, 3))


def _occlusion(depth: Floats, scale: float) -> Floats:
    """Less light from everywhere in hollows: a pixel is darker the deeper it lies behind its surroundings."""
    shade = np.ones_like(depth)
    for reach, strength in ((0.05, 3.0), (0.2, 1.2)):
        hollow = cv2.GaussianBlur(depth, (0, 0), max(reach * scale, 0.6)) - depth
        shade *= 1 - np.clip(strength * hollow, 0, 0.6)
    return np.asarray(shade, np.float32)
