"""ClipDataset, fit, predict: a plain loop over tensors that lie on the device.

All clips of a corpus at network size are tens of megabytes, so they are kept whole on the device; a batch is one
``index_select``, augmented as a batch. The loop runs through accelerate: on the CPU, one GPU, or several processes
started by ``torchrun``.
"""

import atexit
import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from torch import Tensor, nn
from torch.utils.data import Dataset

from mer_zoo.augmentation import Augmentation
from mer_zoo.bf16 import whole_kernels
from mer_zoo.errors import DivergedError, InputError
from mer_zoo.graphs import Recorded
from mer_zoo.losses import Loss, Weight, loss_for
from mer_zoo.recipe import Precision, Recipe
from mer_zoo.standardise import standardisers
from mer_zoo.types import UNNAMED, InputSpec, Sample, Target, remember, spec_of

Device = Literal["auto", "cpu", "cuda"]


class ClipDataset(Dataset[tuple[Tensor, int | Tensor, int]]):
    """Cooked clips in memory. An item is (input tensor, target, position), the target of units being a tensor (U,).

    Attributes:
        inputs: ``(N, *spec.shape)``, float32.
        targets: N class indices; or, for action units, N tuples of 0 or 1 for each.
        samples: The N samples.
        spec: What the inputs are.
        classes: Names by class index.
        augment: Applied to the tensor of each item when it is taken.
        fitted_on: Keys of clips from which the preparation took parameters, such as a mean face; mostly none.
    """

    def __init__(
        self,
        inputs: npt.NDArray[np.float32],
        targets: Sequence[Target],
        samples: Sequence[Sample],
        spec: InputSpec,
        classes: tuple[str, ...],
        augment: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        spec.check(inputs)
        self.inputs, self.targets, self.samples = inputs, list(targets), list(samples)
        self.spec, self.classes, self.augment = spec, classes, augment
        self.fitted_on: frozenset[str] = frozenset()

    def __len__(self) -> int:
        return len(self.targets)

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + self.inputs.nbytes  # Dask and Ray send what is large once, not with each fold

    def __getitem__(self, position: int) -> tuple[Tensor, int | Tensor, int]:
        clip, target = torch.tensor(self.inputs[position]), self.targets[position]
        one = target if isinstance(target, int) else torch.tensor(target, dtype=torch.float32)
        return (self.augment(clip) if self.augment else clip), one, position

    @property
    def many(self) -> bool:
        """Whether a clip may be of any number of classes, as for action units."""
        return bool(self.targets) and not isinstance(self.targets[0], int)

    @property
    def persons(self) -> list[str]:
        """The person of each item."""
        return [sample.person for sample in self.samples]

    def places(self, samples: Sequence[Sample]) -> list[int]:
        """Where these samples lie."""
        places = {sample.key: i for i, sample in enumerate(self.samples)}
        return [places[sample.key] for sample in samples]

    def subset(self, samples: Sequence[Sample]) -> "ClipDataset":
        """These samples of it, in the order given."""
        rows = self.places(samples)
        targets = [self.targets[i] for i in rows]
        part = ClipDataset(self.inputs[rows], targets, samples, self.spec, self.classes, self.augment)
        part.fitted_on = self.fitted_on
        return part


Data = ClipDataset | tuple[Tensor, Tensor]
EachEpoch = Callable[[int], bool]  # epochs done -> whether to stop


def fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    *,
    device: Device = "auto",
    each_epoch: EachEpoch | None = None,
    graphs: bool = False,
) -> list[float]:
    """Train a model in place. It remembers the persons of a dataset; ``save_pretrained`` writes down who they were.

    Args:
        model: Maps (B, …) to logits (B, C).
        data: A dataset, or a pair of tensors: inputs (N, …) and class indices (N,), or (N, C) of 0 and 1, where a clip
            may be of any number of classes; the loss is then binary cross-entropy, the mean over classes.
        recipe: How.
        device: ``cpu``, ``cuda``, or ``auto``, a GPU if there is one. The model stays there.
        each_epoch: Called after each epoch with the number of epochs done; training stops if it says True.
        graphs: On one GPU, record steps as CUDA graphs.

    Returns:
        The mean loss of each epoch.

    Raises:
        InputError: If shapes, values or class indices do not fit the model.
        DivergedError: If the loss is no longer a number.
    """
    if graphs and place_of(device).type != "cuda":
        raise InputError("graphs=True records CUDA graphs, and torch sees no GPU here; leave it out.")
    x, y = admit(model, data)
    accelerator = _accelerator(device, recipe.precision)
    seed = recipe.seed + accelerator.process_index
    spec, extra = (data.spec, data.augment) if isinstance(data, ClipDataset) else (spec_of(model), None)
    draws = Augmentation(recipe, spec, torch.Generator(accelerator.device).manual_seed(seed))

    def prepare(batch: Tensor) -> Tensor:
        batch = torch.stack([extra(clip) for clip in batch]) if extra else batch
        return draws(batch)

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        losses = _train(accelerator, model, (x, y), recipe, prepare, each_epoch, graphs)
    check_losses(losses, recipe)
    return losses


