"""When the power goes: moments in the phases of an update, drawn from a seed."""

import random
from dataclasses import dataclass


@dataclass(frozen=True)
class Way:
    """A kind of moment."""

    begins: str
    """Counting begins at this line of twinboot's journal."""
    kind: str
    """At a `write`, at a `flush`, or after `seconds`."""
    most: float
    """How many, or how long, at most."""
    part: str = ""
    """Writes to this partition alone count: `env`, `data`, or `target`."""


@dataclass(frozen=True)
class Phase:
    """A phase of an update, as the lab sees it."""

    over: str
    """Lines of the journal that show that it is over, or will not come."""
    ways: tuple[Way, ...]


_ENDED = r"succeeded$| failed, the running | rolled back, the old "
_DOWNLOADING, _VERIFYING, _STAGED = "accepted -> downloading|download resumed", "-> verifying", "-> staged"
_REBOOTING, _TRIAL, _COMMITTING = "-> rebooting", "is on trial", "-> committing"
# A line is seen a moment after it was written. What must not be missed is counted from well before: the loader's
# variables are written when it is armed, when the loader counts the boot, and when it is committed.
PHASES = {
    "download": Phase(f"-> applying|{_ENDED}", (
        Way(_DOWNLOADING, "write", 150, "target"), Way(_DOWNLOADING, "write", 20, "data"),
        Way(_DOWNLOADING, "flush", 20), Way(_DOWNLOADING, "seconds", 10))),
    "verify": Phase(f"{_REBOOTING}|{_TRIAL}|{_ENDED}", (
        Way(_VERIFYING, "write", 4, "data"), Way(_VERIFYING, "flush", 3), Way(_VERIFYING, "seconds", 6))),
    "arm": Phase(f"{_TRIAL}|{_ENDED}", (
        Way(_VERIFYING, "write", 3, "env"), Way(_STAGED, "write", 3, "data"), Way(_STAGED, "flush", 5))),
    "reboot": Phase(f"{_TRIAL}|{_ENDED}", (
        Way(_REBOOTING, "write", 10, "env"), Way(_REBOOTING, "write", 40), Way(_REBOOTING, "flush", 8),
        Way(_REBOOTING, "seconds", 12))),
    "trial": Phase(_ENDED, (
        Way(_TRIAL, "write", 6, "data"), Way(_TRIAL, "write", 30), Way(_TRIAL, "flush", 6),
        Way(_TRIAL, "seconds", 15))),
    "commit": Phase(_ENDED, (
        Way(_TRIAL, "write", 3, "env"), Way(_COMMITTING, "write", 4, "data"), Way(_COMMITTING, "flush", 5))),
}


@dataclass(frozen=True)
class Plan:
    """Where in a phase the power goes."""

    phase: str
    way: Way
    number: float

    def __str__(self) -> str:
        if self.way.kind == "seconds":
            return f"{self.phase}, {self.number:.1f} seconds in"
        return f"{self.phase}, {self.way.kind} {self.number:.0f}{' to ' + self.way.part if self.way.part else ''}"


def plan(phase: str, chance: random.Random) -> Plan:
    """Draws one."""
    way = chance.choice(PHASES[phase].ways)
    return Plan(phase, way, chance.uniform(0, way.most) if way.kind == "seconds" else chance.randint(1, int(way.most)))
