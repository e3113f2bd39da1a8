"""What is different between the boards of the lab: processor, kernel, bootloader, and where that keeps its variables.

A chain is one bootloader on one kind of machine. Everything else of the lab is the same for all.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .cache import Cache

HERE = Path(__file__).resolve().parent.parent
# Boot scripts and tables as they are shipped: the lab boots these very files.
SHIPPED = HERE.parent.parent / "packaging" / "boot"
MIB = 1024 * 1024


@dataclass(frozen=True)
class Part:
    """A partition."""

    name: str
    size: int
    kind: str = "8300"
    """Its type, as sgdisk writes it."""


# The loader's variables, the slots, and what both slots share.
ENV, DATA = Part("env", 32 * MIB), Part("data", 64 * MIB)
SLOTS = (Part("rootfs-a", 384 * MIB), Part("rootfs-b", 384 * MIB))


@dataclass(frozen=True)
class Said:
    """What a bootloader's variables on the disk say, read by the lab alone."""

    default: str
    """The slot that boots when no trial does."""
    trial: str
    """The slot on trial, or nothing."""


class Chain(ABC):
    """A bootloader and its machine."""

    name: str
    """What `--chain` and a scenario's `chains` call it."""
    loader: str
    """What `build` makes; chains with the same one share it."""
    systems: str
    """What its systems are called in the cache; chains with the same ones share them."""
    architecture: str
    """As Debian calls it."""
    kernel: str
    """Debian's package that depends on the newest kernel."""
    packages: tuple[str, ...] = ()
    """Of Debian, besides those that all systems of the lab have: the loader's own tools."""
    modules: tuple[str, ...] = ()
    """Of the kernel, besides those that all have."""
    machine: tuple[str, ...]
    """QEMU's program, and what machine it plays."""
    configuration: str = ""
    """/etc/twinboot/conf.d/40-boot.toml in each image with twinboot."""
    drive: str
    """QEMU's device for the disk `disk`."""
    partitions: tuple[Part, ...] = (ENV, *SLOTS, DATA)
    """In this order from number 1; the names of the four must be these."""
    parts_of_loader: frozenset[str] = frozenset({"env"})
    """Partitions that the loader reads or writes: what is written there decides what boots."""
    harmless: tuple[str, ...] = ()
    """Denied calls that are nobody's fault on this processor: regular expressions as in `denied`."""
    slot_line: str = r"^twinboot: slot ([ab])\b"
    """What the loader writes on the console when it has chosen."""

    @abstractmethod
    def build(self, cache: Cache) -> Path:
        """A directory with what the machine's firmware and disk need of the loader."""

    @abstractmethod
    def firmware(self, built: Path) -> list[str]:
        """QEMU's arguments that start it."""

    @abstractmethod
    def guest_files(self) -> dict[str, Path]:
        """What its systems have besides what all have: path in the system, and the file."""

    @abstractmethod
    def environment(self, built: Path, place: Path) -> None:
        """Makes the partition `env` as it leaves the factory."""

    def finish(self, built: Path, disk: Path) -> None:
        """What must be done to a whole disk."""

    @abstractmethod
    def said(self, read: Callable[[int, int], bytes]) -> Said:
        """What the variables in the partition `env` say; `read` is given an offset in it and a length.

        Raises ValueError if they say nothing."""

    @abstractmethod
    def system_calls(self) -> dict[int, str]:
        """Numbers and names, as the kernel's audit uses them."""

    def start_of(self, name: str) -> int:
        """Where a partition begins on the disk, in bytes."""
        offset = MIB
        for part in self.partitions:
            if part.name == name:
                return offset
            offset += part.size
        raise KeyError(name)

    def size_of(self, name: str) -> int:
        """Of a partition, in bytes."""
        return next(part.size for part in self.partitions if part.name == name)

    def is_in(self, name: str, offset: int) -> bool:
        """Whether a byte of the disk is in this partition."""
        return 0 <= offset - self.start_of(name) < self.size_of(name)

    def size(self) -> int:
        """Of the disk, in bytes: the second partition table comes after the partitions."""
        return MIB + sum(part.size for part in self.partitions) + MIB


def calls_of(table: Path, pattern: str) -> dict[int, str]:
    """System calls by a header of Linux: `pattern` finds name and number."""
    found = re.findall(pattern, table.read_text(encoding="utf-8"), re.MULTILINE)
    return {int(number): name for name, number in found}
