"""torchvision's networks for video as networks of this library: R3D, MC3, R(2+1)D, S3D, MViTv2 and Video Swin.

Tran et al., "A Closer Look at Spatiotemporal Convolutions for Action Recognition", CVPR 2018 (r3d_18, mc3_18,
r2plus1d_18); Xie et al., "Rethinking Spatiotemporal Feature Learning", ECCV 2018 (s3d); Li et al., "MViTv2: Improved
Multiscale Vision Transformers for Classification and Detection", CVPR 2022 (mvit_v2_s); Liu et al., "Video Swin
Transformer", CVPR 2022 (swin3d_t). Layers, first weights and names are torchvision's (BSD-3-Clause), which states the
numbers of weights, those of 400 classes; here they are counted without the last layer. With ``kinetics=True`` a network
begins with the weights that torchvision offers, fitted on Kinetics-400, videos of adults and children doing things:
no corpus of micro-expressions. No scores on micro-expressions are claimed for any of them.

Ours: mean and deviation are within the network, after the spec's range is brought to 0..1; another number of channels;
the last layer is ``fc``, with torch's first weights; no stochastic depth unless ``drop_path_rate`` says so (torchvision
trains swin3d_t with 0.1, mvit_v2_s with 0.2). Registered are frames and pixels at which the weights were fitted, but 16
frames for s3d's 128; ``num_frames`` and ``size`` change them, down to 64 pixels and 8 frames for small faces and short
clips. Where s3d's maps are smaller than its averaging window (below 14 frames or 209 pixels) the window shrinks to
them; mvit_v2_s stretches its tables of relative positions, which are those of 16 frames of 224 pixels, as its authors
do. Where maps are smaller than swin3d_t's windows of 7 x 7 places (the last ones below 193 pixels, more below 97),
torchvision takes other entries of the table of positions than in a full window, and so does this network.
"""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, cast

import torch
import torchvision
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from mer_zoo.errors import InputError
from mer_zoo.models._base import ZooModel, classifier
from mer_zoo.models._builder import build, input_spec, register
from mer_zoo.models._kinetics import kinetics_file, load_kinetics
from mer_zoo.models._normalise import Normalise
from mer_zoo.types import InputSpec

COLOURS = ("red", "green", "blue")
LEAST_SIZE = 32  # pixels


