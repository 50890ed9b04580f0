"""Any image network of timm on an apex image, a dynamic image, or flow from onset to apex.

Networks and weights are timm's (Wightman, "PyTorch Image Models", Apache-2.0; weights have licences of their own, which
their pages on the Hub state). apex_resnet18 is ResNet-18 of He et al., "Deep Residual Learning for Image Recognition",
CVPR 2016, on the apex frame: 11,176,512 weights without the last layer, as timm counts. No scores are claimed.

Ours: values as the spec says become 0..1 and are then normalised by the mean and deviation of timm's configuration,
within the network, whatever the number of channels; dropout stands before the last layer, which is ``fc`` with torch's
first weights; of a network for one size the size is an argument.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, cast
from urllib.parse import urlsplit

import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from torch import Tensor, nn

from mer_zoo.errors import InputError, UnknownNameError, WeightsError
from mer_zoo.models import _weights
from mer_zoo.models._base import ZooModel, _take, classifier
from mer_zoo.models._builder import _SPECS, build, register
from mer_zoo.models._normalise import Normalise
from mer_zoo.types import InputSpec

COLOURS = ("red", "green", "blue")
FILES = ("model.safetensors", "pytorch_model.bin")  # of weights on the Hub


class TimmNetwork(ZooModel):
    """Images (B, C, H, W), values as the spec says -> logits (B, num_classes).

    Args:
        backbone: timm's name of it, with a tag or without.
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels.
        size: Height and width.
        drop_rate: Share of the vector dropped in training.
        global_pool: ``own``: as the network pools by itself; empty: what it pools stays as it is.
        options: Those of timm's network.
    """

    pools: ClassVar = ("own",)
    small: ClassVar = {"size": 64}

    def __init__(
        self,
        backbone: str = "resnet18",
        num_classes: int = 3,
        in_chans: int = 3,
        size: int = 224,
        drop_rate: float = 0.0,
        global_pool: str = "own",
        **options: Any,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.size = num_classes, in_chans, size
        self.backbone: Any = make(backbone, in_chans, size, **options)
        cfg = self.backbone.pretrained_cfg
        self.normalise = Normalise(cfg["mean"], cfg["std"])
        self.feature_info = [dict(info) for info in getattr(self.backbone, "feature_info", None) or []]
        self.num_features = self.backbone.head_hidden_size
        self.set_pool(global_pool, num_classes)
        self.drop_rate = drop_rate
        self.drop = nn.Dropout(drop_rate)
        self.fc = classifier(self.num_features, num_classes)

    @property
    def first_convs(self) -> tuple[str, ...]:  # type: ignore[override]  # each network's own
        """Convolutions that see the input."""
        found = self.backbone.pretrained_cfg.get("first_conv") or ()
        names = [found] if isinstance(found, str) else found
        return tuple(f"backbone.{n}" for n in names if isinstance(self.backbone.get_submodule(n), nn.Conv2d))

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The modules behind which timm takes its maps; between them lie others, so they are no chain."""
        return [cast(Callable[[Tensor], Tensor], self.backbone.get_submodule(i["module"])) for i in self.feature_info]

    def forward_features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.backbone.forward_features(self.normalise(x, self.input_spec)))

    def pool(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(self.backbone.forward_head(x, pre_logits=True))) if self.global_pool else x

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        if str(getattr(output_fmt, "value", output_fmt)) != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; expected 'NCHW'.")
        take = self._taken(indices)
        early = stop_early or intermediates_only
        x = self.normalise(x, self.input_spec)
        order = sorted(set(take))
        last, found = self.backbone.forward_intermediates(x, indices=order, norm=norm, stop_early=early)
        maps = dict(zip(order, found, strict=True))
        if early and max(take) < len(self.feature_info) - 1:
            last = maps[max(take)]
        chosen = [maps[i] for i in take]
        return chosen if intermediates_only else (last, chosen)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        take = self._taken(indices)
        self.backbone.prune_intermediate_layers(sorted(set(take)), prune_norm=prune_norm, prune_head=prune_head)
        self.feature_info = self.feature_info[: max(take) + 1]
        if prune_head:
            self.num_classes, self.fc = 0, nn.Identity()
        return take

    def _taken(self, indices: int | Sequence[int] | None) -> list[int]:
        if not self.feature_info or not hasattr(self.backbone, "forward_intermediates"):
            raise InputError(f"{type(self.backbone).__name__} of timm gives no maps between input and vector.")
        return _take(len(self.feature_info), indices)

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        self.backbone.set_grad_checkpointing(enable)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        found: dict[str, Any] = self.backbone.group_matcher(coarse=coarse)
        return {
            name: _within(spec) if isinstance(spec, str) else [(_within(pattern), order) for pattern, order in spec]
            for name, spec in found.items()
            if spec is not None
        }


