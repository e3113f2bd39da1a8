"""Where things are, and programs of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HOME = TARGET / "bench"
HOME.mkdir(parents=True, exist_ok=True)
# So that two runs make the same images.
os.environ["SOURCE_DATE_EPOCH"] = "1750000000"
os.environ["PATH"] += ":/usr/sbin:/sbin"


class Trouble(Exception):
    """Something that a measurement needs did not work."""


def say(text: str) -> None:
    """A line for whoever watches."""
    print(f"-- {text}", flush=True)


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    """Runs a program to its end; what it says is shown if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False)
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def need(*pairs: str) -> None:
    """Installs what is not there: PROGRAM=DEBIAN-PACKAGE."""
    missing = [pair.split("=")[1] for pair in pairs if not shutil.which(pair.split("=")[0])]
    if missing:
        say(f"installing by apt: {' '.join(missing)}")
        run("apt-get", "update", "-qq")
        run("env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-qq",
            "--no-install-recommends", *missing)
