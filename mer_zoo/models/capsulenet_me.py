"""CapsuleNet for micro-expressions: three stages of a ResNet-18 on the apex frame, then capsules routed by agreement.

Van Quang, Chun and Tokuyama, "CapsuleNet for Micro-Expression Recognition", FG 2019, doi 10.1109/FG.2019.8756544.
Layers and initial weights are those of the authors' code (davidnvq/me_recognition, no licence: read for facts, not
copied), capsule/modules, which leaves out ResNet-18's max-pool and its last stage. Trunk: He et al., CVPR 2016, as
torchvision names and fills it, so that weights for ImageNet, with which the authors begin, load by name:
``model.load_state_dict({k: v for k, v in resnet18.items() if not k.startswith("fc.")}, strict=False)``. Capsules and
routing: Sabour, Frosst and Hinton, NeurIPS 2017, eq. 1 to 3. Weights: counted from those layers, 13,842,496.

Ours: logits are the log-odds of the length of a class's capsule. A squashed capsule of length |s|^2 / (1 + |s|^2) has
log-odds log |s|^2, so ``logits.sigmoid()`` is what the authors' network gives while the bias is zero, the order of the
classes stays, and cross-entropy, by which this library trains, makes sense; theirs is ``margin_loss``. Ours, too: a
bias to each class capsule, 48 more weights, zero at the start, as Sabour et al.'s own code has and this one does not;
with it the class capsules are a linear layer whose sum is routed. ``drop_rate``, 0 by default, on the primary
capsules. Published: 0.6520 UF1, 0.6506 UAR on MEGC 2019 (as listed in HTNet's table 2); the code chooses the epoch of
each test subject by UF1 on that subject, has 435 of the 442 clips, and rotates test images at random by up to 8
degrees.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import ZooModel
from mer_zoo.models._builder import build, register
from mer_zoo.models._layers2d import resnet_layers
from mer_zoo.types import InputSpec

TRUNK = (64, 128, 256)
PRIMARY, CLASS = 8, 16  # length of a primary capsule and of a class's capsule
KERNEL = 9
EPSILON = 1e-12  # what a capsule's squared length is at least


def squash(x: Tensor) -> Tensor:
    """Lengths below one, directions kept, of capsules along the last axis (Sabour et al., eq. 1)."""
    square = x.square().sum(dim=-1, keepdim=True)
    return x * (square.clamp(min=EPSILON).sqrt() / (1 + square))


def margin_loss(logits: Tensor, target: Tensor) -> Tensor:
    """The authors' loss, for a training of one's own: logits (B, C) and classes (B,) -> a mean over the batch.

    Sabour et al., eq. 4, with the margins of the authors' code, 0.99 and 0.01.
    """
    length, true = logits.sigmoid(), F.one_hot(target, logits.shape[1])
    missed, mistaken = (0.99 - length).clamp(min=0).square(), (length - 0.01).clamp(min=0).square()
    return (true * missed + 0.5 * (1 - true) * mistaken).sum(dim=1).mean()


class PrimaryCapsules(nn.Module):
    """Maps to capsules of eight neighbouring channels: (B, 256, H, W) -> (B, 256, (H - 9) / 2 + 1, ...)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, KERNEL, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        capsules = self.conv(x).movedim(1, -1).unflatten(-1, (-1, PRIMARY))
        return squash(capsules).flatten(-2).movedim(-1, 1)


class ClassCapsules(nn.Linear):
    """Primary capsules one behind the other (B, inputs) -> logits (B, classes): a linear layer whose sum is routed.

    Its weight holds every primary capsule's map to every class capsule, (classes * 16, inputs).
    """

    def __init__(self, inputs: int, classes: int, routings: int) -> None:
        super().__init__(inputs, classes * CLASS)
        self.classes, self.routings = classes, routings
        nn.init.normal_(self.weight, std=0.01)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight.unflatten(1, (-1, PRIMARY)).unflatten(0, (self.classes, CLASS))
        bias = self.bias.unflatten(0, (self.classes, CLASS))
        votes = torch.einsum("coik,bik->bcio", weight, x.unflatten(1, (-1, PRIMARY)))
        capsules = self._mean(votes, torch.full_like(votes[..., 0], 1 / self.classes), bias)
        agreement = torch.zeros_like(votes[..., 0])
        for i in range(1, self.routings):  # routes are not learnt through
            agreement = agreement + torch.einsum("bcio,bco->bci", votes.detach(), squash(capsules.detach()))
            last = i == self.routings - 1
            capsules = self._mean(votes if last else votes.detach(), agreement.softmax(dim=1), bias)
        return (capsules.square().sum(dim=-1) + EPSILON).log()

    @staticmethod
    def _mean(votes: Tensor, routes: Tensor, bias: Tensor) -> Tensor:
        """Class capsules (B, C, 16), not squashed, of votes weighed by routes (B, C, I)."""
        return torch.einsum("bci,bcio->bco", routes, votes) + bias


