"""Clips that are copies of others: the same pixels, or the same pixels mirrored."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from mer_zoo.training import mirror
from mer_zoo.types import InputSpec


def find_copies(
    inputs: npt.NDArray[np.float32], spec: InputSpec, groups: Sequence[str] | None = None
) -> list[tuple[int, int, str]]:
    """Pairs of clips (i, j), i < j, that are copies, and how; a clip of one value says nothing and is no copy.

    Args:
        inputs: (N, *spec.shape).
        spec: What they are.
        groups: Of each clip; pairs within one group are not looked for.
    """
    plain = [clip.tobytes() for clip in inputs]
    flipped = [mirror(torch.tensor(clip)[None], spec)[0].numpy().tobytes() for clip in inputs]
    found, seen = [], dict[bytes, list[int]]()
    for j, clip in enumerate(inputs):
        if clip.min() == clip.max():
            continue
        for how, name in (("the same pixels", plain[j]), ("mirrored", flipped[j])):
            others = [i for i in seen.get(name, []) if groups is None or groups[i] != groups[j]]
            found += [(i, j, how) for i in others]
        seen.setdefault(plain[j], []).append(j)
    return found
