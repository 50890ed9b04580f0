"""From a person and a script to the frames of a clip: move the skin, shade it, lay eyes and mouth over it, film it.

Motion is small, so everything is linear in the strengths: the skin's maps are moved by their weighted sum, and normals
turn by theirs, which lets bulges and folds catch the light. Sums are einsum's and not a matrix product's, whose threads
cost more than they bring for arrays of this size.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from mer_zoo.synth.motion import Script
from mer_zoo.synth.person import EYE_RADIUS, FINE, Person, Rim

Floats = npt.NDArray[np.floating]
Pictures = npt.NDArray[np.uint8]

SHARPNESS = 14  # exponent of the skin's highlights
IRIS, PUPIL = 0.059, 0.026  # radii, decimetres
SCLERA = 0.62  # albedo of the white of the eye
MOUTH = 0.06  # of what shows between the lips
LIP_LINE = 0.6  # how dark the line between closed lips is, 0 to 1
LASH = 0.013  # thickness of the line of lashes, decimetres


@dataclass(frozen=True)
class Sensor:
    """How the camera spoils what it sees.

    Attributes:
        noise: Standard deviation in grey levels at mid grey.
        blur: Standard deviation of the optics in pixels.
        flicker: Standard deviation of the light from frame to frame, as a share.
        quality: Of the JPEG compression, 1 to 100, or None.
    """

    noise: float
    blur: float
    flicker: float
    quality: int | None

    @classmethod
    def draw(cls, noise: tuple[float, float], rng: np.random.Generator) -> "Sensor":
        """A camera for one clip; without noise there is neither flicker nor compression."""
        quality, packed = int(rng.integers(80, 98)), rng.random() < 0.5
        level, blur, flicker = rng.uniform(*noise), rng.uniform(0.3, 0.7), rng.uniform(0, 0.008)
        clean = noise[1] == 0
        return cls(level, blur, 0.0 if clean else flicker, quality if packed and not clean else None)


def flow_of(person: Person, script: Script) -> Floats:
    """True motion of every pixel of the onset since the onset: (T, S, S, 2), u to the right, v downwards, pixels.

    Skin moves with the face, what shows between the lids with the eye, and the backdrop rests. A lid that closes is the
    moving edge of an opening; the skin above it counts as at rest, and what it covers keeps the motion of the eye.
    """
    flow = _skin_flow(person, script)
    column, row = _grid(person.size)
    irises = _irises(person, script)
    for i, name in enumerate(("eye_left", "eye_right")):
        upper, lower = (rim.places[None] for rim in person.rims[name])
        open_ = _opening(upper, lower, column + 0.5, row + 0.5)[0] > 0.5
        flow[:, open_] = (irises[:, i] - person.eyes[i])[:, None]
    head = cv2.resize(person.mask, (person.size, person.size), interpolation=cv2.INTER_AREA) > 0.5
    return np.asarray(flow * head[..., None], np.float32)


def film(person: Person, script: Script, sensor: Sensor, rng: np.random.Generator) -> Pictures:
    """The clip: (T, S, S) grey levels.

    Args:
        person: Who.
        script: What happens.
        sensor: Seen by which camera.
        rng: Draws the noise.
    """
    flow = _skin_flow(person, script)
    light = _light(person, script)
    size = person.size * FINE
    column, row = _grid(size)
    backdrop = np.linspace(*person.camera.background, size, dtype=np.float32)[:, None] / 255
    gain = _gain(person, light[0])
    fine = np.empty((len(flow), size, size), np.float32)
    for t, (moved, lit) in enumerate(zip(_backward(flow), light, strict=True)):
        shift = cv2.resize(moved, (size, size), interpolation=cv2.INTER_LINEAR) * FINE
        skin = person.albedo * cv2.resize(lit, (size, size), interpolation=cv2.INTER_LINEAR) * gain
        layers = cv2.merge([skin, person.mask])
        skin, cover = cv2.split(
            cv2.remap(
                layers, column + shift[..., 0], row + shift[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
            )
        )
        fine[t] = backdrop + (skin - backdrop) * cover
    _lay_openings(fine, person, script, gain)
    return _expose(fine, person.size, sensor, rng)


def _skin_flow(person: Person, script: Script) -> Floats:
    return np.asarray(np.einsum("tc,cyxi->tyxi", script.weights[:, script.used], person.flows[script.used]), np.float32)


def _light(person: Person, script: Script) -> Floats:
    """Light that comes back from white skin at every pixel of the onset: (T, S, S)."""
    camera, look = person.camera, person.look
    halfway = camera.light + np.array((0, 0, 1))
    facing = _facing(person, script, camera.light)
    mirror = _facing(person, script, halfway / np.linalg.norm(halfway))
    diffuse = camera.ambient * person.shade + (1 - camera.ambient) * facing * np.sqrt(person.shade)
    return np.asarray(diffuse + look.shine * mirror**SHARPNESS * person.shade, np.float32)


def _facing(person: Person, script: Script, direction: Floats) -> Floats:
    """Cosine between the skin's normals and a direction, (T, S, S), 0 where it looks away."""
    direction = direction.astype(np.float32)
    at_rest = np.einsum("yxi,i->yx", person.normals, direction)
    turned = np.einsum("cyxi,i->cyx", person.turns[script.used], direction)
    changed = np.einsum("tc,cyx->tyx", script.weights[:, script.used], turned)
    return np.asarray(np.clip(at_rest + changed, 0, 1), np.float32)


