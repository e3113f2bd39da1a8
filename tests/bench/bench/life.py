"""The daemon's life between updates, and under conditions: idle, at its start, on the wire, killed, and on slow ground."""

import os
import random
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import ClassVar

from . import full, images, storage
from .board import Board
from .full import Image, Twinboot
from .hub import Hub
from .line import SEED, Line, Pace
from .measure import measured, memory
from .place import HOME, Trouble
from .server import Server

DAY = 24 * 60 * 60
# The shipped configuration: a connection that is silent is asked for a sign of life so often, and a token lives so long, of
# which it uses four fifths.
KEEP_ALIVE, TOKEN = 4 * 60, 60 * 60 * 4 / 5
# What TLS makes of a byte of a file: a record of 16 KiB has 22 bytes beside them.
RECORD = 1 + 22 / (16 << 10)
# So long nothing is said when all has been said.
QUIET = 5


class Life(Twinboot):
    """Something that the daemon is measured in."""

    def fetch(self, image: Image | None, server: Server) -> dict:
        raise NotImplementedError


@contextmanager
def connected(profile: str, server: Server, **more: object):
    """A board that is connected to a hub over a line, with nothing more to say; the hub, the line, the board."""
    with Hub() as hub, Line(hub.port) as line:
        authorities = [hub.authority, server.authority]
        with Board(profile, authorities, hub.connection_string(line.port), **more) as board:
            board.wait_connected()
            wait_quiet(line)
            yield hub, line, board


def wait_quiet(line: Line) -> None:
    """Waits until nothing has been said for a while."""
    deadline = time.monotonic() + 60
    while time.monotonic() - line.pieces[-1][0] < QUIET:
        if time.monotonic() > deadline:
            raise Trouble("the daemon does not stop talking to its hub")
        time.sleep(0.1)


class Idle(Life):
    """Connected, with nothing to do."""

    # How long it is watched: two keep-alives at least.
    seconds: ClassVar[float] = 600

    def fetch(self, image: Image | None, server: Server) -> dict:
        with connected(self.profile, server) as (_, line, board):
            connect, processes = line.bytes(), board.processes()
            before, began = switches(processes), time.monotonic()
            time.sleep(self.seconds)
            took, wakes = time.monotonic() - began, woken(processes, before)
            if board.processes() != processes or line.connections != 1:
                raise Trouble(f"the daemon was not left alone: {board.log()}")
            pings = line.bursts(began)
            if not pings:
                raise Trouble(f"no sign of life within {self.seconds} s: watch it for longer")
            day = DAY / KEEP_ALIVE * median(pings) + DAY / TOKEN * connect
            return {"rss_mib": memory(processes, "status", "VmRSS"),
                    "largest_mib": max(memory([process], "status", "VmRSS") for process in processes),
                    "anonymous_mib": memory(processes, "status", "RssAnon"),
                    "pss_mib": memory(processes, "smaps_rollup", "Pss"), "wakeups": round(wakes / took * 10, 2),
                    "threads": sum(len(threads(process)) for process in processes),
                    "ping_b": median(pings), "connect_b": connect, "day_b": round(day)}


def threads(process: int) -> list[Path]:
    """The directories of its threads."""
    return list(Path(f"/proc/{process}/task").iterdir())


