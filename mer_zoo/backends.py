"""How the folds of a run are computed: one after the other, side by side, or together."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import joblib
import psutil
import torch

from mer_zoo.errors import InputError
from mer_zoo.options import is_whole
from mer_zoo.training import Device, place_of

BACKENDS: Mapping[str, str] = {
    "auto": "on a CPU `loop`, or `processes` where jobs is more than 1; on a GPU `loop`, until others were measured",
    "loop": "one fold after the other: clips stay on the device, and no step waits for another's loss",
    "processes": "the same, folds side by side, each process with one thread; as many as there are cores if jobs is 1",
    "graphs": "`loop`, each training step recorded once as a CUDA graph and replayed; needs a GPU",
    "folds": "many folds at once by `torch.vmap`, each with batches of its own, as many as memory allows",
}

MaxParallel = int | Literal["auto"]


@dataclass(frozen=True)
class Backend:
    """How to compute folds.

    Attributes:
        name: ``loop``, ``graphs`` or ``folds``; ``processes`` is ``loop`` with several jobs.
        jobs: Processes.
        most: Folds at once, of ``folds``; None for as many as memory allows.
    """

    name: str
    jobs: int = 1
    most: int | None = None


def backend_of(name: str, jobs: int, max_parallel: MaxParallel, device: Device) -> Backend:
    """What a run is computed by.

    Raises:
        InputError: If there is no such backend, it does not go with the others, or it is not to be had here.
    """
    if name not in BACKENDS:
        raise InputError(f"backend is {name!r}; expected one of {', '.join(BACKENDS)}.")
    if not is_whole(max_parallel, 1) and max_parallel != "auto":
        raise InputError(f"max_parallel is {max_parallel!r}; expected 'auto', or a whole number, 1 or more.")
    if max_parallel != "auto" and name != "folds":
        raise InputError(f"max_parallel is {max_parallel} and backend {name!r}; only 'folds' takes several at once.")
    if jobs > 1 and name in ("loop", "graphs", "folds"):
        raise InputError(f"backend {name!r} takes one process and jobs is {jobs}; leave jobs out, or use 'processes'.")
    if name == "graphs" and place_of(device).type != "cuda":
        raise InputError("backend 'graphs' needs a GPU, which torch does not see; use 'auto'.")
    if name == "processes" and jobs == 1:
        jobs = cores()
    most = None if max_parallel == "auto" else max_parallel
    return Backend("loop" if name in ("auto", "processes") else name, jobs, most)


def cores() -> int:
    """Cores that this process may use."""
    return int(joblib.cpu_count())


def free_bytes(device: torch.device) -> int:
    """Memory of a device that is free."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


def is_gone(error: Exception) -> bool:
    """Whether an error says that the GPU can be used no more; one that a network alone has made leaves it usable."""
    if not isinstance(error, getattr(torch, "AcceleratorError", ())):  # torch 2.8 and later
        return False
    try:
        torch.zeros(1, device="cuda").cpu()
    except RuntimeError:
        return True
    return False
