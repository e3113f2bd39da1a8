"""A way to a server that counts what goes over it, at any moment, and is as slow as it is told to be.

Not netem: few kernels of virtual machines have it, and it would slow down everybody's loopback.
"""

import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

# What an Ethernet carries of a stream in one packet.
PACKET = 1448
# Seconds of its rate that a line may make up for.
QUEUE = 0.1
# The same way for everybody, each time.
SEED = 20261122


@dataclass(frozen=True)
class Pace:
    """How slow a line is, towards the client.

    A lost packet is sent again, which costs its time on the line once more, and what comes behind it waits for a round
    trip. That is TCP with selective acknowledgements at its best; what it is spared is congestion control's doubt.
    """

    # Bits per second.
    rate: int
    # How many packets of a hundred are lost.
    loss: int = 0
    # Seconds.
    round_trip: float = 0.1


class Line:
    """Listens on a port of its own, and passes on to another one of this machine."""

    def __init__(self, port: int, pace: Pace | None = None, ear: Callable[[bytes], None] | None = None) -> None:
        """`ear` hears what clients say, piece by piece, before the server does."""
        self._to, self._pace, self._ear = port, pace, ear
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        self.connections = 0
        # When bytes came, and how many: both ways.
        self.pieces: list[tuple[float, int]] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()
        with self._lock:
            for one in self._open:
                shut(one)

    def bytes(self, since: float = 0) -> int:
        """How many went over it, both ways, since a moment of the monotonic clock."""
        return sum(count for when, count in list(self.pieces) if when >= since)

    def bursts(self, since: float, pause: float = 5) -> list[int]:
        """The same, in bytes for each exchange: what a pause of so many seconds comes before."""
        found, last = [], float("-inf")
        for when, count in list(self.pieces):
            if when >= since:
                if when - last > pause:
                    found.append(0)
                found[-1] += count
                last = when
        return found

    def _listen(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._pace:
                # What lies in buffers is neither here nor there: little of it.
                client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32 << 10)
                server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32 << 10)
            with self._lock:
                self._open += [client, server]
                self.connections += 1
            threading.Thread(target=self._pass_on, args=(client, server, None, self._ear), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, self._pace, None), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, pace: Pace | None,
                 ear: Callable[[bytes], None] | None) -> None:
        dice, free_at = random.Random(SEED), 0.0
        with suppress(OSError):
            while piece := source.recv(PACKET if pace else 1 << 16):
                self.pieces.append((time.monotonic(), len(piece)))
                if ear:
                    ear(piece)
                if pace:
                    now = time.monotonic()
                    took = len(piece) * 8 / pace.rate
                    # What it carries while we sleep too long is not lost to it.
                    free_at = max(free_at, now - QUEUE) + took
                    if dice.random() * 100 < pace.loss:
                        # The line is not idle meanwhile: what was behind it arrives along with it.
                        free_at += took
                        time.sleep(pace.round_trip)
                    # A line that is behind its time has no pause to make.
                    time.sleep(max(0.0, free_at - time.monotonic()))
                sink.sendall(piece)
        shut(source)
        shut(sink)


def shut(one: socket.socket) -> None:
    """Ends a connection, both ways; also one that has ended."""
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