def switches(processes: list[int]) -> dict[str, int]:
    """How often each of their threads has gone to sleep, which is as often as it was woken."""
    counts = {}
    for thread in (thread for process in processes for thread in threads(process)):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = (thread / "status").read_text(encoding="ascii", errors="replace").splitlines()
            counts[thread.name] = sum(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:"))
    return counts


def woken(processes: list[int], before: dict[str, int]) -> int:
    """How often their threads were woken since then. What one did that has ended since is not known."""
    return sum(count - before.get(thread, 0) for thread, count in switches(processes).items())


class Start(Life):
    """From its first process to the first packet of MQTT."""

    def fetch(self, image: Image | None, server: Server) -> dict:
        at: dict[str, float] = {}
        heard, records = bytearray(), []

        def ear(piece: bytes) -> None:
            # It waits for us meanwhile, so that nothing is counted that comes after.
            heard.extend(piece)
            while len(heard) >= 5 and len(heard) >= 5 + int.from_bytes(heard[3:5], "big"):
                records.append(heard[0])
                del heard[:5 + int.from_bytes(heard[3:5], "big")]
            change = 0x14
            # What follows the change to encryption: the end of the handshake, and CONNECT.
            if change in records and len(records) - records.index(change) > 2 and not at:
                at.update(wall_s=time.monotonic() - began, cpu_ms=used(board.processes()))

        with Hub() as hub, Line(hub.port, ear=ear) as line:
            board = Board(self.profile, [hub.authority], hub.connection_string(line.port))
            began = time.monotonic()
            with board:
                board.wait_connected()
        return {"wall_s": round(at["wall_s"], 3), "cpu_ms": round(at["cpu_ms"], 1)}


def used(processes: list[int]) -> float:
    """Milliseconds of processor that their threads have used."""
    spent = (int((thread / "schedstat").read_text(encoding="ascii").split()[0])
             for process in processes for thread in threads(process))
    return sum(spent) / 1e6


def small(mib: int) -> Image:
    """Some MiB that cannot be packed any more, as the server has them."""
    whole = images.made(with_kernel=False) / "v2.squashfs"
    served = HOME / "www/full" / whole.parent.name / f"{mib}-mib"
    if not served.exists():
        served.parent.mkdir(parents=True, exist_ok=True)
        with whole.open("rb") as file:
            bytes_ = file.read(mib << 20)
        if len(bytes_) != mib << 20:
            raise Trouble(f"{whole} has less than {mib} MiB")
        served.write_bytes(bytes_)
    return Image(served, served, served)


class UpdateWire(Life):
    """What a whole update says to the hub, over a line of 20 Mbit/s: from the wish until the new version is reported, one
    reboot included."""

    def fetch(self, image: Image, server: Server) -> dict:
        with (connected(self.profile, server) as (hub, line, board),
              Line(server.port, Pace(20_000_000)) as way):
            began, connections = time.monotonic(), line.connections
            hub.desire(fwVersion="2", fwPackageURI=full.url(image, server).replace(f":{server.port}/", f":{way.port}/"),
                       fwPackageCheckValue=full.digest(image.packed))
            board.reboot("2")
            deadline = time.monotonic() + 120
            while [hub.firmware().get(name) for name in ("currentFwVersion", "fwUpdateStatus")] != ["2", "current"]:
                if time.monotonic() > deadline:
                    raise Trouble(f"the update is not over: {hub.firmware()}\n{board.log()}")
                time.sleep(0.1)
            wait_quiet(line)
            return {"wall_s": round(time.monotonic() - began - QUIET, 1), "wire_b": line.bytes(began),
                    "connections": line.connections - connections}


class Resume(Life):
    """Both processes are killed now and then while they download, always at the same places. What counts as fetched is what
    the line has carried: handshakes too, and nothing that lies in buffers before it."""

    kills = 5

    def fetch(self, image: Image, server: Server) -> dict:
        dice, size = random.Random(SEED), image.packed.stat().st_size
        goals = sorted(dice.randrange(size // 20, size - size // 20) for _ in range(self.kills))
        with (storage.Slot(image.old, image.place) as slot, storage.ReadOnly(image.old) as booted, Hub() as hub,
              Line(server.port, Pace(100_000_000)) as line):
            authorities = [hub.authority, server.authority]
            board = Board(self.profile, authorities, hub.connection_string(hub.port), (booted, slot.path))
            server.forget()
            with board:
                board.wait_connected()
                began = time.monotonic()
                address = full.url(image, server).replace(f":{server.port}/", f":{line.port}/")
                board.ask(request="install", url=address, sha256=full.digest(image.packed), version="2", hold=True)
                for goal in goals:
                    board.wait(f"{goal} bytes", 600, lambda status, goal=goal: fetched(status) >= goal)
                    board.cut()
                    board.start()
                board.wait("the image to be verified", 600, lambda status: full.is_over(board, status))
                wall = time.monotonic() - began
                carried = line.bytes()
            if not slot.holds(image.raw):
                raise Trouble("what was resumed is not the image")
        count = server.count()
        return {"wall_s": round(wall, 1), "kills": self.kills, "bytes": count.bytes, "requests": count.requests,
                "twice": round(carried / RECORD - size)}


def fetched(status: dict) -> int:
    """How many bytes of the file there are."""
    return (status.get("progress") or {}).get("fetched") or 0


class Growth(Life):
    """Many downloads of one process, each cancelled when it is verified."""

    updates = 100

    def fetch(self, image: Image, server: Server) -> dict:
        # Never the same twice in a row: that one would be there already.
        turns = [image, small(4)]
        with connected(self.profile, server) as (_, _, board):
            kept, began = [], time.monotonic()
            for turn in range(self.updates):
                now = turns[turn % 2]
                kept.append(full.install(board, full.url(now, server), full.digest(now.packed))["kept_mib"])
            # Threads come one by one, each with an arena; after half of them there is nothing new any more.
            return {"updates": self.updates, "kept_mib": kept[-1],
                    "growth_mib": round(kept[-1] - kept[self.updates // 2 - 1], 2),
                    "wall_s": round(time.monotonic() - began, 1)}


class SlowLine(Life):
    """A download over a slow line, with the watchdog looking on."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def fetch(self, image: Image, server: Server) -> dict:
        with (connected(self.profile, server, watchdog=4) as (_, _, board), Line(server.port, self._pace) as line):
            address = full.url(image, server).replace(f":{server.port}/", f":{line.port}/")
            took = full.install(board, address, full.digest(image.packed))
            return {**took, "rate": image.packed.stat().st_size / took["written_s"], "connections": line.connections,
                    "hunger_s": round(board.hunger(), 1)}


class LineLimit(full.Way):
    """The same line, with curl."""

    name, needs = "limit-line", ("curl=curl",)

    def __init__(self, pace: Pace) -> None:
        self._pace = pace

    def fetch(self, image: Image, server: Server) -> dict:
        with Line(server.port, self._pace) as line, full.directory() as device:
            address = full.url(image, server).replace(f":{server.port}/", f":{line.port}/")
            took = measured("curl", "-sf", "-o", "/dev/null", address, cwd=device, authority=server.authority)
            return {**took, "rate": image.packed.stat().st_size / took["wall_s"], "connections": line.connections}


# Bytes a second.
SLOW = 8_000_000


class SlowDisk(Life):
    """An install into a disk that is slower than the line; its rate is that until all is written."""

    def fetch(self, image: Image, server: Server) -> dict:
        with storage.SlowSlot(full_size(image), SLOW) as slot, storage.ReadOnly(image.old) as booted:
            with connected(self.profile, server, slots=(booted, slot.path), watchdog=4) as (_, _, board):
                took = full.install(board, full.url(image, server), full.digest(image.packed))
                hunger = board.hunger()
            if not slot.holds(image.raw):
                raise Trouble("what is on the slow disk is not the image")
            return {**took, "rate": image.packed.stat().st_size / took["written_s"], "hunger_s": round(hunger, 1)}


class DiskLimit(full.Way):
    """The same disk, written by dd."""

    name = "limit-disk"

    def fetch(self, image: Image, server: Server) -> dict:
        with storage.SlowSlot(full_size(image), SLOW) as slot, full.directory() as device:
            took = measured("dd", f"if={image.raw}", f"of={slot.path}", "bs=1M", "oflag=direct", "conv=fsync", "status=none",
                            cwd=device, authority=server.authority)
            return {**took, "rate": image.packed.stat().st_size / took["wall_s"]}


def full_size(image: Image) -> int:
    """Of a slot for it, in bytes."""
    return os.path.getsize(image.raw)
