"""One virtual machine: QEMU's process, its serial console, and the lab's hand in it (the agent in guest/)."""

import base64
import json
import os
import queue
import random
import signal
import socket
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from . import monitor
from .chain import Chain
from .stick import Stick
from .tool import tool
from .volatile import BLOCK, SECTOR, Disk

MEMORY = 512


class Unexpected(Exception):
    """The machine did not do what it should."""


class Rebooted(Unexpected):
    """The machine started anew while it had something to answer."""


class Machine:
    """A machine that lives as long as this object's `with`."""

    def __init__(self, chain: Chain, built: Path, image: Path, logs: Path, processors: int = 1) -> None:
        self.chain, self.built, self.image, self.logs, self.processors = chain, built, image, logs, processors
        self.disk: Disk | None = None
        """What it writes to, as long as it has power."""
        self._sockets: tempfile.TemporaryDirectory[str] | None = None
        self.boots: queue.Queue[str] = queue.Queue()
        """Boot ids, of boots that came as far as the lab's hand and that nobody has asked about."""
        self._entries: list[dict[str, object]] = []
        self._read = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._used = 0.0
        self._number = 0
        self._answers: queue.Queue[tuple[int, int, str] | Exception] = queue.Queue()
        self._control: socket.socket | None = None
        self._stick: Stick | None = None

    def __enter__(self) -> "Machine":
        return self

    def __exit__(self, *_: object) -> None:
        self.cut_power()

    # -- power

    def is_on(self) -> bool:
        """Whether it has power."""
        return self._process is not None

    def power_on(self) -> None:
        """Starts it."""
        self._sockets = tempfile.TemporaryDirectory(prefix="lab-")
        self.disk = Disk(self.image, f"{self._sockets.name}/disk", self._atomic)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(f"{self._sockets.name}/control")
        listener.listen(1)
        listener.settimeout(60)
        errors = open(self.logs / "qemu.log", "ab")
        self._process = subprocess.Popen(self.command(self._sockets.name), stdin=subprocess.DEVNULL, stdout=errors,
                                         stderr=errors)
        errors.close()
        try:
            self._control, _ = listener.accept()
        except TimeoutError:
            said = (self.logs / "qemu.log").read_text(errors="replace")[-1000:]
            raise Unexpected(f"QEMU does not start: {said}") from None
        finally:
            listener.close()
        self._control.settimeout(None)
        threading.Thread(target=self._listen, args=(self._control,), daemon=True).start()

    def command(self, sockets: str) -> list[str]:
        """QEMU's command line. It dies with us, however we die."""
        return [
            "setpriv", "--pdeathsig", "KILL", *self.chain.machine, "-m", str(MEMORY), "-nodefaults", "-display", "none",
            "-smp", str(self.processors), *self.chain.firmware(self.built),
            "-blockdev", f"driver=nbd,node-name=disk,server.type=unix,server.path={sockets}/disk,export=",
            "-device", self.chain.drive,
            "-netdev", "user,id=net,restrict=off", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"file,id=console,path={self.logs / 'console.log'},append=on", "-serial", "chardev:console",
            "-chardev", f"socket,id=control,path={sockets}/control",
            "-chardev", f"file,id=journal,path={self.logs / 'journal.json'},append=on",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=control,name=lab.control",
            "-device", "virtserialport,chardev=journal,name=lab.journal",
            # Where sticks are plugged in, and who does it.
            "-device", "virtio-scsi-pci,id=ports", "-qmp", f"unix:{sockets}/monitor,server=on,wait=off",
            *(self._stick.arguments() if self._stick is not None else []),
        ]

    # -- a stick

    def plug(self, image: Path, rate: int) -> None:
        """Puts a stick in that gives so many KiB in a second, or as many as it can; it stays in over power cuts."""
        self._stick = Stick(image, rate)
        self._change(self._stick.plugging())

    def unplug(self) -> None:
        """Pulls it out, if there is one."""
        if self._stick is not None:
            self._change(self._stick.pulling())
        self._stick = None

    def _change(self, commands: list[monitor.Command]) -> None:
        """Of a machine that is on."""
        if self._sockets is None:
            return
        try:
            monitor.ask(f"{self._sockets.name}/monitor", commands)
        except (monitor.Refused, OSError, ValueError) as error:
            raise Unexpected(f"QEMU's monitor: {error}") from None

    def _atomic(self, offset: int) -> int:
        """What a disk writes whole. Where the loader's variables are, one that is worse than most."""
        is_loaders = any(self.chain.is_in(part, offset) for part in self.chain.parts_of_loader)
        return SECTOR if is_loaders else BLOCK

    def cut_power(self, chance: random.Random | None = None) -> str:
        """The plug is pulled; with `chance`, what was not flushed may be lost. What became of it, in words."""
        if self._process is not None:
            # One that ended by itself has been waited for.
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGKILL)
                _, _, used = os.wait4(self._process.pid, 0)
                self._process.returncode = -signal.SIGKILL
                self._used += used.ru_utime + used.ru_stime
            self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None
        story = "it was off"
        if self.disk is not None:
            kept, lost = self.disk.off(chance)
            story = f"{kept} sectors kept and {lost} lost of what was not flushed"
            self.disk = None
        if self._sockets is not None:
            self._sockets.cleanup()
            self._sockets = None
        # Whoever came up before has gone.
        self.boots = queue.Queue()
        return story

    def durable(self, part: str, offset: int, length: int) -> bytes:
        """What a partition holds that no cut can take away any more."""
        with self.image.open("rb") as image:
            image.seek(self.chain.start_of(part) + offset)
            return image.read(length)

    def wipe(self, part: str) -> None:
        """A partition is empty, as from the factory: what was there cannot pass for what is written next."""
        tool("fallocate", "--punch-hole", "--offset", str(self.chain.start_of(part)), "--length",
             str(self.chain.size_of(part)), self.image)

    def processor_seconds(self) -> float:
        """What it has cost the host."""
        if self._process is None:
            return self._used
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
        return self._used + (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # -- the lab's hand

    def run(self, script: str, limit: float = 300) -> tuple[int, str]:
        """Runs a script of bash in the machine: exit status, and what it wrote."""
        if self._control is None:
            raise Unexpected("the machine is off")
        self._number += 1
        self._control.sendall(f"{self._number} {base64.b64encode(script.encode()).decode()}\n".encode())
        end = time.monotonic() + limit
        while True:
            try:
                answer = self._answers.get(timeout=max(0, end - time.monotonic()))
            except queue.Empty:
                raise Unexpected(f"no answer within {limit:.0f} s to: {script}") from None
            if isinstance(answer, Exception):
                raise answer
            number, status, said = answer
            if number == self._number:
                return status, said

    def next_boot(self, limit: float = 900) -> str:
        """Waits until it has come up once more; the boot's id."""
        end = time.monotonic() + limit
        while time.monotonic() < end:
            try:
                return self.boots.get(timeout=1)
            except queue.Empty:
                if self._process is not None and self._process.poll() is not None:
                    raise Unexpected(f"QEMU ended, see {self.logs / 'qemu.log'}") from None
        raise Unexpected(f"the machine does not come up within {limit:.0f} s")

    def _listen(self, control: socket.socket) -> None:
        try:
            with control.makefile("r", encoding="ascii", errors="replace") as lines:
                for line in lines:
                    self._take(line.split())
        except (OSError, ValueError):
            pass
        self._answers.put(Unexpected("the machine is off"))

    def _take(self, words: list[str]) -> None:
        match words:
            case ["up", boot]:
                # Whatever was asked before it died, or before this start of its hand, nobody will answer.
                self._answers.put(Rebooted("the machine started anew"))
                self._answers = queue.Queue()
                self.boots.put(boot)
            case [number, status, *said]:
                # apt writes as to a terminal.
                text = base64.b64decode("".join(said)).decode(errors="replace").replace("\r\n", "\n")
                self._answers.put((int(number), int(status), text))
            case _:
                pass

    # -- what it wrote

    def console(self) -> str:
        """Everything on the serial console so far."""
        path = self.logs / "console.log"
        return path.read_text(encoding="utf-8", errors="replace").replace("\r", "") if path.exists() else ""

    def journal(self) -> list[dict[str, object]]:
        """The journal of every boot so far, as far as it was written out: an object for each entry."""
        path = self.logs / "journal.json"
        if path.exists():
            with path.open("rb") as file:
                file.seek(self._read)
                lines = file.read().split(b"\n")
            # The last one is empty, or still on its way.
            for line in lines[:-1]:
                self._read += len(line) + 1
                try:
                    self._entries.append(json.loads(line))
                except ValueError:
                    # Cut off by the power.
                    continue
        return self._entries

    def now(self) -> "Moment":
        """How much has been written until now."""
        return Moment(len(self.console()), len(self.journal()))


@dataclass(frozen=True)
class Moment:
    """A point in the machine's life: how much it had written."""

    console: int
    """Characters."""
    journal: int
    """Entries."""
