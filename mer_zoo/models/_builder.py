"""Networks in timm's registry: the one file that knows timm's inside.

What bites with clips, and is dealt with here: timm adapts only 4-D first convolutions to another number of channels
(ours are adapted in ``_adapt``, before timm looks); its configuration knows ``input_size`` as (C, H, W) and no
further keys (time and everything else is in the InputSpec, saved beside it); a second model of one name would
silently replace the first (``register`` raises).
"""

import contextlib
import dataclasses
import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeVar, cast

import huggingface_hub
import timm
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from timm.models import DefaultCfg, PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer_zoo.errors import InputError, MerZooError, UnknownNameError
from mer_zoo.types import InputSpec

SHIPPED = Path(__file__).parent.parent / "weights"  # <model>.<tag>.safetensors: a tag exists when its file does
CONFIG_KEY = "mer_zoo"  # our block in config.json
SOURCES = ("hf-hub:", "local-dir:")

_SPECS: dict[str, InputSpec] = {}

EntryPoint = TypeVar("EntryPoint", bound=Callable[..., nn.Module])


class ZooModel(nn.Module):
    """What timm expects of a model, made from what a network brings.

    A network sets ``num_classes``, ``in_chans``, ``num_features`` (length of its vector) and ``feature_info`` (one
    entry a stage), has the linear layer ``fc``, and defines ``stages`` and ``pool``.
    """

    first_convs: ClassVar[tuple[str, ...]]
    stem_pattern: ClassVar[str] = r"^stem"
    blocks_pattern: ClassVar[str] = r"^blocks\.(\d+)"

    num_classes: int
    in_chans: int
    num_features: int
    feature_info: list[dict[str, Any]]
    input_spec: InputSpec
    fc: nn.Module
    grad_checkpointing = False

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The parts between input and vector, in order; each maps a tensor to a tensor."""
        raise NotImplementedError

    def adapt_spec(self, spec: InputSpec) -> InputSpec:
        """The registered spec, changed by options that change the input, such as a number of frames."""
        frames = getattr(self, "num_frames", spec.frames)
        return spec if frames == spec.frames else dataclasses.replace(spec, frames=frames)

    def norm_features(self, x: Tensor) -> Tensor:
        """What follows the last stage, before pooling."""
        return x

    def pool(self, x: Tensor) -> Tensor:
        """Feature maps to one vector a clip: (B, D, …) -> (B, num_features)."""
        raise NotImplementedError

    @property
    def head_hidden_size(self) -> int:
        """Length of the vector that the classifier sees."""
        return self.num_features

    def get_classifier(self) -> nn.Module:
        """The last linear layer, or an identity where there are no classes."""
        return self.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """A fresh last layer for ``num_classes``; 0 removes it."""
        if global_pool is not None:
            self.reset_pool(global_pool)
        weight = next(self.parameters())
        self.num_classes = num_classes
        self.fc = classifier(self.num_features, num_classes).to(weight.device, weight.dtype)

    def reset_pool(self, global_pool: str) -> None:
        """Pool otherwise; a network with one way of pooling refuses."""
        raise InputError(f"{type(self).__name__} pools in one way only; global_pool={global_pool!r} is not possible.")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage on the way back instead of keeping its maps: less memory, more time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Parameter names by depth, for layer-wise learning rates."""
        return {"stem": self.stem_pattern, "blocks": self.stem_pattern if coarse else self.blocks_pattern}

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Feature maps after chosen stages, clips as (B, D, T, H, W), and with them what ``forward_features`` gives.

        Args:
            x: A batch, as for ``forward``.
            indices: Which stages; a number means the last so many, None all.
            norm: Whether the last stage's map is the normalised one.
            stop_early: Leave out the stages after the last chosen one.
            output_fmt: Only ``NCHW``, which for clips reads N C T H W.
            intermediates_only: Return the list alone.
        """
        if str(getattr(output_fmt, "value", output_fmt)) != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; expected 'NCHW' (for clips: N C T H W).")
        stages = self.stages()
        take = _take(len(stages), indices)
        maps = []
        for i, stage in enumerate(stages[: max(take) + 1] if stop_early else stages):
            x = self._run(stage, x)
            if i in take:
                maps.append(self.norm_features(x) if norm and i == len(stages) - 1 else x)
        return maps if intermediates_only else (self.norm_features(x), maps)

    def forward_features(self, x: Tensor) -> Tensor:
        """A batch to the last feature maps, not pooled: (B, C, …) -> (B, D, …)."""
        for stage in self.stages():
            x = self._run(stage, x)
        return self.norm_features(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Feature maps to logits (B, num_classes), or to the vector before them."""
        x = self.pool(x)
        return x if pre_logits else cast(Tensor, self.fc(x))

    def forward(self, x: Tensor) -> Tensor:
        """A batch as ``input_spec`` says to logits (B, num_classes)."""
        return self.forward_head(self.forward_features(x))

    def _run(self, stage: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        if self.grad_checkpointing and self.training:
            return checkpoint(stage, x, use_reentrant=False)
        return stage(x)


def _take(stages: int, indices: int | Sequence[int] | None) -> list[int]:
    """Positions of the stages asked for: the last so many, those listed (negative ones from the end), or all."""
    if indices is None or isinstance(indices, int):
        return list(range(stages))[-(indices or stages) :]
    if not all(-stages <= i < stages for i in indices):
        raise InputError(f"Stages {list(indices)} were asked for; there are {stages}, 0 to {stages - 1}.")
    return [i % stages for i in indices]


def classifier(features: int, num_classes: int) -> nn.Module:
    """The last layer, (B, features) -> (B, num_classes); an identity for 0 classes."""
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}; expected 0 (no classifier) or more.")
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()


