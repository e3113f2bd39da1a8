"""Plays a scenario: a disk, a hub and a machine of its own, then one step after the other."""

import json
import random
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from . import hub as hubs
from .blackouts import Blackouts
from .chain import Chain
from .denials import denials, lost
from .disk import make_disk, make_image, sha256
from .hub import Hub
from .machine import Machine, Moment, Rebooted, Unexpected
from .operator import TRUST, Operator
from .scenario import (Boots, Console, Cut, Cuts, Denied, Journal, Reported, Run, Scenario, Sent, Step, Stick, Truth,
                       Wish)
from .stick import make_stick
from .tool import tool
from .truth import booted, disagreement
from .volatile import Trap


@dataclass(frozen=True)
class Kit:
    """What all scenarios on a chain share."""

    chain: Chain
    built: Path
    """What the chain has built."""
    systems: dict[str, Path]
    """File systems by the names of SYSTEMS."""
    files: dict[str, Path]
    """Where FILES are, but for the connection string, which each hub has of its own."""
    emulator: Path
    fleet: Path
    """The operator's tool."""
    hub_state: Path


class Play:
    """A scenario that is being played. Its `with` takes everything away again but the logs."""

    def __init__(self, kit: Kit, scenario: Scenario, logs: Path, seed: str) -> None:
        self.kit, self.scenario, self.logs, self.chain = kit, scenario, logs, kit.chain
        # Every cut of the power draws from this.
        self.seed, self.chance = seed, random.Random(seed)
        self.cuts: list[str] = []
        """Each cut, in words."""
        self._slot = ""
        self._operator: Operator | None = None
        self._sent = 0
        """How many requests the image server had had at the last wish."""
        # By what they hold: the same one comes back.
        self._sticks: dict[tuple[tuple[str, ...], ...], Path] = {}
        # What steps that read on have read.
        self._read = Moment(0, 0)
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        self._work = tempfile.TemporaryDirectory(prefix="lab-", dir=logs)
        self.work = Path(self._work.name)
        (self.work / "served").mkdir()
        state = hubs.copy_of(kit.hub_state, self.work / "hub")
        self.hub = Hub(kit.emulator, state, logs / "hub.log", images=self.work / "served")
        self.machine = Machine(kit.chain, kit.built, self.work / "disk", logs, scenario.processors)

    def __enter__(self) -> "Play":
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.cut_power()
        self.hub.stop()
        self._work.cleanup()

    def play(self) -> None:
        """From the beginning to the end.

        Raises Unexpected at the first step that does not go as it should."""
        self.tell(f"{self.scenario.name} on {self.chain.name}, seed {self.seed}")
        self._prepare()
        for number, step in enumerate(self.scenario.steps, 1):
            began = time.monotonic(), self.machine.processor_seconds()
            try:
                self._do(step)
            except Unexpected as error:
                wrong = f"step {number}, {step.told()}: {error}"
                self.tell(f"FAILED: {wrong}")
                raise Unexpected(wrong) from None
            wall, used = time.monotonic() - began[0], self.machine.processor_seconds() - began[1]
            self.tell(f"{number}. {step.told()}: {wall:.1f} s, {used:.1f} s of processor")

    def tell(self, line: str) -> None:
        """Adds to the story as it went."""
        with (self.logs / "steps.log").open("a", encoding="utf-8") as steps:
            print(line, file=steps)

    def _prepare(self) -> None:
        string = self.work / "connection-string"
        string.write_text(self.hub.connection_string() + "\n", encoding="utf-8")
        data = self.work / "data"
        data.mkdir(mode=0o700)
        # Who a gateway is was laid down in the factory, where both slots find it. A fresh system has to be told.
        if self.scenario.images[self.scenario.a].system == "gateway":
            (data / "credentials").mkdir(mode=0o700)
            shutil.copy(string, data / "credentials" / string.name)
            (data / "credentials" / string.name).chmod(0o600)
        make_disk(self.chain, self.kit.built, self.work, {"a": self._image(self.scenario.a)}, data)

    def _image(self, name: str) -> Path:
        image, place = self.scenario.images[name], self.work / f"{name}.ext4"
        if image.trusts:
            image = replace(image, copies={"/etc/twinboot/keys.d/root.pem": "root.pem"} | image.copies,
                            files={"/etc/twinboot/conf.d/45-trust.toml": TRUST} | image.files)
        if image.system == "gateway" and self.chain.configuration:
            image = replace(image, files={"/etc/twinboot/conf.d/40-boot.toml": self.chain.configuration} | image.files)
        files = self.kit.files | {"connection-string": self.work / "connection-string"}
        if "root.pem" in image.copies.values():
            files["root.pem"] = self.operator().root()
        make_image(self.kit.systems[image.system], image, files, place)
        return place

    def operator(self) -> Operator:
        """Who signs bundles for this machine."""
        if self._operator is None:
            self._operator = Operator(self.kit.fleet, self.work / "operator")
        return self._operator

    # -- steps

    def _do(self, step: Step) -> None:
        match step:
            case Boots():
                self._boots(step)
            case Run():
                self._run(step)
            case Wish():
                self._wish(step)
            case Reported():
                self._wait(step.limit, lambda: self._reported(step))
            case Journal():
                self._wait(step.limit, lambda: self._journal(step))
            case Console():
                self._wait(step.limit, lambda: self._console(step))
            case Truth():
                self._wait(step.limit, lambda: self._truth(step))
            case Cut():
                self._cut(step)
            case Cuts():
                Blackouts(self, step).play()
            case Sent():
                self._share(step)
            case Stick():
                self._stick(step)
            case Denied():
                self._denied(step)

    def _boots(self, step: Boots) -> None:
        self.up(step.limit)
        if self._slot != step.boots:
            raise Unexpected(f"slot {self._slot} came up")
        if step.well:
            state = self._must("systemctl is-system-running --wait || systemctl --failed --no-legend")
            if state != "running\n":
                raise Unexpected(f"it came up, but not well: {state}")

    def up(self, limit: float = 900) -> str:
        """Waits until it has come up once more, switched on if it is off: the slot."""
        if not self.machine.is_on():
            self.machine.power_on()
        self.machine.next_boot(limit)
        self._slot = booted(self.machine)
        return self._slot

    def settle(self, slot: str) -> None:
        """Takes note of boots that nobody has waited for, the last of them from this slot."""
        self._slot = slot
        while not self.machine.boots.empty():
            self.machine.boots.get_nowait()

    def _must(self, script: str) -> str:
        status, said = self.machine.run(script)
        if status != 0:
            raise Unexpected(f"exit status {status} of {script}\n{said}")
        return said

    def _run(self, step: Run) -> None:
        def attempt() -> str | None:
            try:
                status, said = self.machine.run(f"set -eu\n{step.run}", step.limit)
            except Rebooted:
                if step.until:
                    return "it rebooted"
                raise
            for line in said.splitlines():
                self.tell(f"    {line}")
            missing = [pattern for pattern in step.prints if not re.search(pattern, said, re.MULTILINE)]
            present = [pattern for pattern in step.never if re.search(pattern, said, re.MULTILINE)]
            if status == step.status and not missing and not present:
                return None
            return f"exit status {status}, missing {missing}, unwanted {present}:\n{said}"

        if step.until:
            self._wait(step.limit, attempt)
        elif (wrong := attempt()) is not None:
            raise Unexpected(wrong)

    def _wish(self, step: Wish) -> None:
        self.wish(step.wish, step.job, step.bundle)

    def wish(self, name: str, job: str = "", bundle: int = 0) -> None:
        """The hub wants an image, as a bundle with this rollback index if it is not 0; the slot it goes to is empty, so
        that what was there cannot pass for it."""
        firmware = self._bundle(name, bundle) if bundle else self._plain(name)
        self.machine.wipe(f"rootfs-{'b' if self._slot == 'a' else 'a'}")
        self._sent = self.hub.requests()
        self.hub.wish(firmware | ({"jobId": job} if job else {}))

    def _plain(self, name: str) -> dict[str, Any]:
        """What the hub wants of an image as it is, which the image server has after this."""
        served = self.work / "served" / f"{name}.zst"
        if not served.exists():
            image = self._image(name)
            tool("zstd", "--quiet", "-3", "--threads=0", "-o", served, image)
            image.unlink()
        return {"fwVersion": self.scenario.images[name].version, "fwPackageURI": self.hub.address(served.name),
                "fwPackageCheckValue": f"sha256:{sha256(served)}", "fwSize": served.stat().st_size}

    def _bundle(self, name: str, index: int) -> dict[str, Any]:
        """The same of a signed bundle, as the operator's tool tells it."""
        served, told = self.work / "served" / f"{name}-{index}.twb", self.work / f"{name}-{index}.json"
        if not served.exists():
            image = self._image(name)
            firmware = self.operator().bundle(image, self.scenario.images[name].version, index, served,
                                              self.hub.address(served.name))
            told.write_text(json.dumps(firmware), encoding="utf-8")
            image.unlink()
        return dict(json.loads(told.read_text(encoding="utf-8")))

    def _share(self, step: Sent) -> None:
        bundles = sorted((self.work / "served").glob(f"{step.sent}-*.twb"))
        if not bundles:
            raise Unexpected("there is no bundle of it")
        sent = sum(self.hub.sent(bundle.name, self._sent) for bundle in bundles)
        share = sent / max(bundle.stat().st_size for bundle in bundles)
        self.tell(f"    {sent} bytes were sent, {share:.1%}")
        if not step.least <= share <= step.most:
            raise Unexpected(f"{sent} bytes were sent of it, {share:.1%}")

    def _stick(self, step: Stick) -> None:
        self.machine.unplug()
        if step.stick == "out":
            return
        holds = step.bundles, step.strangers, step.plain
        if holds not in self._sticks:
            self._sticks[holds] = self._made_stick(step, self.work / f"stick-{len(self._sticks)}")
        self.machine.plug(self._sticks[holds], step.rate)

    def _made_stick(self, step: Stick, stick: Path) -> Path:
        versions = self.scenario.images
        files = stick.with_suffix(".files")
        files.mkdir()
        signed = [(name, self.operator()) for name in step.bundles]
        if step.strangers:
            stranger = Operator(self.kit.fleet, stick.with_suffix(".stranger"))
            signed += [(name, stranger) for name in step.strangers]
        for index, (name, operator) in enumerate(signed, 1):
            image = self._image(name)
            operator.bundle(image, versions[name].version, index, files / f"{name}.twb")
            image.unlink()
        for name in step.plain:
            self._image(name).rename(files / f"{name}.ext4")
        make_stick(files, stick)
        shutil.rmtree(files)
        return stick

    def _reported(self, step: Reported) -> str | None:
        reported = self.hub.reported().get("firmware", {})
        wrong = {name for name, value in step.reported.items() if reported.get(name, "") != value}
        return f"{sorted(wrong)} differ in {reported}" if wrong else None

    def _journal(self, step: Journal) -> str | None:
        entries, at = self.machine.journal(), self._read.journal
        for wanted in step.journal:
            at = next((number + 1 for number in range(at, len(entries)) if _is_ours(entries[number]) and all(
                re.search(pattern, str(entries[number].get(name, ""))) for name, pattern in wanted.items())), 0)
            if at == 0:
                return f"no entry after the one before has {wanted}"
        self._read = Moment(self._read.console, at)
        return None

    def _console(self, step: Console) -> str | None:
        text, at = self.machine.console(), self._read.console
        for pattern in step.console:
            found = re.compile(pattern, re.MULTILINE).search(text, at)
            if found is None:
                return f"no line after the one before has {pattern!r}"
            at = found.end()
        self._read = Moment(at, self._read.journal)
        return None

    def _truth(self, step: Truth) -> str | None:
        wrong, status = disagreement(self.chain, self.machine, self.hub)
        if wrong is not None:
            return wrong
        last = status["last"] or {}
        said = [("phase", "idle", status["phase"]), ("slot", step.truth, status["booted"]),
                ("default", step.truth, status["default"]), ("trial", None, status["trial"]),
                ("outcome", step.outcome or last.get("outcome"), last.get("outcome")),
                ("code", step.code or last.get("code"), last.get("code"))]
        return "; ".join(f"{what} is {is_!r}, not {wanted!r}" for what, wanted, is_ in said if wanted != is_) or None

    def _cut(self, step: Cut) -> None:
        if step.cut != "now":
            self.trapped(step.cut, step.number, step.part, step.limit)
        self.tell(f"    {self.machine.cut_power(self.chance)}")

    def trapped(self, kind: str, number: int, part: str, limit: float) -> bool:
        """Waits until the disk has seen so many writes or flushes; then it answers no more. Whether that came."""
        name = part if part != "target" else f"rootfs-{'b' if self._slot == 'a' else 'a'}"
        trap = Trap(kind, number, lambda offset: not name or self.chain.is_in(name, offset))
        if self.machine.disk is None:
            raise Unexpected("the machine is off")
        self.machine.disk.set(trap)
        return trap.sprung.wait(limit)

    def _denied(self, step: Denied) -> None:
        # What was denied until now is in the journal before this line is.
        mark = f"lab-{time.monotonic_ns()}"
        self._must(f"echo {mark} > /dev/kmsg; auditctl -m {mark}")
        self._wait(60, lambda: None if any(mark in str(entry.get("MESSAGE")) and entry.get("_TRANSPORT") == "audit"
                                           for entry in self.machine.journal()) else "no mark in the journal")
        entries = self.machine.journal()
        if dropped := lost(entries):
            raise Unexpected(f"records of the kernel were lost: {dropped}")
        found = [one for one in denials(entries, self.chain.system_calls())
                 if not any(re.search(pattern, one) for pattern in self.chain.harmless)]
        missing = [pattern for pattern in step.denied if not any(re.search(pattern, one) for one in found)]
        unwanted = [one for one in found if not any(re.search(pattern, one) for pattern in step.denied)]
        if missing or unwanted:
            raise Unexpected(f"not denied: {missing}; denied: {sorted(set(unwanted))} ({len(unwanted)} times)")

    @staticmethod
    def _wait(limit: float, wrong: Callable[[], str | None]) -> None:
        """Until nothing is wrong any more."""
        end = time.monotonic() + limit
        while (why := wrong()) is not None:
            if time.monotonic() > end:
                raise Unexpected(f"still so after {limit:.0f} s: {why}")
            time.sleep(0.5)


def _is_ours(entry: dict[str, object]) -> bool:
    return str(entry.get("_SYSTEMD_UNIT", "")).startswith("twinboot")
