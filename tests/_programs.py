"""Scripts run as their users run them: in this process, which spares starting Python and torch, or in one apart."""

import contextlib
import io
import runpy
import subprocess
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Done:
    """How a script ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


def run_here(file: Path, *arguments: str | Path, cwd: Path) -> Done:
    """Run a script as a program in this process, in the folder ``cwd``."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.chdir(cwd)
        patch.setattr(sys, "argv", [str(file), *map(str, arguments)])
        patch.setattr(sys, "path", [str(file.parent), *sys.path])
        status = _ended(file)
    return Done(status, out.getvalue(), err.getvalue())


def _ended(file: Path) -> int:
    """The status with which Python would end."""
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:
        traceback.print_exc()
        return 1
    return 0


def run_apart(file: Path, *arguments: str | Path, cwd: Path) -> Done:
    """Run a script in a process of its own."""
    command = [sys.executable, str(file), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    return Done(done.returncode, done.stdout, done.stderr)
