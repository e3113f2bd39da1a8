"""A full install: all of an image over HTTPS into a block device, its digest checked, and on the disk at the end.

The limits of this machine, what a pipe of shell takes for it, the peers (`peers`), and the real daemon.
"""

import hashlib
import os
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from . import images, storage
from .board import Board, processor
from .hub import Hub
from .measure import Peak, measured, memory
from .place import HOME, Trouble, build, need, run, say
from .server import Server

# How a stream is unpacked, by the ending of the file's name.
UNPACK = {"": "cat", ".gz": "gzip -dc", ".zst": "zstd -dcq"}
# Far more than any of them takes.
PATIENCE = 1800


@dataclass(frozen=True)
class Image:
    """What is to be installed, and over what."""

    # The image itself, the older one that the slot holds, and the file that the server has.
    raw: Path
    old: Path
    packed: Path
    # Below which the bytes of the slot are.
    place: Path = HOME

    @property
    def ending(self) -> str:
        """What it is packed by."""
        return self.packed.name.removeprefix(self.raw.name)

    @property
    def data_mib(self) -> float:
        """MiB of it in blocks of 4 KiB that are not all zeros."""
        with self.raw.open("rb") as file:
            blocks = sum(1 for block in iter(lambda: file.read(4096), b"") if block.count(0) != len(block))
        return blocks / 256


def image(ending: str, place: Path = HOME) -> Image:
    """The newer one of the bench's images, packed as its ending says; made if it is not there."""
    home = images.made(with_kernel=False)
    raw = home / "v2.ext4"
    served = HOME / "www/full" / home.name
    served.mkdir(parents=True, exist_ok=True)
    packed = served / f"{raw.name}{ending}"
    if not packed.exists():
        say(f"packing {packed.name}")
        work = packed.with_suffix(".new")
        if ending == ".zst":
            need("zstd=zstd")
            run("zstd", "-q", "-f", "-19", "-T0", raw, "-o", work)
        elif ending == ".gz":
            # As it does by itself, without a name and a time.
            run("sh", "-c", 'gzip -nc "$0" >"$1"', raw, work)
        else:
            os.link(raw, work)
        work.rename(packed)
    return Image(raw, home / "v1.ext4", packed, place)


def url(image: Image, server: Server, file: Path | None = None) -> str:
    """Where the server has the image, or a file that was made of it."""
    return f"{server.url}/{(file or image.packed).relative_to(HOME / 'www')}"


class Way:
    """One way to install an image."""

    name = ""
    needs: tuple[str, ...] = ()

    def install(self) -> None:
        """Sees to it that the programs are there."""
        need(*self.needs)

    def publish(self, image: Image) -> None:
        """Makes what the server has to have, once."""

    def fetch(self, image: Image, server: Server) -> dict:
        """Installs it, and tells what that took."""
        with storage.Slot(image.old, image.place) as slot, directory() as device:
            # Nobody pays for what the one before has left to be written.
            os.sync()
            server.forget()
            took = self.run(image, server, slot.path, device)
            count = server.count()
            if not self.is_limit and not slot.holds(image.raw):
                raise Trouble(f"{self.name}: what it made of {image.packed.name} is not the image")
            stored = {} if self.is_limit else {"stored_mib": round(slot.stored(), 1)}
        return {**took, **stored, "bytes": count.bytes}

    # It installs nothing, and is there to compare with.
    is_limit = False

    def run(self, image: Image, server: Server, slot: str, device: Path) -> dict:
        """Does it, in the directory `device`, which is empty."""
        return measured(*self.command(image, server, slot, device), cwd=device, authority=server.authority)

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        """What runs on the device."""
        raise NotImplementedError


@contextmanager
def directory():
    """An empty one, on a disk, for as long as it is needed."""
    device = HOME / "device"
    shutil.rmtree(device, ignore_errors=True)
    device.mkdir()
    try:
        yield device
    finally:
        shutil.rmtree(device, ignore_errors=True)


class Decode(Way):
    """Fetched and unpacked, and that is all: what no install can be faster than."""

    name, is_limit = "limit-decode", True
    needs = ("curl=curl", "zstd=zstd")

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        return ["sh", "-c", f"curl -sf {url(image, server)} | {UNPACK[image.ending]} >/dev/null"]


class Storage(Way):
    """All of the image written and read back, past the page cache: whether the disk keeps up."""

    name, is_limit = "limit-storage", True

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        return ["sh", "-c", f"dd if={image.raw} of={slot} bs=1M oflag=direct conv=fsync status=none && "
                            f"dd if={slot} of=/dev/null bs=1M iflag=direct status=none"]


class Pipeline(Way):
    """The best that a shell can do: nothing is read back, and nothing is resumed."""

    name = "pipeline"
    needs = ("curl=curl", "zstd=zstd", "openssl=openssl", "bash=bash")

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        return ["bash", "-c", f"set -eo pipefail; mkfifo hashed; openssl sha256 <hashed >digest & "
                              f"curl -sf {url(image, server)} | {UNPACK[image.ending]} | tee hashed | "
                              f"dd of={slot} bs=1M iflag=fullblock conv=fsync status=none; wait $!"]


class Twinboot(Way):
    """Ours: the daemon as it is shipped, connected to a hub, from the wish until the image is verified.

    Digests of what is fetched and of the image, checkpoints, all made durable, and all read back past the page cache.
    """

    name = "twinboot"
    # How it is built; dev is quick, and good for nothing but to see that all of this works.
    profile: ClassVar[str] = "release"
    # Seconds after which whoever has connected to the hub has nothing more to say.
    settle = 3

    def install(self) -> None:
        build(self.profile, ("twinboot",), "--bin", "twinboot")
        Hub.build()

    def run(self, image: Image, server: Server, slot: str, device: Path) -> dict:
        with Hub() as hub, storage.ReadOnly(image.old) as booted:
            authorities = [hub.authority, server.authority]
            with Board(self.profile, authorities, hub.connection_string(hub.port), (booted, slot)) as board:
                board.wait_connected()
                time.sleep(self.settle)
                return install(board, url(image, server), digest(image.packed))


def install(board: Board, address: str, sha256: str, limit: float = PATIENCE) -> dict:
    """Has a board download and verify an image, and tells what that took."""
    before = board.processes()
    used, began = processor(before), time.monotonic()
    written: list[float] = []

    def look(status: dict) -> bool:
        if status["phase"] in ("verifying", "staged") and not written:
            written.append(time.monotonic() - began)
        return is_over(board, status)

    peak = Peak(lambda: before)
    try:
        board.ask(request="install", url=address, sha256=sha256, version="2", hold=True)
        board.wait("the image to be verified", limit, look)
        wall = time.monotonic() - began
        used = processor(before) - used
    finally:
        peak.stop()
    if board.processes() != before:
        raise Trouble(f"a process of the daemon has ended: {board.log()}")
    board.ask(request="cancel")
    board.wait("the update to be cancelled", 30, lambda status: status["phase"] == "idle")
    return {"wall_s": round(wall, 2), "written_s": round(written[0], 2), "cpu_s": round(used, 2),
            "hwm_mib": round(peak.hwm / 1024, 1), "pss_mib": round(peak.pss / 1024, 1),
            "kept_mib": memory(before, "status", "RssAnon")}


def is_over(board: Board, status: dict) -> bool:
    """Whether an image is verified. An update that has failed is over, too, and is trouble."""
    if status["phase"] == "idle" and (status.get("last") or {}).get("outcome") not in (None, "succeeded", "up-to-date"):
        raise Trouble(f"the update has failed: {status['last']}\n{board.log()}")
    return status["phase"] == "staged"


def digest(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
