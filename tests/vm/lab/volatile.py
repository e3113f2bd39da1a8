"""A disk that forgets: an NBD server with a write cache of its own. What the machine wrote is in the image once it
flushed it (or wrote it through), or once the cache was full; when the power goes, of the rest some is there and some is
not, in no order, as the seed has it. That is what NVMe, SATA and eMMC with a cache switched on may do.

The protocol is NBD's fixed newstyle handshake with simple replies, as far as QEMU speaks it.
"""

import os
import random
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

SECTOR, BLOCK = 512, 4096
# Disks have a cache of some size; what is oldest goes first.
CACHE = 32 * 1024 * 1024 // BLOCK

_GREETING = struct.pack(">8sQH", b"NBDMAGIC", 0x49484156454F5054, 0b11)
_REPLY, _OPTION_REPLY = 0x67446698, 0x3E889045565A9
_OPTION_ABORT, _OPTION_LIST, _OPTION_INFO, _OPTION_GO = 2, 3, 6, 7
_ACK, _SERVER, _INFO, _UNSUPPORTED = 1, 2, 3, (1 << 31) + 1
# Has flags, flush, FUA.
_FLAGS = 0b1101
_READ, _WRITE, _DISCONNECT, _FLUSH = range(4)
_FUA = 1


class Trap:
    """The power goes at the `number`-th write or flush from now on, of those that `concerns` picks by offset."""

    def __init__(self, kind: str, number: int, concerns: Callable[[int], bool]) -> None:
        self.kind, self.number, self.concerns = kind, number, concerns
        self.sprung = threading.Event()

    def springs(self, kind: str, offset: int) -> bool:
        """Counts; whether this is the one."""
        if kind == self.kind and self.concerns(offset):
            self.number -= 1
            if self.number <= 0:
                self.sprung.set()
        return self.sprung.is_set()


