"""Whether maps lie where the face moves, and depend on weights: python benchmarks/explain.py [--persons 20].

Rendered clips of persons whom no weights have seen, preset `default` with a head that rests and eyes that neither blink
nor jump, so that what moves is the expression. The moving region are places whose true motion from onset to apex is at
least half of the greatest. Of each map, added up over time: the share of it that lies there. A map that knows nothing
has the region's share of the area; the true motion itself is there for scale. Spearman's correlation is that of
`mer_zoo.explaining.sanity_check`, one shuffle a clip. Regions: how often the one that is worth most is the one with
most of the moving region; always: how often naming one region each time would be right. A map that is 0 everywhere
has no share and is left out of the mean. Prints the table of docs/explain.md.
"""

import argparse
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

import mer_zoo
from mer_zoo.explaining import METHODS, REGIONS, sanity_check, shuffled
from mer_zoo.synth import Generator
from mer_zoo.synth.settings import settings_of

SEED = 4_000_000  # of the persons; weights have learnt from others, see tools/clip_pool.py and tools/gates.py
CLASSES: dict[str, Any] = {"synth_3": 3, "synth_5": 5, "synth_au": "au"}
STILL = {"head_motion": 0.0, "blink_rate": 0.0, "gaze_rate": 0.0}
HALF = 0.5  # of the greatest motion of a clip


@dataclass
class Seen:
    """What was measured on each clip of one network."""

    area: list[float] = field(default_factory=list)
    truth: list[float] = field(default_factory=list)
    shares: dict[str, list[float]] = field(default_factory=lambda: {m: [] for m in (*METHODS, "shuffled")})
    alike: list[float] = field(default_factory=list)
    hits: list[bool] = field(default_factory=list)
    homes: list[str] = field(default_factory=list)

    def row(self, name: str) -> str:
        """One line of the table."""
        found: list[list[Any]] = [self.area, self.truth, *self.shares.values(), self.alike, self.hits]
        means = [float(np.mean(values)) for values in found]
        means.append(max(self.homes.count(region) for region in REGIONS) / len(self.homes))
        return f"| `{name}` | {len(self.area)} | " + " | ".join(f"{mean:.2f}" for mean in means) + " |"


def parser() -> argparse.ArgumentParser:
    """The words it takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--persons", type=int, default=20, help="three clips each (%(default)s)")
    return words


def main() -> None:
    args = parser().parse_args()
    torch.set_num_threads(1)
    print(
        "| weights | clips | area | true motion | HiResCAM | Grad-CAM | HiResCAM, shuffled | correlation | region "
        "| always |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in mer_zoo.list_models(pretrained=True):
        print(measured(name, args.persons).row(name), flush=True)


def measured(name: str, persons: int) -> Seen:
    """All clips of one network."""
    model = mer_zoo.create_model(name, pretrained=True)
    mixed, seen = shuffled(model, 0), Seen()
    generator = Generator(settings_of("default", classes=CLASSES[name.split(".")[1]], **STILL), SEED)
    for subject in range(persons):
        for clip in range(3):
            look(model, mixed, generator, (subject, clip), seen)
    return seen


def look(model: Any, mixed: Any, generator: Generator, which: tuple[int, int], seen: Seen) -> None:
    """One clip."""
    frames, apex = generator.clip(*which), generator.coding(*which).apex
    motion = np.linalg.norm(generator.flow(*which)[apex], axis=-1)
    moving = motion >= HALF * motion.max()
    said = mer_zoo.explain(model, frames, apex=apex)
    seen.area.append(float(moving.mean()))
    seen.truth.append(float(motion[moving].sum() / motion.sum()))
    maps = {"hirescam": said, "gradcam": mer_zoo.explain(model, frames, apex=apex, method="gradcam")}
    maps["shuffled"] = mer_zoo.explain(mixed, frames, apex=apex, target=said.target)
    for method, each in maps.items():
        if each.cam.any():
            seen.shares[method].append(share(each.cam, moving))
    seen.alike.append(sanity_check(model, frames, apex=apex, seeds=1))
    size = len(moving)
    held = {n: moving[round(upper * size) : round(lower * size)].sum() for n, (upper, lower) in REGIONS.items()}
    seen.homes.append(max(held, key=lambda n: held[n]))
    seen.hits.append(max(said.regions, key=lambda n: said.regions[n]) == seen.homes[-1])


def share(cam: npt.NDArray[np.float32], moving: npt.NDArray[np.bool_]) -> float:
    """How much of a map lies on the moving region, 0 to 1."""
    large = cv2.resize(cam.sum(axis=0), moving.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return float(large[moving].sum() / large.sum())


if __name__ == "__main__":
    main()