class VideoNetwork(ZooModel):
    """Clips (B, C, T, H, W), values as the spec says -> logits (B, num_classes).

    Args:
        original: Its name in torchvision, of ``originals``.
        num_classes: Length of the logits; 0 gives the vector before them.
        in_chans: Number of channels.
        num_frames: T.
        size: Height and width.
        drop_rate: Share of the vector dropped in training.
        global_pool: How a vector is made of maps; empty: maps stay as they are.
        options: Those of torchvision's network.

    Raises:
        InputError: If the original is another kind of network, or cannot take so few frames or pixels.
    """

    originals: ClassVar[tuple[str, ...]]
    parts: ClassVar[tuple[str, ...]]  # what is taken over from torchvision's network
    chain: ClassVar[str]  # the part that stages are cut from
    cuts: ClassVar[tuple[int, ...]]  # where
    maps: ClassVar[tuple[int, ...]]  # of each stage
    reductions: ClassVar[tuple[int, ...]]  # of height and width, likewise
    depths: ClassVar[tuple[str, ...]]  # patterns of its parameters, with the numbers that order them
    least_frames: ClassVar[int] = 1
    small: ClassVar = {"num_frames": 8, "size": 32}

    def __init__(
        self,
        original: str,
        num_classes: int = 3,
        in_chans: int = 3,
        num_frames: int = 16,
        size: int = 112,
        drop_rate: float = 0.0,
        global_pool: str = "",
        **options: Any,
    ) -> None:
        super().__init__()
        self._check(original, num_frames, size)
        self.original, self.num_classes, self.in_chans = original, num_classes, in_chans
        self.num_frames, self.size = num_frames, size
        transform = torchvision.models.get_model_weights(original).DEFAULT.transforms()
        self.normalise = Normalise(transform.mean, transform.std)
        network = self._made(original, options)
        for part in self.parts:
            self.add_module(part, network.get_submodule(part))
        self._widen(in_chans)
        modules = ["stem", *(f"stage{i}" for i in range(1, len(self.maps)))]
        self.feature_info = [
            {"num_chs": maps, "reduction": reduction, "module": module}
            for maps, reduction, module in zip(self.maps, self.reductions, modules, strict=True)
        ]
        self.num_features = self.maps[-1]
        self.set_pool(global_pool, num_classes)
        self.drop_rate = drop_rate
        self.drop = nn.Dropout(drop_rate)
        self.fc = classifier(self.num_features, num_classes)
        self.input_spec = InputSpec("clip", COLOURS, size, num_frames).with_channels(in_chans)

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        kept = len(cast(Sequence[nn.Module], self.get_submodule(self.chain)))
        return [self._begin, *(partial(self.stage, a, b) for a, b in pairwise(self.cuts) if a < kept)]

    def stage(self, start: int, stop: int, x: Tensor) -> Tensor:
        """Members ``start`` to ``stop`` of the chain: (B, D, T, H, W) -> (B, D', T', H', W')."""
        for member in list(self.get_submodule(self.chain).children())[start:stop]:
            x = member(x)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Normalised clips to the first maps."""
        raise NotImplementedError

    def _begin(self, x: Tensor) -> Tensor:
        return self.embed(self.normalise(x, self.input_spec))

    def keep_stages(self, number: int) -> None:
        chain = cast(nn.Sequential, self.get_submodule(self.chain))
        self.add_module(self.chain, chain[: self.cuts[number - 1]])

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        if not coarse:
            return {"stem": self.stem_pattern, "blocks": [(pattern, None) for pattern in self.depths]}
        spans = [range(a, b) for a, b in pairwise(self.cuts)]
        stages = [(rf"^{self.chain}\.(?:{'|'.join(map(str, span))})\.", (i,)) for i, span in enumerate(spans)]
        return {"stem": self.stem_pattern, "blocks": stages}

    def pool(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.drop(self.average(x))) if self.global_pool else x

    def average(self, x: Tensor) -> Tensor:
        """Maps to a vector: (B, D, T, H, W) -> (B, D)."""
        return x.mean(dim=(2, 3, 4))

    def _check(self, original: str, frames: int, size: int) -> None:
        """Refuse other networks, and clips that the layers cannot take."""
        if original not in self.originals:
            names = ", ".join(self.originals)
            raise InputError(f"original is {original!r}; a {type(self).__name__} is one of {names}.")
        for found, least, unit in ((frames, self.least_frames, "frames"), (size, LEAST_SIZE, "pixels a side")):
            if found < least:
                raise InputError(f"{original} cannot take {found!r} {unit}; it needs {least} or more.")

    @staticmethod
    def _made(original: str, options: dict[str, Any]) -> nn.Module:
        try:
            return cast(nn.Module, torchvision.models.get_model(original, num_classes=1, **options))
        except TypeError as error:
            raise InputError(f"torchvision cannot make {original} with options {options}: {error}.") from error

    def _widen(self, in_chans: int) -> None:
        """Replace the first convolution by one of as many channels, drawn as torchvision draws it."""
        name = self.first_convs[0]
        conv = cast(nn.Conv3d, self.get_submodule(name))
        if in_chans == conv.in_channels:
            return
        wide = nn.Conv3d(
            in_chans,
            conv.out_channels,
            cast(tuple[int, int, int], conv.kernel_size),
            cast(tuple[int, int, int], conv.stride),
            cast(tuple[int, int, int], conv.padding),
            bias=conv.bias is not None,
        )
        self.draw(wide)
        self.set_submodule(name, wide)

    def draw(self, conv: nn.Conv3d) -> None:
        """First weights of a convolution; torch's own are there."""


class VideoResNet(VideoNetwork):
    """R3D-18, MC3-18 or R(2+1)D-18: clips (B, C, T, H, W) -> logits (B, num_classes).

    Args:
        original: ``r3d_18``, ``mc3_18`` or ``r2plus1d_18``.
        global_pool: ``avg`` over all places; empty: none.
        options: As of ``VideoNetwork``.
    """

    originals: ClassVar = ("r3d_18", "mc3_18", "r2plus1d_18")
    first_convs: ClassVar = ("stem.0",)
    pools: ClassVar = ("avg",)
    layers: ClassVar = ("layer1", "layer2", "layer3", "layer4")
    parts: ClassVar = ("stem", *layers)
    maps: ClassVar = (64, 64, 128, 256, 512)
    reductions: ClassVar = (2, 2, 4, 8, 16)
    blocks_pattern: ClassVar = r"^layer(\d+)"
    layers_pattern: ClassVar = r"^layer(\d+)\.(\d+)"

    def __init__(self, original: str = "r3d_18", global_pool: str = "avg", **options: Any) -> None:
        super().__init__(original, global_pool=global_pool, **options)

    def embed(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.get_submodule("stem")(x))

    def stages(self) -> Sequence[Callable[[Tensor], Tensor]]:
        return [self._begin, *(self.get_submodule(layer) for layer in self.layers if hasattr(self, layer))]

    def keep_stages(self, number: int) -> None:
        for layer in self.layers[number - 1 :]:
            delattr(self, layer)

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        return ZooModel.group_matcher(self, coarse)

    def draw(self, conv: nn.Conv3d) -> None:
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")


