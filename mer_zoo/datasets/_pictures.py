"""Pictures on disk -> one array."""

from collections import Counter
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as PILImage
from PIL import ImageOps

from mer_zoo.datasets._base import Image
from mer_zoo.datasets._tree import shown
from mer_zoo.errors import CorpusError

GREY, COLOUR, DEEP = ("L", "1", "LA"), ("P", "RGB", "RGBA", "CMYK", "YCbCr"), ("I;16", "I;16L", "I;16B", "I;16N")
ORIENTATION = 0x112  # the tag of EXIF; 1 is upright
DEEP_ENOUGH = 4096  # of 65,535; a picture of 16 bits that stays below was saved with 10 or 12, and would be black


def read_pictures(files: list[Path], key: str, grey: bool = False) -> Image:
    """Pictures of one clip, (T, H, W) if all are grey or grey is asked for, else (T, H, W, 3).

    Raises:
        CorpusError: If some cannot be read or differ in size from most; it names all that do.
    """
    pictures, wrong = {}, []
    for file in files:
        try:
            pictures[file] = read_picture(file, grey)
        except CorpusError as error:
            wrong.append(str(error))
    sizes = Counter(picture.shape[:2] for picture in pictures.values()).most_common()
    wrong += [
        f"{shown(file.name)} is {picture.shape[:2]}; expected {sizes[0][0]} as most."
        for file, picture in pictures.items()
        if picture.shape[:2] != sizes[0][0]
    ]
    if wrong:
        raise CorpusError(f"{key}: {len(wrong)} of {len(files)} pictures: {' '.join(wrong)} Fetch them anew.")
    found = [pictures[file] for file in files]  # one that is asked for twice is there twice
    if len({picture.ndim for picture in found}) == 1:
        return np.stack(found)
    return np.stack([p if p.ndim == 3 else p[..., None].repeat(3, axis=-1) for p in found])


def read_picture(file: Path, grey: bool = False) -> Image:
    """One picture, (H, W) grey or (H, W, 3) colour, 0..255, upright if its EXIF says how a camera was held.

    Of 16 bits a value the upper 8 are taken; such are not turned.

    Args:
        file: The picture.
        grey: Of a coloured one take the brightness, ITU-R BT.601, rounded; of a JPEG as its file holds it, which
            spares making the colours.

    Raises:
        CorpusError: If it cannot be read, or is of another depth.
    """
    try:
        with PILImage.open(file) as picture:
            if grey and picture.format == "JPEG":
                picture.draft("L", picture.size)
            if picture.mode in DEEP:
                return _upper_bits(np.asarray(picture), file)
            if picture.mode not in GREY + COLOUR:
                raise CorpusError(f"{shown(file)} is of mode {picture.mode}; expected 8 or 16 bits, grey or colour.")
            mode = "L" if grey or picture.mode in GREY else "RGB"
            plain = picture if picture.mode == mode else picture.convert(mode)
            turned = picture.getexif().get(ORIENTATION, 1) != 1
            return np.asarray(ImageOps.exif_transpose(plain) if turned else plain)
    except (OSError, ValueError, SyntaxError, EOFError, PILImage.DecompressionBombError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{shown(file)} is no readable picture ({shown(error)[:120]}).") from error


def _upper_bits(values: npt.NDArray[np.uint16], file: Path) -> Image:
    if values.max() < DEEP_ENOUGH:
        raise CorpusError(
            f"{shown(file)} has 16 bits a value, but none above {values.max()} of 65535; save it with 8 bits."
        )
    return np.asarray(values >> 8, np.uint8)