class Disk:
    """The disk of one machine, from power on to power off."""

    def __init__(self, image: Path, path: str, atomic: Callable[[int], int]) -> None:
        """Serves `image` at the socket `path`; `atomic` says of an offset how many bytes there a disk writes whole."""
        self._image = os.open(image, os.O_RDWR)
        self._size = os.fstat(self._image).st_size
        self._atomic = atomic
        # Blocks in the order in which they came, and which of their sectors (bits) are newer than the image's.
        self._cache: dict[int, tuple[bytearray, int]] = {}
        self._lock = threading.Lock()
        self._is_on = True
        self._is_over = threading.Event()
        self._trap: Trap | None = None
        self.flushes = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    # -- for the lab

    def set(self, trap: Trap | None) -> None:
        """Sets a trap, or takes it away."""
        with self._lock:
            self._trap = trap

    def off(self, chance: random.Random | None) -> tuple[int, int]:
        """The power is gone: sectors kept and lost. Without `chance` nothing is lost."""
        with self._lock:
            self._is_on = False
            kept = lost = 0
            keep = 0.0 if chance is None else chance.choice((0.0, 0.2, 0.5, 0.8))
            for number, (data, mask) in self._cache.items():
                for first, last in self._pieces(number):
                    piece = mask & ((1 << last) - (1 << first))
                    if chance is None or chance.random() < keep:
                        self._write_back(number, data, piece)
                        kept += piece.bit_count()
                    else:
                        lost += piece.bit_count()
            self._cache.clear()
            os.close(self._image)
        self._is_over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)
        return kept, lost

    def _pieces(self, number: int) -> Iterator[tuple[int, int]]:
        """Sectors of a block that a disk writes together, first and behind the last."""
        step = self._atomic(number * BLOCK) // SECTOR
        return ((first, first + step) for first in range(0, BLOCK // SECTOR, step))

    # -- the disk

    def _read(self, offset: int, length: int) -> bytes:
        found = os.pread(self._image, length, offset)
        first, last = offset // BLOCK, (offset + length - 1) // BLOCK
        if not self._cache:
            return found
        changed = None
        for number in range(first, last + 1):
            if (block := self._cache.get(number)) is not None:
                if changed is None:
                    changed = bytearray(found)
                for sector in _bits(block[1]):
                    at = number * BLOCK + sector * SECTOR - offset
                    if 0 <= at < length:
                        changed[at:at + SECTOR] = block[0][sector * SECTOR:(sector + 1) * SECTOR]
        return found if changed is None else bytes(changed)

    def _write(self, offset: int, data: memoryview, through: bool) -> None:
        end = offset + len(data)
        at = offset
        while at < end:
            number, inside = divmod(at, BLOCK)
            length = min(BLOCK - inside, end - at)
            block, mask = self._cache.pop(number, (None, 0))
            if block is None:
                block = bytearray(BLOCK)
            block[inside:inside + length] = data[at - offset:at - offset + length]
            mask |= (1 << ((inside + length) // SECTOR)) - (1 << (inside // SECTOR))
            if through:
                self._write_back(number, block, mask)
            else:
                self._cache[number] = (block, mask)
            at += length
        while len(self._cache) > CACHE:
            number = next(iter(self._cache))
            self._write_back(number, *self._cache.pop(number))

    def _flush(self) -> None:
        self.flushes += 1
        for number, (data, mask) in self._cache.items():
            self._write_back(number, data, mask)
        self._cache.clear()

    def _write_back(self, number: int, data: bytearray, mask: int) -> None:
        if mask == (1 << BLOCK // SECTOR) - 1:
            os.pwrite(self._image, data, number * BLOCK)
            return
        for sector in _bits(mask):
            os.pwrite(self._image, data[sector * SECTOR:(sector + 1) * SECTOR], number * BLOCK + sector * SECTOR)

    # -- NBD

    def _serve(self) -> None:
        try:
            client, _ = self._listener.accept()
            with client:
                if self._greet(client):
                    self._answer(client)
        except (OSError, EOFError):
            # The machine is gone, or the power is.
            pass

    def _greet(self, client: socket.socket) -> bool:
        client.sendall(_GREETING)
        _receive(client, 4)
        while True:
            _, option, length = struct.unpack(">QII", _receive(client, 16))
            _receive(client, length)

            def reply(kind: int, data: bytes = b"", option: int = option) -> None:
                client.sendall(struct.pack(">QIII", _OPTION_REPLY, option, kind, len(data)) + data)

            if option == _OPTION_ABORT:
                reply(_ACK)
                return False
            if option == _OPTION_LIST:
                reply(_SERVER, struct.pack(">I", 0))
                reply(_ACK)
            elif option in (_OPTION_INFO, _OPTION_GO):
                reply(_INFO, struct.pack(">HQH", 0, self._size, _FLAGS))
                # Block sizes: least, best, most.
                reply(_INFO, struct.pack(">HIII", 3, SECTOR, BLOCK, 32 * 1024 * 1024))
                reply(_ACK)
                if option == _OPTION_GO:
                    return True
            else:
                reply(_UNSUPPORTED)

    def _answer(self, client: socket.socket) -> None:
        while True:
            _, flags, kind, handle, offset, length = struct.unpack(">IHHQQI", _receive(client, 28))
            data = _receive(client, length) if kind == _WRITE else b""
            if kind == _DISCONNECT:
                return
            with self._lock:
                if not self._is_on:
                    return
                answer = self._do(kind, flags, offset, length, data)
                is_dead = self._trap is not None and self._trap.sprung.is_set()
                self._is_on = not is_dead
            if is_dead:
                # No answer any more, to nothing: an error would be one.
                self._is_over.wait()
                return
            client.sendall(struct.pack(">IIQ", _REPLY, 0 if answer is not None else 22, handle) + (answer or b""))

    def _do(self, kind: int, flags: int, offset: int, length: int, data: bytes) -> bytes | None:
        if kind == _READ:
            return self._read(offset, length)
        if kind == _WRITE:
            # The one at which the power goes is in the cache, which may lose it.
            is_last = self._trap is not None and self._trap.springs("write", offset)
            self._write(offset, memoryview(data), bool(flags & _FUA) and not is_last)
            return b""
        if kind == _FLUSH:
            if self._trap is None or not self._trap.springs("flush", 0):
                self._flush()
            return b""
        return None


def _bits(mask: int) -> Iterator[int]:
    return (bit for bit in range(BLOCK // SECTOR) if mask >> bit & 1)


def _receive(client: socket.socket, length: int) -> bytes:
    got = bytearray(length)
    view = memoryview(got)
    done = 0
    while done < length:
        count = client.recv_into(view[done:])
        if count == 0:
            raise EOFError
        done += count
    return bytes(got)
