"""mer-zoo: networks, corpora and honest evaluation for facial micro-expression recognition.

Importing it puts our networks into timm's registry. Everything else is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mer_zoo.models import create_model, input_spec, list_models

if TYPE_CHECKING:
    from mer_zoo import folds, metrics, preprocessing, synth, training
    from mer_zoo.comparing import Comparison, compare
    from mer_zoo.datasets import list_corpora, open_corpus
    from mer_zoo.evaluation import evaluate
    from mer_zoo.exporting import export_model
    from mer_zoo.hub import push_to_hub, save_pretrained
    from mer_zoo.inputs import create_dataset
    from mer_zoo.models.from_timm import from_timm
    from mer_zoo.prediction import Prediction, predict
    from mer_zoo.preparing import prepare
    from mer_zoo.preprocessing.cache import ClipCache
    from mer_zoo.preprocessing.cook import Preparation
    from mer_zoo.preprocessing.faces import Aligner
    from mer_zoo.protocols import Protocol, get_protocol, list_protocols
    from mer_zoo.recipe import Recipe
    from mer_zoo.reporting import Report, report
    from mer_zoo.runs import read_run
    from mer_zoo.standardise import Standardise
    from mer_zoo.types import ActionUnit, InputSpec, Sample
    from mer_zoo.unit_reporting import UnitReport, report_units

__version__ = "0.1.0"

_HOMES = {
    "ActionUnit": "types",
    "Aligner": "preprocessing.faces",
    "ClipCache": "preprocessing.cache",
    "Comparison": "comparing",
    "InputSpec": "types",
    "Prediction": "prediction",
    "Preparation": "preprocessing.cook",
    "Protocol": "protocols",
    "Recipe": "recipe",
    "Report": "reporting",
    "Sample": "types",
    "Standardise": "standardise",
    "Explanation": "explaining",
    "UnitReport": "unit_reporting",
    "compare": "comparing",
    "create_dataset": "inputs",
    "evaluate": "evaluation",
    "explain": "explaining",
    "export_model": "exporting",
    "from_timm": "models.from_timm",
    "get_protocol": "protocols",
    "list_corpora": "datasets",
    "list_protocols": "protocols",
    "open_corpus": "datasets",
    "predict": "prediction",
    "prepare": "preparing",
    "push_to_hub": "hub",
    "read_run": "runs",
    "report": "reporting",
    "report_units": "unit_reporting",
    "save_pretrained": "hub",
}

__all__ = [
    "ActionUnit",
    "Aligner",
    "ClipCache",
    "Comparison",
    "Explanation",
    "InputSpec",
    "Prediction",
    "Preparation",
    "Protocol",
    "Recipe",
    "Report",
    "Sample",
    "Standardise",
    "UnitReport",
    "__version__",
    "compare",
    "create_dataset",
    "create_model",
    "evaluate",
    "explain",
    "explaining",
    "export_model",
    "folds",
    "from_timm",
    "get_protocol",
    "input_spec",
    "list_corpora",
    "list_models",
    "list_protocols",
    "metrics",
    "open_corpus",
    "predict",
    "prepare",
    "preprocessing",
    "push_to_hub",
    "read_run",
    "report",
    "report_units",
    "save_pretrained",
    "synth",
    "training",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"mer_zoo.{_HOMES[name]}"), name)
    if name in __all__:
        return importlib.import_module(f"mer_zoo.{name}")
    raise AttributeError(f"module 'mer_zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
