"""What makes a fold repeat itself: a seed of its own, all generators set by it, and one thread."""

import contextlib
import functools
import hashlib
import random
from collections.abc import Iterator

import numpy as np
import torch
from threadpoolctl import ThreadpoolController


def fold_seed(seed: int, name: str) -> int:
    """A fold's own seed, from the recipe's and its name, whatever other folds there are."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode()).digest()[:4], "big")


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """The generators of torch, numpy and Python, as a network may draw its weights from any, put back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            np.random.seed(seed)  # noqa: NPY002  # the global state is the one meant
            random.seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002


@functools.cache
def _controller() -> ThreadpoolController:
    """Made once, as it looks through all libraries that are loaded."""
    return ThreadpoolController()


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """One thread for linear algebra, whose last digits move with their number."""
    limit: contextlib.AbstractContextManager[object] = _controller().limit(limits=1)
    return limit


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """More threads are slower for networks of this size, and their number would move the last digits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with one_blas_thread():
            yield
    finally:
        torch.set_num_threads(before)
