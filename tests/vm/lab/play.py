"""Plays a scenario: a disk, a hub and a machine of its own, then one step after the other."""

import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import hub as hubs
from .denials import denials, lost
from .disk import make_disk, make_image, sha256
from .hub import Hub
from .machine import Machine, Rebooted, Unexpected
from .scenario import Boots, Denied, Journal, Reported, Run, Scenario, Step, Wish
from .tool import tool


@dataclass(frozen=True)
class Kit:
    """What all scenarios share."""

    loader: Path
    systems: dict[str, Path]
    """File systems by the names of SYSTEMS."""
    files: dict[str, Path]
    """Where FILES are, but for the connection string, which each hub has of its own."""
    emulator: Path
    hub_state: Path


class Play:
    """A scenario that is being played. Its `with` takes everything away again but the logs."""

    def __init__(self, kit: Kit, scenario: Scenario, logs: Path) -> None:
        self.kit, self.scenario, self.logs = kit, scenario, logs
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        self._work = tempfile.TemporaryDirectory(prefix="lab-", dir=logs)
        self.work = Path(self._work.name)
        (self.work / "served").mkdir()
        state = hubs.copy_of(kit.hub_state, self.work / "hub")
        self.hub = Hub(kit.emulator, state, logs / "hub.log", images=self.work / "served")
        self.machine = Machine(kit.loader, self.work / "disk", logs, scenario.processors)

    def __enter__(self) -> "Play":
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.cut_power()
        self.hub.stop()
        self._work.cleanup()

    def play(self) -> None:
        """From the beginning to the end.

        Raises Unexpected at the first step that does not go as it should."""
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
        make_disk(self.work / "disk", self.work, {"a": self._image(self.scenario.a)}, data)

    def _image(self, name: str) -> Path:
        image, place = self.scenario.images[name], self.work / f"{name}.ext4"
        files = self.kit.files | {"connection-string": self.work / "connection-string"}
        make_image(self.kit.systems[image.system], image, files, place)
        return place

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
            case Denied():
                self._denied(step)

    def _boots(self, step: Boots) -> None:
        if not self.machine.is_on():
            self.machine.power_on()
        self.machine.next_boot(step.limit)
        line = self._must("cat /proc/cmdline")
        if f"root=PARTLABEL=rootfs-{step.boots} " not in line:
            raise Unexpected(f"it came up with {line}")
        if step.well:
            state = self._must("systemctl is-system-running --wait || systemctl --failed --no-legend")
            if state != "running\n":
                raise Unexpected(f"it came up, but not well: {state}")

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
        image = self._image(step.wish)
        served = self.work / "served" / f"{step.wish}.zst"
        tool("zstd", "--quiet", "-3", "--threads=0", "-o", served, image)
        image.unlink()
        firmware: dict[str, Any] = {
            "fwVersion": self.scenario.images[step.wish].version, "fwPackageURI": self.hub.address(served.name),
            "fwPackageCheckValue": f"sha256:{sha256(served)}", "fwSize": served.stat().st_size}
        self.hub.wish(firmware | ({"jobId": step.job} if step.job else {}))

    def _reported(self, step: Reported) -> str | None:
        reported = self.hub.reported().get("firmware", {})
        wrong = {name for name, value in step.reported.items() if reported.get(name, "") != value}
        return f"{sorted(wrong)} differ in {reported}" if wrong else None

    def _journal(self, step: Journal) -> str | None:
        messages = (str(entry.get("MESSAGE")) for entry in self.machine.journal()
                    if str(entry.get("_SYSTEMD_UNIT", "")).startswith("twinboot"))
        for pattern in step.journal:
            if not any(re.search(pattern, message) for message in messages):
                return f"no line after the one before has {pattern!r}"
        return None

    def _denied(self, step: Denied) -> None:
        # What was denied until now is in the journal before this line is.
        mark = f"lab-{time.monotonic_ns()}"
        self._must(f"echo {mark} > /dev/kmsg; auditctl -m {mark}")
        self._wait(60, lambda: None if any(mark in str(entry.get("MESSAGE")) and entry.get("_TRANSPORT") == "audit"
                                           for entry in self.machine.journal()) else "no mark in the journal")
        entries = self.machine.journal()
        if dropped := lost(entries):
            raise Unexpected(f"records of the kernel were lost: {dropped}")
        found = denials(entries)
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
