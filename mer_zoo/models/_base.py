"""What timm expects of a model, made from the few things that a network brings."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, cast

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from mer_zoo.errors import InputError
from mer_zoo.types import InputSpec

PROBE = "probe."  # begins the names of what lies with weights and is none: an input and its logits
FEW = 10  # names that an error lists


class ZooModel(nn.Module):
    """A network in timm's manner.

    A network sets ``num_classes``, ``in_chans``, ``num_features`` (length of its vector) and ``feature_info`` (one
    entry a stage), has the linear layer ``fc``, and defines ``stages`` and ``pool``. ``pools`` are the ways of pooling
    that ``global_pool`` may name; an empty text means none, and then there can be no classes. ``behind_maps`` names the
    modules that make the vector out of the last maps, if any. ``small`` are options of a form that can be tried within
    a second, of networks that are too large for that.
    """

    first_convs: ClassVar[tuple[str, ...]]
    stem_pattern: ClassVar[str] = r"^stem"
    blocks_pattern: ClassVar[str] = r"^blocks\.(\d+)"
    layers_pattern: ClassVar[str] = r"^blocks\.(\d+)\.(\d+)"
    pools: ClassVar[tuple[str, ...]] = ("flat",)
    small: ClassVar[Mapping[str, Any]] = {}
    behind_maps: ClassVar[tuple[str, ...]] = ()

    num_classes: int
    in_chans: int
    num_features: int
    feature_info: list[dict[str, Any]]
    input_spec: InputSpec
    saved_facts: dict[str, Any]  # classes and trained_on, as saved with the weights
    fc: nn.Module
    norm: nn.Module
    global_pool: str
    _model_args: dict[str, Any]  # timm's record of what the model was built with
    grad_checkpointing = False

    @property
    def classes(self) -> tuple[str, ...]:
        """Names by class index, as saved with the weights; empty where they are not known."""
        names = getattr(self, "saved_facts", {}).get("classes", ())
        return tuple(names) if len(names) == self.num_classes else ()

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As of any module; a probe that lies with the weights is passed over.

        Raises:
            InputError: If the weights are those of another network, or of another number of classes.
        """
        state = {name: value for name, value in state_dict.items() if not name.startswith(PROBE)}
        _check_fit(self, state, strict)
        return super().load_state_dict(state, strict, assign)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        """The parts between input and vector, in order; each maps a tensor to a tensor."""
        raise NotImplementedError

    def adapt_spec(self, spec: InputSpec) -> InputSpec:
        """The registered or saved spec, with the size and the number of frames that the network was built for."""
        return replace(spec, size=getattr(self, "size", spec.size), frames=getattr(self, "num_frames", spec.frames))

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
        """A fresh last layer for ``num_classes``; 0 removes it. ``global_pool`` changes how a vector is made."""
        self.set_pool(self.global_pool if global_pool is None else global_pool, num_classes)
        weight = next(self.parameters())
        self.num_classes = num_classes
        self.fc = classifier(self.num_features, num_classes).to(weight.device, weight.dtype)

    def set_pool(self, global_pool: str, num_classes: int) -> None:
        """Keep how a vector is made.

        Raises:
            InputError: If the network cannot pool so, or is to classify without a vector.
        """
        if global_pool and global_pool not in self.pools:
            raise InputError(
                f"global_pool is {global_pool!r}; expected one of {', '.join(self.pools)}, or '' for none."
            )
        if not global_pool and num_classes:
            raise InputError(f"global_pool '' gives maps, not a vector; it goes with num_classes=0, not {num_classes}.")
        self.global_pool = global_pool

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage on the way back instead of keeping its maps: less memory, more time."""
        self.grad_checkpointing = enable

    def group_matcher(self, coarse: bool = False) -> dict[str, str]:
        """Parameter names by depth, for layer-wise learning rates."""
        return {"stem": self.stem_pattern, "blocks": self.blocks_pattern if coarse else self.layers_pattern}

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Drop what lies behind the last of these stages; gives the stages as positions from the first."""
        take = _take(len(self.stages()), indices)
        self.keep_stages(max(take) + 1)
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            for name in self.behind_maps:
                setattr(self, name, nn.Identity())
            self.reset_classifier(0)
        return take

    def keep_stages(self, number: int) -> None:
        """Drop the stages behind the first ``number``, where they hold weights of their own."""

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
            stop_early: Leave out the stages after the last chosen one; what ``forward_features`` gives is then the
                last map that was made, not normalised unless it is of the last stage.
            output_fmt: Only ``NCHW``, which for clips reads N C T H W.
            intermediates_only: Return the list alone.
        """
        if str(getattr(output_fmt, "value", output_fmt)) != "NCHW":
            raise InputError(f"output_fmt is {output_fmt!r}; expected 'NCHW' (for clips: N C T H W).")
        stages = self.stages()
        take = _take(len(stages), indices)
        early = stop_early or intermediates_only
        maps: dict[int, Tensor] = {}
        for i, stage in enumerate(stages[: max(take) + 1] if early else stages):
            maps[i] = x = self._run(stage, x)
        if len(maps) == len(stages) and (norm or not intermediates_only):
            x = self.norm_features(x)
            if norm:
                maps[len(stages) - 1] = x
        chosen = [maps[i] for i in take]
        return chosen if intermediates_only else (x, chosen)

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


class StemAndBlocks(ZooModel):
    """A network whose stages are ``stem`` and each of ``blocks``."""

    stem: nn.Module
    blocks: nn.ModuleList

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.stem, *self.blocks]

    def keep_stages(self, number: int) -> None:
        self.blocks = self.blocks[: number - 1]


def check_state(model: ZooModel, state: Mapping[str, Any]) -> None:
    """Refuse weights of another network, whatever their last layer and their number of channels.

    Raises:
        InputError: If names are missing or unexpected; the first few are listed.
    """
    own, theirs = ({n for n in names if not n.startswith(("fc.", PROBE))} for names in (model.state_dict(), state))
    _complain(model, [n for n in model.state_dict() if n in own - theirs], [n for n in state if n in theirs - own], [])


def _check_fit(model: ZooModel, state: Mapping[str, Any], strict: bool) -> None:
    """Refuse weights that do not fit, and say how to adapt those of another number of classes."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    theirs = {name: tuple(value.shape) for name, value in state.items()}
    missing = [name for name in own if name not in theirs] if strict else []
    unexpected = [name for name in theirs if name not in own] if strict else []
    shapes = [name for name in own if name in theirs and theirs[name] != own[name]]
    classes = theirs["fc.bias"][0] if "fc.bias" in theirs else 0
    wrong = [*missing, *unexpected, *shapes]
    if wrong and classes != model.num_classes and all(name.startswith("fc.") for name in wrong):
        raise InputError(
            f"The weights are for {classes} classes, the model has {model.num_classes}. To begin with them, make the "
            f"model with num_classes={classes}, load, and call reset_classifier({model.num_classes}); "
            f"create_model(NAME, pretrained=True, num_classes={model.num_classes}) does so by itself."
        )
    _complain(model, missing, unexpected, [f"{name} {theirs[name]}, expected {own[name]}" for name in shapes])


