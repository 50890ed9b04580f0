"""The most memory that a process holds while something runs. Linux only."""

from pathlib import Path
from types import TracebackType


class Peak:
    """A block's peak: ``bytes`` beyond what the process held before it."""

    bytes = 0

    def __enter__(self) -> "Peak":
        Path("/proc/self/clear_refs").write_text("5")  # forget the peak until now
        self.before = held("VmRSS")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bytes = held("VmHWM") - self.before


def held(what: str) -> int:
    """Bytes of this process: ``VmRSS`` now, ``VmHWM`` at most."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(what))
