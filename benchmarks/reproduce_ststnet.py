"""STSTNet's published figure from its authors' own files: python benchmarks/reproduce_ststnet.py IMAGES WEIGHTS.

IMAGES is their release of flow images, in any form that `megc2019_flow` reads; WEIGHTS their folder of one `.pth` a
person, what was learnt from all the others. Each person's clips are predicted by the person's own file and all are
scored together. Nothing is trained, so the figures are the same on every machine: 0.7209 UF1 and 0.7250 UAR on 442
clips of 68 persons. Exit status 0 if they are; 1 if they are not; 2 if other clips are there, whatever they score.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd

import mer_zoo
from mer_zoo.types import plain

CLIPS, PERSONS, EXPECTED = 442, 68, {"uf1": 0.7209, "uar": 0.7250, "accuracy": 0.7398}


def weights_by_person(folder: Path) -> dict[str, Path]:
    """Files by how a person is written in them, whatever the case and leading zeros."""
    files = {plain(file.stem.strip()): file for file in sorted(folder.glob("*.pth"))}
    if not files:
        raise SystemExit(f"{folder} holds no .pth file; expected the authors' folder of one file a person.")
    return files


def predictions(images: Path, weights: Path) -> pd.DataFrame:
    """One row a clip, as of `evaluate`."""
    spec = mer_zoo.input_spec("ststnet")
    data = mer_zoo.create_dataset("megc2019", {"megc2019_flow": images}, spec)
    files, rows = weights_by_person(weights), []
    for fold in mer_zoo.get_protocol("megc2019").folds(data.samples):
        subject = fold.test[0].subject
        if plain(subject) not in files:
            raise SystemExit(f"{weights} has no file for {subject}; there are {', '.join(sorted(files)[:5])}, ...")
        model = mer_zoo.create_model("ststnet", num_classes=3, checkpoint_path=str(files[plain(subject)]))
        part = data.subset(fold.test)
        shares = mer_zoo.training.predict(model, part, device="cpu").numpy()
        for sample, target, share in zip(part.samples, part.targets, shares, strict=True):
            facts = {"key": sample.key, "corpus": sample.corpus, "subject": sample.subject, "clip": sample.clip}
            shown = {f"p_{name}": value for name, value in zip(data.classes, share.tolist(), strict=True)}
            rows.append({**facts, "fold": fold.name, "target": target, "pred": int(share.argmax()), **shown})
    return pd.DataFrame(rows)


def parser() -> argparse.ArgumentParser:
    """The words that this script takes."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("images", type=Path)
    words.add_argument("weights", type=Path)
    return words


def main() -> int:
    args = parser().parse_args()
    facts = mer_zoo.report(predictions(args.images, args.weights), "megc2019").to_dict()
    for name, found in {"all": facts["pooled"], **facts["corpora"]}.items():
        print(f"{name}: {', '.join(f'{score} {found[score]:.4f}' for score in EXPECTED)}")
    if (facts["clips"], len(facts["people"])) != (CLIPS, PERSONS):
        print(f"{facts['clips']} clips of {len(facts['people'])} persons; published are {CLIPS} of {PERSONS}.")
        return 2
    same = all(abs(facts["pooled"][score] - value) < 0.00005 for score, value in EXPECTED.items())
    print("As published." if same else f"Not as published: {EXPECTED}.")
    return int(not same)


if __name__ == "__main__":
    sys.exit(main())
