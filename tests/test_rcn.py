"""RCNs against their description, written out naively; and attention by a classifier that comes and goes."""

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.rcn import class_attention

NAMES = ("rcn_a", "rcn_s", "rcn_w", "rcn_p", "rcn_c", "rcn_f")
ATTENTIVE = ("rcn_a", "rcn_p", "rcn_c", "rcn_f")
every_rcn = pytest.mark.parametrize("name", NAMES)
every_attentive = pytest.mark.parametrize("name", ATTENTIVE)

STREAMS = {"w": {1: 16, 2: 8, 3: 8}, "c": {1: 16, 2: 8, 3: 8}, "f": {1: 16, 2: 8, 3: 8}, "p": {1: 16, 3: 16}}
COUNTS = {"a": 15_331, "s": 24_643, "w": 13_795, "p": 33_539, "c": 33_539, "f": 13_795}  # of the authors' layers
IDLE = {"s": 9_312, "p": 9_312 + 10_432, "c": 9_312 + 10_432}  # of these, in layers that never run


class Step(nn.Module):
    """A convolution with its own batch norm; which comes first, norm or ReLU, is said in the call."""

    def __init__(self, channels: int, maps: int, taps: int, **options: Any) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(channels, maps, taps, **options), nn.BatchNorm2d(maps)

    def forward(self, x: Tensor, norm_first: bool = True) -> Tensor:
        x = self.conv(x)
        out: Tensor = F.relu(self.norm(x)) if norm_first else self.norm(F.relu(x))
        return out


class Naive(nn.Module):
    """One letter's network, stream by stream, recurrence by recurrence, class by class; idle layers included."""

    def __init__(self, letter: str) -> None:
        super().__init__()
        self.letter = letter
        if letter in STREAMS:
            stride = 1 if letter == "p" else 3
            for dilation, maps in STREAMS[letter].items():
                options = {"stride": stride, "padding": dilation, "dilation": dilation}
                self.add_module(f"stream{dilation}", Step(3, maps, 3, **options))
        else:
            self.stem = Step(3, 32, 5)
        self.pointwise, self.again = Step(32, 32, 1), Step(32, 32, 3, padding=1)
        if letter in IDLE:
            self.idle = Step(32, 32, 3, padding=1)
        if letter in "pc":
            self.idle_block = nn.Sequential(Step(32, 32, 1), Step(32, 32, 3, padding=1))
        self.fc = nn.Linear(800, 3)

    def look(self, maps: Tensor) -> Tensor:
        """Class activation, each class stretched to 0..1, the mean over classes."""
        small = F.adaptive_avg_pool2d(maps, (5, 5))
        classes = []
        for row in self.fc.weight:
            weight = row.reshape(32, 5, 5)
            if self.letter == "c":
                weight = weight.mean(0, keepdim=True)
            seen = (weight * small).mean(1)
            flat = seen.flatten(1)
            low = flat.min(dim=1).values[:, None, None]
            classes.append((seen - low) / (flat.max(dim=1).values[:, None, None] - low))
        return torch.stack(classes, dim=1).mean(1, keepdim=True)

    def enter(self, x: Tensor) -> Tensor:
        if self.letter not in STREAMS:
            return F.max_pool2d(self.stem(x), 2)
        streams = [self.get_submodule(f"stream{dilation}")(x, False) for dilation in STREAMS[self.letter]]
        if self.letter == "p":
            streams = [F.max_pool2d(stream, 3, stride=3, padding=1) for stream in streams]
        return torch.cat(streams, dim=1)

    def forward(self, picture: Tensor) -> Tensor:
        x = self.enter(picture)
        if self.letter == "c":
            x = x * F.interpolate(self.look(picture), (20, 20))
        y = self.pointwise(x)
        if self.letter == "f":
            y = y * F.interpolate(self.look(x), (20, 20))
        if self.letter in "spcf":
            z = self.again(x + y)
            e = self.again(x + y + z)
            out = self.again(x + y + z + e)
        else:
            out = self.again(x + self.again(x + y))
        vector = F.adaptive_avg_pool2d(F.max_pool2d(out, 2), (5, 5))
        if self.letter in "ap":
            vector = vector * self.look(x)
        logits: Tensor = self.fc(vector.flatten(1))
        return logits


def _in_our_names(state: dict[str, Tensor], letter: str) -> dict[str, Tensor]:
    """Streams joined to one stem; idle layers left out."""
    ours = {f"fc.{part}": state[f"fc.{part}"] for part in ("weight", "bias")}
    parts = [key.removeprefix("again.") for key in state if key.startswith("again.")]
    stems = [f"stream{dilation}" for dilation in STREAMS.get(letter, ())] or ["stem"]
    for part in parts:
        tensors = [state[f"{stem}.{part}"] for stem in stems]
        layer, _, rest = part.partition(".")
        if letter == "p":  # what is pooled stays apart until then
            ours |= {f"stem.{layer}s.{i}.{rest}": tensor for i, tensor in enumerate(tensors)}
        else:
            ours[f"stem.{part}"] = torch.cat(tensors) if tensors[0].ndim else tensors[0]
        ours[f"blocks.0.{layer}1.{rest}"] = state[f"pointwise.{part}"]
        ours[f"blocks.0.{layer}2.{rest}"] = state[f"again.{part}"]
    return ours


