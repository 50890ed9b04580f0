"""find_copies: which copies are found, which honest clips are left alone."""

import math
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest

import mer_zoo
from mer_zoo.copies import NEAR, SIDES, find_copies
from mer_zoo.datasets._base import CORPORA
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.cook import cook
from mer_zoo.preprocessing.forms import cook_flow, cook_frames
from mer_zoo.specs import FORMS
from mer_zoo.types import InputSpec

Array = npt.NDArray[np.float32]
Pairs = list[tuple[int, int, str]]

FLOW = mer_zoo.input_spec("ststnet")
DIFFERENCE = mer_zoo.input_spec("dat_densenet3d")
CLIP = mer_zoo.input_spec("dat_densenet3d_se")
TINY = InputSpec("flow", ("u", "v"), size=4, low=-1.0)


def _images(clips: int) -> Array:
    """Flow images of drawn persons, three clips each."""
    corpus = mer_zoo.open_corpus("synthetic_flow", subjects=max(2, clips // 3), clips_per_subject=3)
    return np.stack([cook(corpus, sample, FLOW) for sample in corpus.samples[:clips]])


@pytest.fixture(scope="module")
def images() -> Array:
    return _images(30)


@pytest.fixture(scope="module")
def faces() -> list[npt.NDArray[np.uint8]]:
    """Rendered clips (T, 64, 64) of four persons, three each."""
    corpus = mer_zoo.open_corpus("synthetic", subjects=4, clips_per_subject=3)
    return [corpus.clip(sample) for sample in corpus.samples]


def _moved(clip: Array, turn: float = 0.0, zoom: float = 1.0, right: float = 0.0, down: float = 0.0) -> Array:
    """Every picture of (..., H, W) turned by degrees, zoomed and shifted by pixels."""
    flat = clip.reshape(-1, *clip.shape[-2:])
    height, width = flat.shape[1:]
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), turn, zoom)
    matrix[:, 2] += np.array([right, down])
    moved = [cv2.warpAffine(one, matrix, (width, height), borderMode=cv2.BORDER_REPLICATE) for one in flat]
    return np.stack(moved).reshape(clip.shape).astype(np.float32)


def _blurred(clip: Array, sigma: float = 1.0) -> Array:
    flat = clip.reshape(-1, *clip.shape[-2:])
    return np.stack([cv2.GaussianBlur(one, (0, 0), sigma) for one in flat]).reshape(clip.shape).astype(np.float32)


def _noisy(clip: Array) -> Array:
    return (clip + np.random.default_rng(0).normal(0, 0.02 * 255, clip.shape)).clip(0, 255).astype(np.float32)


def _mirrored(image: Array) -> Array:
    """Written out for channels strain, v, u in 0..255."""
    strain, v, u = image[..., ::-1]
    return np.stack([strain, v, 255 - u])


def _how(found: Pairs, first: int, second: int) -> str:
    return {(i, j): how for i, j, how in found}.get((first, second), "")


def _correlation(how: str) -> float:
    return float(how.rpartition("correlation ")[2])


FLOW_COPIES: dict[str, Callable[[Array], Array]] = {
    "brighter": lambda x: (x + 25).clip(0, 255),
    "less contrast": lambda x: 0.8 * x + 20,
    "noise": _noisy,
    "blur": _blurred,
    "shift": lambda x: _moved(x, right=2, down=-1),
    "turn": lambda x: _moved(x, turn=5),
    "zoom": lambda x: _moved(x, zoom=1.05),
    "all": lambda x: 0.9 * _moved(x, turn=-4, zoom=1.03, right=1) + 10,
}


@pytest.mark.parametrize("kind", FLOW_COPIES)
@pytest.mark.parametrize("turned", [False, True])
def test_augmented_flow_is_found_and_nothing_else(kind: str, turned: bool, images: Array) -> None:
    copies = np.stack([FLOW_COPIES[kind](_mirrored(x) if turned else x) for x in images[:12]]).astype(np.float32)
    found = find_copies(np.concatenate([images, copies]), FLOW)
    assert [(i, j) for i, j, _ in found] == [(i, i + 30) for i in range(12)]
    for _, _, how in found:
        assert how.startswith("mirrored, nearly the same" if turned else "nearly the same")
        assert 0.95 <= _correlation(how) <= 1


FRAME_COPIES: dict[str, Callable[[Array], Array]] = {
    "brighter": lambda x: (x + 0.1).clip(-1, 1),
    "less contrast": lambda x: 0.8 * x,
    "blur": lambda x: _blurred(x, 0.5),
    "shift": lambda x: _moved(x, right=2),
}


@pytest.mark.parametrize("kind", FRAME_COPIES)
@pytest.mark.parametrize("spec", [DIFFERENCE, CLIP], ids=["difference", "clip"])
def test_augmented_frames_are_found_and_nothing_else(
    kind: str, spec: InputSpec, faces: list[npt.NDArray[np.uint8]]
) -> None:
    clips = np.stack([cook_frames(clip, spec) for clip in faces])
    copy = FRAME_COPIES[kind](clips[5]).astype(np.float32)
    assert [(i, j) for i, j, _ in find_copies(np.concatenate([clips, copy[None]]), spec)] == [(5, 12)]


def test_a_clip_cooked_from_mirrored_pictures_is_found(faces: list[npt.NDArray[np.uint8]]) -> None:
    turned = np.ascontiguousarray(faces[0][..., ::-1])
    flows = [cook_flow(clip[0], clip[10], FLOW) for clip in [*faces, turned]]
    assert _how(find_copies(np.stack(flows), FLOW), 0, 12).startswith("mirrored")
    clips = [cook_frames(clip, CLIP) for clip in [*faces, turned]]
    assert find_copies(np.stack(clips), CLIP) == [(0, 12, "mirrored")]


