"""Optical flow by every program that is there, against known motion."""

import functools
import socket
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from _motion import Array, bumps, errors, pair, picture

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.flow import estimator, grey, optical_flow

METHODS = ("dis", "farneback", "tvl1")

# Mean end-point error in pixels allowed where the motion is above 0.3 of its peak of 1 pixel; zero flow has 0.6.
LIMITS = {("dis", 64): 0.13, ("dis", 128): 0.08, ("farneback", 64): 0.24, ("farneback", 128): 0.12}
LIMITS |= {("tvl1", 64): 0.20, ("tvl1", 128): 0.10}


@pytest.mark.parametrize(("method", "size"), LIMITS)
def test_a_smooth_warp_is_found(method: str, size: int) -> None:
    true = bumps(size, peak=1)
    moving = errors(true) > 0.3
    for seed in range(2):
        found = optical_flow(*pair(true, seed), method)
        assert (found.shape, found.dtype.name) == ((size, size, 2), "float32")
        assert errors(found, true)[moving].mean() < LIMITS[method, size] < 0.5 * errors(true)[moving].mean()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, 1.0), (-1.5, 0.5)])
@pytest.mark.parametrize("size", [28, 64, 128])
def test_a_shift_is_found_with_its_sign(method: str, shift: tuple[float, float], size: int) -> None:
    """u is positive to the right and v downwards: the second picture shows everything moved by the shift."""
    true = np.broadcast_to(np.array(shift), (size, size, 2))
    found = optical_flow(*pair(true), method)
    assert errors(found, true)[4:-4, 4:-4].mean() < 0.1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_bump_that_moves_right_has_positive_u_and_down_positive_v(method: str, axis: int) -> None:
    y, x = np.mgrid[:64, :64].astype(float)
    bells = [np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 128) for cx, cy in ((30, 30), (31 - axis, 30 + axis))]
    first, second = (picture(40 + 180 * bell) for bell in bells)
    mean = optical_flow(first, second, method)[20:42, 20:42].mean(axis=(0, 1))
    assert mean[axis] > 0.3 > 0.1 > abs(mean[1 - axis])


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_pictures_and_oblong_ones_have_flow_too(method: str) -> None:
    found = optical_flow(*pair(np.full((12, 12, 2), 0.5)), method)
    np.testing.assert_allclose(found.mean(axis=(0, 1)), 0.5, atol=0.15)
    first, second = pair(np.full((64, 64, 2), 0.5))
    assert optical_flow(first[:20], second[:20], method).shape == (20, 64, 2)


@pytest.mark.parametrize("method", METHODS)
def test_what_stands_still_has_no_flow(method: str) -> None:
    flat = np.full((32, 32), 9, np.uint8)
    assert not optical_flow(flat, flat + 5, method).any()
    first, _ = pair(bumps(96, 1))
    still = errors(optical_flow(first, first, method))
    assert still[8:-8, 8:-8].max() < 0.01
    assert method == "farneback" or not still.any()  # it sees a little motion at the border


@pytest.mark.parametrize("method", METHODS)
def test_colour_counts_as_its_brightness_and_strides_do_not_matter(method: str) -> None:
    first, second = pair(bumps(64, 1))
    expected = optical_flow(first, second, method)
    np.testing.assert_array_equal(optical_flow(np.stack([first] * 3, 2), np.stack([second] * 3, 2), method), expected)
    first, second = (np.asfortranarray(image) for image in (first, second))
    np.testing.assert_array_equal(optical_flow(first, second, method), expected)


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_the_number_of_threads_changes_nothing(method: str) -> None:
    import cv2

    images, before = pair(bumps(128, 1)), cv2.getNumThreads()
    expected = optical_flow(*images, method)
    for threads in (1, 5, before):
        cv2.setNumThreads(threads)
        np.testing.assert_array_equal(optical_flow(*images, method), expected)


