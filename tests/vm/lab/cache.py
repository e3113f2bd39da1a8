"""What takes long to build is built once, and kept under target/vm in a directory that is named after its inputs."""

import fcntl
import hashlib
import os
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path


def say(text: str) -> None:
    """A line for whoever watches."""
    print(f"-- {text}", flush=True)


class Clock:
    """Measures time, and processor time of programs that were waited for, since it was made."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._used = self._children()

    @staticmethod
    def _children() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def wall(self) -> float:
        """Seconds that have passed."""
        return time.monotonic() - self._began

    def __str__(self) -> str:
        return f"{self.wall():.0f} s ({self._children() - self._used:.0f} s of processor)"


class Cache:
    """A directory of things built. Only one process at a time has it open."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self._lock = open(root / "lock", "w", encoding="utf-8")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def get(self, name: str, inputs: Iterable[str | bytes | Path], build: Callable[[Path], None]) -> Path:
        """The directory with the thing `name` made of `inputs` (a path stands for the file's content); `build` fills
        it if it is not there. It appears whole or not at all, and what was made of other inputs goes away."""
        place = self.root / f"{name}-{digest(inputs)}"
        if place.exists():
            return place
        clock = Clock()
        work = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=self.root))
        try:
            build(work)
            work.chmod(0o755)
            for old in self.root.glob(f"{name}-" + "[0-9a-f]" * 16):
                shutil.rmtree(old)
            os.rename(work, place)
        except BaseException:
            shutil.rmtree(work, ignore_errors=True)
            raise
        say(f"built {name} in {clock}")
        return place


def digest(inputs: Iterable[str | bytes | Path]) -> str:
    """Sixteen hexadecimal digits that stand for the inputs."""
    total = hashlib.sha256()
    for one in inputs:
        content = one.read_bytes() if isinstance(one, Path) else one.encode() if isinstance(one, str) else one
        total.update(hashlib.sha256(content).digest())
    return total.hexdigest()[:16]
