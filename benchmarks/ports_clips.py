"""Plain ports of the networks on frames, clips and series of flow, to time ours against; in the manner of `ports_flow`.

Transformers are written as timm's were in 2022, when their authors built on it. The regions of MicroExpFuseNet and the
colours of SLSTT's flow are ours: they stand in for preprocessing.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from ports_flow import fresh, resnet_trunk
from timm.layers import DropPath
from torch import Tensor, nn

from mer_zoo.models.micro_exp_fusenet import EYES, MOUTH, area_weights
from mer_zoo.models.slstt import flow_to_colours


class Attention(nn.Module):
    """Self-attention of tokens, softmax written out: (B, N, D) -> the same."""

    def __init__(self, attn: Any, heads: int, drop_rate: float) -> None:
        super().__init__()
        self.heads, self.qkv, self.proj = heads, fresh(attn.qkv), fresh(attn.proj)
        self.drop_weights, self.drop = nn.Dropout(drop_rate), nn.Dropout(drop_rate)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = self.drop_weights((q @ k.transpose(2, 3) * q.shape[-1] ** -0.5).softmax(dim=-1))
        out: Tensor = self.drop(self.proj((weights @ v).transpose(1, 2).flatten(2)))
        return out


class Block(nn.Module):
    """Attention and two layers over each token, both past a shortcut: (B, N, D) -> the same."""

    def __init__(self, block: Any, attn: Attention, mlp: nn.Module, drop_path_rate: float = 0.0) -> None:
        super().__init__()
        self.norm1, self.attn, self.norm2, self.mlp = fresh(block.norm1), attn, fresh(block.norm2), mlp
        self.drop_path = DropPath(drop_path_rate)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.drop_path(self.attn(self.norm1(x)))
        out: Tensor = x + self.drop_path(self.mlp(self.norm2(x)))
        return out


class Calibration(nn.Module):
    """MMNet's position calibration of the onset, normalised: (B, C, H, W) -> (B, 512, side, side)."""

    def __init__(self, module: Any) -> None:
        super().__init__()
        self.side, self.embed, self.norm = module.side, fresh(module.embed), fresh(module.norm)
        self.places = nn.Parameter(module.places.detach().clone())
        blocks = [
            Block(layer, Attention(layer, 4, 0.0), fresh(layer.mlp), layer.drop_path_rate) for layer in module.layers
        ]
        self.blocks = nn.Sequential(*blocks)

    def forward(self, onset: Tensor) -> Tensor:
        small = F.interpolate(onset, size=(self.side, self.side), mode="bilinear", align_corners=False)
        tokens = self.embed(small).flatten(2).transpose(1, 2) + self.places
        maps: Tensor = self.norm(self.blocks(tokens)).transpose(1, 2).unflatten(2, (self.side, self.side))
        return maps


class MMNet(nn.Module):
    """Both frames normalised whole; the difference through the attention blocks; channels first."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        *blocks, calibration = model.blocks
        self.stem = nn.Sequential(*fresh(model.stem.conv1), nn.ReLU(), *fresh(model.stem.conv2), nn.ReLU())
        self.blocks = nn.ModuleList(fresh(block) for block in blocks)
        self.calibration = Calibration(calibration)
        self.register_buffer("mean", calibration.mean[:, None].clone())
        self.register_buffer("deviation", calibration.deviation[:, None].clone())
        self.drop, self.fc = nn.Dropout(model.drop_rate), fresh(model.fc)

    def forward(self, x: Tensor) -> Tensor:
        onset, apex = ((x - self.mean) / self.deviation).unbind(2)
        maps, attention = self.stem(apex - onset), None
        for block in self.blocks:
            maps, attention = block(maps, attention)
        logits: Tensor = self.fc(self.drop((maps + self.calibration(onset)).flatten(1)))
        return logits


def squash(x: Tensor) -> Tensor:
    """Lengths below one, directions kept, of capsules along the last axis."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return norm.square() / (1 + norm.square()) * x / (norm + 1e-8)


class ClassCapsules(nn.Module):
    """A matrix for each pair of capsules, and routing by products summed: (B, I, 8) -> (B, classes, 16)."""

    def __init__(self, fc: Any) -> None:
        super().__init__()
        self.routings = fc.routings
        weight = fc.weight.detach().reshape(fc.classes, 16, -1, 8).transpose(1, 2)
        self.weight = nn.Parameter(weight.clone(memory_format=torch.contiguous_format))
        self.bias = nn.Parameter(fc.bias.detach().reshape(fc.classes, 16).clone())

    def forward(self, x: Tensor) -> Tensor:
        votes = (self.weight @ x.unsqueeze(1).unsqueeze(-1)).squeeze(-1)
        fixed = votes.detach()  # routes are not learnt through
        scores = torch.zeros_like(fixed[..., 0])
        for _ in range(self.routings - 1):
            capsules = (scores.softmax(dim=1)[..., None] * fixed).sum(dim=2, keepdim=True)
            capsules = squash(capsules + self.bias.detach()[:, None])
            scores = scores + (capsules * fixed).sum(dim=-1)
        return (scores.softmax(dim=1)[..., None] * votes).sum(dim=2) + self.bias


