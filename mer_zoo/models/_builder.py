"""Networks in timm's registry: the one file that knows timm's inside.

What bites with clips, and is dealt with here: timm adapts only 4-D first convolutions to another number of channels
(ours are adapted in ``_adapt``, before timm looks); its configuration knows ``input_size`` as (C, H, W) and no
further keys (time and everything else is in the InputSpec, saved beside it); a second model of one name would
silently replace the first (``register`` raises).
"""

import contextlib
import json
import pickle
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast

import timm
import torch
from safetensors.torch import save_file
from timm.models import DefaultCfg, PretrainedCfg, build_model_with_cfg, generate_default_cfgs, register_model
from timm.models._hub import save_config_for_hf
from torch import Tensor, nn

from mer_zoo.errors import InputError, UnknownNameError, WeightsError
from mer_zoo.models import _weights
from mer_zoo.models._base import ZooModel, check_state
from mer_zoo.models._weights import CONFIG_KEY, ORGANISATION, SHIPPED, Found
from mer_zoo.options import check_known, check_values, of_python
from mer_zoo.types import InputSpec, remember, spec_of

HUB, FOLDER = ("hf-hub:", "hf_hub:"), "local-dir:"
SOURCES = (*HUB, FOLDER)

_TIMM_ARGUMENTS = {"pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "pretrained_model_args", "features_only"}
_TIMM_ARGUMENTS |= {"feature_cls", "out_indices"}
_SPECS: dict[str, InputSpec] = {}
_TAGS: dict[str, Found] = {}  # weights by name.tag, and by name those that pretrained=True means

EntryPoint = TypeVar("EntryPoint", bound=Callable[..., nn.Module])


def register(spec: InputSpec, weights: Path = SHIPPED) -> Callable[[EntryPoint], EntryPoint]:
    """Put an entry point into timm's registry and keep its input spec.

    Args:
        spec: What the network eats.
        weights: Folder of ``<name>.<tag>.json``; each becomes a tag. Its weights, ``<name>.<tag>.safetensors``, lie
            beside it, or on the Hub alone.

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
    for config in sorted(weights.glob(f"{name}.*.json")):
        file, repo = config.with_suffix(".safetensors"), f"{ORGANISATION}/{config.stem}"
        _TAGS[config.stem] = Found(config, file if file.exists() else None, repo)
        _TAGS.setdefault(name, _TAGS[config.stem])
        saved = json.loads(config.read_text(encoding="utf-8"))
        about = {"num_classes": saved["num_classes"], "label_names": saved.get("label_names"), "hf_hub_id": repo}
        cfgs[config.stem] = {**vars(plain), **about, **({"file": str(file)} if file.exists() else {})}
    return cast(DefaultCfg, generate_default_cfgs(cfgs or {name: plain})[name])


def build(
    name: str, network: type[ZooModel], pretrained: bool, options: dict[str, Any] | None = None, **kwargs: Any
) -> nn.Module:
    """Make a registered network: its entry point's ``options``, overridden by what the caller passed.

    Understands what ``timm.create_model`` does, ``device`` and ``dtype`` included. The model gets ``input_spec``, the
    saved one if it comes from a folder or the Hub, and refuses batches of another shape.
    """
    device, dtype = kwargs.pop("device", None), kwargs.pop("dtype", None)
    if kwargs.get("feature_cls", "getter") != "getter":
        raise InputError(f"feature_cls is {kwargs['feature_cls']!r}; these networks give features by 'getter' only.")
    found = _found(name, pretrained, kwargs)
    file = found.file() if found and pretrained else None
    options = {**(options or {}), **kwargs, **(_aimed_at(file, kwargs) if file else {})}
    known = {option: value for option, value in options.items() if option not in _TIMM_ARGUMENTS}
    check_known(name, network, known)
    check_values(network, known)
    with _defaults(device, dtype):
        model = build_model_with_cfg(
            network,
            name,
            pretrained,
            pretrained_filter_fn=_adapt,
            feature_cfg={"feature_cls": "getter", "out_indices": 1},
            **options,
        )
    backbone = cast(ZooModel, getattr(model, "model", model))
    backbone._model_args = known
    _describe(backbone, found, name, pretrained)
    model.input_spec = backbone.input_spec
    if found and file and backbone is model:
        _weights.prove(backbone, found, file, kwargs)
    model.register_forward_pre_hook(_check_input, with_kwargs=True)
    return cast(nn.Module, model)


def _found(name: str, pretrained: bool, kwargs: Mapping[str, Any]) -> Found | None:
    """Where timm is about to load a model from: a folder, the Hub, a tag of ours, or a file that the caller names.

    None if from nowhere, or from a file without a configuration of ours.
    """
    cfg, overlay = kwargs.get("pretrained_cfg"), kwargs.get("pretrained_cfg_overlay") or {}
    given = vars(cfg) if isinstance(cfg, PretrainedCfg) else cfg if isinstance(cfg, Mapping) else {}
    if given.get("source") == "local-dir":
        return _weights.in_folder(Path(given["file"]))
    if given.get("source") == "hf-hub":
        return _weights.on_hub(given["hf_hub_id"], kwargs.get("cache_dir"))
    by_hand = {**given, **overlay}
    if any(by_hand.get(key) for key in ("file", "url", "hf_hub_id", "state_dict")):
        return _weights.beside(Path(by_hand["file"])) if by_hand.get("file") else None
    if isinstance(cfg, str) and cfg:
        return _TAGS.get(f"{name}.{cfg}")
    return _TAGS.get(name) if pretrained and not cfg else None


def _aimed_at(file: Path, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What makes timm load this file and no other, so that what was checked is what is loaded."""
    cfg = kwargs.get("pretrained_cfg")
    if isinstance(cfg, Mapping) and cfg.get("source"):
        return {"pretrained_cfg": {**cfg, "source": "local-dir", "file": str(file.parent)}}
    return {"pretrained_cfg_overlay": {**(kwargs.get("pretrained_cfg_overlay") or {}), "file": str(file)}}


def _describe(model: ZooModel, found: Found | None, name: str, pretrained: bool) -> None:
    """Give a model its spec, and what is known of its weights: as they were saved, or as it is registered."""
    block = found.block if found else {}
    facts = {key: value for key, value in block.items() if key not in ("input_spec", "sha256")}
    if not pretrained:
        facts.pop("trained_on", None)
    if len(facts.get("classes", ())) != model.num_classes:
        facts.pop("classes", None)
    model.saved_facts = facts
    spec = InputSpec.from_dict(block["input_spec"]) if block else _SPECS[name]
    model.input_spec = model.adapt_spec(spec).with_channels(model.in_chans)


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
    """Refuse weights of another network, then fit first convolutions to the model's number of channels.

    To one channel the weights are summed; to several they are repeated and scaled, so that equal channels give the
    response of the original (the rule of timm's ``adapt_input_conv``).
    """
    check_state(cast(ZooModel, model), state)
    for name in cast(ZooModel, model).first_convs:
        weight, wanted = state[f"{name}.weight"], cast(nn.Conv3d, model.get_submodule(name)).in_channels
        found = weight.shape[1]
        if found == wanted:
            continue
        repeats = -(-wanted // found)
        repeated = weight.repeat(1, repeats, *[1] * (weight.ndim - 2))[:, :wanted]
        state[f"{name}.weight"] = weight.sum(dim=1, keepdim=True) if wanted == 1 else repeated * (found / wanted)
    return state


def _check_input(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Before a call: refuse a wrong shape; warn of wrong values where looking costs little and disturbs nothing.

    ``fit`` and ``predict`` refuse wrong values; here they only warn, so that a random tensor may probe a model.
    """
    spec, x = cast(InputSpec, model.input_spec), args[0] if args else kwargs["x"]
    spec.check_shape(x)
    if model.training or x.device.type != "cpu" or _transformed():
        return
    try:
        spec.check(x)
    except InputError as error:
        warnings.warn(str(error), stacklevel=5)  # whoever called the model, behind torch's own three calls


def _transformed() -> bool:
    """Whether torch is compiling, tracing, faking or mapping the model, so that values must not be looked at."""
    mapping = torch._C._functorch.maybe_current_level() is not None
    tracing = torch._C._get_tracing_state() is not None or torch._C._len_torch_dispatch_stack() > 0
    return torch.compiler.is_compiling() or tracing or mapping


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
        WeightsError: If weights are asked for that do not exist, cannot be fetched, are damaged, or answer otherwise
            than when they were saved.
        InputError: If weights are of another network or another number of classes, or an option is none of its own or
            has a value that it cannot have.
    """
    if name.startswith(SOURCES):
        found = _source(name, kwargs.get("cache_dir"))
        architecture = found.block and found.values.get("architecture")
        if architecture not in _SPECS:
            raise WeightsError(f"{found.config} is of {architecture!r}, which is no network of this library.")
        if pretrained:
            found.file()
        name = f"{FOLDER}{found.config.parent}"  # of what was fetched; timm would ask the Hub again
    else:
        given = kwargs.get("pretrained_cfg") or kwargs.get("pretrained_cfg_overlay")
        _check_name(name, pretrained and not given)
    checkpoint = kwargs.pop("checkpoint_path", None)
    model = cast(nn.Module, timm.create_model(name, pretrained=pretrained, **of_python(kwargs)))
    if checkpoint:
        _load(Path(checkpoint).expanduser(), model)
    return model


def _source(name: str, cache_dir: Any) -> Found:
    """What a name with a source means; timm, which reads it again, would wait long for a Hub that does not answer."""
    _, _, place = name.partition(":")
    return (
        _weights.in_folder(Path(place).expanduser()) if name.startswith(FOLDER) else _weights.on_hub(place, cache_dir)
    )


def _load(file: Path, model: nn.Module) -> None:
    """Fill a model from a file of weights, proven and with what they have seen if a configuration of ours describes it.

    Raises:
        WeightsError: If the file holds no weights, or anything but tensors.
        InputError: If they are of another network or another number of classes.
    """
    if not isinstance(model, ZooModel):
        raise InputError("features_only does not go with checkpoint_path; save the model and load its folder.")
    found = _weights.beside(file)
    if found:
        found.file()
    model.load_state_dict(_read(file))
    config = file.with_name(_weights.CONFIG)
    if found:
        _weights.prove(model, found, file, model._model_args)
        remember(model, found.block.get("trained_on", ()))
    elif config.exists():
        remember(model, json.loads(config.read_text(encoding="utf-8")).get(CONFIG_KEY, {}).get("trained_on", ()))


def _read(file: Path) -> Mapping[str, Any]:
    """Tensors by name."""
    if not file.is_file():
        raise WeightsError(f"There is no file {file}.")
    if file.suffix == ".safetensors":
        _weights.check_whole(file)
    try:
        state = cast(Mapping[str, Any], timm.models.load_state_dict(str(file), weights_only=True))
    except (OSError, RuntimeError, LookupError, ValueError, EOFError, AttributeError, pickle.UnpicklingError) as error:
        raise WeightsError(
            f"{file} cannot be read with weights_only=True: it is damaged, or holds more than tensors, which might run "
            "code. Ask its authors for safetensors, or for a plain state dict."
        ) from error
    if not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(f"{file} holds no state dict, but {', '.join(map(str, list(state)[:3]))}.")
    return state


def _check_name(name: str, pretrained: bool) -> None:
    base, _, tag = name.partition(".")
    if base not in _SPECS:
        raise UnknownNameError("model", base, _SPECS)
    weights = list_models(f"{base}*", pretrained=True)
    tags = [w for w in weights if w.partition(".")[0] == base]
    if (tag and name not in tags) or (pretrained and not tags):
        raise WeightsError(
            f"There are no weights {name!r}; for {base} there are: {', '.join(tags) or 'none'}. "
            "Use pretrained=False, or name weights of your own: 'local-dir:FOLDER' or 'hf-hub:OWNER/REPO'."
        )


def input_spec(model_or_name: nn.Module | str) -> InputSpec:
    """What a model eats: by name the registered spec, by name and tag that of the weights, of a model its own.

    Raises:
        UnknownNameError: If no model has this name.
        InputError: If the module carries no spec; set ``model.input_spec = InputSpec(...)``.
    """
    if isinstance(model_or_name, str):
        if model_or_name.startswith(SOURCES):
            return input_spec(create_model(model_or_name, device="meta"))
        _check_name(model_or_name, pretrained=False)
        tagged = _TAGS.get(model_or_name) if "." in model_or_name else None
        return InputSpec.from_dict(tagged.block["input_spec"]) if tagged else _SPECS[model_or_name]
    spec = spec_of(model_or_name)
    if spec is None:
        raise InputError(
            f"{type(model_or_name).__name__} does not say what it eats; set model.input_spec = mer_zoo.InputSpec(…)."
        )
    return spec


def write_pretrained(model: ZooModel, folder: Path, facts: dict[str, Any], dtype: torch.dtype | None = None) -> None:
    """Write weights with their probe, and timm's ``config.json`` with our block: input spec, sha256 and ``facts``.

    What the model was built with, its input and its number of classes are written as they are now, so that it is
    built alike on loading. ``dtype`` is of floating-point weights in the file, by default what they are.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    if dtype is not None:
        state = {name: value.to(dtype) if value.is_floating_point() else value for name, value in state.items()}
    save_file({**state, **_weights.probe_of(model, state)}, folder / _weights.WEIGHTS, metadata={"format": "pt"})
    options = {"in_chans": model.in_chans, "num_classes": model.num_classes, "global_pool": model.global_pool}
    channels = {"mean": (0.0,) * model.in_chans, "std": (1.0,) * model.in_chans}
    block = {"input_spec": model.input_spec.to_dict(), **facts, "sha256": _weights.sha256(folder / _weights.WEIGHTS)}
    names = {"label_names": list(facts["classes"])} if facts.get("classes") else {}
    extra = {CONFIG_KEY: block, **names, "pretrained_cfg": {"tag": None, "label_names": None, **names}}
    save_config_for_hf(model, folder / _weights.CONFIG, model_config=extra, model_args=options, data_config=channels)
