"""Systems as an image builder makes them: a tree on top of Debian's, changed in a chroot, then a file system."""

import hashlib
import shutil
import subprocess
from pathlib import Path

from harness import Failure
from machine import ENVIRONMENT, SLOT_SIZE, run


class Tree:
    """A tree above others, which stay as they are. `with` mounts it."""

    def __init__(self, directory: Path, *below: Path):
        self.upper, self.path = directory / "upper", directory / "tree"
        self._lowest_last = [str(path) for path in below]
        self._work = directory / "work"
        for path in (self.upper, self.path, self._work):
            path.mkdir(parents=True)

    def __enter__(self) -> "Tree":
        options = f"lowerdir={':'.join(self._lowest_last)},upperdir={self.upper},workdir={self._work}"
        run("mount", "-t", "overlay", "overlay", "-o", options, self.path)
        return self

    def __exit__(self, kind, error, trace) -> None:
        run("umount", "--recursive", self.path)

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Makes a file, and the directories above it."""
        file = self.path / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def version(self, version: str) -> None:
        """Says which version of the firmware this is."""
        self.write("etc/os-release", f'ID=board\nIMAGE_VERSION={version}\nPRETTY_NAME="A board"\n')

    def chroot(self, script: str) -> str:
        """Runs a script in there, as image builders do: no systemd runs, /proc is there. What it said."""
        run("mount", "-t", "proc", "proc", self.path / "proc")
        try:
            done = subprocess.run(
                ["chroot", self.path, "sh", "-ec", script],
                stdin=subprocess.DEVNULL,
                env=ENVIRONMENT,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        finally:
            run("umount", self.path / "proc")
        if done.returncode:
            raise Failure(f"`{script}` in a chroot ended with {done.returncode}: {done.stdout.strip()}")
        return done.stdout

    def install(self, package: Path) -> str:
        """Installs a package by apt; what that said."""
        shutil.copy(package, self.path / "tmp")
        said = self.chroot(f"apt-get install -y -qq /tmp/{package.name}")
        (self.path / "tmp" / package.name).unlink()
        return said

    def image(self, file: Path) -> Path:
        """Makes a file system of it for a slot."""
        with open(file, "wb") as disk:
            disk.truncate(SLOT_SIZE)
        # Without a journal of its own: what counts here is what twinboot syncs, and the image is smaller.
        run("mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", self.path, file)
        return file


def pack(image: Path, packed: Path) -> str:
    """Packs an image by zstd; the digest of the packed file."""
    run("zstd", "-q", "-1", "-T2", "-f", image, "-o", packed)
    with open(packed, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
