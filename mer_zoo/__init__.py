"""mer-zoo: networks, corpora and honest evaluation for facial micro-expression recognition.

Importing it puts our networks into timm's registry. Everything else is loaded when it is first used.
"""

import importlib
from typing import TYPE_CHECKING, Any

from mer_zoo.models import create_model, input_spec, list_models

if TYPE_CHECKING:
    from mer_zoo import metrics, preprocessing, synth, training
    from mer_zoo.datasets import list_corpora, open_corpus
    from mer_zoo.evaluation import evaluate
    from mer_zoo.hub import save_pretrained
    from mer_zoo.inputs import create_dataset
    from mer_zoo.protocols import Protocol, get_protocol, list_protocols
    from mer_zoo.reporting import Report, report
    from mer_zoo.training import Recipe
    from mer_zoo.types import ActionUnit, InputSpec, Sample
    from mer_zoo.unit_reporting import UnitReport, report_units

__version__ = "0.1.0"

_HOMES = {
    "ActionUnit": "types",
    "InputSpec": "types",
    "Protocol": "protocols",
    "Recipe": "training",
    "Report": "reporting",
    "Sample": "types",
    "UnitReport": "unit_reporting",
    "create_dataset": "inputs",
    "evaluate": "evaluation",
    "get_protocol": "protocols",
    "list_corpora": "datasets",
    "list_protocols": "protocols",
    "open_corpus": "datasets",
    "report": "reporting",
    "report_units": "unit_reporting",
    "save_pretrained": "hub",
}

__all__ = [
    "ActionUnit",
    "InputSpec",
    "Protocol",
    "Recipe",
    "Report",
    "Sample",
    "UnitReport",
    "__version__",
    "create_dataset",
    "create_model",
    "evaluate",
    "get_protocol",
    "input_spec",
    "list_corpora",
    "list_models",
    "list_protocols",
    "metrics",
    "open_corpus",
    "preprocessing",
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
