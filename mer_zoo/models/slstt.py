"""SLSTT: a vision transformer over optical flow, frame by frame, and an LSTM over the frames.

Zhang, Hong, Arandjelovic and Zhao, "Short and Long Range Relation Based Spatio-Temporal Transformer for
Micro-Expression Recognition", IEEE Transactions on Affective Computing 2022, doi 10.1109/TAFFC.2022.3213509, arXiv
2112.05851. Layers, sizes and the coding of flow in colours follow the authors' code (Vision-Intelligence-and-Robots-
Group/SLSTT, MIT, model/slstt.py and preprocess/data_init.py): ViT-B/16 at 384 pixels, which is timm's
``VisionTransformer`` with GELU by tanh, and three layers of LSTM. Weights are counted from these sizes; the authors'
own count has 768 + 1 more a class, of a linear layer that the LSTM leaves unused. Published: 0.7581 accuracy on CASME
II, 0.7239 on SAMM (five classes), 0.7371 on SMIC (as listed in the README of pakchoi-php/SRMCL, which does not say of
which form); the code keeps the best epoch of each test subject and stops where all its clips are right.

The authors start from ImageNet weights: ``model.vit.load_state_dict(timm.create_model(NAME, pretrained=True,
num_classes=0).state_dict())`` with NAME such as ``vit_base_patch16_384.orig_in21k_ft_in1k`` does so here. Their code,
as it is now, computes the transformer's blocks without gradients, so that only what follows them is trained; here one
would freeze ``model.vit`` except for ``model.vit.norm``.

*Ours*: 11 frames evenly spaced from onset to offset (the authors take those around the apex, and interpolate where
there are too few); flow is coded in colours inside the network, at its size and without rounding to 8 bits; weights
that are not loaded start as the authors' do, but gradients flow everywhere.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Literal, cast

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.models._base import ZooModel, classifier
from mer_zoo.models._builder import build, register
from mer_zoo.types import InputSpec

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

Aggregation = Literal["lstm", "mean"]


def flow_to_colours(flow: Tensor) -> Tensor:
    """Flow u, v as colours, scaled as for ImageNet weights: (N, 2, H, W) -> (N, 3, H, W), red, green, blue.

    Direction becomes hue; length, stretched to 0..1 in each image, becomes brightness; saturation is full.
    """
    u, v = flow.unbind(1)
    length = torch.linalg.vector_norm(flow, dim=1)  # unlike hypot it has a gradient where nothing moves
    low, high = length.amin(dim=(1, 2), keepdim=True), length.amax(dim=(1, 2), keepdim=True)
    brightness = (length - low) / (high - low).clamp(min=1e-6)  # pixels: less is no motion
    hue = torch.atan2(v, u) * (3 / torch.pi)  # in sixths of a turn
    colours = []
    for place, mean, std in zip((0, 2, 4), IMAGENET_MEAN, IMAGENET_STD, strict=True):  # of red, green, blue
        distance = (torch.remainder(hue - place + 3, 6) - 3).abs()
        colours.append(((2 - distance).clamp(0, 1) * brightness - mean) / std)
    return torch.stack(colours, dim=1)


class LSTM(nn.Module):
    """What an LSTM and one more layer make of all frames: (B, D, T, 1, 1) -> (B, hidden / 2, 1, 1, 1)."""

    def __init__(self, dim: int, hidden: int, layers: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(dim, hidden, layers, batch_first=True)
        self.fc1 = nn.Linear(hidden, hidden // 2)

    def forward(self, x: Tensor) -> Tensor:
        frames = x.flatten(2).transpose(1, 2).to(self.fc1.weight.dtype)
        with torch.autocast("cpu", enabled=False):  # CPUs without bfloat16 instructions have no such LSTM
            after_each_frame, _ = self.lstm(frames)
        return cast(Tensor, self.fc1(after_each_frame[:, -1])).relu()[:, :, None, None, None]


class SLSTT(ZooModel):
    """Flow (B, 2, T, 384, 384) from the onset to each of T frames, u and v in pixels -> logits (B, num_classes).

    Args:
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels. 2 are u and v and become three colours; others go to the patches as they are.
        size: Height and width of the input.
        num_frames: T.
        aggregation: What makes one vector of all frames: ``lstm``, three layers and a fourth of 256 values, or
            ``mean``.
        patch_size: Side of a token in pixels.
        dim: Values of a token.
        depth: Blocks of the transformer.
        num_heads: Attention heads of a block.
        lstm_dim: Values of an LSTM's layer.
        drop_rate: Share of values dropped in training: of attention, and of what each half of a block adds.
        global_pool: ``token``: the class token's vector of each frame, aggregated; empty: as maps of one place.
    """

    first_convs: ClassVar = ("vit.patch_embed.proj",)
    stem_pattern: ClassVar = r"^vit\.(?:cls_token|pos_embed|patch_embed)"
    blocks_pattern: ClassVar = r"^vit\.blocks\.(\d+)"
    pools: ClassVar = ("token",)
    small: ClassVar = {"size": 48, "num_frames": 3, "dim": 24, "depth": 3, "num_heads": 3}

    def __init__(
        self,
        num_classes: int = 3,
        in_chans: int = 2,
        size: int = 384,
        num_frames: int = 11,
        aggregation: Aggregation = "lstm",
        patch_size: int = 16,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        lstm_dim: int = 512,
        drop_rate: float = 0.1,
        global_pool: str = "token",
    ) -> None:
        super().__init__()
        if size % patch_size:
            raise InputError(f"size is {size}; expected a multiple of patch_size, which is {patch_size}.")
        if num_frames < 2 or lstm_dim < 2:
            raise InputError(f"num_frames is {num_frames} and lstm_dim {lstm_dim}; expected 2 or more of each.")
        if dim % num_heads:
            raise InputError(f"dim is {dim}; expected a multiple of num_heads, which is {num_heads}.")
        self.set_pool(global_pool, num_classes)
        self.num_classes, self.in_chans, self.size, self.num_frames = num_classes, in_chans, size, num_frames
        self.drop_rate = drop_rate
        self.vit = VisionTransformer(
            size,
            patch_size,
            3 if in_chans == 2 else in_chans,
            num_classes=0,
            embed_dim=dim,
            depth=depth,
            num_heads=num_heads,
            proj_drop_rate=drop_rate,
            attn_drop_rate=drop_rate,
            weight_init="skip",
            act_layer="gelu_tanh",
        )
        for block in self.blocks:
            block.mlp.drop1 = nn.Identity()  # published, values between the two layers are not dropped
        _initialise(self.vit)
        self.aggregator = LSTM(dim, lstm_dim, layers=3) if aggregation == "lstm" else None
        self.num_features = lstm_dim // 2 if self.aggregator else dim
        self.feature_info = [
            {"num_chs": dim, "reduction": patch_size, "module": "vit.patch_embed"},
            *({"num_chs": dim, "reduction": patch_size, "module": f"vit.blocks.{i}"} for i in range(depth)),
            {"num_chs": dim, "reduction": size, "module": "vit.norm"},
        ]
        if self.aggregator:
            self.feature_info.append({"num_chs": self.num_features, "reduction": size, "module": "aggregator"})
        self.fc = classifier(self.num_features, num_classes)

    @property
    def blocks(self) -> Sequence[Block]:
        """The transformer's blocks."""
        return cast(Sequence[Block], self.vit.blocks)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self.embed, *self.blocks, self.frames, *([self.aggregator] if self.aggregator else [])]

    def keep_stages(self, number: int) -> None:
        if number < len(self.stages()):
            self.aggregator = None
        if number < len(self.blocks) + 2:
            self.vit.norm = nn.Identity()
        self.vit.blocks = self.vit.blocks[: number - 1]

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        ends = [(r"^vit\.norm", (99997,)), (r"^aggregator", (99998,))]
        return {"stem": self.stem_pattern, "blocks": [(self.blocks_pattern, None), *ends]}

    def embed(self, x: Tensor) -> Tensor:
        """A class token and one token a patch of each frame: (B, C, T, H, W) -> (B * T, 1 + N, D)."""
        x = x.transpose(1, 2).flatten(0, 1)
        patches = self.vit.patch_embed(flow_to_colours(x) if self.in_chans == 2 else x)
        tokens = torch.cat([self.vit.cls_token.expand(x.shape[0], -1, -1), patches], dim=1)
        return tokens + cast(Tensor, self.vit.pos_embed)

    def frames(self, tokens: Tensor) -> Tensor:
        """The class token of each frame, normalised: (B * T, 1 + N, D) -> (B, D, T, 1, 1)."""
        vectors: Tensor = self.vit.norm(tokens[:, 0])
        return vectors.reshape(-1, self.num_frames, vectors.shape[1]).transpose(1, 2)[..., None, None]

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """As of any network here; tokens are given as maps (B, D, T, H', W'), without the class token."""
        found = super().forward_intermediates(x, *args, **kwargs)
        if isinstance(found, list):
            return [self._fold(tokens) for tokens in found]
        last, maps = found
        return self._fold(last), [self._fold(tokens) for tokens in maps]

    def _fold(self, x: Tensor) -> Tensor:
        """Tokens, (B * T, 1 + N, D), to maps (B, D, T, H', W'); what is a map stays."""
        if x.ndim == 5:
            return x
        side = self.vit.patch_embed.grid_size[0]
        return x[:, 1:].reshape(-1, self.num_frames, side, side, x.shape[2]).permute(0, 4, 1, 2, 3)

    def pool(self, x: Tensor) -> Tensor:
        """A mean over the frames, of which an LSTM leaves one: (B, D, T, 1, 1) -> (B, D)."""
        return x.mean(dim=(2, 3, 4)) if self.global_pool else x