def _pair(name: str) -> tuple[Any, Naive, Tensor]:
    torch.manual_seed(0)
    letter = name[-1]
    naive = Naive(letter).double()
    for module in naive.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.weight)  # of both signs
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.get_buffer("running_var"), 0.5, 2.0)
    ours: Any = mer_zoo.create_model(name, drop_rate=0.0).double()
    state = _in_our_names(naive.state_dict(), letter)
    if letter in "apcf":
        state["class_weights"] = state["fc.weight"]
    ours.load_state_dict(state)
    return ours, naive, torch.rand(6, 3, 60, 60).double()


def _count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@every_rcn
def test_its_weights_are_those_that_run_of_the_authors_layers(name: str) -> None:
    letter = name[-1]
    assert _count(Naive(letter)) == COUNTS[letter]
    assert _count(mer_zoo.create_model(name)) == COUNTS[letter] - IDLE.get(letter, 0)


def test_as_the_training_script_sets_it_rcn_a_has_51139_weights_but_for_its_grid() -> None:
    assert _count(mer_zoo.create_model("rcn_a", width=64)) == 51_139
    assert _count(mer_zoo.create_model("rcn_a", width=64, grid=7)) == 51_139 + 3 * 64 * (49 - 25)


@every_rcn
def test_it_equals_the_naive_one_in_evaluation(name: str) -> None:
    ours, naive, x = _pair(name)
    torch.testing.assert_close(ours.eval()(x), naive.eval()(x), rtol=1e-9, atol=1e-10)


@every_rcn
def test_it_equals_the_naive_one_in_training(name: str) -> None:
    """Every gradient, and running statistics, which recurrence moves several times a step."""
    ours, naive, x = _pair(name)
    y = torch.arange(6) % 3
    steps = [torch.optim.SGD(model.train().parameters(), lr=1e-2) for model in (ours, naive)]
    for _ in range(2):
        for model, optimizer in zip((ours, naive), steps, strict=True):
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
        gradients = {key: p.grad for key, p in naive.named_parameters() if p.grad is not None}
        expected = _in_our_names({**naive.state_dict(), **gradients}, name[-1])
        for key, parameter in ours.named_parameters():
            torch.testing.assert_close(parameter.grad, expected[key], rtol=1e-7, atol=1e-9)
        for optimizer in steps:
            optimizer.step()
    state = ours.state_dict()
    for key, value in _in_our_names(naive.state_dict(), name[-1]).items():
        torch.testing.assert_close(state[key], value, rtol=1e-7, atol=1e-9)


