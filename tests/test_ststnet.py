"""STSTNet against its description, written out naively."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import WeightsError


class Naive(nn.Module):
    """Three streams one after the other, as the paper draws them."""

    def __init__(self) -> None:
        super().__init__()
        for i, filters in enumerate((3, 5, 8), start=1):
            self.add_module(f"conv{i}", nn.Conv2d(3, filters, 3, padding=2))
            self.add_module(f"bn{i}", nn.BatchNorm2d(filters))
        self.fc = nn.Linear(400, 3)

    def forward(self, x: Tensor) -> Tensor:
        streams = []
        for i in (1, 2, 3):
            conv, norm = self.get_submodule(f"conv{i}"), self.get_submodule(f"bn{i}")
            streams.append(F.max_pool2d(norm(F.relu(conv(x))), kernel_size=3, stride=3, padding=1))
        logits: Tensor = self.fc(F.avg_pool2d(torch.cat(streams, dim=1), 2).flatten(1))
        return logits


def _pair() -> tuple[nn.Module, Naive, Tensor]:
    torch.manual_seed(0)
    naive = Naive().double()
    for module in naive.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # of both signs
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    ours = mer_zoo.create_model("ststnet", drop_rate=0.0).double()
    ours.load_state_dict(naive.state_dict())
    return ours, naive, torch.rand(8, 3, 28, 28).double() * 255


def test_it_has_1683_weights() -> None:
    assert sum(p.numel() for p in mer_zoo.create_model("ststnet").parameters()) == 1683


def test_shapes_are_those_of_the_papers_table() -> None:
    model: Any = mer_zoo.create_model("ststnet").eval()
    last, maps = model.forward_intermediates(torch.rand(2, 3, 28, 28) * 255)
    assert [tuple(m.shape) for m in maps] == [(2, 16, 10, 10), (2, 16, 5, 5)]
    assert model.forward_head(last, pre_logits=True).shape == (2, 400)


def test_fused_streams_equal_three_in_evaluation() -> None:
    ours, naive, x = _pair()
    torch.testing.assert_close(ours.eval()(x), naive.eval()(x), rtol=1e-10, atol=1e-10)


def test_fused_streams_equal_three_in_training() -> None:
    """Loss, every gradient, and the running statistics after three steps."""
    ours, naive, x = _pair()
    y = torch.arange(8) % 3
    steps = [(m.train(), torch.optim.SGD(m.parameters(), lr=1e-4)) for m in (ours, naive)]
    for _ in range(3):
        for model, optimizer in steps:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
        gradients = zip(ours.named_parameters(), naive.named_parameters(), strict=True)
        for (name, p), (_, q) in sorted(gradients, key=lambda pair: pair[0][0]):
            torch.testing.assert_close(p.grad, dict(naive.named_parameters())[name].grad, rtol=1e-8, atol=1e-9)
            assert q.grad is not None
        for _, optimizer in steps:
            optimizer.step()
    state = naive.state_dict()
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, state[name], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("watched", ["bn1", "conv2", "bn3"])
def test_layers_that_are_frozen_or_watched_run_for_themselves(watched: str) -> None:
    ours, naive, x = _pair()
    calls: list[int] = []
    for model in (ours.train(), naive.train()):
        layer = model.get_submodule(watched)
        layer.eval() if watched == "bn1" else layer.register_forward_hook(lambda *_: calls.append(1))
    torch.testing.assert_close(ours(x), naive(x), rtol=1e-10, atol=1e-10)
    for name, value in ours.state_dict().items():
        torch.testing.assert_close(value, naive.state_dict()[name], rtol=1e-10, atol=1e-10)
    assert len(calls) == (0 if watched == "bn1" else 2)


def test_the_authors_checkpoints_load(tmp_path: Path) -> None:
    """Their files are pickled state dicts under their own names; they are read with weights_only=True."""
    _, naive, x = _pair()
    torch.save(naive.float().state_dict(), tmp_path / "sub01.pth", _use_new_zipfile_serialization=False)
    model = mer_zoo.create_model("ststnet", checkpoint_path=str(tmp_path / "sub01.pth")).eval()
    torch.testing.assert_close(model(x.float()), naive.eval()(x.float()), rtol=1e-4, atol=1e-4)


class Harmful:
    """What a malicious pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('code ran')",)


def test_a_checkpoint_with_code_is_refused(tmp_path: Path) -> None:
    torch.save({"conv1.weight": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(WeightsError, match="cannot be read with weights_only=True"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(tmp_path / "bad.pth"))


@pytest.mark.parametrize("content", [b"h\x05.", b"", b"no weights at all", b"\x80\x02K\x01."])
def test_a_checkpoint_of_bytes_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.pth").write_bytes(content)
    with pytest.raises(WeightsError, match="cannot be read with weights_only=True"):
        mer_zoo.create_model("ststnet", checkpoint_path=str(tmp_path / "bad.pth"))
