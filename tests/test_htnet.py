"""HTNet against its description, written out naively, and what its published sizes mean."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

import mer_zoo
from mer_zoo.errors import InputError
from mer_zoo.models.htnet import Crops, compose
from mer_zoo.preprocessing.faces import EYES

SMALL: dict[str, Any] = {"dim": 12, "depths": (1, 2, 2), "crops": "composed"}


def channel_norm(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    variance = x.var(dim=1, unbiased=False, keepdim=True)
    normal = (x - x.mean(dim=1, keepdim=True)) / (variance + 1e-5).sqrt()
    return normal * state[f"{name}.weight"].view(-1, 1, 1) + state[f"{name}.bias"].view(-1, 1, 1)


def over_each_place(x: Tensor, state: dict[str, Tensor], name: str) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"][:, :, None, None], state.get(f"{name}.bias"))


def attention(x: Tensor, state: dict[str, Tensor], name: str, heads: int) -> Tensor:
    """Of all places of (B, D, H, W), one clip, one head and one place after the other."""
    q, k, v = over_each_place(x, state, f"{name}.qkv").flatten(2).chunk(3, dim=1)
    size = q.shape[1] // heads
    out = torch.zeros_like(v)
    for clip in range(x.shape[0]):
        for head in range(heads):
            part = slice(head * size, (head + 1) * size)
            for place in range(v.shape[2]):
                scores = k[clip, part].T @ q[clip, part, place] / size**0.5
                out[clip, part, place] = v[clip, part] @ scores.softmax(dim=0)
    return over_each_place(out.unflatten(2, x.shape[2:]), state, f"{name}.proj")


def naive(state: dict[str, Tensor], x: Tensor, depths: tuple[int, ...], heads: int, patch: int) -> Tensor:
    """Blocks are cut out and put back one by one; every layer is a convolution, as in the authors' code."""
    x = F.conv2d(x, state["stem.weight"], state["stem.bias"], stride=patch)
    for level, depth in enumerate(depths):
        name, first = f"blocks.{level}", 1
        if level:
            x = F.conv2d(x, state[f"{name}.0.conv.weight"], state[f"{name}.0.conv.bias"], padding=1)
            x, first = F.max_pool2d(channel_norm(x, state, f"{name}.0.norm"), 3, stride=2, padding=1), 2
        grid = 2 ** (len(depths) - 1 - level)
        side, done = x.shape[2] // grid, torch.zeros_like(x)
        for row in range(0, x.shape[2], side):
            for column in range(0, x.shape[3], side):
                block = x[:, :, row : row + side, column : column + side]
                block = block + state[f"{name}.{first - 1}.weight"].squeeze(-1)
                for i in range(first, first + depth):
                    part = f"{name}.{i}"
                    normal = channel_norm(block, state, f"{part}.norm1")
                    block = block + attention(normal, state, f"{part}.attn", heads * 2**level)
                    hidden = over_each_place(channel_norm(block, state, f"{part}.norm2"), state, f"{part}.mlp.0")
                    block = block + over_each_place(F.gelu(hidden), state, f"{part}.mlp.3")
                done[:, :, row : row + side, column : column + side] = block
        x = done
    return channel_norm(x, state, "norm").mean(dim=(2, 3)) @ state["fc.weight"].T + state["fc.bias"]


def test_it_has_139_582_982_weights() -> None:
    model = mer_zoo.create_model("htnet", device="meta")
    assert sum(p.numel() for p in model.parameters()) == 139_582_982


def test_shapes_of_the_levels() -> None:
    model: Any = mer_zoo.create_model("htnet", device="meta")
    x = torch.zeros(2, 3, 28, 28, device="meta")
    vector, maps = model.forward_intermediates(x)
    assert [tuple(m.shape[1:]) for m in maps] == [(256, 4, 4), (256, 4, 4), (512, 2, 2), (1024, 1, 1)]
    assert tuple(vector.shape) == (2, 1024, 1, 1)
    heads = [level[-1].attn for level in model.blocks]
    assert [(part.heads, part.proj.in_features) for part in heads] == [(3, 255), (6, 510), (12, 1020)]