def _initialise(vit: VisionTransformer) -> None:
    """As the authors' code where no weights are loaded: Glorot's uniform weights for each of query, key and value."""
    for name, module in vit.named_modules():
        if isinstance(module, nn.Linear):
            for weight in module.weight.chunk(3 if name.endswith("qkv") else 1):
                nn.init.xavier_uniform_(weight)
            nn.init.normal_(module.bias, std=1e-6)
    nn.init.zeros_(vit.cls_token)
    nn.init.normal_(vit.pos_embed, std=0.02)


# Flow is Farneback's and becomes colours by its share of the image's greatest length; 32 pixels of 384 are more than a
# micro-expression moves, so that nothing is clipped.
FLOW = InputSpec("flow", ("u", "v"), size=384, frames=11, low=-32.0, high=32.0, flow_method="farneback")


@register(FLOW)
def slstt(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLSTT-LSTM of Zhang et al., TAFFC 2022: 93,050,627 weights; ViT-B/16 on each of 11 flow fields, then LSTM."""
    return build("slstt", SLSTT, pretrained, **kwargs)


@register(FLOW)
def slstt_mean(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """SLSTT-Mean of Zhang et al., TAFFC 2022: 86,092,803 weights; a mean over the frames in place of the LSTM."""
    return build("slstt_mean", SLSTT, pretrained, {"aggregation": "mean"}, **kwargs)
