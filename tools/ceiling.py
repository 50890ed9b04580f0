"""What the labels of the synthetic corpus allow: python tools/ceiling.py.

A gradient-boosted tree is given the true strength of every action unit, left and right, and scored on new persons:
no network that looks at the clips can be expected to do better. Prints one table.
"""

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier

import mer_zoo
from mer_zoo.metrics import accuracy, confusion, uar, uf1


def main() -> None:
    print("| classes | table | UF1 | UAR | accuracy |\n|---|---|---|---|---|")
    for classes in (3, 5):
        for table in ("counts", "miex"):
            x, y = strengths(classes, table, subjects=800, seed=1)
            tree = HistGradientBoostingClassifier(max_iter=150, learning_rate=0.06, random_state=0).fit(x, y)
            x, y = strengths(classes, table, subjects=200, seed=2)
            matrix = confusion(y, tree.predict(x), classes)
            print(
                f"| {classes} | {table} | {uf1(matrix):.3f} | {uar(matrix):.3f} | {accuracy(matrix):.3f} |", flush=True
            )


def strengths(classes: int, table: str, subjects: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Strengths (N, 34) and class indices (N,) of all clips."""
    corpus = mer_zoo.open_corpus("synthetic", subjects=subjects, seed=seed, classes=classes, table=table)
    protocol = mer_zoo.get_protocol(f"synthetic-{classes}")
    found = [(corpus.action_units(s), protocol.target(s)) for s in corpus.samples]  # type: ignore[attr-defined]
    return np.stack([strength for strength, _ in found]), np.array([target for _, target in found])


if __name__ == "__main__":
    main()
