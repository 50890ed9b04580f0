"""torchvision's weights for video, fitted on Kinetics-400: where they lie, and how they fill our networks."""

from pathlib import Path

import torch
import torchvision
from torch import nn

from mer_zoo.errors import WeightsError
from mer_zoo.models._base import ZooModel
from mer_zoo.models._builder import _adapt, _read

KINETICS = 400  # classes


def kinetics_file(original: str) -> Path:
    """Where torchvision keeps its weights of a network once they are fetched.

    Raises:
        WeightsError: If they are not there.
    """
    weights = torchvision.models.get_model_weights(original).DEFAULT
    file = Path(torch.hub.get_dir(), "checkpoints", Path(weights.url).name)
    if not file.is_file():
        raise WeightsError(
            f"kinetics=True needs {file.name}, {weights.meta['_file_size']:.0f} MB, which is not in {file.parent}. "
            f"Fetch it by `from torchvision.models import get_weight; get_weight('{weights}').get_state_dict("
            "progress=True)`, or make the network without."
        )
    return file


def load_kinetics(model: ZooModel, file: Path) -> None:
    """Fill a network from torchvision's file; its last layer, too, where there are 400 classes.

    Raises:
        WeightsError: If the file cannot be read.
        InputError: If its weights are of another network.
    """
    own = model.state_dict()
    state = {_renamed(name): value for name, value in _read(file).items()}
    state |= {name: value for name, value in own.items() if name.startswith("normalise.")}
    if model.num_classes == KINETICS:
        state["fc.weight"] = state["fc.weight"].flatten(1)  # of s3d, a convolution
    else:
        state = {name: value for name, value in state.items() if not name.startswith("fc.")}
        state |= {name: value for name, value in own.items() if name.startswith("fc.")}
    if isinstance(model.fc, nn.Identity):  # features_only keeps some stages; what lacks is refused below
        state = {name: value for name, value in state.items() if name in own}
    if not next(model.parameters()).is_meta:
        model.load_state_dict(_adapt(state, model))


def _renamed(name: str) -> str:
    """The last layer is ``head``, ``head.1`` or ``classifier.1`` in torchvision."""
    for last in ("head.1.", "head.", "classifier.1."):
        if name.startswith(last):
            return f"fc.{name.removeprefix(last)}"
    return name
