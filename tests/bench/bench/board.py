"""A gateway of loop devices with the real daemon: both of its processes, started as systemd starts them.

The loader is played: one boot of a trial, and its variables, are all that a bench needs.
"""

import json
import os
import select
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from .place import HOME, ROOT, Trouble, programs

ENVIRONMENT = 0x4000
# Bytes of a slot that is a file.
SLOT = 256 << 20
FACTORY = {"slot": "a", "upgrade_available": "0", "bootcount": "0", "bootlimit": "3"}
# The shipped defaults, but for names and places, and for a pause that would be a part of what is measured.
CONFIGURATION = """
[hub]
connection_string_file = "{home}/connection-string"
transport = "mqtt"
[tls]
ca_files = [{authorities}]
system_roots = false
[slots]
a = "{a}"
b = "{b}"
[boot]
fw_env_config = "{home}/fw_env.config"
[download]
backoff = ["100ms", "1s"]
[trust]
keys = "{home}/keys.d"
[health]
directory = "{home}/health.d"
[hooks]
directory = "{home}/hooks.d"
[control]
socket = "{home}/control.sock"
[state]
directory = "{home}/state"
[simulator]
root = "{home}/machine"
"""


class Board:
    """One gateway, switched off at first. Nothing of it is left afterwards."""

    def __init__(self, profile: str, authorities: list[Path], connection: str,
                 slots: tuple[str, str] | None = None, watchdog: float = 0) -> None:
        """Without `slots` it has two files for them. With a `watchdog` it has to be fed within so many seconds."""
        # As on a device, what it keeps is on a disk.
        self._directory = tempfile.TemporaryDirectory(prefix="board-", dir=HOME)
        self.home = Path(self._directory.name)
        self._program = programs(profile) / "twinboot"
        slots = slots or self._files()
        self._slots = dict(zip("ab", slots, strict=True))
        self._watchdog = Watchdog(self.home / "notify.sock", watchdog) if watchdog else None
        for name in ("state", "health.d", "hooks.d", "keys.d", "machine/etc", "machine/proc/sys/kernel/random"):
            (self.home / name).mkdir(parents=True, mode=0o755)
        for name in ("env0", "env1"):
            (self.home / name).write_bytes(environment(FACTORY, 1 if name == "env0" else 0))
        places = "".join(f"{self.home}/{name} 0 {ENVIRONMENT:#x}\n" for name in ("env0", "env1"))
        (self.home / "fw_env.config").write_text(places, encoding="utf-8")
        string = self.home / "connection-string"
        string.touch(mode=0o600)
        string.write_text(connection + "\n", encoding="utf-8")
        authorities = [shutil.copy(file, self.home / f"authority{number}.pem") for number, file in enumerate(authorities)]
        text = CONFIGURATION.format(home=self.home, a=slots[0], b=slots[1],
                                    authorities=", ".join(f'"{file}"' for file in authorities))
        (self.home / "twinboot.toml").write_text(text, encoding="utf-8")
        self._device: subprocess.Popen | None = None
        self._network: subprocess.Popen | None = None
        self._off = threading.Event()
        self._listener: socket.socket | None = None
        self._boot("1")

    def _files(self) -> tuple[str, str]:
        slots = self.home / "slot-a", self.home / "slot-b"
        for slot in slots:
            slot.touch()
            os.truncate(slot, SLOT)
        return str(slots[0]), str(slots[1])

    def __enter__(self) -> "Board":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._directory.cleanup()

    def start(self) -> None:
        """Starts the daemon; its network side begins when it is asked for."""
        self._off.clear()
        path = self.home / "net.sock"
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._activator = threading.Thread(target=self._activate)
        self._activator.start()
        told = shipped("twinboot.service") | (self._watchdog.environment if self._watchdog else {})
        self._device = self._spawn("--config", self.home / "twinboot.toml", "run", "--net", path, environment=told)

    def _spawn(self, *arguments: str | Path, stdin: socket.socket | int = subprocess.DEVNULL,
               environment: dict[str, str] | None = None) -> subprocess.Popen:
        with (self.home / "log").open("a", encoding="utf-8") as log:
            return subprocess.Popen([self._program, *arguments], stdin=stdin, stdout=log, stderr=log,
                                    env={"PATH": "/usr/bin:/bin", **(environment or {})})

    def _activate(self) -> None:
        """What a socket unit does: who connects finds somebody."""
        while not self._off.is_set():
            if self._network and self._network.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    self._network.wait(0.1)
            elif select.select([self._listener], [], [], 0.1)[0]:
                self._network = self._spawn("net", stdin=self._listener, environment=shipped("twinboot-net.service"))

    def cut(self) -> None:
        """The power goes."""
        self._off.set()
        if self._device:
            self._activator.join()
            self._listener.close()
            for process in (self._device, self._network):
                if process:
                    process.kill()
                    process.wait()
        self._device = self._network = None

    def hunger(self) -> float:
        """The most seconds for which the watchdog was not fed."""
        return self._watchdog.hunger()

    def processes(self) -> list[int]:
        """Those of the daemon that run."""
        alive = [one.pid for one in (self._device, self._network) if one and one.poll() is None]
        if self._device and self._device.pid not in alive:
            raise Trouble(f"the daemon has ended: {self.log()}")
        return alive

    def log(self) -> str:
        """The end of what the daemon said."""
        return (self.home / "log").read_text(encoding="utf-8", errors="replace")[-2000:]

    def ask(self, **request: object) -> dict:
        """Asks at the control socket."""
        with self._control(30) as stream:
            stream.write(json.dumps(request).encode() + b"\n")
            stream.flush()
            answer = json.loads(stream.readline())
        if not answer["ok"]:
            raise Trouble(f"{request}: {answer}")
        return answer

    def wait(self, what: str, limit: float, wanted: Callable[[dict], bool]) -> dict:
        """Waits for a status; it is told with every change of it."""
        deadline = time.monotonic() + limit
        status: dict = {}
        with suppress(TimeoutError), self._control(limit) as stream:
            stream.write(b'{"request":"watch"}\n')
            stream.flush()
            for line in stream:
                status = json.loads(line).get("status") or {}
                if status and wanted(status):
                    return status
                if time.monotonic() > deadline:
                    break
        raise Trouble(f"waited {limit} s for {what}: {json.dumps(status)}\n{self.log()}")

    def wait_connected(self, limit: float = 30) -> None:
        """Waits until the hub is reached."""
        self.wait("the hub", limit, lambda status: status["hub"]["connected"])

    def _control(self, limit: float):
        deadline = time.monotonic() + limit
        while True:
            try:
                with socket.socket(socket.AF_UNIX) as one:
                    one.settimeout(limit)
                    one.connect(str(self.home / "control.sock"))
                    return one.makefile("rwb")
            except (FileNotFoundError, ConnectionRefusedError):
                self.processes()
                if time.monotonic() > deadline:
                    raise Trouble(f"no control socket: {self.log()}") from None
                time.sleep(0.005)

    def reboot(self, version: str, limit: float = 60) -> None:
        """Waits until a reboot is wanted, and has the loader choose; its system is called so."""
        wish = self.home / "machine/reboot-requested"
        deadline = time.monotonic() + limit
        while not wish.exists():
            self.processes()
            if time.monotonic() > deadline:
                raise Trouble(f"no reboot is asked for: {self.log()}")
            time.sleep(0.02)
        self.cut()
        wish.unlink()
        self._boot(version)
        self.start()

    def _boot(self, version: str) -> None:
        """Makes the machine's files say what the chosen slot's kernel would say."""
        copies = [(self.home / name).read_bytes() for name in ("env0", "env1")]
        newest = max(copies, key=lambda copy: copy[4])
        pairs = (text.split("=", 1) for text in newest[5:].split(b"\0\0")[0].decode().split("\0"))
        variables = dict(pairs)
        if variables["upgrade_available"] != "0":
            variables["bootcount"] = str(int(variables["bootcount"]) + 1)
            oldest = self.home / ("env0" if newest is copies[1] else "env1")
            oldest.write_bytes(environment(variables, newest[4] + 1))
        machine, now = self.home / "machine", time.clock_gettime(time.CLOCK_BOOTTIME)
        for name, text in (("proc/cmdline", f"root={self._slots[variables['slot']]} ro"), ("booted-at", f"{now:.9f}"),
                           ("proc/sys/kernel/random/boot_id", str(uuid.uuid4())),
                           ("etc/os-release", f"NAME=bench\nIMAGE_VERSION={version}")):
            (machine / name).write_text(text + "\n", encoding="utf-8")


