"""Scenarios: what scenarios/*.toml may say. Anything else in them is refused, so that a slip of the pen is no test."""

import tomllib
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from .cuts import PHASES
from .disk import FILES, SYSTEMS, Image


class Mistake(Exception):
    """A scenario that cannot be understood."""


class Told:
    """What people read of a step: its verb, and the beginning of what that is told."""

    def told(self) -> str:
        """In one line."""
        verb = fields(self)[0].name  # type: ignore[arg-type]
        text = " ".join(str(getattr(self, verb)).split())
        return f"{verb} {text if len(text) <= 80 else text[:79] + '…'}"


@dataclass(frozen=True)
class Boots(Told):
    """`boots = "a"`: the machine comes up, from this slot, once more; by itself, or switched on if it is off."""

    boots: str
    well: bool = True
    """Whether all its units must start. On trial a sick system may be gone before they have."""
    limit: float = 900


@dataclass(frozen=True)
class Run(Told):
    """`run = "script"`: a script of bash in the machine; `set -eu` holds."""

    run: str
    status: int = 0
    """The exit status it must have."""
    prints: tuple[str, ...] = ()
    """Regular expressions that must be found in what it writes; `^` and `$` match at lines."""
    never: tuple[str, ...] = ()
    """Regular expressions that must not."""
    until: bool = False
    """Again and again, until all this is so."""
    limit: float = 300


@dataclass(frozen=True)
class Wish(Told):
    """`wish = "image"`: the hub wants this image of the scenario on the device."""

    wish: str
    job: str = ""
    """`jobId`, if it is not empty."""
    bundle: int = 0
    """The rollback index of a signed bundle of it; none: the plain image."""


@dataclass(frozen=True)
class Reported(Told):
    """`reported = {…}`: waits until the reported property `firmware` has these members; an empty one may be missing."""

    reported: dict[str, Any]
    limit: float = 900


@dataclass(frozen=True)
class Journal(Told):
    """`journal = [{…}, …]`: waits until the journal has these entries of twinboot, in this order, after the entry that
    the step of this kind before this one ended with, in whatever boot."""

    journal: tuple[dict[str, str], ...]
    """Fields of an entry, and a regular expression that is found in each."""
    limit: float = 120


@dataclass(frozen=True)
class Console(Told):
    """`console = ["…"]`: waits until loader or kernel wrote these lines, in this order, after the line that the step of
    this kind before this one ended with."""

    console: tuple[str, ...]
    """Regular expressions; `^` and `$` match at lines."""
    limit: float = 120


@dataclass(frozen=True)
class Truth(Told):
    """`truth = "b"`: waits until this slot runs, boots by default, and kernel, loader, `twinboot status` and the hub all
    say so, as they do of versions and of what became of the last update."""

    truth: str
    outcome: str = ""
    """`outcome` of the last update in the status."""
    code: str = ""
    """Its failure."""
    limit: float = 600


@dataclass(frozen=True)
class Cut(Told):
    """`cut = "flush"`: the power goes at a moment, for good: `boots` turns it on again."""

    cut: str
    """`now`, or at a `write` or a `flush`."""
    number: int = 1
    """The how manieth of these."""
    part: str = ""
    """Writes to this partition alone count."""
    limit: float = 300


@dataclass(frozen=True)
class Cuts(Told):
    """`cuts = ["download", …]`: good updates, one after the other, to the images in `images` by turns; the power goes
    once in each of these phases of each of them, at moments drawn from the seed, until it went `number` times. Each
    time the machine must boot and all must say the same; each update must succeed in the end."""

    cuts: tuple[str, ...]
    images: tuple[str, ...]
    number: int
    bundle: int = 0
    """The rollback index of the first, where they are signed bundles; each has one that is higher. None: plain images."""


@dataclass(frozen=True)
class Sent(Told):
    """`sent = "image"`: what the hub's image server has sent of this image's bundles since the last wish."""

    sent: str
    least: float = 0
    """Parts of the file."""
    most: float = 1