def test_grey_is_bt601() -> None:
    colours = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255], [7, 7, 7]], np.uint8)
    np.testing.assert_allclose(grey(colours), [76.245, 149.685, 29.07, 255, 7], rtol=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "method", "words"),
    [
        ((20, 20), (20, 20), "lk", "No optical flow is named 'lk'; expected one of .*'tvl1', 'raft'"),
        ((20, 20), (20, 22), "dis", r"shapes \(20, 20\) and \(20, 22\); crop both"),
        ((20, 20), (20, 20, 3), "dis", r"shapes \(20, 20\) and \(20, 20, 3\)"),
        ((20, 20, 4), (20, 20, 4), "dis", r"uint8 \(20, 20, 4\); expected uint8 \(H, W\) or \(H, W, 3\)"),
        ((20,), (20,), "dis", r"uint8 \(20,\); expected"),
        ((11, 40), (11, 40), "tvl1", r"\(11, 40\); flow needs 12 pixels a side or more"),
        ((40, 11, 3), (40, 11, 3), "farneback", "needs 12 pixels"),
        ((0, 0), (0, 0), "dis", "needs 12 pixels"),
    ],
)
def test_flow_refuses(first: tuple[int, ...], second: tuple[int, ...], method: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        optical_flow(np.zeros(first, np.uint8), np.zeros(second, np.uint8), method)


def test_flow_refuses_other_types() -> None:
    image = np.zeros((20, 20), np.uint8)
    with pytest.raises(InputError, match=r"float32 \(20, 20\); expected uint8"):
        optical_flow(image, image.astype(np.float32))


# Which program it is


@pytest.mark.parametrize("method", METHODS)
def test_the_estimator_says_program_and_version(method: str) -> None:
    import cv2

    opencv = f"cv2 {cv2.getVersionString()}"
    expected = {"dis": f"{opencv} DIS medium, finest scale 0", "farneback": f"{opencv} Farneback, window 15"}
    expected["tvl1"] = f"scikit-image {version('scikit-image')} TV-L1 and {opencv} median"
    if hasattr(cv2, "optflow"):
        expected["tvl1"] = f"{opencv} DualTVL1"
    assert estimator(method) == expected[method]


def test_tvl1_is_opencvs_where_its_contributed_modules_are() -> None:
    import cv2

    optflow = pytest.importorskip("cv2.optflow", reason="a build of OpenCV without contributed modules")
    first, second = pair(bumps(64, 1))
    expected = optflow.createOptFlow_DualTVL1().calc(first, second, None)
    np.testing.assert_array_equal(optical_flow(first, second, "tvl1"), expected)
    assert estimator("tvl1").startswith(f"cv2 {cv2.getVersionString()}")


def test_no_estimator_has_an_unknown_name() -> None:
    with pytest.raises(InputError, match=r"No optical flow is named 'lk'; expected one of .*'raft'"):
        estimator("lk")


# RAFT


@functools.cache
def raft_weights(seed: int) -> dict[str, torch.Tensor]:
    """Of torchvision's large network, drawn at random."""
    from torchvision.models.optical_flow import raft_large

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return dict(raft_large().state_dict())


@pytest.fixture
def raft_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where torchvision would keep the weights; nothing is there, and the network is out of reach."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "socket", lambda *_: pytest.fail("the network was asked"))
    folder = Path(torch.hub.get_dir(), "checkpoints")
    folder.mkdir(parents=True)
    return folder / "raft_large_C_T_SKHT_V2-ff5fadd5.pth"


def padded_raft(first: npt.NDArray[np.uint8], second: npt.NDArray[np.uint8], seed: int) -> Array:
    """The network itself on pictures that were padded by numpy to 128 x 136 pixels, and cut again."""
    from torchvision.models.optical_flow import raft_large

    model = raft_large()
    model.load_state_dict(raft_weights(seed))
    height, width = first.shape
    top, left = (128 - height) // 2, (136 - width) // 2
    edges = ((top, 128 - height - top), (left, 136 - width - left))
    images = (np.stack([np.pad(image, edges, "edge")] * 3)[None] for image in (first, second))
    with torch.no_grad():
        flow = model.eval()(*(torch.tensor(image / 127.5 - 1, dtype=torch.float32) for image in images))[-1]
    return np.asarray(flow[0, :, top : top + height, left : left + width].permute(1, 2, 0))


def test_raft_is_the_network_with_the_weights_of_the_file(raft_file: Path) -> None:
    first, second = (np.ascontiguousarray(image[:125]) for image in pair(bumps(130, 2)))
    torch.save(raft_weights(0), raft_file)
    state = torch.get_rng_state()
    found, said = optical_flow(first, second, "raft"), estimator("raft")
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.shape, found.dtype.name, found.flags.c_contiguous) == ((125, 130, 2), "float32", True)
    np.testing.assert_allclose(found, padded_raft(first, second, 0), atol=1e-4)

    torch.save(raft_weights(1), raft_file)
    other = optical_flow(first, second, "raft")
    assert np.abs(other - found).max() > 0.1
    assert estimator("raft") != said
    assert said.startswith("torchvision ")


def test_raft_takes_the_smallest_pictures(raft_file: Path) -> None:
    torch.save(raft_weights(0), raft_file)
    found = optical_flow(*pair(np.full((12, 12, 2), 0.5)), "raft")
    assert found.shape == (12, 12, 2)
    assert np.isfinite(found).all()


def test_raft_without_weights_says_how_to_fetch_them(raft_file: Path) -> None:
    image = np.zeros((20, 20), np.uint8)
    words = rf"raft needs {raft_file.name}, 20 MB, which is not in {raft_file.parent}\. Fetch it by `from torchvision"
    for attempt in (lambda: optical_flow(image, image, "raft"), lambda: estimator("raft")):
        with pytest.raises(InputError, match=words) as refusal:
            attempt()
    advice = str(refusal.value).split("`")[1]
    assert advice.endswith(".get_state_dict(progress=True)")
    found: dict[str, Any] = {}
    exec(advice.replace("get_weight(", "weights = get_weight(").replace(".get_state_dict(progress=True)", ""), found)
    assert found["weights"].url.endswith(raft_file.name)


def test_a_file_that_holds_no_weights_of_raft_is_refused(raft_file: Path) -> None:
    image = np.zeros((20, 20), np.uint8)
    torch.save(raft_weights(0), raft_file)
    whole = raft_file.read_bytes()
    for content in (b"", b"<html>", whole[:-1000]):
        raft_file.write_bytes(content)
        with pytest.raises(InputError, match=rf"{raft_file} holds no weights of raft_large .* delete it and fetch it"):
            optical_flow(image, image, "raft")
    torch.save({"a": torch.zeros(3)}, raft_file)
    with pytest.raises(InputError, match="holds no weights of raft_large"):
        optical_flow(image, image, "raft")