def admit(model: nn.Module, data: Data) -> tuple[Tensor, Tensor]:
    """Inputs and targets, checked against what the model eats; it remembers whose they are, and standardises by them.

    Raises:
        InputError: If shapes, values or class indices do not fit the model.
    """
    x, y = _tensors(model, data)
    remember(model, data.persons if isinstance(data, ClipDataset) else [UNNAMED])
    for layer in standardisers(model):
        if not layer.clips:
            layer.learn(x, (s.key for s in data.samples) if isinstance(data, ClipDataset) else ())
    return x, y


def check_losses(losses: Sequence[float], recipe: Recipe) -> None:
    """Refuse what is no number.

    Raises:
        DivergedError: If a loss is none.
    """
    if not np.isfinite(losses).all():
        raise DivergedError(f"The loss became {losses[-1]}; try a smaller lr than {recipe.lr}, or look at the inputs.")


def _train(
    accelerator: Accelerator,
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
    prepare: Callable[[Tensor], Tensor],
    each_epoch: EachEpoch | None,
    graphs: bool,
) -> list[float]:
    """The loop itself; every process takes its share of each batch, and none waits for a loss within an epoch."""
    x, y = (part.to(accelerator.device) for part in data)
    processes, rank = accelerator.num_processes, accelerator.process_index
    order = torch.Generator().manual_seed(recipe.seed)
    losses = []
    with _prepared(accelerator, model.to(accelerator.device), recipe, graphs) as (wrapped, optimizer, scheduler):
        step = _step(accelerator, wrapped, optimizer, loss_for(y, recipe.balanced))
        if graphs and processes == 1:
            step = Recorded(step, lambda: [group["lr"] for group in optimizer.param_groups])
        for epoch in range(recipe.epochs):
            total = torch.zeros((), dtype=torch.float64, device=y.device)
            for batch in batches(len(y), recipe.batch_size, order, least=max(2, processes), device=y.device):
                mine = batch[rank::processes]
                total += step(prepare(x.index_select(0, mine)), y[mine], y[batch]) * len(batch)
            scheduler.step()
            losses.append(accelerator.reduce(total, "sum") / len(y))
            if each_epoch is not None and each_epoch(epoch + 1):
                break
    return [float(loss) for loss in losses]


def _step(
    accelerator: Accelerator, model: nn.Module, optimizer: Any, loss: tuple[Loss, Weight]
) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """A step over this process's inputs and targets, and those of the whole batch; it gives their share of the loss."""
    loss_of, weigh = loss

    def step(inputs: Tensor, mine: Tensor, whole: Tensor) -> Tensor:
        with accelerator.autocast():
            logits = model(inputs)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        share = loss_of(logits, mine) / weigh(whole)
        accelerator.backward(share * accelerator.num_processes)  # gradients are averaged over processes
        optimizer.step()
        optimizer.zero_grad()
        return share.detach()

    return step


@contextlib.contextmanager
def _prepared(
    accelerator: Accelerator, model: nn.Module, recipe: Recipe, graphs: bool
) -> Iterator[tuple[nn.Module, Any, Any]]:
    """Model, optimizer and schedule as accelerate wants them; what autocast patches in the model is undone."""
    optimizer, scheduler = optimizer_for(model.parameters(), recipe, recordable=graphs)
    wrapped, optimizer = accelerator.prepare(model.train(), optimizer)
    try:
        with whole_kernels(model, recipe.precision, accelerator.device):
            yield wrapped, optimizer, scheduler
    finally:
        accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)


@torch.no_grad()
def predict(model: nn.Module, data: Data, *, batch_size: int = 256, device: Device = "auto") -> Tensor:
    """Class probabilities (N, C) of N clips, float32 on the CPU.

    They sum to one, unless the targets of ``data`` say that a clip may be of any number of classes.

    Args:
        model: Maps (B, …) to logits (B, C).
        data: A dataset, or a pair of tensors; of the targets only the shape is looked at.
        batch_size: Clips at a time.
        device: As for ``fit``.

    Raises:
        InputError: If shapes or values do not fit the model.
    """
    x, y = _tensors(model, data)
    squash = torch.sigmoid if y.ndim == 2 else partial(torch.softmax, dim=1)
    place = place_of(device, "no")
    training = model.training
    model.to(place).eval()
    parts = [squash(_logits(model, part.to(place))).cpu() for part in torch.split(x, batch_size)]
    model.train(training)
    return torch.cat(parts)


