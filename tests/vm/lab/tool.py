"""Runs programs of the host; what they say is shown only if they fail."""

import os
import signal
import subprocess
from pathlib import Path


class ToolError(Exception):
    """A program of the host failed."""


def tool(*command: str | Path, cwd: Path | None = None, stdin: str | None = None) -> str:
    """Runs a program to its end and returns what it wrote to standard output and error."""
    process = subprocess.Popen(
        [str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", start_new_session=True)
    try:
        said, _ = process.communicate(stdin)
    except BaseException:
        # Whatever it has started goes with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if process.returncode != 0:
        last = "\n".join(said.splitlines()[-25:])
        raise ToolError(f"{' '.join(map(str, command))}: exit status {process.returncode}\n{last}")
    return said
