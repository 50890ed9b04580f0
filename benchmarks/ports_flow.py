"""Plain ports of the networks on optical flow, to time ours against: what one writes on porting a network to PyTorch.

Each is the same function as ours with the same weights, copied, in the form in which its authors publish it or in
which PyTorch is usually written: streams, branches and phases one after the other, layers over a place as 1 x 1
convolutions, softmax written out, ReLU before the pooling, channels first. Nothing is made slow on purpose: torchvision
has the trunk of EMR, and what our form leaves as published is taken over. Crops, angles and RCN's look at the
classifier are ours, since there they stand in for preprocessing or are as published.
"""

import copy
from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import resnet18

from mer_zoo.models.causalnet import directions
from mer_zoo.models.htnet import Aggregate, compose
from mer_zoo.models.rcn import class_attention

M = TypeVar("M", bound=nn.Module)


def fresh(module: M) -> M:
    """A copy whose weights lie as PyTorch lays them by default."""
    copied = copy.deepcopy(module)
    for p in copied.parameters():
        p.data = torch.empty(p.shape, dtype=p.dtype).copy_(p.data)
    return copied


def conv2d(weight: Tensor, bias: Tensor | None, **options: Any) -> nn.Conv2d:
    """A convolution of these weights, (out, in, H, W)."""
    out, inputs, height, width = weight.shape
    conv = nn.Conv2d(inputs, out, (height, width), bias=bias is not None, **options)
    conv.load_state_dict({"weight": weight} | ({} if bias is None else {"bias": bias}))
    return conv


def pixelwise(linear: Any) -> nn.Conv2d:
    """A linear layer over each place as a 1 x 1 convolution."""
    return conv2d(linear.weight[:, :, None, None], linear.bias)