def _complain(model: ZooModel, missing: list[str], unexpected: list[str], shapes: list[str]) -> None:
    """Raise if there is anything, naming the first few of each."""
    complaints = [
        f"{len(names)} {what}: {', '.join(names[:FEW])}{', …' if len(names) > FEW else ''}"
        for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
        if names
    ]
    if complaints:
        raise InputError(f"These are not the weights of this {type(model).__name__}. {'. '.join(complaints)}.")


def _take(stages: int, indices: int | Sequence[int] | None) -> list[int]:
    """Positions of the stages asked for: the last so many, those listed (negative ones from the end), or all."""
    number = stages if indices is None else indices
    if isinstance(number, int):
        if not 1 <= number <= stages:
            raise InputError(f"The last {number} stages were asked for; there are {stages}.")
        return list(range(stages - number, stages))
    if not number or not all(-stages <= i < stages for i in number):
        raise InputError(f"Stages {list(number)} were asked for; there are {stages}, 0 to {stages - 1}.")
    return [i % stages for i in number]


def classifier(features: int, num_classes: int) -> nn.Module:
    """The last layer, (B, features) -> (B, num_classes); an identity for 0 classes."""
    if num_classes < 0:
        raise InputError(f"num_classes is {num_classes}; expected 0 (no classifier) or more.")
    return nn.Linear(features, num_classes) if num_classes else nn.Identity()
