"""A stick: a disk with one FAT file system, which is plugged in and pulled out."""

import json
from dataclasses import dataclass
from pathlib import Path

from .chain import MIB
from .monitor import Command
from .tool import tool

LABEL = "TWINBOOT"


def make_stick(files: Path, place: Path) -> None:
    """The stick with these files, as sticks come: FAT, with a label, and without a table of partitions."""
    size = sum(file.stat().st_size for file in files.iterdir())
    with place.open("wb") as stick:
        stick.truncate(size // MIB * MIB + 64 * MIB)
    tool("mformat", "-i", place, "-F", "-v", LABEL, "::")
    with place.open("r+b") as stick:
        # It writes a partition that is the whole disk, too; the file system would be found twice.
        stick.seek(446)
        stick.write(bytes(64))
    for file in sorted(files.iterdir()):
        tool("mcopy", "-i", place, file, f"::{file.name}")


@dataclass(frozen=True)
class Stick:
    """One that is in the machine."""

    image: Path
    rate: int
    """How many KiB it gives in a second at most; 0: as many as it can."""

    def _nodes(self) -> list[dict[str, object]]:
        file = {"driver": "file", "node-name": "stick-file", "filename": str(self.image), "read-only": True}
        return [file, {"driver": "throttle", "node-name": "stick", "throttle-group": "stick-rate", "file": "stick-file",
                       "read-only": True}]

    def _group(self) -> dict[str, object]:
        return {"qom-type": "throttle-group", "id": "stick-rate", "x-bps-read": self.rate * 1024}

    def _device(self) -> dict[str, object]:
        return {"driver": "scsi-hd", "drive": "stick", "id": "stick-device", "bus": "ports.0", "share-rw": True}

    def arguments(self) -> list[str]:
        """QEMU's, where it is in from the beginning."""
        nodes = [word for node in self._nodes() for word in ("-blockdev", json.dumps(node))]
        return ["-object", json.dumps(self._group()), *nodes, "-device", json.dumps(self._device())]

    def plugging(self) -> list[Command]:
        """For the monitor: it is put in."""
        return [("object-add", self._group()), *[("blockdev-add", node) for node in self._nodes()],
                ("device_add", self._device())]

    def pulling(self) -> list[Command]:
        """For the monitor: it is gone, whatever the machine is doing with it."""
        return [("device_del", {"id": "stick-device"}), ("blockdev-del", {"node-name": "stick"}),
                ("blockdev-del", {"node-name": "stick-file"}), ("object-del", {"id": "stick-rate"})]