class Streams(nn.Module):
    """One stream a channel, one after the other; their maps, as one vector, through the last layers."""

    def __init__(self, streams: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.streams, self.head = nn.ModuleList(streams), head

    def forward(self, x: Tensor) -> Tensor:
        vectors = [stream(x[:, i : i + 1]).flatten(1) for i, stream in enumerate(self.streams)]
        logits: Tensor = self.head(torch.cat(vectors, dim=1))
        return logits


def off_apexnet(model: Any) -> nn.Module:
    def stream(i: int) -> nn.Module:
        layers: list[nn.Module] = []
        for conv in (model.stem.conv, model.blocks[0].conv):
            weight, bias = (t.chunk(model.in_chans)[i] for t in (conv.weight, conv.bias))
            layers += [conv2d(weight, bias, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers)

    head = nn.Sequential(*fresh(model.hidden), fresh(model.fc))
    return Streams([stream(i) for i in range(model.in_chans)], head)


class Inception(nn.Module):
    """Four branches of one stream, each convolution with its ReLU, then half the size."""

    def __init__(self, block: Any, stream: int) -> None:
        super().__init__()

        def layer(conv: nn.Conv2d, branch: int = 0, branches: int = 1) -> list[nn.Module]:
            shape = (block.streams, branches, block.width)
            weight, bias = (p.unflatten(0, shape)[stream, branch] for p in (conv.weight, conv.get_parameter("bias")))
            return [conv2d(weight, bias, padding=conv.padding), nn.ReLU()]

        self.branch1 = nn.Sequential(*layer(block.pixels, 0, 3))
        self.branch2 = nn.Sequential(*layer(block.pixels, 1, 3), *layer(block.conv3))
        self.branch3 = nn.Sequential(*layer(block.pixels, 2, 3), *layer(block.conv5))
        self.branch4 = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *layer(block.pooled))
        self.pool = nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([self.branch1(x), self.branch2(x), self.branch3(x), self.branch4(x)], dim=1)
        halved: Tensor = self.pool(maps)
        return halved


def dual_inception(model: Any) -> nn.Module:
    blocks = [model.stem, *model.blocks]
    streams = [nn.Sequential(*(Inception(block, i) for block in blocks)) for i in range(model.in_chans)]
    return Streams([*streams], nn.Sequential(*fresh(model.hidden), fresh(model.fc)))


def dilated_streams(stem: Any) -> list[nn.Sequential]:
    """RCN's three strided streams: convolution, ReLU, batch norm, dropout."""
    streams, start, conv = [], 0, stem.conv
    for size, dilation in zip(conv.sizes, conv.dilations, strict=True):
        rows, start = slice(start, start + size), start + size
        options = {"stride": conv.stride, "padding": dilation, "dilation": dilation}
        norm = nn.BatchNorm2d(size)
        norm.load_state_dict({name: v[rows] if v.ndim else v for name, v in stem.norm.state_dict().items()})
        layers = conv2d(conv.weight[rows], conv.bias[rows], **options), nn.ReLU(), norm, nn.Dropout(stem.drop.p)
        streams.append(nn.Sequential(*layers))
    return streams


def pooled_streams(stem: Any) -> list[nn.Sequential]:
    """RCN-P's two streams: convolution, ReLU, batch norm, pooling, dropout."""

    def stream(conv: nn.Module, norm: nn.Module) -> nn.Sequential:
        pool, drop = nn.MaxPool2d(3, stride=3, padding=1), nn.Dropout(stem.drop.p)
        return nn.Sequential(fresh(conv), nn.ReLU(), fresh(norm), pool, drop)

    return [stream(conv, norm) for conv, norm in zip(stem.convs, stem.norms, strict=True)]


class SideBySide(nn.Module):
    """The maps of each stream, one behind the other."""

    def __init__(self, streams: list[nn.Sequential]) -> None:
        super().__init__()
        self.streams = nn.ModuleList(streams)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([stream(x) for stream in self.streams], dim=1)


def rcn_stem(stem: Any) -> nn.Module:
    if hasattr(stem, "convs"):
        return SideBySide(pooled_streams(stem))
    if hasattr(stem.conv, "sizes"):
        return SideBySide(dilated_streams(stem))
    return nn.Sequential(fresh(stem.conv), fresh(stem.norm), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(stem.drop.p))


class RCN(nn.Module):
    """Any of the six forms."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.stem = rcn_stem(model.stem)
        self.block, self.fc = fresh(model.blocks[0]), fresh(model.fc)
        self.pool, self.attention = nn.AdaptiveAvgPool2d(model.grid), model.attention

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.stem(x)
        weights = self.fc.weight.unflatten(1, (maps.shape[1], *[self.pool.output_size] * 2))
        look = inside = None
        if self.attention == "input":
            seen = class_attention(self.pool(x.mean(1, keepdim=True)), weights.mean(1, keepdim=True))
            maps = maps * F.interpolate(seen, maps.shape[2:])
        elif self.attention != "none":
            look = class_attention(self.pool(maps), weights)
        if look is not None and self.attention == "block":
            inside, look = F.interpolate(look, maps.shape[2:]), None
        maps = self.pool(self.block(maps, inside))
        maps = maps if look is None else maps * look
        logits: Tensor = self.fc(maps.flatten(1))
        return logits


def sssnet(model: Any) -> nn.Module:
    layers: list[nn.Module] = []
    for layer in (model.stem, *model.blocks):
        pool, drop = nn.MaxPool2d(layer.pool), nn.Dropout2d(layer.drop.p)
        layers += [fresh(layer.conv), nn.ReLU(), pool, fresh(layer.norm), drop]
    layers += [nn.Flatten(), fresh(model.hidden), nn.ReLU(), nn.Dropout(model.drop_rate)]
    return nn.Sequential(*layers, fresh(model.fc))


def resnet_trunk(model: Any, stages: int, pool: bool) -> nn.Sequential:
    """torchvision's ResNet-18 up to a stage, with our weights, which have its names."""
    trunk = resnet18(weights=None)
    trunk.conv1 = fresh(model.conv1)
    own = trunk.state_dict()
    trunk.load_state_dict({n: v for n, v in model.state_dict().items() if n in own and "fc." not in n}, strict=False)
    layers = [trunk.layer1, trunk.layer2, trunk.layer3, trunk.layer4][:stages]
    return nn.Sequential(trunk.conv1, trunk.bn1, trunk.relu, *([trunk.maxpool] if pool else []), *layers)


class EMR(nn.Module):
    """A ResNet-18; upper and lower face averaged apart."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.trunk = resnet_trunk(model, stages=4, pool=True)
        self.top, self.bottom, self.fc = fresh(model.top), fresh(model.bottom), fresh(model.fc)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.trunk(x)
        row = max(1, 3 * x.shape[2] // 7)
        top, bottom = self.top(self.pool(x[:, :, :row]).flatten(1)), self.bottom(self.pool(x[:, :, row:]).flatten(1))
        logits: Tensor = self.fc(torch.cat([top, bottom], dim=1))
        return logits


class ChannelNorm(nn.Module):
    """Layer norm over the channels of maps, by its formula."""

    def __init__(self, norm: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(norm.weight.detach().clone().view(1, -1, 1, 1))
        self.bias = nn.Parameter(norm.bias.detach().clone().view(1, -1, 1, 1))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        mean, variance = x.mean(dim=1, keepdim=True), x.var(dim=1, unbiased=False, keepdim=True)
        return (x - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias


class MapAttention(nn.Module):
    """Self-attention among all places of maps: (B, D, H, W) -> the same."""

    def __init__(self, attn: Any) -> None:
        super().__init__()
        self.heads, self.to_qkv, self.proj = attn.heads, pixelwise(attn.qkv), pixelwise(attn.proj)
        self.drop_weights, self.drop = nn.Dropout(attn.drop.p), nn.Dropout(attn.drop.p)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.to_qkv(x).flatten(2).chunk(3, dim=1)
        q, k, v = (part.unflatten(1, (self.heads, -1)).transpose(2, 3) for part in parts)
        weights = self.drop_weights((q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1))
        out = (weights @ v).transpose(2, 3).reshape(len(x), -1, *x.shape[2:])
        dropped: Tensor = self.drop(self.proj(out))
        return dropped


class MapBlock(nn.Module):
    """Attention and two layers over each place, both past a shortcut: (B, D, H, W) -> the same."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2 = ChannelNorm(block.norm1), MapAttention(block.attn), ChannelNorm(block.norm2)
        wide, _, drop, narrow, _ = block.mlp
        hidden = pixelwise(wide), nn.GELU(), nn.Dropout(drop.p)
        self.mlp = nn.Sequential(*hidden, pixelwise(narrow), nn.Dropout(drop.p))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class Level(nn.Module):
    """Blocks of the face as a batch, through position and transformer, and put back; before it the aggregation."""

    def __init__(self, level: Any) -> None:
        super().__init__()
        between = level[0] if isinstance(level[0], Aggregate) else None
        first = 0 if between is None else 1
        pool = nn.MaxPool2d(3, stride=2, padding=1)
        layers = [] if between is None else [fresh(between.conv), ChannelNorm(between.norm), pool]
        self.aggregate = nn.Sequential(*layers)
        self.grid = level[first].grid
        self.position = nn.Parameter(level[first].weight.detach().clone().squeeze(2))
        self.layers = nn.Sequential(*(MapBlock(block) for block in level[first + 1 :]))

    def forward(self, x: Tensor) -> Tensor:
        x, grid = self.aggregate(x), self.grid
        batch, channels, height, width = x.shape
        x = x.reshape(batch, channels, grid, height // grid, grid, width // grid).permute(0, 2, 4, 1, 3, 5)
        x = self.layers(x.reshape(-1, channels, height // grid, width // grid) + self.position)
        x = x.reshape(batch, grid, grid, channels, height // grid, width // grid).permute(0, 3, 1, 4, 2, 5)
        return x.reshape(batch, channels, height, width)


class HTNet(nn.Module):
    """Features as maps, channels first, throughout."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.crops = model.crops
        self.trunk = nn.Sequential(fresh(model.stem), *(Level(level) for level in model.blocks))
        self.norm, self.fc = ChannelNorm(model.norm), fresh(model.fc)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.trunk(compose(x, self.crops)))
        logits: Tensor = self.fc(x.mean(dim=(2, 3)))
        return logits


class RowHead(nn.Module):
    """One of Off-TANet's heads, with convolutions of its own for queries, keys and values."""

    position: Tensor

    def __init__(self, attention: Any, head: int, heads: int) -> None:
        super().__init__()
        self.query, self.key, self.value = (
            conv2d(*(p.chunk(3)[i].chunk(heads)[head] for p in (attention.qkv.weight, attention.qkv.bias)))
            for i in range(3)
        )
        self.register_buffer("position", attention.position.clone())

    def forward(self, x: Tensor) -> Tensor:
        query, value = self.query(x), self.value(x)
        agreement: Tensor = query @ self.key(x).mT + query @ self.position.mT
        out: Tensor = agreement.flatten(2).softmax(dim=2).view_as(value) * value
        return out


class TripleAttention(nn.Module):
    """Channels and places weighed as CBAM does, then heads one after the other."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        channel, spatial, rows = attention
        self.average, self.most = nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)
        self.channel = nn.Sequential(pixelwise(channel.squeeze), nn.ReLU(), pixelwise(channel.excite))
        self.spatial = fresh(spatial.conv)
        self.heads = nn.ModuleList(RowHead(rows, head, heads=4) for head in range(4))

    def forward(self, x: Tensor) -> Tensor:
        x = x * (self.channel(self.average(x)) + self.channel(self.most(x))).sigmoid()
        found = torch.cat([x.mean(dim=1, keepdim=True), x.max(dim=1, keepdim=True).values], dim=1)
        x = x * self.spatial(found).sigmoid()
        return torch.cat([head(x) for head in self.heads], dim=1)


class TANetBlock(nn.Module):
    """Two convolutions, between them attention if any, and a shortcut; then half the size."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        middle = TripleAttention(block.middle) if isinstance(block.middle, nn.Sequential) else nn.Identity()
        start = fresh(block.conv1), fresh(block.norm1), nn.ReLU()
        self.conv = nn.Sequential(*start, middle, fresh(block.conv2), fresh(block.norm2), nn.ReLU())
        self.shortcut, self.pool = fresh(block.shortcut), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        halved: Tensor = self.pool(self.shortcut(x) + self.conv(x))
        return halved


def off_tanet(model: Any) -> nn.Module:
    stem = fresh(model.stem.conv), nn.ReLU(), fresh(model.stem.norm)
    blocks = [TANetBlock(block) for block in model.blocks]
    return nn.Sequential(*stem, *blocks, nn.Flatten(), *fresh(model.hidden), fresh(model.fc))


class CausalNet(nn.Module):
    """Both phases through both trunks, and the causal block forth and back, one after the other, as published."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        *levels, relations, join = model.blocks
        self.crops = model.crops
        self.flow = nn.Sequential(fresh(model.stem), *(Level(both.flow) for both in levels))
        self.direction = nn.Sequential(fresh(model.stem_direction), *(Level(both.direction) for both in levels))
        self.cross, self.causal = fresh(relations.cross), fresh(relations.causal)
        self.head = nn.Sequential(fresh(join.fc1), fresh(model.fc))

    def forward(self, x: Tensor) -> Tensor:
        first, second = (compose(x[:, :, phase], self.crops) for phase in (0, 1))
        rise, fall = _parts(self.flow(first)), _parts(self.flow(second))
        rise_to, fall_to = (_parts(self.direction(directions(flow))) for flow in (first, second))
        for layer in self.cross:
            rise_to, fall_to = layer(rise_to, fall_to)
        rise, fall = rise + rise_to, fall + fall_to
        rise_seen, forth = self._one_way(rise, fall)
        fall_seen, back = self._one_way(fall, rise)
        logits: Tensor = self.head(torch.cat([self._agree(forth, back), rise_seen, fall_seen], dim=1).flatten(1))
        return logits

    def _one_way(self, cause: Tensor, effect: Tensor) -> tuple[Tensor, Tensor]:
        within, mlp = self.causal.within, self.causal.mlp
        cause, effect = self.causal.norm(cause), self.causal.norm(effect)
        cause, effect = cause + within(cause, cause), effect + within(effect, effect)
        effect = effect + self._between(cause, effect)
        return cause + mlp(cause), effect + mlp(effect)

    def _between(self, cause: Tensor, effect: Tensor) -> Tensor:
        attn = self.causal.between
        q = _heads(attn.q(effect))
        keys_values = [attn.kv(phase).chunk(2, dim=-1) for phase in (cause, effect)]
        k, v = (torch.stack([_heads(phase[i]) for phase in keys_values], dim=3) for i in (0, 1))
        weights = (torch.einsum("bhnd,bhnkd->bhnk", q, k) * attn.scale).softmax(dim=-1)
        out: Tensor = attn.drop(attn.proj(torch.einsum("bhnk,bhnkd->bhnd", weights, v).transpose(1, 2).flatten(2)))
        return out

    def _agree(self, forth: Tensor, back: Tensor) -> Tensor:
        agree, both = self.causal.agree, forth + back
        q, k, v = _heads(agree.q(forth)), _heads(agree.k(back)), _heads(agree.v(both))
        seen = (q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1) @ v
        out: Tensor = agree.drop(agree.proj(seen.transpose(1, 2).flatten(2) + both))
        return out


def _parts(x: Tensor) -> Tensor:
    """A trunk's vector as four parts: (B, 4 * D, 1, 1) -> (B, 4, D)."""
    return x.reshape(len(x), -1, 4).transpose(1, 2)


def _heads(x: Tensor) -> Tensor:
    """(B, N, D) -> (B, 8, N, D / 8)."""
    heads: Tensor = x.unflatten(2, (8, -1))
    return heads.transpose(1, 2)


PORTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "off_apexnet": off_apexnet,
    "dual_inception": dual_inception,
    **{f"rcn_{form}": RCN for form in "aswpcf"},
    "sssnet": sssnet,
    "emr": EMR,
    "htnet": HTNet,
    "off_tanet": off_tanet,
    "causalnet_reading": CausalNet,
}
