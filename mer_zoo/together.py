"""Many models at once, each on clips of its own: the same steps as ``training.fit`` takes with each alone.

The weights of all models lie stacked, ``torch.func.stack_module_state``, and one pass of ``vmap`` serves all, batch
statistics and buffers of each model being its own. No batch is shared: each model sees the batches that ``fit`` would
show it, in the same order, and models whose batches are of one size go together. One optimizer holds all weights; those
without a gradient in a step, because their model had no batch in it, are left alone.
"""

from collections import defaultdict
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mer_zoo.augmentation import Augmentation
from mer_zoo.bf16 import whole_kernels
from mer_zoo.losses import class_weights, summed_loss, weight_of
from mer_zoo.recipe import Recipe
from mer_zoo.training import batches, optimizer_for
from mer_zoo.types import InputSpec


@dataclass(frozen=True)
class Clips:
    """All clips there are, on the device, and which of them each model learns from.

    Attributes:
        x: Inputs (N, …).
        y: Targets, as for ``fit``.
        rows: For each model the positions that it learns from.
        spec: What the inputs are; None where that is not known.
    """

    x: Tensor
    y: Tensor
    rows: Sequence[Tensor]
    spec: InputSpec | None


class Stack:
    """Models of one structure, on one device, whose weights and buffers lie stacked: (K, …) each."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        params, self.buffers = torch.func.stack_module_state(list(models))
        self.params = {name: value.detach().contiguous() for name, value in params.items()}
        self.form = deepcopy(models[0]).train()
        self.own = [dict(model.named_parameters()) for model in models]
        self.learnt = [name for name, parameter in self.own[0].items() if parameter.requires_grad]
        for k, model in enumerate(models):
            for name, parameter in self.own[k].items():
                parameter.data = self.params[name][k]
            for name, value in self.buffers.items():
                path, _, leaf = name.rpartition(".")
                model.get_submodule(path)._buffers[leaf] = value[k]

    def logits(self, params: dict[str, Tensor], chosen: Tensor | None, x: Tensor) -> Tensor:
        """What chosen models, all if None, say of batches of their own: (S, B, …) -> (S, B, C)."""
        buffers = self._of(self.buffers, chosen)

        def one(p: dict[str, Tensor], b: dict[str, Tensor], batch: Tensor) -> Tensor:
            logits: Tensor = torch.func.functional_call(self.form, (p, b), (batch,))
            return logits

        logits: Tensor = torch.vmap(one, randomness="different")(params, buffers, x)
        if chosen is not None:
            for name, value in buffers.items():
                self.buffers[name].index_copy_(0, chosen, value)
        return logits

    def weights(self, chosen: Tensor | None) -> dict[str, Tensor]:
        """Weights of chosen models; gradients can be asked for those that are learnt."""
        found = {name: value.detach() for name, value in self._of(self.params, chosen).items()}
        return {name: value.requires_grad_(name in self.learnt) for name, value in found.items()}

    def _of(self, stacked: dict[str, Tensor], chosen: Tensor | None) -> dict[str, Tensor]:
        if chosen is None:
            return stacked
        return {name: value.index_select(0, chosen) for name, value in stacked.items()}

    def hand_out(self, gradients: Sequence[Tensor | None], members: Sequence[int]) -> None:
        """Give each of these models its gradients, laid out as the weights: fused optimizers look at memory alone."""
        for name, gradient in zip(self.learnt, gradients, strict=True):
            laid_out = None if gradient is None else gradient.contiguous()
            for i, k in enumerate(members):
                self.own[k][name].grad = None if laid_out is None else laid_out[i]


class Ensemble:
    """Models of one structure on their way through epochs of their own clips.

    Args:
        models: Fresh, on the device of the clips.
        clips: What they learn from.
        recipes: One each, the same but for the seed.
    """

    def __init__(self, models: Sequence[nn.Module], clips: Clips, recipes: Sequence[Recipe]) -> None:
        self.stack, self.clips, self.recipe = Stack(models), clips, recipes[0]
        device = clips.x.device
        self.orders = [torch.Generator().manual_seed(recipe.seed) for recipe in recipes]
        self.changes = [
            Augmentation(recipe, clips.spec, torch.Generator(device).manual_seed(recipe.seed)) for recipe in recipes
        ]
        weights = [class_weights(clips.y[rows], self.recipe.balanced) for rows in clips.rows]
        most = max(len(weight) for weight in weights)
        self.class_weights = torch.stack([F.pad(weight, (0, most - len(weight))) for weight in weights])
        self.sizes = torch.tensor([len(rows) for rows in clips.rows], device=device)
        self.places: dict[tuple[int, ...], Tensor] = {}
        parameters = [p for own in self.stack.own for p in own.values()]
        self.optimizer, self.scheduler = optimizer_for(parameters, self.recipe)

    def epoch(self) -> Tensor:
        """Train all for one epoch; gives the mean loss of each, (K,), float64, on the device."""
        totals = torch.zeros(len(self.orders), dtype=torch.float64, device=self.clips.x.device)
        plans = [self._plan(k) for k in range(len(self.orders))]
        with whole_kernels(self.stack.form, self.recipe.precision, totals.device):
            for step in range(max(map(len, plans))):
                self._step([plan[step] if step < len(plan) else None for plan in plans], totals)
        self.scheduler.step()
        return totals / self.sizes

    def _step(self, parts: Sequence[Tensor | None], totals: Tensor) -> None:
        """One step of each model that has a batch, those of one size together; adds their losses up."""
        groups: dict[int, list[int]] = defaultdict(list)
        for k, part in enumerate(parts):
            if part is not None:
                groups[len(part)].append(k)
        for size, members in groups.items():
            losses = self._look(members, torch.stack([part for k in members if (part := parts[k]) is not None]))
            totals.index_add_(0, self._chosen(members), losses * size)
        self.optimizer.step()
        self.optimizer.zero_grad()

    def _plan(self, k: int) -> Sequence[Tensor]:
        """The rows of each batch of a model's next epoch."""
        rows = self.clips.rows[k]
        parts = batches(len(rows), self.recipe.batch_size, self.orders[k], least=2, device=rows.device)
        split: tuple[Tensor, ...] = rows.index_select(0, torch.cat(parts)).split([len(part) for part in parts])
        return split

    def _chosen(self, members: Sequence[int]) -> Tensor:
        """These models as a tensor on the device, where it stays."""
        key = tuple(members)
        if key not in self.places:
            self.places[key] = torch.tensor(members, device=self.clips.x.device)
        return self.places[key]

    def _look(self, members: Sequence[int], rows: Tensor) -> Tensor:
        """Gradients of these models for a batch each, rows (S, B); gives the losses, (S,)."""
        chosen = None if len(members) == len(self.orders) else self._chosen(members)
        x, y = self._batch(members, rows), self.clips.y[rows]
        params = self.stack.weights(chosen)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16"):
            logits = self.stack.logits(params, chosen, x)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = self.class_weights if chosen is None else self.class_weights[chosen]
        losses = torch.vmap(summed_loss)(logits, y, weights) / torch.vmap(weight_of)(y, weights)
        learnt = [params[name] for name in self.stack.learnt]
        self.stack.hand_out(torch.autograd.grad(losses.sum(), learnt, allow_unused=True), members)
        return losses.detach().double()

    def _batch(self, members: Sequence[int], rows: Tensor) -> Tensor:
        """Inputs of these rows, (S, B) -> (S, B, …), changed as each model's own recipe draws it."""
        x = self.clips.x.index_select(0, rows.flatten())
        if self.recipe.flip or self.recipe.shift:
            drawn = [self.changes[k].draw(rows.shape[1], x.device) for k in members]
            flips, shifts = (torch.cat([draw[i] for draw in drawn], dim=i) for i in (0, 1))
            x = self.changes[0].apply(x, (flips, shifts))
        batch: Tensor = x.unflatten(0, rows.shape)
        return batch


def fit_together(models: Sequence[nn.Module], clips: Clips, recipes: Sequence[Recipe]) -> list[list[float]]:
    """Train all models in place, as ``fit`` trains each alone; gives the mean losses of each model's epochs.

    Draws of dropout are others than alone; orders of clips and augmentation are the same.
    """
    ensemble = Ensemble(models, clips, recipes)
    losses = [ensemble.epoch() for _ in range(recipes[0].epochs)]
    curves: list[list[float]] = torch.stack(losses, dim=1).tolist()
    return curves