class S3D(VideoNetwork):
    """S3D: clips (B, C, T, H, W), 5 frames or more -> logits (B, num_classes).

    Args:
        original: ``s3d``.
        global_pool: ``avg``: a mean in windows of 2 x 7 x 7 and then over these, so that frames at either end count
            half; empty: none.
        options: As of ``VideoNetwork``.
    """

    originals: ClassVar = ("s3d",)
    small: ClassVar = {"num_frames": 8, "size": 64}  # of half that, one clip alone has one value a channel
    first_convs: ClassVar = ("features.0.0.0",)
    stem_pattern: ClassVar = r"^features\.0\."
    pools: ClassVar = ("avg",)
    parts: ClassVar = ("features",)
    chain: ClassVar = "features"
    cuts: ClassVar = (1, 4, 7, 13, 16)
    depths: ClassVar = (r"^features\.(\d+)\.",)
    maps: ClassVar = (64, 192, 480, 832, 1024)
    reductions: ClassVar = (2, 4, 8, 16, 32)
    least_frames: ClassVar = 5  # time is halved three times, rounded up, up and down

    def __init__(self, original: str = "s3d", global_pool: str = "avg", drop_rate: float = 0.2, **options: Any) -> None:
        super().__init__(original, global_pool=global_pool, drop_rate=drop_rate, **options)

    def embed(self, x: Tensor) -> Tensor:
        return cast(Tensor, cast(nn.Sequential, self.get_submodule(self.chain))[0](x))

    def average(self, x: Tensor) -> Tensor:
        for most in (2, 7, 7):  # axis by axis; pooling in 3-D has no form in bfloat16
            x = x.unfold(2, min(x.shape[2], most), 1).mean(dim=(2, -1))
        return x


def set_depth(network: nn.Module, rate: float) -> None:
    """Set how often blocks are left out in training: the last one at this rate, earlier ones less, in proportion."""
    layers = [layer for layer in network.modules() if isinstance(layer, StochasticDepth)]
    most = max(layer.p for layer in layers)
    for layer in layers:
        layer.p *= rate / most


class VideoSwin(VideoNetwork):
    """Video Swin Transformer, tiny: clips (B, C, T, H, W) -> logits (B, num_classes).

    Args:
        original: ``swin3d_t``.
        global_pool: ``avg`` over all places; empty: none.
        drop_path_rate: Share of clips for which the last block is left out in training; earlier ones less.
        options: As of ``VideoNetwork``.
    """

    originals: ClassVar = ("swin3d_t",)
    first_convs: ClassVar = ("patch_embed.proj",)
    stem_pattern: ClassVar = r"^patch_embed"
    pools: ClassVar = ("avg",)
    parts: ClassVar = ("patch_embed", "features", "norm")
    chain: ClassVar = "features"
    cuts: ClassVar = (0, 1, 3, 5, 7)
    depths: ClassVar = (r"^features\.(\d+)\.(\d+)\.", r"^features\.(\d+)\.")
    maps: ClassVar = (96, 96, 192, 384, 768)
    reductions: ClassVar = (4, 4, 8, 16, 32)

    def __init__(
        self, original: str = "swin3d_t", global_pool: str = "avg", drop_path_rate: float = 0.0, **options: Any
    ) -> None:
        super().__init__(original, global_pool=global_pool, **options)
        set_depth(self, drop_path_rate)

    def embed(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.get_submodule("patch_embed")(x)).movedim(-1, 1)

    def stage(self, start: int, stop: int, x: Tensor) -> Tensor:
        return super().stage(start, stop, x.movedim(1, -1)).movedim(-1, 1)

    def norm_features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.movedim(1, -1))).movedim(-1, 1)


