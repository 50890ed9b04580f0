"""Why a network says what it says of one clip: where its last maps speak for a class, and what a region is worth.

Where: gradient-weighted class activation in space and time. HiResCAM (Draelos and Carin, arXiv 2011.08891), where
each place has its own weight, is the default; Grad-CAM (Selvaraju et al., ICCV 2017, eq. 1 and 2) gives all places of
a channel one weight, which is wrong for networks that keep places up to their last layer, as most do here:
docs/explain.md has the figures. Captum's two take 3-D maps, but one layer only; networks with streams or shortcuts have
several last layers, so ours adds up all maps, each by what it says past the later ones (tests compare it with Captum's
where there is one). Of transformers, whose tokens are no maps, what comes before the tokens is the last.

What a region is worth: how far the probability of the class falls when that region is held still.
"""

import copy
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.asking import asked, classes_of, eaten_by, logits_of, probabilities
from mer_zoo.errors import InputError
from mer_zoo.preprocessing.apex import find_apex
from mer_zoo.preprocessing.cook import magnified
from mer_zoo.preprocessing.forms import cook_clip
from mer_zoo.preprocessing.video import check_rate
from mer_zoo.types import InputSpec

Array = npt.NDArray[np.float32]
Clip = npt.NDArray[Any] | Tensor
Rows = tuple[float, float]  # upper and lower edge, as fractions of the face
Shown = tuple[Tensor, Rows]

REGIONS = {
    "brows": (0.0, 0.17),
    "eyes": (0.17, 0.37),
    "nose": (0.37, 0.64),
    "mouth": (0.64, 1.0),
}
"""Upper and lower edge of each region as fractions of the aligned face; the eyes' centres lie at 0.26, see ``EYES`` of
``mer_zoo.preprocessing.faces``. Each is as wide as the face, so that together they are the whole of it."""

MAPS = (
    nn.modules.conv._ConvNd,
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.ReLU,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
)
"""Layers that answer with maps, (B, C, ..., H, W)."""


METHODS = ("hirescam", "gradcam")
ROUNDING = 1e-4  # of a slope, that is nothing


@dataclass(frozen=True, eq=False)
class Explanation:
    """What speaks for one class in one clip. With C channels of size S, the input has T steps in time, 1 without any.

    Attributes:
        classes: Names of the N classes.
        target: The class that is explained.
        probabilities: (N,), 0 to 1; of action units each for itself.
        cam: (T, S, S), 0 to 1: where the last maps speak for the class; all 0 if none does.
        regions: For each region of the face, how far the probability of the class falls, -1 to 1, when it is held
            still: frames as the first one, differences and flow at rest, a single image evenly grey.
        pictures: (T, S', S', 3), what the clip looks like at each step.
    """

    classes: tuple[str, ...]
    target: str
    probabilities: Array
    cam: Array = field(repr=False)
    regions: dict[str, float]
    pictures: npt.NDArray[np.uint8] = field(repr=False)

    @property
    def probability(self) -> float:
        """Of the class that is explained."""
        return float(self.probabilities[self.classes.index(self.target)])

    def __str__(self) -> str:
        falls = "\n".join(f"{name:>6} {fall:+.3f}" for name, fall in self.regions.items())
        return f"{self.target} {self.probability:.3f}; it falls by, when a region is held still:\n{falls}"

    def save(self, file: str | Path) -> Path:
        """A picture, or with ``.npz`` the arrays: classes, target, probabilities, cam, regions, falls and pictures.

        Args:
            file: Ends in ``.png``, ``.svg``, ``.pdf`` or ``.npz``.

        Raises:
            InputError: If it ends otherwise, or for a picture matplotlib, of the extra ``plot``, is not installed.
        """
        from mer_zoo.explanation_picture import draw, write_arrays

        file = Path(file).expanduser()
        return write_arrays(self, file) if file.suffix.lower() == ".npz" else draw(self, file)


def explain(
    model: nn.Module | str,
    clip: Clip,
    *,
    apex: int | None = None,
    target: str | None = None,
    fps: float | None = None,
    method: str = "hirescam",
) -> Explanation:
    """Why a network says what it says of one clip. A map shows what the network used, not what the face did.

    Args:
        model: A model, or the name of one with weights, such as ``ststnet.synth_3``.
        clip: Frames from onset to offset that show the face only, uint8 (T, H, W) or (T, H, W, 3), prepared as the
            model's input spec says; or what was prepared already, floats of ``input_spec.shape``, such as an item of
            ``create_dataset``.
        apex: Position of the apex among the frames; None looks for it where the spec needs one.
        target: The class to explain; None takes the most probable.
        fps: Frames a second, for specs that magnify motion.
        method: How maps are weighted, ``hirescam`` or ``gradcam``.

    Raises:
        InputError: If the clip is neither, a value is not finite, the target is no class, the method is unknown, or the
            model does not say what it eats or has no layer of maps.
        WeightsError: If a name has no weights.
    """
    if method not in METHODS:
        raise InputError(f"method is {method!r}; expected one of {', '.join(METHODS)}.")
    with torch.inference_mode(False), torch.no_grad(), asked(model) as network:
        spec = eaten_by(network)
        values, pictures = _prepared(clip, spec, apex, fps)
        logits = logits_of(network, values)[0]
        classes = classes_of(network, len(logits))
        index = int(logits.argmax()) if target is None else _index(target, classes)
        shares = probabilities(logits, classes)
        return Explanation(
            classes=classes,
            target=classes[index],
            probabilities=shares,
            cam=class_activation(network, values, index, method).numpy(),
            regions=_falls(network, values, spec, index, classes),
            pictures=pictures,
        )


