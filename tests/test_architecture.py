"""The arrows between rooms, what importing costs, and how long files may be."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mer_zoo

PACKAGE = Path(mer_zoo.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))

# Room -> rooms that it may import; errors are everybody's.
ARROWS = {
    "errors": set(),
    "specs": {"options"},
    "types": {"specs"},
    "registry": set(),
    "options": set(),
    "metrics": set(),
    "folds": {"types"},
    "losses": set(),
    "recipe": {"options"},
    "rules": set(),
    "seeds": set(),
    "standardise": set(),
    "protocols": {"types", "registry", "folds"},
    "models": {"types", "registry", "options"},
    "synth": {"types"},
    "datasets": {"types", "registry", "options", "preprocessing.flow", "synth"},
    "demo": {"models", "explaining", "prediction", "preprocessing", "synth", "figures", "prediction_picture"},
    "preprocessing": {"types", "datasets._base", "datasets._pictures", "preprocessing"},
    "augmentation": {"types", "recipe"},
    "bf16": {"recipe"},
    "graphs": set(),
    "cost": {"types", "models"},
    "training": {"types", "augmentation", "bf16", "graphs", "losses", "recipe", "standardise"},
    "backends": {"options", "training"},
    "together": {"types", "augmentation", "bf16", "losses", "recipe", "training"},
    "chunks": {"types", "backends", "cost", "recipe", "seeds", "selection", "together", "training"},
    "baselines": {"seeds", "training"},
    "copies": {"types", "augmentation"},
    "guards": {"types", "folds", "copies", "standardise", "training"},
    "random_clips": {"types", "augmentation", "recipe", "training"},
    "selection": {"types", "folds", "guards", "recipe", "seeds", "training"},
    "progress": {"metrics", "runs"},
    "execution": {
        "types",
        "backends",
        "baselines",
        "chunks",
        "hub",
        "progress",
        "runs",
        "seeds",
        "selection",
        "training",
    },
    "runs": {"types"},
    "inputs": {"types", "options", "datasets", "preprocessing", "protocols"} | {"training"},
    "preparing": {
        "types",
        "datasets",
        "inputs",
        "preprocessing.cache",
        "preprocessing.cook",
        "preprocessing.many",
        "protocols",
    },
    "evaluation": {"types", "models", "datasets", "inputs", "preprocessing.cook", "protocols", "folds", "runs"}
    | {"training", "baselines"}
    | {"backends", "execution", "guards", "random_clips", "recipe", "rules", "seeds", "selection"},
    "null_model": {"metrics", "rules"},
    "published": set(),
    "figures": {"metrics"},
    "calibration": {"figures"},
    "pages": {"runs"},
    "report_text": {"rules", "runs", "figures", "pages"},
    "report_tables": {"protocols", "runs"},
    "reporting": {
        "calibration",
        "report_tables",
        "types",
        "metrics",
        "protocols",
        "runs",
        "null_model",
        "published",
        "report_text",
        "figures",
        "pages",
    },
    "comparing": {"metrics", "protocols", "reporting", "report_text", "runs", "figures"},
    "unit_reporting": {"types", "metrics", "protocols", "reporting", "report_text", "runs", "figures"},
    "asking": {"types", "models"},
    "prediction": {"types", "asking", "preprocessing", "prediction_picture"},
    "explaining": {"types", "asking", "explanation_picture", "preprocessing"},
    "explanation_picture": {"explaining", "figures", "specs"},
    "prediction_picture": {"figures", "prediction"},
    "cards": {"types", "models"},
    "hub": {"types", "models", "cards"},
    "exporting": {"types", "models"},
    "cli_asking": {"asking", "cli_runs", "explanation_picture", "prediction", "preprocessing"},
    "cli_demo": {"demo"},
    "cli_export": {"exporting"},
    "cli_prepare": {"cli_runs", "preprocessing.shelf"},
    "cli_runs": {"comparing", "datasets", "preprocessing.cook", "preprocessing.faces", "protocols", "recipe"}
    | {"report_text", "runs"},
}
ARROWS["cli"] = set(ARROWS)  # the shell over every room that is listed here; as none lists it, nothing imports it


def _imports(file: Path) -> set[str]:
    """Modules of ours that a file imports, ``TYPE_CHECKING`` or not, within functions or not."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mer_zoo"):
            stem = (node.module or "").removeprefix("mer_zoo").lstrip(".")
            names |= {stem} if stem else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {a.name.removeprefix("mer_zoo.") for a in node.names if a.name.startswith("mer_zoo.")}
    return names


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_imports_follow_the_arrows(file: Path) -> None:
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    allowed = ARROWS[room] | {"errors", room} | ({"specs"} if "types" in ARROWS[room] else set())
    stray = {name for name in _imports(file) if not any(name == a or name.startswith(f"{a}.") for a in allowed)}
    assert not stray


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(PACKAGE)))
def test_files_are_short(file: Path) -> None:
    assert len(file.read_text().splitlines()) <= 400


def test_only_the_builder_knows_timm() -> None:
    users = {f.name for f in FILES if "import timm" in f.read_text() or "from timm" in f.read_text()}
    assert users == {"_builder.py", "from_timm.py", "slstt.py"}


def test_import_is_lazy_and_fills_the_registry_of_timm() -> None:
    code = (
        "import sys, mer_zoo, timm; "
        "print([m for m in ('cv2', 'pandas', 'matplotlib', 'sklearn', 'accelerate', 'openpyxl') if m in sys.modules], "
        "timm.is_model('dat_densenet3d'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] True"


def test_public_names_are_there_and_none_hides_a_module() -> None:
    for name in mer_zoo.__all__:
        assert getattr(mer_zoo, name) is not None
    functions = {name for name in mer_zoo.__all__ if callable(getattr(mer_zoo, name))}
    assert not functions & {f.stem for f in PACKAGE.glob("*.py")}
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = mer_zoo.nonsense
