"""Peers that have nothing to do: what their daemons keep, and how often they wake up.

None of them is connected to anything, as ours is: RAUC has no server, SWUpdate waits for its own clients. Mender's does
nothing without a server of Mender's, and is left out.
"""

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import ClassVar

from . import full
from .life import switches, threads, woken
from .measure import memory, session
from .peers import certificate, configure_rauc, script
from .place import Trouble
from .server import Server

# Until a daemon has found out that there is nothing to do.
PATIENCE = 30


class Resting(full.Way):
    """A daemon of somebody else's."""

    # How long it is watched.
    seconds: ClassVar[float] = 60
    # The programs that count, not the bus that they need.
    program = ""

    def fetch(self, image: object, server: Server) -> dict:
        with full.directory() as device:
            began = subprocess.Popen(self.start(device), cwd=device, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=subprocess.DEVNULL, start_new_session=True)
            try:
                processes = self.wait_resting(began)
                before, since = switches(processes), time.monotonic()
                time.sleep(self.seconds)
                wakes = woken(processes, before) / (time.monotonic() - since)
                return {"rss_mib": memory(processes, "status", "VmRSS"),
                        "largest_mib": max(memory([process], "status", "VmRSS") for process in processes),
                        "anonymous_mib": memory(processes, "status", "RssAnon"),
                        "pss_mib": memory(processes, "smaps_rollup", "Pss"), "wakeups": round(wakes * 10, 2),
                        "threads": sum(len(threads(process)) for process in processes)}
            finally:
                os.killpg(began.pid, signal.SIGKILL)
                began.wait()

    def start(self, device: Path) -> list[str | Path]:
        """What starts it, in its directory."""
        raise NotImplementedError

    def wait_resting(self, began: subprocess.Popen) -> list[int]:
        """Its processes, as soon as none of them has been woken for a second."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and began.poll() is None:
            processes = [one for one in session(began.pid) if name(one) == self.program]
            before = switches(processes)
            time.sleep(1)
            if processes and switches(processes) == before:
                return processes
        raise Trouble(f"{self.name} does not come to rest")


def name(process: int) -> str:
    """Of a process; none when it has just gone."""
    try:
        return Path(f"/proc/{process}/comm").read_text(encoding="utf-8").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class Rauc(Resting):
    """Its service, on a bus of its own."""

    name = program = "rauc"
    needs = ("rauc=rauc", "dbus-run-session=dbus", "openssl=openssl")

    def start(self, device: Path) -> list[str | Path]:
        for slot in ("a", "b"):
            (device / slot).touch()
        configure_rauc(device, str(device / "a"), str(device / "b"))
        go = script(device / "go", """\
            export DBUS_STARTER_BUS_TYPE=session
            exec rauc -c system.conf --override-boot-slot=A service""")
        return ["dbus-run-session", "--", go]


class SwUpdate(Resting):
    """Without its web server."""

    name = program = "swupdate"
    needs = ("swupdate=swupdate", "openssl=openssl")

    def start(self, device: Path) -> list[str | Path]:
        return ["swupdate", "-k", certificate("emailProtection")[0], "-H", "bench:1.0"]
