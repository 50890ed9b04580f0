"""What the synthetic faces cost and what they are worth: python benchmarks/synthetic.py [PART ...] [--flow PATH].

Parts: speed, flow, families, transfer; all without a name. PATH is the release of STSTNet's authors, in any form that
`megc2019_flow` reads; without it there is no transfer. Each part prints one table. CPU seconds are those of one
process, all its threads together.
"""

import argparse
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import mer_zoo
from mer_zoo.datasets import Corpus
from mer_zoo.metrics import Matrix, accuracy, confusion, uar, uf1
from mer_zoo.preprocessing.flow import optical_flow
from mer_zoo.training import ClipDataset, fit, predict

THREE = mer_zoo.get_protocol("synthetic-3")


PARTS = ("speed", "flow", "families", "transfer")


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="PART")
    words.add_argument("--flow", type=Path, help="the flow images of MEGC 2019, as published")
    words.add_argument("--subjects", type=int, default=120, help="persons to learn from")
    words.add_argument("--epochs", type=int, default=10, help="of the clip network")
    words.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    return words


def main() -> None:
    args = parser().parse_args()
    parts: dict[str, Callable[[argparse.Namespace], Iterator[str]]] = {
        "speed": speed,
        "flow": flow,
        "families": families,
        "transfer": transfer,
    }
    torch.set_num_threads(1)
    for name in args.parts or parts:
        print(f"\n{name}\n", flush=True)
        for row in parts[name](args):
            print(row, flush=True)


def speed(_: argparse.Namespace) -> Iterator[str]:
    """Clips of 20 frames a CPU second, persons included, and the memory that streaming takes."""
    yield "| size | clips a CPU second | most memory after 45 clips, MiB | after 180 |\n|---|---|---|---|"
    for size in (64, 128, 224):
        clips = [_stream(size, subjects=5, seed=repeat + 1) for repeat in range(3)]
        before = _memory()
        _stream(size, subjects=20, seed=9)
        yield f"| {size} | {np.median(clips):.1f} | {before:.0f} | {_memory():.0f} |"


def _stream(size: int, subjects: int, seed: int) -> float:
    corpus: Any = mer_zoo.open_corpus("synthetic", subjects=subjects, seed=seed, size=size)
    started = time.process_time()
    for sample in corpus.samples:
        corpus.clip(sample)
    return len(corpus.samples) / (time.process_time() - started)


def _memory() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def flow(_: argparse.Namespace) -> Iterator[str]:
    """Estimated flow from onset to apex against the true one, over the whole picture, and how far faces move."""
    yield (
        "| size | greatest motion of a clip, pixels: 5 %, half, 95 % | mean motion | end-point error: dis | farneback "
        "| tvl1 |\n|---|---|---|---|---|---|"
    )
    for size in (64, 128):
        corpus: Any = mer_zoo.open_corpus("synthetic", subjects=20, seed=11, size=size)
        greatest, errors = [], []
        for sample in corpus.samples:
            true, clip = corpus.flow(sample)[sample.apex], corpus.clip(sample)
            length = np.linalg.norm(true, axis=-1)
            greatest.append(length.max())
            estimates = [optical_flow(clip[0], clip[sample.apex], method) for method in ("dis", "farneback", "tvl1")]
            errors.append([length.mean(), *(np.linalg.norm(true - e, axis=-1).mean() for e in estimates)])
        spread = " / ".join(f"{value:.2f}" for value in np.percentile(greatest, (5, 50, 95)))
        yield f"| {size} | {spread} | " + " | ".join(f"{value:.3f}" for value in np.mean(errors, axis=0)) + " |"


def families(args: argparse.Namespace) -> Iterator[str]:
    """A clip network on new persons of the family that it learnt from, and of the other."""
    yield "| learnt from | persons, clips | tested on | UF1 | UAR | accuracy |\n|---|---|---|---|---|---|"
    spec = mer_zoo.input_spec("dat_densenet3d")
    tests = {family: _clips(_persons(family, 30, seed=102), spec) for family in ("head", "field")}
    for learnt in tests:
        data = _clips(_persons(learnt, args.subjects, seed=1), spec)
        recipe = mer_zoo.Recipe(epochs=args.epochs, lr=2e-3, schedule="cosine", flip=True, shift=3)
        model = _trained("dat_densenet3d", data, recipe)
        for tested, test in tests.items():
            yield f"| {learnt} | {args.subjects}, {len(data)} | {tested} | {_scores([_matrix(model, test)])} |"


def transfer(args: argparse.Namespace) -> Iterator[str]:
    """STSTNet, which has seen synthetic flow alone, on real flow images."""
    if args.flow is None:
        yield "skipped: give the real flow images by --flow PATH"
        return
    spec = mer_zoo.input_spec("ststnet")
    real = mer_zoo.create_dataset("megc2019", {"megc2019_flow": args.flow}, spec)
    corpora = sorted({s.corpus for s in real.samples}, reverse=True)
    tests = {name: real.subset([s for s in real.samples if s.corpus == name]) for name in corpora}
    tests["together"] = real
    yield "| learnt from | tested on | UF1 | UAR | accuracy |\n|---|---|---|---|---|"
    for tested, test in tests.items():
        negative = confusion(np.array(test.targets), np.zeros(len(test), np.int64), 3)
        yield f"| nothing: always negative | {tested} | {_scores([negative])} |"
    recipe = mer_zoo.Recipe(epochs=8, batch_size=64, lr=2e-3, schedule="cosine", flip=True, shift=2)
    for family, method in (("head", "dis"), ("head", "tvl1"), ("field", "dis")):
        data = _clips(_persons(family, args.subjects, seed=1), replace(spec, flow_method=method))
        models = [_trained("ststnet", data, replace(recipe, seed=seed)) for seed in args.seeds]
        for tested, test in tests.items():
            scores = _scores([_matrix(m, test) for m in models])
            yield f"| {family}, {len(data)} clips, flow by {method} | {tested} | {scores} |"


def _persons(family: str, subjects: int, seed: int) -> Corpus:
    return mer_zoo.open_corpus("synthetic", subjects=subjects, seed=seed, family=family)


def _clips(corpus: Corpus, spec: mer_zoo.InputSpec) -> ClipDataset:
    return mer_zoo.create_dataset(THREE, {"synthetic": corpus}, spec)


def _trained(name: str, data: ClipDataset, recipe: mer_zoo.Recipe) -> Any:
    torch.manual_seed(recipe.seed)
    model: Any = mer_zoo.create_model(name, num_classes=3)
    model.input_spec = data.spec
    fit(model, data, recipe)
    return model


def _matrix(model: Any, data: ClipDataset) -> Matrix:
    model.input_spec = data.spec  # the release says nothing of its flow but "TV-L1"; we take it as it is
    return confusion(np.array(data.targets), predict(model, data).argmax(dim=1).numpy(), 3)


def _scores(matrices: list[Matrix]) -> str:
    """Mean and, over several seeds, standard deviation of UF1, UAR and accuracy."""
    scores = np.array([[uf1(m), uar(m), accuracy(m)] for m in matrices])
    spread = scores.std(axis=0, ddof=1) if len(scores) > 1 else [None] * 3
    return " | ".join(
        f"{mean:.3f}" + (f" ± {sd:.3f}" if sd is not None else "")
        for mean, sd in zip(scores.mean(axis=0), spread, strict=True)
    )


if __name__ == "__main__":
    main()
