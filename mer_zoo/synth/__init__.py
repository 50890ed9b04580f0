"""Rendered faces that do not exist, moved by action units: what the corpus ``synthetic`` is made of."""

from mer_zoo.synth.generator import Generator
from mer_zoo.synth.settings import PRESETS, Settings

__all__ = ["PRESETS", "Generator", "Settings"]