@dataclass(frozen=True)
class Stick(Told):
    """`stick = "in"`: a stick with the label TWINBOOT is plugged in, or `out`: pulled. In a machine that is off it is
    there when it starts. The one before is gone by then."""

    stick: str
    bundles: tuple[str, ...] = ()
    """Images that it has as signed bundles, `NAME.twb`; their rollback indexes are those of their places here, from 1."""
    strangers: tuple[str, ...] = ()
    """The same, signed by somebody whom the device does not know."""
    plain: tuple[str, ...] = ()
    """Images that it has as they are."""
    rate: int = 0
    """How many KiB it gives in a second at most; 0: as many as it can."""


@dataclass(frozen=True)
class Denied(Told):
    """`denied = []`: all that the kernel has denied twinboot since the machine was made: exactly these kinds."""

    denied: tuple[str, ...]
    """Regular expressions for records as `denials` words them; each must be found, and each record match one."""


Step = Boots | Run | Wish | Reported | Journal | Console | Truth | Cut | Cuts | Sent | Stick | Denied
STEPS: tuple[type[Step], ...] = (Boots, Run, Wish, Reported, Journal, Console, Truth, Cut, Cuts, Sent, Stick, Denied)


@dataclass(frozen=True)
class Scenario:
    """A scenario."""

    name: str
    about: str
    a: str
    """The image in slot A; B is empty."""
    images: dict[str, Image]
    steps: tuple[Step, ...]
    chains: tuple[str, ...] = ("uboot", "grub")
    """On which it is played."""
    lives: int = 1
    """How often, each time with another seed."""
    weight: int = 1
    """What is heavier begins earlier."""
    waits: bool = False
    """For time to pass, half of its life: one of these is played beside the others."""
    processors: int = 1


def load(path: Path) -> Scenario:
    """Reads a scenario."""
    try:
        with path.open("rb") as file:
            text = tomllib.load(file)
        images = {name: _filled(Image, table) for name, table in text.pop("image", {}).items()}
        steps = tuple(_step(table) for table in text.pop("step", []))
        made = _filled(Scenario, text | {"name": path.stem, "images": images, "steps": steps})
        wanted = {made.a} | {step.wish for step in steps if isinstance(step, Wish)}
        for step in steps:
            if isinstance(step, Cuts):
                wanted |= set(step.images)
                if unknown := set(step.cuts) - set(PHASES):
                    raise Mistake(f"phases are {sorted(PHASES)}, and not {unknown}")
            elif isinstance(step, Sent):
                wanted.add(step.sent)
            elif isinstance(step, Stick):
                wanted |= {*step.bundles, *step.strangers, *step.plain}
                if step.stick not in ("in", "out"):
                    raise Mistake(f"a stick is in or out: {step}")
            elif isinstance(step, Cut) and step.cut not in ("now", "write", "flush"):
                raise Mistake(f"a cut is now, or at a write or flush: {step}")
        if not steps or wanted != set(images):
            raise Mistake(f"no steps, or images that are not there or not used: {wanted ^ set(images)}")
        for image in images.values():
            if image.system not in SYSTEMS or set(image.copies.values()) - FILES:
                raise Mistake(f"systems are {SYSTEMS}, files are {FILES}, and not {image.system}, {image.copies}")
        return made
    except (Mistake, tomllib.TOMLDecodeError) as error:
        raise Mistake(f"{path.name}: {error}") from None


def _step(table: dict[str, Any]) -> Step:
    kinds = [kind for kind in STEPS if fields(kind)[0].name in table]
    if len(kinds) != 1:
        raise Mistake(f"a step does one of {[fields(kind)[0].name for kind in STEPS]}, not {table}")
    return _filled(kinds[0], table)


def _filled(kind: Callable[..., Any], table: dict[str, Any]) -> Any:
    """An object of a data class, made of a table with its members and no others."""
    known = {one.name: one for one in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        if name not in known:
            raise Mistake(f"{kind.__name__} has no {name!r}, but {sorted(known)}")
        values[name] = tuple(value) if isinstance(value, list) else value
    missing = [name for name, one in known.items()
               if one.default is MISSING and one.default_factory is MISSING and name not in values]
    if missing:
        raise Mistake(f"{kind.__name__} needs {missing}: {table}")
    return kind(**values)