@every_rcn
def test_shapes_of_the_stages(name: str) -> None:
    model: Any = mer_zoo.create_model(name).eval()
    last, maps = model.forward_intermediates(torch.rand(2, 3, 60, 60))
    side = 28 if name in ("rcn_a", "rcn_s") else 20
    assert [tuple(feature.shape) for feature in maps] == [(2, 32, side, side), (2, 32, 5, 5)]
    assert model.blocks[0](maps[0]).shape == (2, 32, side // 2, side // 2)
    assert model.num_features == 800
    assert last is maps[1]


@every_rcn
def test_each_stream_starts_with_variance_of_its_own_fan(name: str) -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model(name, width=512, in_chans=64)
    convs = [m for m in model.stem.modules() if isinstance(m, nn.Conv2d)]
    groups = [group for conv in convs for group in conv.weight.split(getattr(conv, "sizes", [conv.out_channels]))]
    assert sum(len(group) for group in groups) == 512
    for group in groups:
        taps = group[0, 0].numel()
        assert group.std().item() == pytest.approx((2 / (len(group) * taps)) ** 0.5, rel=0.02)
    model.reset_classifier(50)
    assert model.fc.weight.std().item() == pytest.approx(0.01, rel=0.02)
    assert not model.fc.bias.any()


@every_rcn
@pytest.mark.parametrize("size", [40, 61, 112])
def test_other_sizes(name: str, size: int) -> None:
    model = mer_zoo.create_model(name, size=size)
    assert mer_zoo.input_spec(model).shape == (3, size, size)
    assert model(torch.rand(2, 3, size, size)).shape == (2, 3)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"stem": "deep"}, "stem is 'deep'; expected one of narrow, wide, pair"),
        ({"attention": "self"}, "attention is 'self'; expected one of none, vector, input, block"),
        ({"width": 3}, "width is 3; expected 4 maps or more"),
        ({"size": 20}, "grid is 5; expected 1 to 4, the side of the maps. Take a larger size"),
        ({"grid": 0}, "grid is 0; expected a whole number, 1 or more"),
    ],
)
def test_refusals(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        mer_zoo.create_model("rcn_a", **options)


def test_attention_is_where_the_classes_look() -> None:
    maps = torch.zeros(2, 2, 3, 3)
    maps[0, 0, 1, 2], maps[0, 1, 0, 0], maps[1] = 4.0, 2.0, 7.0
    weights = torch.stack([torch.ones(2, 3, 3), torch.stack([torch.zeros(3, 3), torch.ones(3, 3)])])
    first = class_attention(maps, weights)[0, 0]
    assert first[1, 2] == 0.5  # all of the first class, nothing of the second
    assert first[0, 0] == 0.75  # half of the first, all of the second
    assert first.sum() == 1.25
    assert not class_attention(maps, weights)[1].any()  # where all is alike, nothing stands out
    torch.testing.assert_close(class_attention(maps * 3, weights), class_attention(maps, weights))


@every_rcn
@pytest.mark.parametrize("size", [1, 3])
def test_a_face_that_does_not_move_is_no_division_by_zero(name: str, size: int) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model(name).train()
    loss = model(torch.zeros(size, 3, 60, 60)).square().sum()
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


# Attention by a classifier that comes and goes


def _trained(name: str, num_classes: int = 4) -> Any:
    torch.manual_seed(1)
    model: Any = mer_zoo.create_model(name, num_classes=num_classes, drop_rate=0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    F.cross_entropy(model(torch.rand(4, 3, 60, 60)), torch.arange(4) % num_classes).backward()
    optimizer.step()
    return model.eval()


@every_attentive
def test_features_stay_when_the_classifier_goes(name: str, tmp_path: Path) -> None:
    model, x = _trained(name), torch.rand(2, 3, 60, 60)
    features = model.forward_features(x)
    mer_zoo.save_pretrained(model, tmp_path)
    source = f"local-dir:{tmp_path}"
    headless = mer_zoo.create_model(source, pretrained=True, num_classes=0).eval()
    torch.testing.assert_close(headless(x), features.flatten(1), rtol=0, atol=0)
    backbone = mer_zoo.create_model(source, pretrained=True, features_only=True, out_indices=(0, 1)).eval()
    torch.testing.assert_close(backbone(x)[1], features, rtol=0, atol=0)
    mer_zoo.save_pretrained(headless, tmp_path / "again")
    again = mer_zoo.create_model(f"local-dir:{tmp_path / 'again'}", pretrained=True).eval()
    torch.testing.assert_close(again(x), features.flatten(1), rtol=0, atol=0)
    model.reset_classifier(0)
    torch.testing.assert_close(model(x), features.flatten(1), rtol=0, atol=0)
    model.reset_classifier(2)
    torch.testing.assert_close(model.forward_features(x), features, rtol=0, atol=0)


@every_attentive
def test_a_new_classifier_says_where_to_look_once_it_is_trained(name: str, tmp_path: Path) -> None:
    model, x = _trained(name), torch.rand(2, 3, 60, 60)
    features = model.forward_features(x)
    mer_zoo.save_pretrained(model, tmp_path / "four")
    seven: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'four'}", pretrained=True, num_classes=7, drop_rate=0.0)
    torch.testing.assert_close(seven.eval().forward_features(x), features, rtol=0, atol=0)
    mer_zoo.save_pretrained(seven, tmp_path / "seven")  # before training: still by the four
    loaded: Any = mer_zoo.create_model(f"local-dir:{tmp_path / 'seven'}", pretrained=True).eval()
    torch.testing.assert_close(loaded.forward_features(x), features, rtol=0, atol=0)
    seven.train()(x)
    by_seven = seven.eval().forward_features(x)
    twin: Any = mer_zoo.create_model(name, num_classes=7).eval()
    twin.load_state_dict(seven.state_dict())
    torch.testing.assert_close(twin.forward_features(x), by_seven, rtol=0, atol=0)
    assert twin.class_weights.shape == (7, 800)
    torch.testing.assert_close(seven.class_weights, seven.fc.weight.detach())


@every_attentive
def test_where_no_class_ever_was_attention_is_one(name: str) -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model(name, num_classes=0).eval()
    plain: Any = mer_zoo.create_model(name, num_classes=0, attention="none").eval()
    state = model.state_dict()
    assert state.pop("class_weights").shape == (0, 800)
    plain.load_state_dict(state)
    x = torch.rand(2, 3, 60, 60)
    torch.testing.assert_close(model(x), plain(x), rtol=0, atol=0)


@every_attentive
def test_the_classifier_learns_through_attention_too(name: str) -> None:
    """The gradient of its weights is not only that of the linear layer."""
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model(name, drop_rate=0.0).double().train()
    x = torch.rand(3, 3, 60, 60).double()
    vector = model.forward_head(model.forward_features(x), pre_logits=True)
    (whole,) = torch.autograd.grad(model.fc(vector).square().sum(), model.fc.weight)
    (linear,) = torch.autograd.grad(model.fc(vector.detach()).square().sum(), model.fc.weight)
    assert not torch.allclose(whole, linear)
