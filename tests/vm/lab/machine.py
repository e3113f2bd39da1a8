"""One virtual machine: QEMU's process, its serial console, and the lab's hand in it (the agent in guest/)."""

import base64
import json
import os
import queue
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

# As a small gateway: a Cortex-A53, which QEMU knows with its instructions for AES and SHA-2.
MACHINE = ["qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a53", "-accel", "tcg,thread=multi,tb-size=256",
           "-m", "512", "-nodefaults", "-display", "none"]


class Unexpected(Exception):
    """The machine did not do what it should."""


class Rebooted(Unexpected):
    """The machine started anew while it had something to answer."""


class Machine:
    """A machine that lives as long as this object's `with`."""

    def __init__(self, loader: Path, disk: Path, logs: Path, processors: int = 2) -> None:
        self.loader, self.disk, self.logs, self.processors = loader, disk, logs, processors
        self.boots: queue.Queue[str] = queue.Queue()
        """Boot ids, of boots that came as far as the lab's hand and that nobody has asked about."""
        self._process: subprocess.Popen[bytes] | None = None
        self._used = 0.0
        self._number = 0
        self._answers: queue.Queue[tuple[int, int, str] | Exception] = queue.Queue()
        self._control: socket.socket | None = None

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
        with tempfile.TemporaryDirectory(prefix="lab-") as short:
            path = f"{short}/control"
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(1)
            listener.settimeout(60)
            errors = open(self.logs / "qemu.log", "ab")
            self._process = subprocess.Popen(self.command(path), stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
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

    def command(self, control: str) -> list[str]:
        """QEMU's command line. It dies with us, however we die."""
        return [
            "setpriv", "--pdeathsig", "KILL", *MACHINE, "-smp", str(self.processors), "-bios", str(self.loader),
            # The host keeps what it was given, synced or not, and need not wait for disks of its own.
            "-blockdev", f"driver=file,node-name=file,filename={self.disk},cache.no-flush=on",
            "-blockdev", "driver=raw,node-name=disk,file=file,cache.no-flush=on",
            "-device", "nvme,drive=disk,serial=lab",
            "-netdev", "user,id=net,restrict=off", "-device", "virtio-net-pci,netdev=net,romfile=",
            "-chardev", f"file,id=console,path={self.logs / 'console.log'},append=on", "-serial", "chardev:console",
            "-chardev", f"socket,id=control,path={control}",
            "-chardev", f"file,id=journal,path={self.logs / 'journal.json'},append=on",
            "-device", "virtio-serial-pci",
            "-device", "virtserialport,chardev=control,name=lab.control",
            "-device", "virtserialport,chardev=journal,name=lab.journal",
        ]

    def cut_power(self) -> None:
        """The plug is pulled. What the disk was given it has: the host does not forget."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            _, _, used = os.wait4(self._process.pid, 0)
            self._process.returncode = -signal.SIGKILL
            self._used += used.ru_utime + used.ru_stime
            self._process = None
        if self._control is not None:
            self._control.close()
            self._control = None

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
        return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""

    def journal(self) -> list[dict[str, object]]:
        """The journal of every boot so far, as far as it was written out: an object for each entry."""
        entries = []
        path = self.logs / "journal.json"
        for line in path.read_bytes().split(b"\n") if path.exists() else []:
            try:
                entries.append(json.loads(line))
            except ValueError:
                # Cut off by the power, or still on its way.
                continue
        return entries