def sanity_check(model: nn.Module | str, clip: Clip, *, seeds: int = 5, **how: Any) -> float:
    """How alike maps are when the weights mean nothing: near 0 for a map that depends on what was learnt.

    Source: Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018, where many methods fail it.

    Args:
        model: As for ``explain``.
        clip: As for ``explain``.
        seeds: How many times the values of each weight tensor are shuffled among themselves.
        **how: ``apex``, ``target``, ``fps`` and ``method``, as for ``explain``.

    Returns:
        The mean of Spearman's rank correlations, -1 to 1, between the network's map and those of the shuffled copies;
        a map that is 0 everywhere correlates with none.

    Raises:
        InputError: As ``explain`` does, or if ``seeds`` is below 1.
    """
    from scipy.stats import spearmanr

    if seeds < 1:
        raise InputError(f"seeds is {seeds!r}; expected 1 or more.")
    with asked(model) as network:
        said = explain(network, clip, **how)
        alike = []
        for seed in range(seeds):
            other = explain(shuffled(network, seed), clip, **{**how, "target": said.target}).cam
            flat = np.ptp(other) == 0 or np.ptp(said.cam) == 0
            alike.append(0.0 if flat else float(spearmanr(said.cam, other, axis=None).statistic))
    return float(np.mean(alike))


def shuffled(network: nn.Module, seed: int) -> nn.Module:
    """A copy whose weights have the same values, tensor by tensor, in random order."""
    mixed = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in mixed.parameters():
            order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
            weight.copy_(weight.flatten()[order].reshape(weight.shape))
    return mixed


def class_activation(network: nn.Module, values: Tensor, index: int, method: str) -> Tensor:
    """One clip (1, C, [T,] S, S) -> (T, S, S), 0 to 1: where the last maps of a network speak for a class.

    A map weighs as much as the logit's slope along it past later maps, at each place or summed over places; it is
    enlarged linearly. What is no more than rounding, a millionth of the logit, is 0.

    Raises:
        InputError: If no layer of the network answers with maps of more than one place.
    """
    total = torch.zeros(values[0].shape[1:] if values.ndim == 5 else (1, *values.shape[2:]))
    with torch.enable_grad():
        logit, kept = _watched(network, values.detach().clone().requires_grad_(), index, len(total))
        for (answer, rows), slope in last_maps(logit, kept, network):
            total += _placed(_speaking(answer, slope, method), rows, total.shape)
    most = float(total.max())
    return total.relu() / most if most > 1e-6 * float(logit.abs()) else torch.zeros_like(total)


def _watched(network: nn.Module, values: Tensor, index: int, steps: int) -> tuple[Tensor, list[Shown]]:
    """A logit, and the maps of every layer on the way to it, in order; other threads may ask the network meanwhile."""
    kept: list[Shown] = []
    ours = threading.get_ident()

    def keeper(rows: Rows) -> Any:
        def keep(_layer: nn.Module, _inputs: object, answer: object) -> None:
            if threading.get_ident() == ours and isinstance(answer, Tensor) and _is_map(answer, steps):
                kept.append((answer, rows))

        return keep

    hooks = [layer.register_forward_hook(keeper(rows)) for layer, rows in _layers(network)]
    try:
        return logits_of(network, values)[0, index], kept
    finally:
        for hook in hooks:
            hook.remove()


def _is_map(answer: Tensor, steps: int) -> bool:
    """Whether it has more than one place, of one clip or of its steps, and leads back to the input."""
    whose = (1, steps) if answer.ndim == 4 else (1,)
    return answer.ndim in (4, 5) and answer.shape[0] in whose and answer.shape[-2:].numel() > 1 and answer.requires_grad


def _layers(network: nn.Module) -> Iterator[tuple[nn.Module, Rows]]:
    """Layers of maps, and the rows of the face that these show, which the part of the network says in ``rows``."""
    wholes: list[Any] = [part for part in network.modules() if hasattr(part, "rows")]
    shown: dict[nn.Module, Rows] = {part: whole.rows for whole in wholes for part in whole.modules()}
    return ((layer, shown.get(layer, (0.0, 1.0))) for layer in network.modules() if isinstance(layer, MAPS))