class MViT(VideoNetwork):
    """MViTv2, small: clips (B, C, T, H, W) -> logits (B, num_classes).

    Between stages the class token stands before the maps as one more frame, the same at all places.

    Args:
        original: ``mvit_v2_s``.
        global_pool: ``token``, the class token; empty: none.
        drop_path_rate: Share of clips for which the last block is left out in training; earlier ones less.
        options: As of ``VideoNetwork``.
    """

    originals: ClassVar = ("mvit_v2_s",)
    first_convs: ClassVar = ("conv_proj",)
    stem_pattern: ClassVar = r"^(?:conv_proj|pos_encoding)"
    pools: ClassVar = ("token",)
    parts: ClassVar = ("conv_proj", "pos_encoding", "blocks", "norm")
    chain: ClassVar = "blocks"
    cuts: ClassVar = (0, 1, 3, 14, 16)
    depths: ClassVar = (r"^blocks\.(\d+)\.",)
    maps: ClassVar = (96, 96, 192, 384, 768)
    reductions: ClassVar = (4, 4, 8, 16, 32)

    def __init__(
        self,
        original: str = "mvit_v2_s",
        global_pool: str = "token",
        drop_rate: float = 0.5,
        drop_path_rate: float = 0.0,
        **options: Any,
    ) -> None:
        super().__init__(original, global_pool=global_pool, drop_rate=drop_rate, **options)
        set_depth(self, drop_path_rate)

    def embed(self, x: Tensor) -> Tensor:
        x = self.get_submodule("conv_proj")(x)
        tokens = self.get_submodule("pos_encoding")(x.flatten(2).transpose(1, 2))
        return self._fold(tokens, x.shape[2:])

    def stage(self, start: int, stop: int, x: Tensor) -> Tensor:
        grid = (x.shape[2] - 1, *x.shape[3:])
        x = torch.cat([x[:, :, :1, 0, 0], x[:, :, 1:].flatten(2)], dim=2).transpose(1, 2)
        for block in list(self.get_submodule(self.chain).children())[start:stop]:
            x, grid = block(x, grid)
        return self._fold(x, grid)

    def norm_features(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(x.movedim(1, -1))).movedim(-1, 1)

    def average(self, x: Tensor) -> Tensor:
        return x[:, :, 0, 0, 0]

    @staticmethod
    def _fold(tokens: Tensor, grid: Sequence[int]) -> Tensor:
        """Class token and patches, (B, 1 + T H W, D), to maps (B, D, 1 + T, H, W)."""
        first, patches = tokens[:, :1, :, None, None], tokens[:, 1:].transpose(1, 2).unflatten(2, tuple(grid))
        return torch.cat([first.transpose(1, 2).expand(-1, -1, -1, *grid[1:]), patches], dim=2)


def _video(name: str, network: type[VideoNetwork], pretrained: bool, kinetics: bool, **kwargs: Any) -> nn.Module:
    """Build a network and, if asked, begin with torchvision's weights; saved models bring weights of their own."""
    kinetics = kinetics and not (kwargs.get("pretrained_model_args") or {}).get("kinetics")
    if kinetics and pretrained:
        raise InputError("pretrained=True and kinetics=True both bring weights; expected one of them.")
    file = kinetics_file(name) if kinetics else None
    spec = input_spec(name)
    options = {"original": name, "num_frames": spec.frames, "size": spec.size}
    model = build(name, network, pretrained, options, **kwargs)
    if file is not None:
        load_kinetics(cast(VideoNetwork, getattr(model, "model", model)), file)
    return model


@register(InputSpec("clip", COLOURS, size=112, frames=16))
def r3d_18(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """R3D-18 of Tran et al., CVPR 2018, 18 layers of 3-D convolutions, by torchvision: 33.2 million weights."""
    return _video("r3d_18", VideoResNet, pretrained, kinetics, **kwargs)


@register(InputSpec("clip", COLOURS, size=112, frames=16))
def mc3_18(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """MC3-18 of Tran et al., CVPR 2018, 3-D convolutions at first, then 2-D, by torchvision: 11.5 million weights."""
    return _video("mc3_18", VideoResNet, pretrained, kinetics, **kwargs)


@register(InputSpec("clip", COLOURS, size=112, frames=16))
def r2plus1d_18(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """R(2+1)D-18 of Tran et al., CVPR 2018, space and time apart, by torchvision: 31.3 million weights."""
    return _video("r2plus1d_18", VideoResNet, pretrained, kinetics, **kwargs)


@register(InputSpec("clip", COLOURS, size=224, frames=16))
def s3d(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """S3D of Xie et al., ECCV 2018, Inception of separated 3-D convolutions, by torchvision: 7.9 million weights."""
    return _video("s3d", S3D, pretrained, kinetics, **kwargs)


@register(InputSpec("clip", COLOURS, size=224, frames=16))
def mvit_v2_s(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """MViTv2-S of Li et al., CVPR 2022, a multiscale transformer, by torchvision: 34.2 million weights."""
    return _video("mvit_v2_s", MViT, pretrained, kinetics, **kwargs)


@register(InputSpec("clip", COLOURS, size=224, frames=32))
def swin3d_t(pretrained: bool = False, kinetics: bool = False, **kwargs: Any) -> nn.Module:
    """Video Swin-T of Liu et al., CVPR 2022, attention in shifted windows, by torchvision: 27.9 million weights."""
    return _video("swin3d_t", VideoSwin, pretrained, kinetics, **kwargs)