@pytest.mark.parametrize(("size", "patch"), [(28, 7), (16, 2), (24, 2)])  # blocks of 1, 4 and 9 tokens
@pytest.mark.parametrize("training", [True, False])
def test_it_equals_the_naive_one(size: int, patch: int, training: bool) -> None:
    torch.manual_seed(0)
    model = mer_zoo.create_model("htnet", size=size, patch_size=patch, **SMALL).double().train(training)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn_like(p))
    x = torch.rand(2, 3, size, size).double() * 255
    expected = naive(dict(model.state_dict()), x, (1, 2, 2), heads=3, patch=patch)
    torch.testing.assert_close(model(x), expected, rtol=1e-9, atol=1e-9)


def composed(crops: Crops, size: int = 28) -> list[tuple[int, int]]:
    """Row and column in the input of the upper left pixel of each part: above, left to right, then below."""
    pixels = torch.arange(size * size, dtype=torch.float32).reshape(1, 1, size, size).expand(1, 3, -1, -1)
    put_together = compose(pixels, crops)
    assert put_together.shape == pixels.shape
    half = size // 2
    corners = [(0, 0), (0, half), (half, 0), (half, half)]
    return [divmod(int(put_together[0, 0, row, column]), size) for row, column in corners]


def test_parts_lie_where_the_authors_constants_say() -> None:
    """Rows 9, 21, 10, 20 and columns 11, 10, 21, 21 are the middles of parts of 14 x 14."""
    assert composed("published") == [(9 - 7, 11 - 7), (21 - 7, 10 - 7), (10 - 7, 21 - 7), (20 - 7, 21 - 7)]


@pytest.mark.parametrize("size", [28, 56])
def test_parts_are_centred_on_the_eyes_of_aligned_faces(size: int) -> None:
    left_eye, left_mouth, right_eye, right_mouth = composed("aligned", size)
    middles = [(column + size / 4, row + size / 4) for row, column in (left_eye, right_eye)]
    for middle, eye in zip(middles, EYES * size, strict=True):
        assert middle == pytest.approx(tuple(eye), abs=0.75)
    assert left_mouth[0] == right_mouth[0] == size // 2  # as low as fits
    assert left_mouth[1] + right_mouth[1] == size // 2  # as far left as right


def test_an_input_that_is_composed_stays_as_it_is() -> None:
    assert composed("composed") == [(0, 0), (0, 14), (14, 0), (14, 14)]


@torch.no_grad()
def test_as_published_no_token_attends_to_another() -> None:
    """Queries and keys change nothing where a block is one token, and do where it is more."""
    for patch, same in ((7, True), (1, False)):
        torch.manual_seed(0)
        model: Any = mer_zoo.create_model("htnet", dim=12, patch_size=patch).eval()
        x = torch.rand(2, 3, 28, 28) * 255
        before = model(x)
        for name, p in model.named_parameters():
            if name.endswith("qkv.weight"):
                p[: 2 * p.shape[0] // 3].mul_(-3)
        assert torch.allclose(model(x), before, rtol=1e-4, atol=1e-5) == same


def test_a_batch_of_one_learns() -> None:
    torch.manual_seed(0)
    model: Any = mer_zoo.create_model("htnet", dim=12).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    x, y, losses = torch.rand(1, 3, 28, 28) * 255, torch.tensor([2]), []
    for _ in range(5):
        loss = F.cross_entropy(model(x), y)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_sizes_that_do_not_divide_are_refused() -> None:
    with pytest.raises(InputError, match=r"size is 32, with patch_size 7 and 3 levels; .* such as 56"):
        mer_zoo.create_model("htnet", size=32)
    with pytest.raises(InputError, match="expected one of aligned, published, composed"):
        mer_zoo.create_model("htnet", crops="mtcnn")
    assert mer_zoo.input_spec(mer_zoo.create_model("htnet", size=56, dim=6)).shape == (3, 56, 56)
