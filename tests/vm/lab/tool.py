"""Runs programs of the host; what they say is shown only if they fail."""

import subprocess
from pathlib import Path


class ToolError(Exception):
    """A program of the host failed."""


def tool(*command: str | Path, cwd: Path | None = None, stdin: str | None = None,
         env: dict[str, str] | None = None) -> str:
    """Runs a program to its end and returns what it wrote to standard output and error."""
    done = subprocess.run(
        [str(word) for word in command], cwd=cwd, env=env, input=stdin,
        stdin=subprocess.DEVNULL if stdin is None else None,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-25:])
        raise ToolError(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{last}")
    return done.stdout
