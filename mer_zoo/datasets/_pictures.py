"""Pictures on disk -> one array."""

from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from mer_zoo.datasets._base import Image
from mer_zoo.datasets._tree import shown
from mer_zoo.errors import CorpusError


def read_pictures(files: list[Path], key: str) -> Image:
    """Pictures of one clip, (T, H, W) if all are grey, else (T, H, W, 3).

    Raises:
        CorpusError: If some cannot be read or differ in size from most; it names all that do.
    """
    pictures, wrong = {}, []
    for file in files:
        try:
            pictures[file] = read_picture(file)
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
    if len({picture.ndim for picture in pictures.values()}) == 1:
        return np.stack(list(pictures.values()))
    return np.stack([p if p.ndim == 3 else p[..., None].repeat(3, axis=-1) for p in pictures.values()])


def read_picture(file: Path) -> Image:
    """One picture of 8 bits, (H, W) grey or (H, W, 3) colour.

    Raises:
        CorpusError: If it cannot be read, or holds more than 8 bits a value.
    """
    try:
        with PILImage.open(file) as picture:
            if picture.mode not in ("L", "1", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
                raise CorpusError(f"{shown(file)} is of mode {picture.mode}; expected 8 bits, grey or colour.")
            grey = picture.mode in ("L", "1", "LA")
            return np.asarray(picture.convert("L" if grey else "RGB"))
    except (OSError, ValueError, SyntaxError, EOFError, PILImage.DecompressionBombError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{shown(file)} is no readable picture ({shown(error)[:120]}).") from error