class CapsuleNetME(ZooModel):
    """Apex frames (B, C, size, size), values 0..1 -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the primary capsules as one vector.
        in_chans: Number of channels.
        size: Height and width; class capsules are fitted to them.
        routings: Times that capsules are added up, the first with equal routes.
        drop_rate: Share of the primary capsules' values dropped.
        global_pool: ``flat``: primary capsules one behind the other; empty: as maps.
    """

    first_convs: ClassVar = ("conv1",)
    stem_pattern: ClassVar = r"^(?:conv|bn)1"
    blocks_pattern: ClassVar = r"^(?:layer|capsules)(\d+)"
    layers_pattern: ClassVar = blocks_pattern
    small: ClassVar = {"size": 136}

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 224,
        routings: int = 3,
        drop_rate: float = 0.0,
        global_pool: str = "flat",
    ) -> None:
        super().__init__()
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.routings = num_classes, in_chans, routings
        self.size, self.drop_rate = size, drop_rate
        self.conv1 = nn.Conv2d(in_chans, TRUNK[0], kernel_size=7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(TRUNK[0])
        self.feature_info = [{"num_chs": TRUNK[0], "reduction": 2, "module": "stem"}]
        for i, layer in enumerate(resnet_layers(TRUNK)):
            self.add_module(f"layer{i + 1}", layer)
            self.feature_info.append({"num_chs": TRUNK[i], "reduction": 2 * 2**i, "module": f"layer{i + 1}"})
        width = TRUNK[-1]
        self.apply(_initialise)
        self.capsules4 = nn.Sequential(nn.Conv2d(width, width, KERNEL), nn.ReLU(inplace=True))
        self.capsules5 = PrimaryCapsules(width)
        for module, side in zip(("capsules4", "capsules5"), sides(size), strict=True):
            self.feature_info.append({"num_chs": width, "reduction": size / side, "module": module})
        self.num_features = width * sides(size)[1] ** 2
        self.drop = nn.Dropout(drop_rate)
        self.fc = self._classifier(num_classes)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        names = [info["module"] for info in self.feature_info]
        return [cast(Callable[[Tensor], Tensor], getattr(self, name)) for name in names if hasattr(self, name)]

    def stem(self, x: Tensor) -> Tensor:
        """Half the size, without ResNet's pooling: (B, C, H, W) -> (B, 64, H / 2, W / 2)."""
        return cast(Tensor, self.bn1(self.conv1(x))).relu_()

    def keep_stages(self, number: int) -> None:
        for info in self.feature_info[number:]:
            if hasattr(self, info["module"]):
                delattr(self, info["module"])

    def pool(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(x.movedim(1, -1).flatten(1))) if self.global_pool else x

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        self.set_pool(self.global_pool if global_pool is None else global_pool, num_classes)
        weight = next(self.parameters())
        self.num_classes, self.fc = num_classes, self._classifier(num_classes).to(weight.device, weight.dtype)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        if "fc.bias" in state_dict and len(state_dict["fc.bias"]) != CLASS * self.num_classes and strict:
            raise InputError(
                f"The weights are for {len(state_dict['fc.bias']) // CLASS} classes, the model has {self.num_classes}; "
                "make the model for as many, load, and call reset_classifier."
            )
        return super().load_state_dict(state_dict, strict, assign)

    def _classifier(self, num_classes: int) -> nn.Module:
        if num_classes < 0:
            raise InputError(f"num_classes is {num_classes}; expected 0 (no classifier) or more.")
        return ClassCapsules(self.num_features, num_classes, self.routings) if num_classes else nn.Identity()


def sides(size: int) -> tuple[int, int]:
    """Height of the maps after the 9 x 9 convolution, and of those of primary capsules.

    Raises:
        InputError: If nothing is left of them.
    """
    first = -(-size // 8) - KERNEL + 1
    if first < KERNEL:
        raise InputError(f"size is {size}; expected 129 or more, so that two kernels of {KERNEL} fit in an eighth.")
    return first, (first - KERNEL) // 2 + 1


def _initialise(module: nn.Module) -> None:
    """He et al.'s normal weights, by what goes out of a convolution."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


@register(InputSpec("image", ("red", "green", "blue"), size=224))
def capsulenet_me(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """CapsuleNet of Van Quang et al., FG 2019: ResNet-18 to stage 3, then routed capsules; 13,842,544 weights."""
    return build("capsulenet_me", CapsuleNetME, pretrained, **kwargs)