class CapsuleNet(nn.Module):
    """torchvision's ResNet-18 to its third stage, then capsules; channels first."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.trunk = resnet_trunk(model, stages=3, pool=False)
        self.conv, self.primary = fresh(model.capsules4), fresh(model.capsules5.conv)
        self.drop, self.classes = nn.Dropout(model.drop_rate), ClassCapsules(model.fc)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.primary(self.conv(self.trunk(x)))
        primary = squash(maps.permute(0, 2, 3, 1).reshape(len(x), -1, 8))
        capsules: Tensor = self.classes(self.drop(primary))
        return (capsules.square().sum(dim=-1) + 1e-12).log()


def space_time(module: Any) -> list[nn.Module]:
    """Convolution, ReLU, pooling, dropout, in the published order."""
    return [fresh(module.conv), nn.ReLU(), nn.MaxPool3d(3), nn.Dropout(module.drop.p)]


def micro_exp_stcnn(model: Any) -> nn.Module:
    hidden, drop = fresh(model.blocks[0].linear), nn.Dropout(model.drop_rate)
    return nn.Sequential(*space_time(model.stem), nn.Flatten(), hidden, nn.ReLU(), drop, fresh(model.fc))


class FuseNet(nn.Module):
    """Each region cut out and taken through its layers, one after the other; then what both have in common."""

    eyes_rows: Tensor
    mouth_rows: Tensor
    columns: Tensor

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.register_buffer("eyes_rows", area_weights(model.size, *EYES), persistent=False)
        self.register_buffer("mouth_rows", area_weights(model.size, *MOUTH), persistent=False)
        self.register_buffer("columns", area_weights(model.size, 0.0, 1.0).T.contiguous(), persistent=False)
        eyes, mouth = ([*space_time(stream), nn.Flatten()] for stream in (model.stem.eyes, model.stem.mouth))
        common: list[nn.Module] = []
        for block in model.blocks:
            shares = [eyes, mouth] if len(block.layers) == 2 else [common]
            for layers, layer in zip(shares, block.layers, strict=True):
                layers += [fresh(layer), nn.Dropout(model.drop_rate)]
        self.eyes, self.mouth = nn.Sequential(*eyes), nn.Sequential(*mouth)
        self.head = nn.Sequential(*common, fresh(model.fc))

    def forward(self, x: Tensor) -> Tensor:
        eyes = self.eyes(self.eyes_rows @ x @ self.columns)
        mouth = self.mouth(self.mouth_rows @ x @ self.columns)
        logits: Tensor = self.head(torch.cat([eyes, mouth], dim=1))
        return logits


class SLSTT(nn.Module):
    """All tokens normalised at the end; without an LSTM, each frame classified and logits averaged."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        vit, rate = model.vit, model.drop_rate
        self.coloured, self.frames = model.in_chans == 2, model.num_frames
        self.patches, self.norm = fresh(vit.patch_embed.proj), fresh(vit.norm)
        self.token, self.places = (nn.Parameter(p.detach().clone()) for p in (vit.cls_token, vit.pos_embed))
        blocks = []
        for block in vit.blocks:
            mlp = fresh(block.mlp.fc1), nn.GELU("tanh"), fresh(block.mlp.fc2), nn.Dropout(rate)
            blocks.append(Block(block, Attention(block.attn, block.attn.num_heads, rate), nn.Sequential(*mlp)))
        self.blocks = nn.Sequential(*blocks)
        lstm, fc = model.aggregator, fresh(model.fc)
        self.lstm = fresh(lstm.lstm) if lstm else None
        self.head = nn.Sequential(fresh(lstm.fc1), nn.ReLU(), fc) if lstm else fc

    def forward(self, x: Tensor) -> Tensor:
        frames = x.transpose(1, 2).flatten(0, 1)
        patches = self.patches(flow_to_colours(frames) if self.coloured else frames).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(frames), -1, -1), patches], dim=1) + self.places
        vectors = self.norm(self.blocks(tokens))[:, 0].unflatten(0, (-1, self.frames))
        if self.lstm is None:
            logits: Tensor = self.head(vectors).mean(dim=1)
        else:
            logits = self.head(self.lstm(vectors)[0][:, -1])
        return logits


PORTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "mmnet": MMNet,
    "capsulenet_me": CapsuleNet,
    "micro_exp_stcnn": micro_exp_stcnn,
    "micro_exp_fusenet_intermediate": FuseNet,
    "micro_exp_fusenet_late": FuseNet,
    "slstt": SLSTT,
    "slstt_mean": SLSTT,
}