def _gain(person: Person, lit: Floats) -> float:
    """Exposure: grey levels from 0 to 1 for each unit of light."""
    albedo = cv2.resize(person.albedo * person.mask, lit.shape, interpolation=cv2.INTER_AREA)
    return float(person.camera.exposure / 255 * person.mask.mean() / max(float((albedo * lit).mean()), 1e-6))


def _grid(size: int) -> tuple[Floats, Floats]:
    """Columns and rows of every pixel's centre, as cv2.remap counts them."""
    row, column = np.mgrid[:size, :size].astype(np.float32)
    return column, row


def _backward(flow: Floats) -> Floats:
    """From where each pixel of a frame comes, as an offset, in pixels: forward flow turned round by two steps."""
    column, row = _grid(flow.shape[1])
    offsets = np.empty_like(flow)
    for t, forward in enumerate(flow):
        offset = -forward
        for _ in range(2):
            at = column + offset[..., 0], row + offset[..., 1]
            offset = -cv2.remap(forward, *at, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        offsets[t] = offset
    return offsets


def _irises(person: Person, script: Script) -> Floats:
    """Centres of both irises in every frame: (T, 2, 2) pixels."""
    whole = np.einsum("tc,cei->tei", script.weights, person.eye_motions)
    turned = np.sin(script.gaze) * (person.camera.stretch, -1) * person.camera.scale * EYE_RADIUS
    return np.asarray(person.eyes + whole + turned[:, None], np.float32)


def _lay_openings(fine: Floats, person: Person, script: Script, gain: float) -> None:
    """Draw eyes and the line between the lips over the skin, and lashes over all."""
    scale = person.camera.scale * FINE
    irises = _irises(person, script) * FINE
    for name, rims in person.rims.items():
        upper, lower = (_moved(rim, script) * FINE for rim in rims)
        if name != "mouth":
            upper = _above(upper, lower)
        box = _box(np.concatenate([upper, lower], axis=1), 0.06 * scale, fine.shape[1])
        column, row = (grid[box] + np.float32(0.5) for grid in _grid(fine.shape[1]))
        under = fine[(slice(None), *box)]
        open_ = _opening(upper, lower, column, row)
        if name == "mouth":
            under += (MOUTH * gain * 0.5 - under) * open_ * 0.9
            under *= 1 - LIP_LINE * _lashes(_between(upper, lower), column, row, LASH * scale)
            continue
        side = 0 if name == "eye_left" else 1
        below = row - _heights(upper, column)
        ball = _eyeball(person, column - irises[:, side, 0, None, None], row - irises[:, side, 1, None, None], below)
        ball = ball * gain
        under += (ball - under) * open_
        for rim, strength in ((upper, 1.0), (lower, 0.35)):
            under *= 1 - strength * person.look.lashes * _lashes(rim, column, row, LASH * scale)


def _opposite(rim: Floats, other: Floats) -> Floats:
    """Heights of the other rim at the points of this one: (T, R)."""
    return np.stack([np.interp(x, *places.T) for x, places in zip(rim[..., 0], other, strict=True)])


def _above(upper: Floats, lower: Floats) -> Floats:
    """An upper lid that stops at the lower one: (T, R, 2)."""
    stopped = np.minimum(upper[..., 1], _opposite(upper, lower))
    return np.stack([upper[..., 0], stopped], axis=-1).astype(np.float32)


def _between(upper: Floats, lower: Floats) -> Floats:
    """The line where two lips meet, or half-way between them: (T, R, 2)."""
    middle = (upper[..., 1] + _opposite(upper, lower)) / 2
    return np.stack([upper[..., 0], middle], axis=-1).astype(np.float32)


def _moved(rim: Rim, script: Script) -> Floats:
    """Places of a rim's points in every frame, (T, R, 2), x never falling."""
    places = rim.places + np.einsum("tc,cri->tri", script.weights[:, script.used], rim.motions[script.used])
    places[..., 0] = np.maximum.accumulate(places[..., 0], axis=1)
    return np.asarray(places, np.float32)


def _box(places: Floats, margin: float, size: int) -> tuple[slice, slice]:
    """Rows and columns that hold all places and a margin."""
    low = np.clip(np.floor(places.min(axis=(0, 1)) - margin), 0, size - 1).astype(int)
    high = np.clip(np.ceil(places.max(axis=(0, 1)) + margin), 1, size).astype(int)
    return slice(low[1], max(high[1], low[1] + 1)), slice(low[0], max(high[0], low[0] + 1))


def _heights(places: Floats, column: Floats) -> Floats:
    """Height of a rim above each column of a box: (T, 1, W)."""
    x = column[0]
    return np.stack([np.interp(x, frame[:, 0], frame[:, 1]) for frame in places]).astype(np.float32)[:, None]


def _opening(upper: Floats, lower: Floats, column: Floats, row: Floats) -> Floats:
    """How much of each pixel lies between two rims: (T, H, W), 0 to 1."""
    x = column[0]
    left, right = (np.array([at(frame) for frame in upper[..., 0]])[:, None, None] for at in (np.min, np.max))
    between = np.clip(x - left + 0.5, 0, 1) * np.clip(right - x + 0.5, 0, 1)
    top, bottom = np.maximum(row - 0.5, _heights(upper, column)), np.minimum(row + 0.5, _heights(lower, column))
    return np.asarray(np.clip(bottom - top, 0, 1) * between, np.float32)


def _eyeball(person: Person, x: Floats, y: Floats, below: Floats) -> Floats:
    """Light from sclera, iris, pupil and glint, before the exposure: (T, H, W).

    Args:
        person: Whose eye.
        x: Pixels to the right of the iris's centre, (T, H, W) or what broadcasts to it.
        y: Pixels below it.
        below: Pixels below the upper lid, which throws a shadow.
    """
    camera, scale = person.camera, person.camera.scale * FINE
    x, y = x / (scale * camera.stretch), y / scale
    away = np.hypot(x, y)
    white = SCLERA * (1 - 0.5 * np.clip(away / EYE_RADIUS, 0, 1) ** 2)
    ring = person.look.iris * (1 - 0.35 * _disc(np.abs(away - IRIS), 0.008, scale))
    ball = white + (ring - white) * _disc(away, IRIS, scale)
    ball += (0.02 - ball) * _disc(away, PUPIL, scale)
    light = camera.ambient * 0.9 + (1 - camera.ambient) * max(float(camera.light[2]), 0.2)
    lit = ball * light * (1 - 0.5 * np.exp(-np.maximum(below, 0) / (0.025 * scale)))
    glint = _disc(np.hypot(x - 0.03 * camera.light[0], y + 0.03 * camera.light[1]), 0.011, scale)
    return np.asarray(lit + (0.9 - lit) * glint * 0.8, np.float32)


def _disc(away: Floats, radius: float, scale: float) -> Floats:
    """A disc with a soft edge of a pixel."""
    return np.asarray(np.clip((radius - away) * scale + 0.5, 0, 1), np.float32)


def _lashes(rim: Floats, column: Floats, row: Floats, thick: float) -> Floats:
    """A dark line along a rim: (T, H, W), 0 to 1, no thinner than a pixel shows."""
    width = max(thick, 0.6)
    x = column[0]
    left, right = rim[..., 0].min(axis=1)[:, None, None], rim[..., 0].max(axis=1)[:, None, None]
    along = np.clip((x - left) / width + 0.5, 0, 1) * np.clip((right - x) / width + 0.5, 0, 1)
    line = np.exp(-(((row - _heights(rim, column) + 0.3 * width) / width) ** 2))
    return np.asarray(0.85 * line * along * min(thick / width, 1.0), np.float32)


def _expose(fine: Floats, size: int, sensor: Sensor, rng: np.random.Generator) -> Pictures:
    """Light at twice the size -> grey levels, with blur, flicker, noise and compression."""
    flicker = 255 * (1 + sensor.flicker * rng.standard_normal(len(fine), np.float32))
    grain = rng.standard_normal((len(fine), size, size), np.float32) if sensor.noise else None
    frames = np.empty((len(fine), size, size), np.uint8)
    for t, picture in enumerate(fine):
        small = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
        grey = cv2.GaussianBlur(small, (0, 0), sensor.blur) * flicker[t]
        if grain is not None:
            grey += sensor.noise * np.sqrt(0.3 + 0.7 * np.clip(grey, 0, 255) / 128) * grain[t]
        frames[t] = np.clip(np.rint(grey), 0, 255)
        if sensor.quality is not None:
            _, packed = cv2.imencode(".jpg", frames[t], [cv2.IMWRITE_JPEG_QUALITY, sensor.quality])
            frames[t] = np.asarray(cv2.imdecode(packed, cv2.IMREAD_GRAYSCALE))
    return frames
