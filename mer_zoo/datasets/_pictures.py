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
    pictures, unreadable = {}, []
    for file in files:
        try:
            pictures[file] = read_picture(file)
        except CorpusError as error:
            unreadable.append(str(error))
    if unreadable:
        raise CorpusError(f"{key}: {len(unreadable)} of {len(files)} pictures: {' '.join(unreadable)} Fetch them anew.")
    size = Counter(picture.shape[:2] for picture in pictures.values()).most_common(1)[0][0]
    odd = [f"{shown(file.name)} {p.shape[:2]}" for file, p in pictures.items() if p.shape[:2] != size]
    if odd:
        raise CorpusError(f"{key}: {len(odd)} of {len(files)} pictures are not {size} as the others: {', '.join(odd)}.")
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
