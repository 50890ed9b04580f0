"""The loss of clips of one class each, and of clips of any number of classes, against forms written out by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.losses import class_weights, loss_for
from mer_zoo.recipe import Recipe
from mer_zoo.training import ClipDataset, batches, fit, predict
from mer_zoo.types import ActionUnit, InputSpec, Sample

CLIPS, CLASSES = 23, 4
SPEC = InputSpec("flow", ("u", "v"), size=3, low=-9.0, high=9.0)


@pytest.fixture
def pair() -> tuple[Tensor, Tensor]:
    """Clips (N, 2, 3, 3) and targets (N, C): a common class, a rare one, one of half the clips, and one of none."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(CLIPS, *SPEC.shape, generator=generator, dtype=torch.float64)
    y = torch.zeros(CLIPS, CLASSES, dtype=torch.long)
    y[:20, 0], y[5:7, 1], y[::2, 2] = 1, 1, 1
    return x, y


def network(classes: int = CLASSES, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    width = math.prod(SPEC.shape)
    return nn.Sequential(nn.Flatten(), nn.Linear(width, 8), nn.Tanh(), nn.Linear(8, classes)).double()


def naive(logits: Tensor, target: Tensor, y: Tensor, balanced: bool) -> Tensor:
    """Binary cross-entropy, clip by clip and class by class; balanced, positives weigh negatives / positives."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(len(target)):
        for c in range(target.shape[1]):
            called = 1 / (1 + torch.exp(-logits[i, c]))
            positives = sum(int(row[c]) for row in y)
            weight = (len(y) - positives) / positives if balanced and positives else 1.0
            total = total - (weight * torch.log(called) if target[i, c] else torch.log(1 - called))
    return total


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_of_many_classes_is_that_written_out(pair: tuple[Tensor, Tensor], balanced: bool) -> None:
    """The weights are those of all training clips, whatever clips are in a batch."""
    y = pair[1]
    loss_of, weigh = loss_for(y, balanced)
    logits = 3 * torch.randn(CLIPS, CLASSES, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for rows in (slice(None), slice(3), slice(19, CLIPS)):
        torch.testing.assert_close(loss_of(logits[rows], y[rows]), naive(logits[rows], y[rows], y, balanced))
        assert int(weigh(y[rows])) == y[rows].numel()
    assert loss_of(logits.float(), y).dtype == torch.float32


def test_balanced_a_class_weighs_as_much_as_its_absence(pair: tuple[Tensor, Tensor]) -> None:
    """At logits of nought the gradients of a class that some clips show cancel; plain, the common answer pulls."""
    y = pair[1]
    for balanced in (True, False):
        logits = torch.zeros(CLIPS, CLASSES, requires_grad=True)
        loss_for(y, balanced)[0](logits, y).backward()
        assert logits.grad is not None
        pull = logits.grad.sum(dim=0)
        expected = [0.0] * 3 if balanced else [CLIPS / 2 - int(n) for n in y.sum(dim=0)[:3]]
        assert pull.tolist() == pytest.approx([*expected, CLIPS / 2], abs=1e-5)


@pytest.mark.parametrize("balanced", [False, True])
def test_fit_on_many_classes_is_the_textbook_loop(pair: tuple[Tensor, Tensor], balanced: bool) -> None:
    """Two epochs of two batches, written out: the same losses and the same weights."""
    x, y = pair
    recipe = Recipe(epochs=2, batch_size=12, lr=0.05, optimizer="sgd", balanced=balanced, seed=3)
    ours, theirs = network(), network()
    losses = fit(ours, pair, recipe, device="cpu")
    step = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    order = torch.Generator().manual_seed(3)
    for epoch in range(2):
        parts = batches(CLIPS, 12, order, least=2)
        assert [len(batch) for batch in parts] == [12, 11]
        means = []
        for batch in parts:
            mean = naive(theirs(x[batch]), y[batch], y, balanced) / (len(batch) * CLASSES)
            step.zero_grad()
            mean.backward()
            step.step()
            means.append(mean.item())
        assert losses[epoch] == pytest.approx((12 * means[0] + 11 * means[1]) / CLIPS, abs=1e-7)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-8)


def clips_of(y: Tensor) -> list[Sample]:
    """Samples whose units 1, 2, 4 and 5 are what the targets say."""
    return [
        Sample(
            corpus="synthetic",
            subject="1",
            clip=f"{i}",
            emotion="others",
            aus=tuple(ActionUnit(unit) for unit, there in zip((1, 2, 4, 5), row, strict=True) if there),
        )
        for i, row in enumerate(y.tolist())
    ]


def test_a_dataset_of_many_classes_trains_like_a_pair_of_tensors(pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair
    protocol, samples = mer_zoo.get_protocol("synthetic-au"), clips_of(y)
    targets = [protocol.target(sample) for sample in samples]
    data = ClipDataset(x.float().numpy(), targets, samples, SPEC, protocol.classes)
    _, target, position = data[5]
    assert position == 5
    assert isinstance(target, Tensor)
    assert target.tolist() == [1, 1, 0] + [0] * 9
    many = torch.cat([y, torch.zeros(CLIPS, 8, dtype=torch.long)], dim=1)
    assert torch.equal(torch.tensor(data.subset(samples[:3]).targets), many[:3])
    runs = [fit(network(12).float(), d, Recipe(epochs=2), device="cpu") for d in (data, (x.float(), many))]
    assert runs[0] == runs[1]
    torch.testing.assert_close(*(predict(network(12).float(), d, device="cpu") for d in (data, (x.float(), many))))


def test_many_classes_are_learnt_and_predicted_each_for_itself(pair: tuple[Tensor, Tensor]) -> None:
    x, y = pair
    model = network()
    losses = fit(model, pair, Recipe(epochs=60, lr=0.05), device="cpu")
    assert losses[-1] < 0.2 * losses[0]
    found = predict(model, pair, batch_size=7, device="cpu")
    torch.testing.assert_close(found, torch.sigmoid(model(x)).float())
    assert found.shape == (CLIPS, CLASSES)
    assert ((found > 0.5) == y.bool()).float().mean() > 0.95
    alone = predict(model, (x, y[:, 0]), device="cpu")  # targets of one class each: the same logits, shared out
    torch.testing.assert_close(alone, torch.softmax(model(x), dim=1).float())


@pytest.mark.parametrize("kind", [torch.bool, torch.float32, torch.uint8])
def test_noughts_and_ones_may_be_of_any_type(pair: tuple[Tensor, Tensor], kind: torch.dtype) -> None:
    x, y = pair
    one, other = (fit(network(), (x, t), Recipe(epochs=1, balanced=True), device="cpu") for t in (y, y.to(kind)))
    assert one == other


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda y: y + 1, r"shape \(23, 4\), torch.int64; expected one whole number.* or 0 and 1 for each class"),
        (lambda y: 0.5 * y, r"torch.float32; expected .* or 0 and 1 for each class"),
        (lambda y: -y, "or 0 and 1 for each class"),
        (lambda y: y * torch.nan, "or 0 and 1 for each class"),
        (lambda y: y[:-1], r"23 inputs and class indices of shape \(22, 4\)"),
        (lambda y: y[..., None], r"shape \(23, 4, 1\)"),
        (lambda y: y[:, :3], "The model gives 4 logits a clip; expected 3"),
        (lambda y: torch.cat([y, y], dim=1), "The model gives 4 logits a clip; expected 8"),
        (lambda y: y[:0], r"23 inputs and class indices of shape \(0, 4\)"),
    ],
)
def test_targets_that_are_no_answers_are_refused(pair: tuple[Tensor, Tensor], spoil: Any, words: str) -> None:
    x, y = pair
    with pytest.raises(InputError, match=words):
        fit(network(), (x, spoil(y)), Recipe(epochs=1), device="cpu")


def test_no_clips_of_many_classes(pair: tuple[Tensor, Tensor]) -> None:
    with pytest.raises(InputError, match="There are no clips"):
        predict(network(), (pair[0][:0], pair[1][:0]), device="cpu")


def test_balanced_classes_weigh_alike() -> None:
    y = torch.tensor([0] * 6 + [1] * 3 + [3])
    weights = class_weights(y, balanced=True)
    expected = torch.tensor([10 / 18, 10 / 9, 0.0, 10 / 3], dtype=torch.float64)
    torch.testing.assert_close(weights, expected)
    assert float(weights[y].sum()) == pytest.approx(10)


@pytest.mark.parametrize("balanced", [False, True])
def test_the_loss_of_one_class_is_that_written_out(balanced: bool) -> None:
    """A mean over the clips of a batch, each weighted by how rare its class is among all training clips."""
    y = torch.tensor([0] * 6 + [1] * 3 + [2])
    logits = torch.randn(10, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss_of, weigh = loss_for(y, balanced)
    batch = torch.tensor([0, 4, 7, 9])
    weights = [10 / (3 * n) if balanced else 1.0 for n in (6, 3, 1)]
    parts = [(weights[y[i]], torch.log(logits[i].exp().sum()) - logits[i, y[i]]) for i in batch]
    expected = sum(w * part for w, part in parts) / sum(w for w, _ in parts)
    torch.testing.assert_close(loss_of(logits[batch], y[batch]) / weigh(y[batch]), expected)
