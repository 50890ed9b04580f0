"""No test reaches the network; what needs a server starts one on loopback."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CI"] = "1"  # no progress bars
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["OMP_NUM_THREADS"] = "1"  # two workers of two threads each would get into each other's way

import tempfile
from pathlib import Path

import pytest

import mer_zoo
from mer_zoo.datasets import Corpus

if "PYTEST_XDIST_WORKER" not in os.environ:  # nothing is kept in the tester's own, and workers share what is cooked
    os.environ["MER_ZOO_CACHE"] = tempfile.mkdtemp(prefix="mer-zoo-cache-")


@pytest.fixture(scope="session")
def persons() -> Corpus:
    """Four made-up persons with six clips each."""
    return mer_zoo.open_corpus("synthetic_flow", subjects=4, clips_per_subject=6)


@pytest.fixture(scope="session")
def flow_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made-up copy of the MEGC 2019 flow release, as a folder of pictures beside the list."""
    from mer_zoo.datasets.megc2019_flow import MEGC2019Flow

    folder = tmp_path_factory.mktemp("release")
    MEGC2019Flow.write_specimen(folder)
    return folder