def _within(pattern: str) -> str:
    """A pattern of a network's parameters as they are named where it is the backbone."""
    body = re.sub(r"(^|[|(])\^", r"\1", pattern)
    return rf"^backbone\.(?:{body})"


def make(backbone: str, in_chans: int, size: int, **options: Any) -> Any:
    """A network of timm without its classifier, told of the size where it is made for one.

    Raises:
        UnknownNameError: If timm has no such network.
        InputError: If it cannot be made for this size or with these options.
    """
    check_name(backbone)
    cfg = timm.get_pretrained_cfg(backbone)
    sized = {"img_size": size} if cfg is not None and cfg.fixed_input_size else {}
    try:
        return timm.create_model(backbone, num_classes=0, in_chans=in_chans, **sized, **options)
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"timm cannot make {backbone!r} for {size} pixels and options {options}: {error}. Its own size is "
            f"{cfg.input_size[-1] if cfg else 'unknown'}. It takes single images; for clips there are r3d_18 and "
            "others."
        ) from error


def check_name(backbone: str) -> None:
    """Refuse a name that is none of timm's own.

    Raises:
        UnknownNameError: If it is not; near names are listed.
        WeightsError: If the network is there, and the tag is not.
    """
    base, _, tag = str(backbone).partition(".")
    if base in _SPECS:
        raise InputError(f"{base!r} is a network of this library; expected one of timm. Take create_model({base!r}).")
    if not timm.is_model(base):
        raise UnknownNameError("network of timm", base, [n for n in timm.list_models() if n not in _SPECS])
    if tag and backbone not in (known := timm.list_models(f"{base}.*", pretrained=True, include_tags=True)):
        raise WeightsError(f"timm has no weights {backbone!r}; for {base} there are: {', '.join(known) or 'none'}.")


def weights_file(backbone: str) -> Path | None:
    """The weights that timm has of a network, fetched if need be; None where timm fetches them by itself.

    Raises:
        WeightsError: If there are none, or they are neither kept here nor to be had; within a second.
    """
    cfg = timm.get_pretrained_cfg(backbone)
    if cfg is None or not (cfg.hf_hub_id or cfg.url or cfg.file):
        raise WeightsError(f"timm has no weights of {backbone!r}; use pretrained=False, or another network.")
    if cfg.file:
        return Path(cfg.file)
    if not cfg.hf_hub_id:
        kept = Path(torch.hub.get_dir(), "checkpoints", Path(urlsplit(cfg.url).path).name)
        if not kept.is_file() and not _weights.reachable(cfg.url):
            raise WeightsError(f"{backbone}: {kept.name} is not in {kept.parent}, and {cfg.url} cannot be reached.")
        return None
    files = (cfg.hf_hub_filename,) if cfg.hf_hub_filename else FILES
    for i, name in enumerate(files):
        try:
            return _weights.fetch(cfg.hf_hub_id, name)
        except WeightsError as error:
            cause = error.__cause__
            absent = isinstance(cause, EntryNotFoundError) and not isinstance(cause, LocalEntryNotFoundError)
            if not absent or i + 1 == len(files):
                raise WeightsError(
                    f"timm's weights of {backbone!r} are not to be had. {error} Fetch them once with a connection: "
                    f"`timm.create_model({backbone!r}, pretrained=True)` keeps them; or use pretrained=False."
                ) from error
    return None


def _begin_with_timm(model: TimmNetwork, backbone: str, file: Path | None, size: int, options: dict[str, Any]) -> None:
    """Fill a network with timm's weights, adapted by timm to its channels and size."""
    weight = next(model.parameters())
    if weight.is_meta:
        return
    overlay = {"pretrained_cfg_overlay": {"file": str(file), "custom_load": False}} if file else {}
    donor = make(backbone, model.in_chans, size, pretrained=True, **overlay, **options)
    state = donor.state_dict()
    model.backbone.load_state_dict({name: state[name] for name in model.backbone.state_dict()})