def last_maps(logit: Tensor, kept: list[Shown], network: nn.Module) -> Iterator[tuple[Shown, Tensor]]:
    """Maps by which the logit hangs on the input past all later ones, with its slope along each while those are held.

    Raises:
        InputError: If there is no map.
    """
    maps = [answer for answer, _ in kept]
    linked = maps and logit.requires_grad
    slopes = torch.autograd.grad(logit, maps, retain_graph=True, allow_unused=True) if linked else ()
    if not any(slope is not None for slope in slopes):
        raise InputError(
            f"{type(network).__name__} has no layer of maps with more than one place (convolution, norm, pooling), so "
            "there is no place to show."
        )
    left = list(slopes)
    for i in reversed(range(len(maps))):
        slope, whole = left[i], slopes[i]
        if slope is None or whole is None or float(slope.abs().max()) <= ROUNDING * float(whole.abs().max()):
            continue
        yield kept[i], slope
        if i:
            through = torch.autograd.grad(maps[i], maps[:i], slope, retain_graph=True, allow_unused=True)
            left[:i] = [rest if part is None else rest - part for rest, part in zip(left[:i], through, strict=True)]


def _speaking(answer: Tensor, slope: Tensor, method: str) -> Tensor:
    """(1, C, t, h, w), (1, C, h, w) or frames as a batch (t, C, h, w), with slopes -> (1, 1, t, h, w), by area."""
    if answer.ndim == 4:
        answer, slope = (x.transpose(0, 1)[None] for x in (answer, slope))
    weight = slope.sum(dim=(2, 3, 4), keepdim=True) if method == "gradcam" else slope * slope[0, 0].numel()
    return (weight * answer).sum(dim=1, keepdim=True).detach().float().cpu()


def _placed(speaking: Tensor, rows: Rows, shape: torch.Size) -> Tensor:
    """(1, 1, t, h, w) enlarged to the rows that it shows -> (T, S, S), 0 elsewhere."""
    steps, high, wide = shape
    top, bottom = (round(edge * high) for edge in rows)
    large = F.interpolate(speaking, size=(steps, bottom - top, wide), mode="trilinear", align_corners=False)[0, 0]
    return F.pad(large, (0, 0, top, high - bottom))


def _falls(
    network: nn.Module, values: Tensor, spec: InputSpec, index: int, classes: tuple[str, ...]
) -> dict[str, float]:
    """How far the probability of a class falls when each region is held still."""
    rest, cases = _still(values, spec), [values]
    for upper, lower in REGIONS.values():
        held = values.clone()
        rows = slice(round(upper * spec.size), round(lower * spec.size))
        held[..., rows, :] = rest[..., rows, :]
        cases.append(held)
    whole, *others = (probabilities(logits_of(network, case), classes)[0, index] for case in cases)
    return {name: float(whole - other) for name, other in zip(REGIONS, others, strict=True)}


def _still(values: Tensor, spec: InputSpec) -> Tensor:
    """The input as if nothing had moved: of stretched flow, whose rest is not known, each channel's median."""
    if spec.kind in ("clip", "pair"):
        return values[:, :, :1].expand_as(values)
    if spec.kind == "image" or spec.scaling == "channel_min_max":
        return values.flatten(-2).median(dim=-1).values[..., None, None].expand_as(values)
    return torch.zeros_like(values)


def _index(target: str, classes: tuple[str, ...]) -> int:
    if target not in classes:
        raise InputError(f"target is {target!r}; the network knows {', '.join(classes)}.")
    return classes.index(target)


def _prepared(clip: Clip, spec: InputSpec, apex: int | None, fps: float | None) -> tuple[Tensor, npt.NDArray[np.uint8]]:
    """The input (1, C, [T,] S, S), and a picture of each of its steps."""
    from mer_zoo.explanation_picture import pictures_of, shown

    floating = isinstance(clip, Tensor) and clip.is_floating_point()
    raw = clip.detach().float().cpu().numpy() if isinstance(clip, Tensor) and floating else np.asarray(clip)
    if raw.dtype == np.uint8 and raw.ndim in (3, 4):
        place = _apex(raw, apex)
        check_rate(fps)
        values = torch.from_numpy(cook_clip(magnified(raw, spec, fps), spec, place))
        return values[None], shown(raw, spec, place)
    if raw.shape != spec.shape or not np.issubdtype(raw.dtype, np.floating):
        raise InputError(
            f"The clip is {raw.dtype} {raw.shape}; expected frames, uint8 (T, H, W) or (T, H, W, 3), or what was "
            f"prepared from them, floats {spec.shape}."
        )
    values = torch.from_numpy(raw.astype(np.float32))[None]
    spec.check(values)
    return values, pictures_of(raw, spec)


def _apex(frames: npt.NDArray[np.uint8], apex: int | None) -> int:
    if apex is None:
        return find_apex(frames) if len(frames) > 1 else 0
    if isinstance(apex, bool) or not isinstance(apex, int | np.integer) or not 0 <= apex < len(frames):
        raise InputError(f"apex is {apex!r}; expected a position among {len(frames)} frames, from 0.")
    return int(apex)