def shipped(unit: str) -> dict[str, str]:
    """The environment that a unit of the package sets."""
    lines = (ROOT / "systemd" / unit).read_text(encoding="utf-8").splitlines()
    words = (line.removeprefix("Environment=").split() for line in lines if line.startswith("Environment="))
    return dict(word.split("=", 1) for line in words for word in line)


class Watchdog:
    """The service manager's watchdog, which bites nobody."""

    def __init__(self, path: Path, seconds: float) -> None:
        self.environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": str(int(seconds * 1e6))}
        self._fed: list[float] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        while said := self._socket.recv(4096):
            if b"WATCHDOG=1" in said.split(b"\n"):
                self._fed.append(time.monotonic())

    def hunger(self) -> float:
        """The most seconds between two meals, or since the last one."""
        times = [*self._fed, time.monotonic()]
        if len(times) < 3:
            raise Trouble("the watchdog was not fed")
        return max(later - earlier for earlier, later in zip(times, times[1:], strict=False))


def environment(variables: dict[str, str], serial: int) -> bytes:
    """A copy of U-Boot's environment: checksum, serial number, names and values."""
    body = b"".join(f"{name}={value}\0".encode() for name, value in variables.items())
    body = body.ljust(ENVIRONMENT - 5, b"\0")
    return zlib.crc32(body).to_bytes(4, "little") + bytes([serial]) + body


def processor(processes: list[int]) -> float:
    """Seconds of processor that these have used; the kernel counts them in hundredths."""
    total = 0.0
    for process in processes:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total
