"""What bfloat16 gets wrong on a CPU, and a guard against it."""

import contextlib
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from mer_zoo.errors import InputError
from mer_zoo.recipe import Precision


@contextlib.contextmanager
def whole_kernels(model: nn.Module, precision: Precision, device: torch.device) -> Iterator[None]:
    """Refuse 3-D convolutions whose kernel is larger than what it looks at, where bfloat16 learns on a CPU.

    Their weight gradients are wrong there, sometimes not finite, and may write where they should not (measured with
    PyTorch 2.15 and its oneDNN; float32, 2-D convolutions and GPUs are right).

    Raises:
        InputError: On a forward pass that meets one.
    """

    def refuse(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        kernel, maps = cast(nn.Conv3d, layer).kernel_size, tuple(inputs[0].shape[-3:])
        if any(taps > length for taps, length in zip(kernel, maps, strict=True)):
            raise InputError(
                f"A 3-D kernel of {kernel} looks at maps of {maps}: PyTorch's bfloat16 gradients are wrong there on "
                "the CPU. Use precision 'no', or a GPU."
            )

    risky = precision == "bf16" and device.type == "cpu"
    layers = [layer for layer in model.modules() if risky and isinstance(layer, nn.Conv3d)]
    hooks = [layer.register_forward_pre_hook(refuse) for layer in layers]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
