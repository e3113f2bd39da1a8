"""Whether everybody says the same: kernel, loader, `twinboot status`, and the twin at the hub."""

import json
import re
from typing import Any

from .chain import Chain
from .hub import Hub
from .machine import Machine

# What the tutorial's word in the twin is, where nothing is on its way, for each outcome in the status.
WORDS = {None: "current", "succeeded": "current", "up-to-date": "current", "rolled-back": "rolledback",
         "failed": "error"}


def booted(machine: Machine) -> str:
    """The slot whose file system the kernel has as its root."""
    _, line = machine.run("cat /proc/cmdline")
    found = re.search(r"\broot=PARTLABEL=rootfs-([ab])\b", line)
    return found[1] if found else f"no slot: {line}"


def disagreement(chain: Chain, machine: Machine, hub: Hub) -> tuple[str | None, dict[str, Any]]:
    """Who says something else, if somebody does; and what the status is."""
    before = _status(machine)
    if not before or "booted" not in before:
        return f"the status says {before}", {}
    reported = hub.reported().get("firmware", {})
    try:
        loader = chain.said(lambda offset, length: machine.durable("env", offset, length))
    except ValueError as error:
        return f"nobody can read the loader's variables: {error}", before
    slot = booted(machine)
    _, release = machine.run("sed -n 's/^IMAGE_VERSION=//p' /etc/os-release")
    after = _status(machine)
    if _settled(before) != _settled(after):
        return f"it is changing: {_settled(before)}, {_settled(after)}", after
    said = {"the kernel's slot": (slot, after["booted"]),
            "the loader's default": (loader.default, after["default"]),
            "the loader's trial": (loader.trial, after["trial"] or ""),
            "the version of the system": (release.strip().strip('"'), (after["version"] or {}).get("running")),
            "the version at the hub": (reported.get("currentFwVersion"), (after["version"] or {}).get("kept"))}
    if after["phase"] == "idle":
        outcome = (after["last"] or {}).get("outcome")
        said["the word at the hub"] = (reported.get("fwUpdateStatus"), WORDS[outcome])
        said["the code at the hub"] = (reported.get("fwUpdateCode"), (after["last"] or {}).get("code"))
    wrong = [f"{who} is {truth!r}, in the status {told!r}" for who, (truth, told) in said.items() if truth != told]
    return ("; ".join(wrong) or None), after


def _status(machine: Machine) -> dict[str, Any]:
    status, said = machine.run("twinboot status --json 2>/dev/null")
    try:
        return json.loads(said) if status == 0 else {}
    except ValueError:
        return {}


def _settled(status: dict[str, Any]) -> Any:
    """What must not change while others are asked."""
    return [status.get(key) for key in ("phase", "booted", "default", "trial", "version")]
