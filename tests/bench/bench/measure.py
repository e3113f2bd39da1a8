"""Runs a program as a device would, and tells what it took."""

import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from .place import Trouble

# Whom the device trusts, for every program in the same way: in a name space of its own the system's list of authorities
# is the bench's. A shell's only word, for programs that have no option for it.
TRUST = 'mount --bind "$0" /etc/ssl/certs/ca-certificates.crt && exec "$@"'
EVERY = 0.02


def measured(*command: str | Path, cwd: Path, authority: Path) -> dict[str, float]:
    """Seconds, seconds of processor, and the most memory, in MiB, all of its processes taken together.

    `hwm_mib` is what each has ever had resident (VmHWM), files that it has mapped and what it shares with others
    included; `pss_mib` shares out what is shared.
    """
    words = ["unshare", "--mount", "sh", "-c", TRUST, str(authority), *map(str, command)]
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen(words, cwd=cwd, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    peak = Peak(lambda: session(process.pid))
    try:
        said, _ = process.communicate()
        wall = time.monotonic() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    finally:
        peak.stop()
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    if process.returncode:
        text = said.decode(errors="replace")[-2000:]
        raise Trouble(f"{' '.join(map(str, command))}: exit status {process.returncode}\n{text}")
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"wall_s": round(wall, 2), "cpu_s": round(used, 2), "hwm_mib": round(peak.hwm / 1024, 1),
            "pss_mib": round(peak.pss / 1024, 1)}


class Peak:
    """Watches the memory of some processes, whichever they are at a moment."""

    def __init__(self, members: Callable[[], list[int]]) -> None:
        self._members = members
        self.hwm = 0
        self.pss = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> None:
        """What was the most is known: in KiB."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(EVERY):
            members = self._members()
            self.hwm = max(self.hwm, sum(kib(process, "status", "VmHWM") for process in members))
            self.pss = max(self.pss, sum(kib(process, "smaps_rollup", "Pss") for process in members))


def session(leader: int) -> list[int]:
    """The processes of a session."""
    members = []
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and os.getsid(int(entry)) == leader:
                members.append(int(entry))
        except ProcessLookupError:
            pass
    return members


def memory(processes: list[int], table: str, row: str) -> float:
    """MiB, of all of them."""
    return round(sum(kib(process, table, row) for process in processes) / 1024, 2)


def kib(process: int, table: str, row: str) -> int:
    """A number of a process; 0 when it has just gone."""
    try:
        text = Path(f"/proc/{process}/{table}").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith(f"{row}:"))
