"""Rendered clips to learn from: many small sets, each rendered once and kept in a folder.

A shard is one call of the corpus `synthetic` with a seed of its own, so no two shards share a person. Which labels,
family and preset a shard has follows from its number alone: any prefix of the shards has the same mixture.
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import mer_zoo
from mer_zoo.synth.generator import VERSION

SEED = 6_000_001  # of the first shard; SEEN matches the seeds of all
SEEN = "600????"
PERSONS, CLIPS = 3, 9
CLASSES = ("au", 3, 5)
PRESETS = ("default", "default", "easy", "default", "hard")
FAMILIES = ("head", "field")
PROTOCOLS = {name: mer_zoo.get_protocol(f"synthetic-{name}") for name in ("3", "5", "au")}
UNKNOWN = -100  # the class index that a loss leaves out


@dataclass(frozen=True)
class Shard:
    """A set of clips by its number, and the families that the numbers go round."""

    number: int
    families: tuple[str, ...] = FAMILIES

    @property
    def preset(self) -> str:
        """How hard it is."""
        return PRESETS[self.number // (len(CLASSES) * len(self.families)) % len(PRESETS)]

    @property
    def knobs(self) -> dict[str, Any]:
        """What the corpus is opened with."""
        return {
            "subjects": PERSONS,
            "clips_per_subject": CLIPS,
            "seed": SEED + self.number,
            "preset": self.preset,
            "classes": CLASSES[self.number % len(CLASSES)],
            "family": self.families[self.number // len(CLASSES) % len(self.families)],
            "label_noise": 0.0,
        }


@dataclass(frozen=True)
class Pool:
    """Clips and what is known of each.

    Attributes:
        shards: Arrays (n, T, H, W), uint8.
        targets: By task: ``3`` and ``5`` class indices (N,), UNKNOWN where a clip has none; ``au`` (N, 12) of 0 and 1.
        apexes: Position of each clip's apex.
        presets: Of each clip.
        persons: Patterns of all persons, for ``trained_on``.
    """

    shards: list[npt.NDArray[np.uint8]]
    targets: dict[str, Tensor]
    apexes: list[int]
    presets: list[str]
    persons: list[str]

    def __len__(self) -> int:
        return len(self.apexes)

    def clips(self) -> Iterator[npt.NDArray[np.uint8]]:
        """Each clip, (T, H, W)."""
        return chain.from_iterable(self.shards)


def pool_of(clips: int, folder: Path, families: tuple[str, ...] = FAMILIES, jobs: int = 1) -> Pool:
    """The first so many clips, rendered where they are not in the folder yet."""
    shards = [Shard(i, families) for i in range(-(-clips // (PERSONS * CLIPS)))]
    folder.mkdir(parents=True, exist_ok=True)
    missing = [shard for shard in shards if not _files(shard, folder)[1].exists()]
    if missing:
        with ProcessPoolExecutor(jobs) as workers:
            list(workers.map(partial(render, folder=folder), missing))
    facts = [json.loads(_files(shard, folder)[1].read_text()) for shard in shards]
    arrays = [np.load(_files(shard, folder)[0], mmap_mode="r") for shard in shards]
    arrays[-1] = arrays[-1][: clips - sum(map(len, arrays[:-1]))]

    def joined(name: str) -> list[Any]:
        return [value for fact in facts for value in fact[name]][:clips]

    return Pool(
        arrays,
        {task: torch.tensor(joined(task)) for task in PROTOCOLS},
        joined("apexes"),
        [shard.preset for shard, array in zip(shards, arrays, strict=True) for _ in array],
        [f"synthetic/{'' if family == 'head' else family}{SEEN}-*" for family in families],
    )


def render(shard: Shard, folder: Path) -> None:
    """Write the clips of a shard, and last what is known of them, so that half a shard is none."""
    corpus: Any = mer_zoo.open_corpus("synthetic", **shard.knobs)
    array, facts = _files(shard, folder)
    temporary = array.with_suffix(f".{os.getpid()}.tmp")  # of this process, since two may render at once
    with temporary.open("wb") as out:
        np.save(out, np.stack([corpus.clip(sample) for sample in corpus.samples]), allow_pickle=False)
    temporary.replace(array)
    temporary.write_text(json.dumps(_known(corpus)))
    temporary.replace(facts)


def _files(shard: Shard, folder: Path) -> tuple[Path, Path]:
    parts = [str(shard.knobs[name]) for name in ("seed", "classes", "family", "preset")]
    stem = "-".join([*parts, f"v{VERSION}"])
    return folder / f"{stem}.npy", folder / f"{stem}.json"


def _known(corpus: Any) -> dict[str, list[Any]]:
    """Apexes, and what each clip is for each task; most of the five classes say which of the three a clip is of."""
    classes, samples = corpus.generator.settings.classes, corpus.samples
    three, five, units = PROTOCOLS["3"], PROTOCOLS["5"], PROTOCOLS["au"]
    return {
        "apexes": [s.apex for s in samples],
        "3": [three.target(s) if classes != "au" and s.emotion in three.emotions else UNKNOWN for s in samples],
        "5": [five.target(s) if classes == 5 else UNKNOWN for s in samples],
        "au": [units.target(s) for s in samples],
    }
