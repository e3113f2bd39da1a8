"""The hub: the emulator, and what is said to it through its doors."""

import base64
import json
import ssl
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

from .place import Trouble, build, programs
from .server import free_port

DEVICE = "gateway"
KEY = base64.b64encode(b"the key of a gateway for the bench").decode()
PATIENCE = 30


class Hub:
    """One emulator with one device."""

    # What it takes is nobody's to measure, so it is built the quick way.
    program = programs("dev") / "hub-emulator"

    @classmethod
    def build(cls) -> None:
        """Sees to it that it is there."""
        build("dev", (cls.program.name,), "--package", cls.program.name)

    def __enter__(self) -> "Hub":
        self._home = tempfile.TemporaryDirectory(prefix="bench-hub-")
        home = Path(self._home.name)
        self.port, self._https, self.authority = free_port(), free_port(), home / "ca.pem"
        with (home / "log").open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [self.program, f"--mqtt-port={self.port}", f"--https-port={self._https}", f"--ca={self.authority}",
                 f"--device={DEVICE},key={KEY}", "--quiet"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while "\nready" not in (said := (home / "log").read_text(encoding="utf-8")):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise Trouble(f"the hub emulator does not start: {said}")
            time.sleep(0.02)
        self._tls = ssl.create_default_context(cafile=str(self.authority))
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._home.cleanup()

    def connection_string(self, port: int) -> str:
        """The device's, for whoever reaches the hub at another port."""
        return f"HostName=localhost:{port};DeviceId={DEVICE};SharedAccessKey={KEY}"

    def _ask(self, method: str, door: str, body: dict | None = None) -> dict:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://localhost:{self._https}/emulator/{door}", data, method=method)
        with urllib.request.urlopen(request, context=self._tls, timeout=PATIENCE) as reply:
            text = reply.read()
        return json.loads(text) if text else {}

    def desire(self, **firmware: str) -> None:
        """Wants this firmware."""
        self._ask("PATCH", f"devices/{DEVICE}/twin", {"properties": {"desired": {"firmware": firmware}}})

    def view(self) -> dict:
        """What it knows of the device."""
        return self._ask("GET", f"devices/{DEVICE}")

    def firmware(self) -> dict:
        """The reported property `firmware`."""
        return self.view()["twin"]["properties"]["reported"].get("firmware", {})
