"""Whether the disk that forgets does what the power cuts count on: a lab that loses nothing would prove nothing."""

import random
import socket
import struct
import tempfile
from pathlib import Path

from .machine import Unexpected
from .volatile import BLOCK, SECTOR, Disk, Trap

_READ, _WRITE, _FLUSH = 0, 1, 3


def check() -> None:
    """Raises Unexpected if not."""
    for name, claim in CLAIMS.items():
        with tempfile.TemporaryDirectory(prefix="lab-") as directory:
            place = Path(directory)
            (place / "image").write_bytes(bytes(64 * BLOCK))
            disk = Disk(place / "image", f"{place}/socket", lambda offset: SECTOR if offset < 8 * BLOCK else BLOCK)
            with _Client(f"{place}/socket") as client:
                found = claim(disk, client, place / "image")
            if not found:
                raise Unexpected(f"the disk that forgets: {name} is not so")


def _flushed_stays(disk: Disk, client: "_Client", image: Path) -> bool:
    client.write(10 * BLOCK, b"x" * BLOCK)
    client.flush()
    client.write(20 * BLOCK, b"y" * 2 * BLOCK)
    is_read = client.read(20 * BLOCK, BLOCK) == b"y" * BLOCK
    disk.off(_Never())
    data = image.read_bytes()
    return is_read and data[10 * BLOCK:11 * BLOCK] == b"x" * BLOCK and data.count(b"y") == 0


def _through_stays(disk: Disk, client: "_Client", image: Path) -> bool:
    client.write(10 * BLOCK, b"x" * BLOCK)
    client.write(12 * BLOCK, b"z" * BLOCK, flags=1)
    disk.off(_Never())
    return image.read_bytes().count(b"z") == BLOCK and image.read_bytes().count(b"x") == 0


def _is_torn(disk: Disk, client: "_Client", image: Path) -> bool:
    client.write(0, b"x" * 8 * BLOCK)
    client.write(16 * BLOCK, b"y" * 16 * BLOCK)
    chance = random.Random(3)
    chance.choice = lambda _: 0.5  # type: ignore[method-assign,assignment,misc]
    kept, lost = disk.off(chance)
    data = image.read_bytes()
    whole = {data[at:at + BLOCK] for at in range(16 * BLOCK, 32 * BLOCK, BLOCK)}
    parts = [data[at:at + BLOCK] for at in range(0, 8 * BLOCK, BLOCK)]
    return (kept > 0 and lost > 0 and whole == {b"y" * BLOCK, bytes(BLOCK)}
            and any(0 < part.count(b"x") < BLOCK for part in parts))


def _trap_ends_it(disk: Disk, client: "_Client", image: Path) -> bool:
    trap = Trap("write", 2, lambda offset: offset >= 8 * BLOCK)
    disk.set(trap)
    client.write(0, b"x" * SECTOR)
    client.write(8 * BLOCK, b"x" * SECTOR)
    client.flush()
    before = trap.sprung.is_set()
    client.silence(1)
    try:
        client.write(9 * BLOCK, b"z" * SECTOR, flags=1)
    except TimeoutError:
        disk.off(_Never())
        return not before and trap.sprung.is_set() and image.read_bytes().count(b"z") == 0
    return False


CLAIMS = {"what was flushed stays, and nothing else": _flushed_stays, "what was written through stays": _through_stays,
          "some is lost and some is not, sectors where it must be so": _is_torn,
          "it ends at the write that was meant, which is lost": _trap_ends_it}


class _Never(random.Random):
    """Loses all."""

    def choice(self, seq):  # type: ignore[no-untyped-def,override]
        return 0.0


class _Client:
    """What QEMU does, in short."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(30)
        self._socket.connect(path)
        self._take(18)
        self._socket.sendall(struct.pack(">I", 1) + struct.pack(">8sIIIH", b"IHAVEOPT", 7, 6, 0, 0))
        while True:
            _, _, kind, length = struct.unpack(">QIII", self._take(20))
            self._take(length)
            if kind == 1:
                return

    def __enter__(self) -> "_Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def silence(self, limit: float) -> None:
        """How long to wait for an answer from now on."""
        self._socket.settimeout(limit)

    def write(self, offset: int, data: bytes, flags: int = 0) -> None:
        self._ask(_WRITE, offset, len(data), data, flags)

    def read(self, offset: int, length: int) -> bytes:
        self._ask(_READ, offset, length)
        return self._take(length)

    def flush(self) -> None:
        self._ask(_FLUSH, 0, 0)

    def _ask(self, kind: int, offset: int, length: int, data: bytes = b"", flags: int = 0) -> None:
        self._socket.sendall(struct.pack(">IHHQQI", 0x25609513, flags, kind, 0, offset, length) + data)
        _, error, _ = struct.unpack(">IIQ", self._take(16))
        if error:
            raise OSError(error, "the disk refuses")

    def _take(self, length: int) -> bytes:
        got = b""
        while len(got) < length:
            more = self._socket.recv(length - len(got))
            if not more:
                raise EOFError
            got += more
        return got