def _timm(name: str, pretrained: bool, timm_weights: bool, published: dict[str, Any], **kwargs: Any) -> nn.Module:
    """Build a network and, if asked, begin with timm's weights; saved models bring weights of their own."""
    timm_weights = timm_weights and not (kwargs.get("pretrained_model_args") or {}).get("timm_weights")
    if timm_weights and pretrained:
        raise InputError("pretrained=True and timm_weights=True both bring weights; expected one of them.")
    asked = {**published, **kwargs}
    backbone = asked["backbone"]
    check_name(backbone)
    file = weights_file(backbone) if timm_weights else None
    model = build(name, TimmNetwork, pretrained, published, **kwargs)
    network = cast(TimmNetwork, getattr(model, "model", model))
    if timm_weights:
        known = {"backbone", "num_classes", "in_chans", "size", "drop_rate", "global_pool"}
        options = {key: value for key, value in network._model_args.items() if key not in known}
        _begin_with_timm(network, backbone, file, network.size, options)
    return model


def from_timm(name: str, spec: InputSpec, num_classes: int = 3, pretrained: bool = False, **options: Any) -> nn.Module:
    """Any image network of timm on what a spec says: an apex image, a dynamic image, or flow from onset to apex.

    It is a network of this library: ``save_pretrained`` keeps it, ``evaluate(lambda: from_timm(...), ...)`` takes it.

    Args:
        name: timm's, such as ``resnet18`` or ``vit_tiny_patch16_224.augreg_in21k_ft_in1k``.
        spec: What it is to eat; its values go to 0..1 and then by timm's mean and deviation.
        num_classes: Length of the logits; 0 gives the vector before them.
        pretrained: Begin with timm's weights of this name, fetched from the Hub unless they are kept here.
        **options: ``drop_rate``, ``device``, ``dtype``, and those of timm's network; channels and size are the spec's.

    Raises:
        UnknownNameError: If timm has no such network; near names are listed.
        InputError: If the spec is of clips or pairs, the network cannot take its size, or an option is for the spec.
        WeightsError: If weights are asked for that do not exist or cannot be fetched.
    """
    if len(spec.shape) != 3:
        raise InputError(
            f"{name} is a network for images (C, H, W), and this spec is a {spec.kind} {spec.shape}. Take kind 'image' "
            "(the apex), 'dynamic' (one image of all frames) or 'flow' with frames=1; or, for clips, a network such as "
            "r3d_18."
        )
    given: dict[str, Any] = {
        "backbone": name,
        "timm_weights": pretrained,
        "in_chans": len(spec.channels),
        "size": spec.size,
    }
    if twice := sorted(options.keys() & given):
        raise InputError(f"{', '.join(twice)} cannot be options: name, pretrained and the spec say them already.")
    model = timm_image(num_classes=num_classes, **given, **options)
    for part in (model, getattr(model, "model", model)):
        part.input_spec = spec
    _try(model, name, spec)
    return model


@torch.no_grad()
def _try(model: nn.Module, name: str, spec: InputSpec) -> None:
    """Ask once, where the size is not timm's own; a network that cannot take it says so now."""
    weight, cfg = next(model.parameters()), timm.get_pretrained_cfg(name)
    if weight.is_meta or (cfg is not None and cfg.input_size[-1] == spec.size):
        return
    training = model.training
    try:
        model.eval()(torch.full((1, *spec.shape), spec.low, device=weight.device, dtype=weight.dtype))
    except (AssertionError, RuntimeError, ValueError, IndexError) as error:
        own = cfg.input_size[-1] if cfg else "unknown"
        raise InputError(f"{name} cannot take {spec.size} pixels: {error}. Its own size is {own}.") from error
    finally:
        model.train(training)


@register(InputSpec("image", COLOURS, size=224))
def apex_resnet18(pretrained: bool = False, timm_weights: bool = False, **kwargs: Any) -> nn.Module:
    """ResNet-18 of He et al., CVPR 2016, by timm, on the apex frame: 11.2 million weights."""
    return _timm("apex_resnet18", pretrained, timm_weights, {"backbone": "resnet18", "size": 224}, **kwargs)


@register(InputSpec("image", COLOURS, size=112))
def timm_image(pretrained: bool = False, timm_weights: bool = False, **kwargs: Any) -> nn.Module:
    """Any image network of timm, named by ``backbone``, as ``from_timm`` makes it; resnet10t, 4.9 million weights."""
    return _timm("timm_image", pretrained, timm_weights, {"backbone": "resnet10t", "size": 112}, **kwargs)
