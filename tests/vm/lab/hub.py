"""The hub that machines talk to: the emulator, on this host. Machines reach it at 10.0.2.2."""

import json
import re
import shutil
import ssl
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

from .cache import Cache
from .machine import Unexpected

# This host, as QEMU's network has it.
HOST = "10.0.2.2"
DEVICE = "gateway-1"


def identity(cache: Cache, emulator: Path) -> Path:
    """The state of a hub that has done nothing yet. Images have its authority, so it must not change with every run."""

    def build(place: Path) -> None:
        with Hub(emulator, place, place / "hub.log", device=None):
            pass

    return cache.get("hub", [Path(__file__)], build)


def authority(state: Path) -> Path:
    """The certificate of the authority that a hub with this state has."""
    return state / "ca.pem"


class Hub:
    """An emulator that lives as long as this object's `with`."""

    def __init__(self, emulator: Path, state: Path, log: Path, images: Path | None = None,
                 device: str | None = DEVICE) -> None:
        command = ["setpriv", "--pdeathsig", "TERM", emulator, "--mqtt-port", "0", "--https-port", "0",
                   "--host", HOST, "--name", "localhost", "--state", state, "--ca", authority(state)]
        if images is not None:
            command += ["--images", images]
        if device is not None:
            command += ["--device", device]
        self._log = log
        self._said: dict[str, str] = {}
        self._process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        self._ready = threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not self._ready.wait(60) or "service" not in self._said:
            self.stop()
            raise Unexpected(f"the emulator does not start: {log.read_text(errors='replace')[-1000:]}")
        self._trust = ssl.create_default_context(cafile=str(authority(state)))
        self.service_port = int(self._said["service"].rsplit(":", 1)[1])
        self.device_port = int(self._said["devices"].rsplit(":", 1)[1])

    def __enter__(self) -> "Hub":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends it, politely."""
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)

    def _read(self) -> None:
        """Keeps what it prints: what it says of itself at first for us, the rest (and no key) in the log."""
        assert self._process.stdout is not None
        with self._log.open("w", encoding="utf-8") as log:
            for line in self._process.stdout:
                if line == "ready\n":
                    self._ready.set()
                elif not self._ready.is_set():
                    # `service   https://…`, `device connection string: …`
                    what, value = re.split(r": | {2,}", line.strip() + "  ", maxsplit=1)
                    self._said[what] = value.strip()
                else:
                    log.write(f"{time.strftime('%H:%M:%S')} {line}")
                    log.flush()
        # Whoever waits learns that it has ended.
        self._ready.set()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://localhost:{self.service_port}{path}", data, method=method,
                                         headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, context=self._trust, timeout=30) as answer:
            return json.load(answer)

    # -- what scenarios want

    def connection_string(self) -> str:
        """The device's, with the port it needs here."""
        string = self._said["device connection string"]
        return string.replace(f"HostName={HOST};", f"HostName={HOST}:{self.device_port};")

    def address(self, image: str) -> str:
        """Where the image server has a file."""
        return f"https://{HOST}:{self.service_port}/images/{image}"

    def wish(self, firmware: dict[str, object]) -> None:
        """Sets the desired property `firmware`."""
        self._ask("PATCH", f"/emulator/devices/{DEVICE}/twin", {"properties": {"desired": {"firmware": firmware}}})

    def sent(self, image: str, since: int) -> int:
        """How many bytes of a file the image server has sent, its first `since` requests left out."""
        return sum(one["bytes"] for one in self._ask("GET", "/emulator/images")[since:] if one["name"] == image)

    def requests(self) -> int:
        """How many requests the image server has had."""
        return len(self._ask("GET", "/emulator/images"))

    def reported(self) -> dict:
        """What the device has reported."""
        return self._ask("GET", f"/emulator/devices/{DEVICE}")["twin"]["properties"]["reported"]


def copy_of(state: Path, place: Path) -> Path:
    """A copy of a hub's state to work on."""
    return Path(shutil.copytree(state, place))
