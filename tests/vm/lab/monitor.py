"""QEMU's monitor: what is asked of the machine's hardware."""

import json
import socket
import time
from typing import Any

# A command, and what it is told.
Command = tuple[str, dict[str, Any]]


class Refused(Exception):
    """QEMU did not do it."""


def ask(path: str, commands: list[Command], limit: float = 60) -> None:
    """Has QEMU do something; what it says is not there yet, or still in use, is asked for again."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(limit)
        monitor.connect(path)
        with monitor.makefile("rw", encoding="utf-8") as lines:
            _answer(lines)
            for command in [("qmp_capabilities", {}), *commands]:
                _do(lines, command, time.monotonic() + limit)


def _do(lines: Any, command: Command, end: float) -> None:
    while True:
        lines.write(json.dumps({"execute": command[0], "arguments": command[1]}) + "\n")
        lines.flush()
        answer = _answer(lines)
        if "error" not in answer:
            return
        why = answer["error"]["desc"]
        # A device goes away some time after it was asked to.
        if "in use" not in why or time.monotonic() > end:
            raise Refused(f"{command[0]}: {why}")
        time.sleep(0.05)


def _answer(lines: Any) -> dict[str, Any]:
    """The next line that is not about something that happened meanwhile."""
    while line := lines.readline():
        answer = json.loads(line)
        if "event" not in answer:
            return answer
    raise Refused("QEMU has ended")