@pytest.mark.parametrize(("copy", "how"), [(np.copy, "the same pixels"), (_mirrored, "mirrored")])
def test_equal_images_are_named_so(copy: Callable[[Array], Array], how: str, images: Array) -> None:
    assert find_copies(np.concatenate([images, copy(images[3])[None]]), FLOW) == [(3, 30, how)]


def test_without_u_nothing_is_negated(images: Array) -> None:
    spec = InputSpec("flow", ("strain", "v"), size=28, high=255.0, scaling="channel_min_max")
    pair = np.stack([images[0, :2], images[0, :2, :, ::-1]])
    assert find_copies(pair, spec) == [(0, 1, "mirrored")]


def test_every_pair_of_three_equal_clips_is_listed_in_order(images: Array) -> None:
    same = "the same pixels"
    assert find_copies(images[[4, 0, 4, 4]], FLOW) == [(0, 2, same), (0, 3, same), (2, 3, same)]


def test_zero_and_minus_zero_are_the_same_pixels() -> None:
    clip = np.zeros((1, *TINY.shape), np.float32)
    clip[0, 0, 1, 2] = 0.5
    assert find_copies(np.concatenate([clip, np.where(clip == 0, -0.0, clip).astype(np.float32)]), TINY) == [
        (0, 1, "the same pixels")
    ]


def test_pairs_within_a_group_are_passed_over(images: Array) -> None:
    four = np.concatenate([images[:1], images[:1], images[:1], _noisy(images[:1])])
    found = find_copies(four, FLOW, groups=["a", "a", "b", "a"])
    assert [(i, j) for i, j, _ in found] == [(0, 2), (1, 2), (2, 3)]
    assert find_copies(four, FLOW, groups=["a"] * 4) == []


def test_honest_images_are_left_alone() -> None:
    assert find_copies(_images(90), FLOW) == []


@pytest.mark.parametrize("spec", [FLOW, DIFFERENCE, CLIP], ids=lambda spec: spec.kind)
def test_constant_clips_are_no_copies(spec: InputSpec) -> None:
    zeros = np.zeros((3, *spec.shape), np.float32)
    assert find_copies(zeros, spec) == []
    assert find_copies(zeros + np.float32(0.5), spec) == []


def test_a_clip_that_does_not_move_is_only_found_equal(faces: list[npt.NDArray[np.uint8]]) -> None:
    still = cook_frames(np.repeat(faces[0][:1], 20, axis=0), CLIP)
    assert find_copies(np.stack([still, still, 0.8 * still]), CLIP) == [(0, 1, "the same pixels")]


def test_one_channel_without_motion_does_not_make_clips_alike(images: Array) -> None:
    pair = images[:2].copy()
    pair[:, 1:] = 0
    assert find_copies(pair, FLOW) == []


@pytest.mark.parametrize("name", ["casme2", "smic", "samm_lv"])
@pytest.mark.parametrize("spec", [FLOW, DIFFERENCE, CLIP], ids=lambda spec: spec.kind)
def test_specimens_alarm_by_equal_pixels_only(name: str, spec: InputSpec, tmp_path: Path) -> None:
    """Their clips are one picture at different paces: nearer to each other than clips of faces are."""
    CORPORA.get(name).write_specimen(tmp_path / name)
    corpus = mer_zoo.open_corpus(name, tmp_path / name)
    samples = [sample for sample in corpus.samples if "frames_missing" not in sample.flags]
    inputs = np.stack([cook(corpus, sample, spec) for sample in samples])
    persons = [sample.person for sample in samples]
    equal = [
        (i, j)
        for j in range(len(inputs))
        for i in range(j)
        if persons[i] != persons[j] and np.ptp(inputs[i]) > 0 and np.array_equal(inputs[i], inputs[j])
    ]
    found = find_copies(inputs, spec, persons)
    assert {how for *_, how in found} <= {"the same pixels"}
    assert [(i, j) for i, j, _ in found] == sorted(equal)


def test_equal_clips_among_ten_thousand_are_found_quickly() -> None:
    clips = np.random.default_rng(0).uniform(-1, 1, (10_000, *TINY.shape)).astype(np.float32)
    clips[9_000] = clips[17]
    start = time.process_time()
    found = find_copies(clips, TINY, groups=["a"] * 9_000 + ["b"] * 1_000)
    assert (17, 9_000, "the same pixels") in found
    assert time.process_time() - start < 60


def test_a_single_clip_has_no_copy(images: Array) -> None:
    assert find_copies(images[:1], FLOW) == []


def test_shapes_and_lengths_that_do_not_fit_are_refused(images: Array) -> None:
    with pytest.raises(InputError, match="The input has shape"):
        find_copies(images[:, :2], FLOW)
    with pytest.raises(InputError, match="1 groups for 30 clips; expected one for each"):
        find_copies(images, FLOW, groups=["a"])


def test_a_turned_copy_is_not_called_equal(images: Array) -> None:
    found = find_copies(np.stack([images[0], _moved(images[0], turn=math.degrees(0.05))]), FLOW)
    assert _how(found, 0, 1).startswith("nearly the same: correlation 0.9")


def test_every_kind_of_input_has_a_threshold() -> None:
    assert set(NEAR) == set(SIDES) == set(FORMS)
