"""Block devices to install into: loop devices on a disk, in memory, and on a disk in memory that is slow."""

import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

from .place import HOME, ROOT, Trouble, need, run

# Where struct control of tests/blocks/disks.c has what the disk's pace is.
PACE = 20
# A directory in memory.
MEMORY = Path("/dev/shm")


class Slot:
    """A block device that holds an old image, as a slot does that is to be written anew."""

    def __init__(self, old: Path, place: Path = HOME) -> None:
        """Its bytes are in a file below `place`."""
        need("losetup=mount")
        if shutil.disk_usage(place).free < 2 * old.stat().st_size:
            raise Trouble(f"{place} has no room for a slot")
        self._directory = tempfile.TemporaryDirectory(prefix="slot-", dir=place)
        self.file = Path(self._directory.name) / "slot"
        self._old = old

    def __enter__(self) -> "Slot":
        # Zeros take room, too: nobody finds a device that has forgotten everything.
        run("cp", "--sparse=never", self._old, self.file)
        run("sync", self.file)
        self.path = attach(self.file)
        return self

    def __exit__(self, *_: object) -> None:
        run("losetup", "--detach", self.path)
        self._directory.cleanup()

    def holds(self, image: Path) -> bool:
        """Whether an image is at its beginning: asked of what is below the device."""
        size = image.stat().st_size
        return subprocess.run(["cmp", "--silent", f"--bytes={size}", image, self.file], check=False).returncode == 0

    def stored(self) -> float:
        """MiB that it takes; what was given up as zeros takes none."""
        return self.file.stat().st_blocks * 512 / (1 << 20)


class SlowSlot:
    """A block device of so many bytes, all zeros, on a disk that takes so many bytes a second, and stands still now and
    then: 200 ms after each 4 MiB."""

    def __init__(self, size: int, rate: int, stall_every: int = 4 << 20, stall_ms: int = 200) -> None:
        need("cc=gcc", "losetup=mount")
        self._directory = tempfile.TemporaryDirectory(prefix="slow-")
        self._home = Path(self._directory.name)
        self._size, self._pace = size, (rate, stall_every, stall_ms)
        self.file = self._home / "disk"

    def __enter__(self) -> "SlowSlot":
        program = self._home / "disks"
        run("cc", "-std=gnu11", "-O2", "-o", program, ROOT / "tests/blocks/disks.c")
        self.file.touch()
        self._disks = subprocess.Popen([program, f"disk={self._size}"], cwd=self._home, stdin=subprocess.PIPE,
                                       stdout=subprocess.PIPE, text=True)
        words = self._disks.stdout.readline().split()
        if len(words) != 4:
            raise Trouble("there is no slow disk: is this root, with /dev/fuse?")
        process, _, control, self._store = words
        with open(f"/proc/{process}/fd/{control}", "r+b") as file:
            file.seek(PACE)
            file.write(struct.pack("=III", *self._pace))
        self._bytes = f"/proc/{process}/fd/{self._store}"
        self.path = attach(self.file)
        return self

    def __exit__(self, *_: object) -> None:
        run("losetup", "--detach", self.path)
        run("umount", self.file)
        self._disks.stdin.close()
        self._disks.wait()
        self._directory.cleanup()

    def holds(self, image: Path) -> bool:
        """Whether an image is at its beginning: asked of the disk's memory, which is not slow."""
        with image.open("rb") as wanted, open(self._bytes, "rb") as found:
            while piece := wanted.read(1 << 20):
                if found.read(len(piece)) != piece:
                    return False
        return True


def attach(file: Path) -> str:
    """A loop device of a file, past the page cache of what is below where that can be."""
    path = run("losetup", "--find", "--show", "--direct-io=on", file).strip()
    # Made anew by the same number, it may have old pages.
    run("blockdev", "--flushbufs", path)
    return path


class ReadOnly:
    """A block device to run from, which nobody writes."""

    def __init__(self, image: Path) -> None:
        self._image = image

    def __enter__(self) -> str:
        self.path = run("losetup", "--find", "--show", "--read-only", self._image).strip()
        return self.path

    def __exit__(self, *_: object) -> None:
        run("losetup", "--detach", self.path)
