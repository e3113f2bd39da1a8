"""Where things are, and programs of this machine."""

import os
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
HOME = TARGET / "bench"
HOME.mkdir(parents=True, exist_ok=True)
os.environ["PATH"] += ":/usr/sbin:/sbin"


# Nothing is built: programs are taken as they are in target/.
as_built = False


class Trouble(Exception):
    """Something that a measurement needs did not work."""


def say(text: str) -> None:
    """A line for whoever watches."""
    print(f"-- {text}", flush=True)


def run(*command: str | Path, cwd: Path = ROOT, environment: dict[str, str] | None = None) -> str:
    """Runs a program to its end; what it says is shown if it fails."""
    done = subprocess.run([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", check=False,
                          env={**os.environ, **(environment or {})})
    if done.returncode:
        raise Trouble(f"{' '.join(map(str, command))}: exit status {done.returncode}\n{done.stdout[-2000:]}")
    return done.stdout


def programs(profile: str) -> Path:
    """Where cargo puts what it builds with a profile."""
    return TARGET / {"dev": "debug"}.get(profile, profile)


def build(profile: str, makes: tuple[str, ...], *arguments: str) -> None:
    """Has cargo build some programs, unless those that are there are to be taken."""
    if not as_built:
        say(f"building: {' '.join(makes)}")
        run("cargo", "build", "--locked", "--quiet", "--profile", profile, *arguments)
    for program in (programs(profile) / name for name in makes):
        if not program.exists():
            raise Trouble(f"{program} is not there: do without --as-built")


def need(*pairs: str) -> None:
    """Installs what is not there: PROGRAM=DEBIAN-PACKAGE, or /FILE=DEBIAN-PACKAGE."""
    missing = sorted({package for what, package in (pair.split("=") for pair in pairs) if not is_there(what)})
    if missing:
        say(f"installing by apt: {' '.join(missing)}")
        run("apt-get", "update", "-qq")
        # Somebody else may be installing something at this moment.
        run("env", "RUNLEVEL=1", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "DPkg::Lock::Timeout=600", "install",
            "-qq", "--no-install-recommends", *missing)


def is_there(what: str) -> bool:
    """Whether a program can be found, or a file is there."""
    return Path(what).exists() if what.startswith("/") else shutil.which(what) is not None
