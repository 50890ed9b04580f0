"""Our reading of CausalNet against the authors' layers, written out one part of the face at a time."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.causalnet import HEADS, directions

Parts = list[Tensor]  # four vectors (D,): upper left, upper right, lower left, lower right


class Naive:
    """What follows the trunks, of one clip."""

    def __init__(self, state: dict[str, Tensor], dim: int, depth: int, gamma: float) -> None:
        self.state, self.dim, self.depth, self.gamma = state, dim, depth, gamma

    def linear(self, x: Tensor, name: str) -> Tensor:
        return self.state[f"{name}.weight"] @ x + self.state[f"{name}.bias"]

    def norm(self, x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def plus_mlp(self, x: Tensor, name: str) -> Tensor:
        return x + self.linear(F.gelu(self.linear(x, f"{name}.0")), f"{name}.3")

    def attend(self, q: Tensor, keys: Parts, values: Parts, scale: float, own: int | None = None) -> Tensor:
        """One token's heads; with ``own``, its number, the part opposite is penalised, then left out."""
        size, heads = self.dim // HEADS, []
        for part in (slice(i * size, (i + 1) * size) for i in range(HEADS)):
            scores = torch.stack([q[part] @ key[part] * scale for key in keys])
            if own is not None:
                scores[3 - own] = -self.gamma * (3 - own + 1)
            weights = scores.softmax(dim=0)
            kept = [i for i in range(len(keys)) if own is None or i != 3 - own]
            heads.append(torch.stack([weights[i] * values[i][part] for i in kept]).sum(dim=0))
        return torch.cat(heads)

    def masked(self, x: Parts, context: Parts, name: str, scale: float) -> Parts:
        both = [self.linear(c, f"{name}.kv") for c in context]
        keys, values = [b[: self.dim] for b in both], [b[self.dim :] for b in both]
        queries = [self.linear(part, f"{name}.q") for part in x]
        seen = [self.attend(q, keys, values, scale, own) for own, q in enumerate(queries)]
        return [self.linear(s, f"{name}.proj") for s in seen]

    def cross(self, rise: Parts, fall: Parts, name: str) -> tuple[Parts, Parts]:
        rise_norm, fall_norm = ([self.norm(p, f"{name}.norm") for p in x] for x in (rise, fall))
        scale = self.dim**-0.5
        rise = [p + s for p, s in zip(rise, self.masked(rise_norm, fall, f"{name}.attn", scale), strict=True)]
        fall = [p + s for p, s in zip(fall, self.masked(fall_norm, rise, f"{name}.attn", scale), strict=True)]
        return [self.plus_mlp(p, f"{name}.mlp") for p in rise], [self.plus_mlp(p, f"{name}.mlp") for p in fall]

    def one_way(self, cause: Parts, effect: Parts, name: str) -> tuple[Parts, Parts]:
        scale, phases = (self.dim // HEADS) ** -0.5, []
        for phase in (cause, effect):
            normal = [self.norm(p, f"{name}.norm") for p in phase]
            seen = self.masked(normal, normal, f"{name}.within", scale)
            phases.append([p + s for p, s in zip(normal, seen, strict=True)])
        after = []
        for before, own in zip(*phases, strict=True):
            both = [self.linear(p, f"{name}.between.kv") for p in (before, own)]
            keys, values = [b[: self.dim] for b in both], [b[self.dim :] for b in both]
            seen_ = self.attend(self.linear(own, f"{name}.between.q"), keys, values, scale)
            after.append(own + self.linear(seen_, f"{name}.between.proj"))
        return [self.plus_mlp(p, f"{name}.mlp") for p in phases[0]], [self.plus_mlp(p, f"{name}.mlp") for p in after]

    def logits(self, vectors: Tensor) -> Tensor:
        """From the trunks' four vectors, (4, 4 * D): flow of rise and fall, directions of rise and fall."""
        rise, fall, rise_to, fall_to = ([v[part::4] for part in range(4)] for v in vectors)
        for i in range(self.depth):
            rise_to, fall_to = self.cross(rise_to, fall_to, f"blocks.3.cross.{i}")
        rise, fall = ([a + b for a, b in zip(x, y, strict=True)] for x, y in ((rise, rise_to), (fall, fall_to)))
        name = "blocks.3.causal"
        first, forth = self.one_way(rise, fall, name)
        last, back = self.one_way(fall, rise, name)
        both = [a + b for a, b in zip(forth, back, strict=True)]
        queries = [self.linear(p, f"{name}.agree.q") for p in forth]
        keys = [self.linear(p, f"{name}.agree.k") for p in back]
        values = [self.linear(p, f"{name}.agree.v") for p in both]
        seen = [self.attend(q, keys, values, (self.dim // HEADS) ** -0.5) for q in queries]
        agreed = [self.linear(s + b, f"{name}.agree.proj") for s, b in zip(seen, both, strict=True)]
        return self.linear(self.linear(torch.cat([*agreed, *first, *last]), "blocks.4.fc1"), "fc")


def noisy(**options: Any) -> Any:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("causalnet_reading", **{"dim": 16, "depths": (1, 1, 2), **options}).double()
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    return model


def flow_of_two_phases(channels: int = 3) -> Tensor:
    return torch.rand(2, channels, 2, 28, 28, generator=torch.Generator().manual_seed(1)).double() * 255


def test_at_the_published_width_it_has_the_published_weights() -> None:
    for dim, weights in ((256, 276_590_089), (48, 9_789_225)):
        model = mer_zoo.create_model("causalnet_reading", device="meta", dim=dim)
        assert sum(p.numel() for p in model.parameters()) == weights


def test_shapes_of_the_stages() -> None:
    model: Any = mer_zoo.create_model("causalnet_reading", dim=256, device="meta")
    maps = model.forward_intermediates(torch.zeros(2, 3, 2, 28, 28, device="meta"), intermediates_only=True)
    trunks = [(256, 4, 4, 4), (256, 4, 4, 4), (512, 4, 2, 2), (1024, 4, 1, 1)]
    assert [tuple(m.shape[1:]) for m in maps] == [*trunks, (256, 3, 2, 2), (2048, 1, 1, 1)]


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_what_follows_the_trunks_equals_the_naive_one(training: bool) -> None:
    model = noisy().train(training)
    x = flow_of_two_phases()
    vectors = model.forward_intermediates(x, indices=[3], intermediates_only=True)[0]
    naive = Naive(dict(model.state_dict()), dim=16, depth=2, gamma=0.5)
    for clip, logits in zip(vectors, model(x), strict=True):
        torch.testing.assert_close(naive.logits(clip[:, :, 0, 0].T), logits, rtol=1e-9, atol=1e-9)


@torch.no_grad()
def test_trunks_are_those_of_htnet() -> None:
    """Each sees both phases; one of them flow, the other directions."""
    model, x = noisy().eval(), flow_of_two_phases()
    vectors = model.forward_intermediates(x, indices=[3], intermediates_only=True)[0]
    state = model.state_dict()
    for trunk, stem, first in (("flow", "stem", 0), ("direction", "stem_direction", 2)):
        htnet: Any = mer_zoo.create_model("htnet", dim=16, depths=(1, 1, 2)).double().eval()
        own = {n.replace(f".{trunk}.", "."): v for n, v in state.items() if f".{trunk}." in n}
        own |= {n.replace(stem, "stem"): v for n, v in state.items() if n.startswith(f"{stem}.")}
        left = htnet.load_state_dict(own, strict=False)
        assert set(left.missing_keys) == {"norm.weight", "norm.bias", "fc.weight", "fc.bias"}
        for phase in (0, 1):
            image = x[:, :, phase] if trunk == "flow" else directions(x[:, :, phase])
            expected = htnet.forward_intermediates(image, intermediates_only=True)[-1]
            torch.testing.assert_close(vectors[:, :, first + phase], expected)


def test_directions() -> None:
    """Channels strain, v, u: along u only 0, along v only 255, both alike half of it; strain does not matter."""
    flow = torch.tensor([[7.0, 0.0, 255.0], [0.0, 255.0, 0.0], [9.0, 100.0, 100.0]])[:, :, None, None]
    found = directions(flow)
    assert found.shape == flow.shape
    torch.testing.assert_close(found[:, 0].flatten(), torch.tensor([0.0, 255.0, 127.5]), rtol=0, atol=1e-2)
    assert torch.equal(found[:, 0], found[:, 2])
    still = torch.zeros(1, 3, 4, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(directions(still).sum(), still)
    assert gradient.isfinite().all()
    assert torch.equal(directions(flow[:, :1]), flow[:, :1])


@torch.no_grad()
def test_the_order_of_the_phases_matters() -> None:
    model, x = noisy().eval(), flow_of_two_phases()
    assert not torch.allclose(model(x), model(x.flip(2)))


def test_a_batch_of_one_learns() -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("causalnet_reading", dim=16, depths=(1, 1, 2)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y, losses = flow_of_two_phases()[:1].float(), torch.tensor([2]), []
    for _ in range(5):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_what_does_not_divide_is_refused() -> None:
    with pytest.raises(InputError, match="dim is 20; expected three depths, and a multiple of 8"):
        mer_zoo.create_model("causalnet_reading", dim=20)
    with pytest.raises(InputError, match="size is 30"):
        mer_zoo.create_model("causalnet_reading", size=30)
    model = mer_zoo.create_model("causalnet_reading", size=56, dim=16)
    assert mer_zoo.input_spec(model).shape == (3, 2, 56, 56)