def _logits(model: nn.Module, batch: Tensor) -> Tensor:
    """What a model says of a batch, in float32, if it is one row of logits a clip."""
    logits = model(batch)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(batch):
        found = f"a tensor {tuple(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        raise InputError(f"The model gives {found} for {len(batch)} clips; expected logits ({len(batch)}, classes).")
    return logits.float()


def batches(
    clips: int, size: int, order: torch.Generator, least: int, device: torch.device | None = None
) -> tuple[Tensor, ...]:
    """Every position once, in random order; a remainder of fewer than ``least`` joins the batch before.

    The order goes to the device as a whole, so that no batch has to wait for its positions.
    """
    positions = torch.randperm(clips, generator=order).to(device)
    ends = list(range(size, clips, size))
    if ends and clips - ends[-1] < least:
        ends.pop()
    return positions.tensor_split(ends)


def optimizer_for(
    parameters: Iterable[nn.Parameter], recipe: Recipe, recordable: bool = False
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Optimizer and schedule of a recipe, in PyTorch's fused form: one kernel for all weights.

    Fused kernels pair weights and gradients by their places in memory, so both must be laid out alike, which autograd
    sees to. A recordable one can be part of a CUDA graph.
    """
    weights = [p for p in parameters if p.requires_grad]
    options: dict[str, Any] = {"lr": recipe.lr, "weight_decay": recipe.weight_decay, "fused": True}
    optimizer: torch.optim.Optimizer
    if recipe.optimizer == "sgd":
        optimizer = torch.optim.SGD(weights, momentum=0.9, nesterov=True, **options)
    else:
        kind = torch.optim.Adam if recipe.optimizer == "adam" else torch.optim.AdamW
        optimizer = kind(weights, capturable=recordable, **options)
    if recipe.schedule == "cosine":
        return optimizer, torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)


def _tensors(model: nn.Module, data: Data) -> tuple[Tensor, Tensor]:
    """Inputs and class indices, checked against what the model eats."""
    if isinstance(data, ClipDataset):
        x, y = torch.tensor(data.inputs), torch.tensor(data.targets)
    else:
        x, y = _pair(data)
    if len(y) == 0:
        raise InputError("There are no clips; expected one or more.")
    spec = spec_of(model)
    if spec is not None:
        if isinstance(data, ClipDataset) and data.spec != spec:
            raise InputError(f"The data were cooked for {data.spec}; the model eats {spec}. Cook them for the model.")
        spec.check(x)
    return x, y


def _pair(data: object) -> tuple[Tensor, Tensor]:
    """Two tensors that belong together; pixels as bytes become numbers."""
    pair = isinstance(data, tuple | list) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)
    if not pair:
        raise InputError(
            f"data is a {type(data).__name__}; expected create_dataset's, or a pair of tensors (x, class)."
        )
    x, y = cast(tuple[Tensor, Tensor], data)
    whole = not (y.is_floating_point() or y.is_complex() or y.dtype == torch.bool)
    many = y.ndim == 2 and bool(((y == 0) | (y == 1)).all())
    if len(x) != len(y) or not (many or (y.ndim == 1 and whole and not (len(y) and int(y.min()) < 0))):
        raise InputError(
            f"{len(x)} inputs and class indices of shape {tuple(y.shape)}, {y.dtype}; expected one whole number, 0 or "
            "more, for each input, or 0 and 1 for each class."
        )
    return x if x.is_floating_point() else x.float(), y.long()


def check_device(device: Device, precision: Precision) -> None:
    """Refuse a device or precision that is not to be had here.

    Raises:
        InputError: If it is not.
    """
    if device not in get_args(Device):
        raise InputError(f"device is {device!r}; expected one of {get_args(Device)}.")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device is 'cuda', but torch sees no GPU; use 'cpu' or 'auto'.")
    if precision == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise InputError("precision 'fp16' needs a GPU; use 'bf16' or 'no' on the CPU.")


def place_of(device: Device, precision: Precision = "no") -> torch.device:
    """Where ``device`` is on this machine.

    Raises:
        InputError: If it is not to be had here, or not with that precision.
    """
    check_device(device, precision)
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _accelerator(device: Device, precision: Precision) -> Accelerator:
    """An accelerator for this call; the process-wide state is made anew only for another device or precision."""
    place = place_of(device, precision)
    if AcceleratorState._shared_state:
        state = AcceleratorState()
        if state.device.type != place.type or state.mixed_precision != precision:
            AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    alone = not torch.distributed.is_initialized()
    accelerator = Accelerator(cpu=place.type == "cpu", mixed_precision=precision)
    if alone and torch.distributed.is_initialized():
        atexit.register(_leave_group)
    return accelerator


def _leave_group() -> None:
    """Leave the group of processes that ``fit`` joined; its threads, still running at exit, would abort the process."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
