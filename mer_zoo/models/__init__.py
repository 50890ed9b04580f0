"""Networks by name. Importing this package registers every file in it with timm."""

from mer_zoo.models._builder import create_model, input_spec, list_models
from mer_zoo.registry import import_modules

__all__ = ["create_model", "input_spec", "list_models"]

import_modules(__name__)