def register(spec: InputSpec, weights: Path = SHIPPED) -> Callable[[EntryPoint], EntryPoint]:
    """Put an entry point into timm's registry and keep its input spec.

    Args:
        spec: What the network eats.
        weights: Folder of ``<name>.<tag>.safetensors``; each file found there becomes a tag.

    Raises:
        ValueError: If timm or another file of ours has a model of this name.
    """

    def decorate(entry_point: EntryPoint) -> EntryPoint:
        name = entry_point.__name__
        if timm.is_model(name) and timm.model_entrypoint(name).__module__ != entry_point.__module__:
            raise ValueError(f"A model named {name!r} is registered by {timm.model_entrypoint(name).__module__}.")
        module = vars(sys.modules[entry_point.__module__])
        module.setdefault("default_cfgs", {})[name] = _default_cfg(name, spec, weights)
        _SPECS[name] = spec
        return cast(EntryPoint, register_model(entry_point))

    return decorate


def _default_cfg(name: str, spec: InputSpec, weights: Path) -> DefaultCfg:
    channels, *_, height, width = spec.shape
    plain = PretrainedCfg(
        input_size=(channels, height, width),
        num_classes=3,
        mean=(0.0,) * channels,
        std=(1.0,) * channels,
        first_conv=None,  # see _adapt
        classifier="fc",
    )
    cfgs: dict[str, Any] = {}
    for file in sorted(weights.glob(f"{name}.*.safetensors")):
        with safe_open(file, framework="pt") as saved:
            classes = saved.get_slice("fc.weight").get_shape()[0]
        cfgs[file.stem] = {**vars(plain), "file": str(file), "num_classes": classes}
    return cast(DefaultCfg, generate_default_cfgs(cfgs or {name: plain})[name])


def build(
    name: str, network: type[ZooModel], pretrained: bool, options: dict[str, Any] | None = None, **kwargs: Any
) -> nn.Module:
    """Make a registered network: its entry point's ``options``, overridden by what the caller passed.

    Understands what ``timm.create_model`` does, ``device`` and ``dtype`` included. The model gets ``input_spec``, the
    saved one if it comes from a folder or the Hub, and refuses batches of another shape.
    """
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    cfg = kwargs.get("pretrained_cfg")
    spec = _saved_spec(cfg, kwargs.get("cache_dir")) or _SPECS[name]
    options = {**(options or {}), **kwargs}
    with _defaults(device, dtype):
        model = build_model_with_cfg(
            network,
            name,
            pretrained,
            pretrained_filter_fn=_adapt,
            feature_cfg={"feature_cls": "getter", "out_indices": -1},
            **options,
        )
    backbone = cast(ZooModel, getattr(model, "model", model))
    backbone.input_spec = model.input_spec = backbone.adapt_spec(spec).with_channels(backbone.in_chans)
    model.register_forward_pre_hook(_check_input)
    return cast(nn.Module, model)


