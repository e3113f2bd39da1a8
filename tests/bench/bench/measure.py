"""Runs a program and tells what it took."""

import os
import subprocess
import threading
import time
from pathlib import Path

from .place import Trouble


def measured(*command: str | Path, cwd: Path, environment: dict[str, str] | None = None) -> dict[str, float]:
    """Seconds, seconds of processor, and the most memory (PSS of all of its processes, in MiB)."""
    began = time.monotonic()
    before = os.times()
    process = subprocess.Popen([str(word) for word in command], cwd=cwd, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
                               env={**os.environ, **(environment or {})})
    peak = Peak(process.pid)
    said, _ = process.communicate()
    wall = time.monotonic() - began
    after = os.times()
    memory = peak.stop()
    if process.returncode:
        text = said.decode(errors="replace")[-2000:]
        raise Trouble(f"{' '.join(map(str, command))}: exit status {process.returncode}\n{text}")
    used = after.children_user + after.children_system - before.children_user - before.children_system
    return {"wall_s": round(wall, 2), "cpu_s": round(used, 2), "pss_mib": round(memory / 1024, 1)}


class Peak:
    """Watches the memory of a session's processes, twenty times a second."""

    def __init__(self, session: int) -> None:
        self._session = session
        self._most = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def stop(self) -> int:
        """The most there was, in KiB."""
        self._over.set()
        self._thread.join()
        return self._most

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            self._most = max(self._most, sum(map(pss, self._members())))

    def _members(self) -> list[int]:
        members = []
        for entry in os.listdir("/proc"):
            try:
                if entry.isdigit() and os.getsid(int(entry)) == self._session:
                    members.append(int(entry))
            except ProcessLookupError:
                pass
        return members


def pss(process: int) -> int:
    """Memory of a process, what it shares with others shared out, in KiB."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