@contextlib.contextmanager
def _defaults(device: Any, dtype: torch.dtype | None) -> Iterator[None]:
    """Make what is built in here on ``device`` and of ``dtype``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype or before)
    try:
        with torch.device(device) if device is not None else contextlib.nullcontext():
            yield
    finally:
        torch.set_default_dtype(before)


def _adapt(state: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Fit first convolutions, 2-D or 3-D, to the model's number of channels before timm looks at them.

    To one channel the weights are summed; to several they are repeated and scaled, so that equal channels give the
    response of the original (the rule of timm's ``adapt_input_conv``).
    """
    for name in cast(ZooModel, model).first_convs:
        weight, wanted = state[f"{name}.weight"], cast(nn.Conv3d, model.get_submodule(name)).in_channels
        found = weight.shape[1]
        if found == wanted:
            continue
        repeats = -(-wanted // found)
        repeated = weight.repeat(1, repeats, *[1] * (weight.ndim - 2))[:, :wanted]
        state[f"{name}.weight"] = weight.sum(dim=1, keepdim=True) if wanted == 1 else repeated * (found / wanted)
    return state


def _saved_spec(cfg: Any, cache_dir: Any) -> InputSpec | None:
    """The spec in the config.json that timm is loading from; None where the weights are not from one."""
    source = cfg.get("source") if isinstance(cfg, dict) else None
    if source == "local-dir":
        file = Path(cfg["file"]) / "config.json"
    elif source == "hf-hub":
        repo, _, revision = cfg["hf_hub_id"].partition("@")
        file = Path(
            huggingface_hub.hf_hub_download(repo, "config.json", revision=revision or None, cache_dir=cache_dir)
        )
    else:
        return None
    saved = json.loads(file.read_text()).get(CONFIG_KEY)
    if not saved:
        raise MerZooError(f"{file} has no {CONFIG_KEY!r} block with an input spec; save with mer_zoo.save_pretrained.")
    return InputSpec.from_dict(saved["input_spec"])


def _check_input(model: nn.Module, args: tuple[Any, ...]) -> None:
    """Before a call: refuse a wrong shape; warn of wrong values where looking costs little and disturbs nothing.

    ``fit`` and ``predict`` refuse wrong values; here they only warn, so that a random tensor may probe a model.
    """
    spec, x = cast(InputSpec, model.input_spec), args[0]
    spec.check_shape(x)
    if model.training or x.device.type != "cpu" or _transformed():
        return
    try:
        spec.check(x)
    except InputError as error:
        warnings.warn(str(error), stacklevel=4)


def _transformed() -> bool:
    """Whether torch is compiling, tracing or mapping the model, so that values must not be looked at."""
    mapping = torch._C._functorch.maybe_current_level() is not None
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or mapping


def list_models(pattern: str = "*", pretrained: bool = False) -> list[str]:
    """Names of our models that match a pattern such as ``*densenet*``; with ``pretrained``, name and tag of weights."""
    names = cast(list[str], timm.list_models(pattern, pretrained=pretrained, include_tags=pretrained))
    return [name for name in names if name.partition(".")[0] in _SPECS]


def create_model(name: str, pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Make a network by name, as ``timm.create_model`` does.

    Args:
        name: One of ``list_models()``, with a tag (``name.tag``), or ``hf-hub:owner/repo@revision``, or
            ``local-dir:path``.
        pretrained: Load weights: those of the tag, of the Hub or of the folder.
        **kwargs: ``num_classes`` (0: none), ``in_chans``, ``checkpoint_path``, ``features_only``, ``device``,
            ``dtype``, and the network's own options.

    Returns:
        The model; ``input_spec(model)`` says what it eats.

    Raises:
        UnknownNameError: If no model has this name; near names are listed.
        MerZooError: If weights are asked for that do not exist.
    """
    if not name.startswith(SOURCES):
        _check_name(name, pretrained)
    return cast(nn.Module, timm.create_model(name, pretrained=pretrained, **kwargs))


def _check_name(name: str, pretrained: bool) -> None:
    base, _, tag = name.partition(".")
    if base not in _SPECS:
        raise UnknownNameError("model", base, _SPECS)
    weights = list_models(f"{base}*", pretrained=True)
    tags = [w for w in weights if w.partition(".")[0] == base]
    if (tag and name not in tags) or (pretrained and not tags):
        raise MerZooError(
            f"There are no weights {name!r}; for {base} there are: {', '.join(tags) or 'none'}. "
            "Use pretrained=False, or name weights of your own: 'local-dir:FOLDER' or 'hf-hub:OWNER/REPO'."
        )


def input_spec(model_or_name: nn.Module | str) -> InputSpec:
    """What a model eats: by name the registered spec, of a model its own.

    Raises:
        UnknownNameError: If no model has this name.
        InputError: If the module carries no spec; set ``model.input_spec = InputSpec(...)``.
    """
    if isinstance(model_or_name, str):
        if model_or_name.startswith(SOURCES):
            return input_spec(create_model(model_or_name, device="meta"))
        _check_name(model_or_name, pretrained=False)
        return _SPECS[model_or_name.partition(".")[0]]
    spec = getattr(model_or_name, "input_spec", None)
    if not isinstance(spec, InputSpec):
        raise InputError(
            f"{type(model_or_name).__name__} does not say what it eats; set model.input_spec = mer_zoo.InputSpec(…)."
        )
    return spec


def write_pretrained(model: nn.Module, folder: Path, facts: dict[str, Any]) -> None:
    """Write ``model.safetensors`` and timm's ``config.json`` with our block, which holds the input spec and ``facts``.

    What the model was built with, its input and its number of classes are written as they are now, so that it is
    built alike on loading.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    options = {"in_chans": model.in_chans, "num_classes": model.num_classes}
    block = {"input_spec": input_spec(model).to_dict(), **facts}
    save_config_for_hf(model, folder / "config.json", model_config={CONFIG_KEY: block}, model_args=options)
