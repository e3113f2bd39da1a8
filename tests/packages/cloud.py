"""The hub emulator, through its doors for programs of this machine."""

import base64
import json
import ssl
import subprocess
import urllib.request
from pathlib import Path

from harness import Failure, wait_for

MQTT, HTTPS = 8883, 8443
DEVICE = "gateway"
# Of nothing but the emulator; known beforehand, to look for it where it must not be.
KEY = base64.b64encode(b"the key of a gateway for packages").decode()
CONNECTION_STRING = f"HostName=localhost;DeviceId={DEVICE};SharedAccessKey={KEY}"


class Cloud:
    """One emulator with one device. The ports are those of its own network namespace."""

    def __init__(self, program: Path, directory: Path):
        """It keeps its authority and its device's key in `directory`, and goes on with those that are there."""
        self.images = directory / "images"
        self.ca = directory / "ca.pem"
        self._directory, self._program = directory, program
        self._process: subprocess.Popen | None = None

    def start(self) -> "Cloud":
        """Starts it, and waits until it serves."""
        self.images.mkdir(parents=True, exist_ok=True)
        log = self._directory / "emulator.log"
        command = [
            self._program,
            f"--mqtt-port={MQTT}",
            f"--https-port={HTTPS}",
            f"--ca={self.ca}",
            f"--images={self.images}",
            f"--device={DEVICE},key={KEY}",
            f"--state={self._directory / 'state'}",
        ]
        with open(log, "w") as out:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

        def is_ready() -> bool:
            if self._process.poll() is not None:
                raise Failure(f"the emulator ended: {log.read_text()}")
            return "\nready" in log.read_text()

        wait_for("the emulator to be ready", 30, is_ready)
        self._tls = ssl.create_default_context(cafile=str(self.ca))
        return self

    def stop(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait(20)

    def ask(self, method: str, door: str, body=None):
        """Goes through a door below /emulator/; what is answered."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"https://localhost:{HTTPS}/emulator/{door}", data, method=method)
        with urllib.request.urlopen(request, context=self._tls, timeout=60) as reply:
            text = reply.read()
        return json.loads(text) if text else None

    def publish(self, image: Path, version: str, digest: str) -> dict:
        """Makes `image` one that can be fetched; the wish for it."""
        (self.images / image.name).hardlink_to(image)
        return {
            "fwVersion": version,
            "fwPackageURI": f"https://localhost:{HTTPS}/images/{image.name}",
            "fwPackageCheckValue": digest,
        }

    def sent(self, image: str) -> int:
        """Bytes of an image that were sent, again or not."""
        return sum(request["bytes"] for request in self.ask("GET", "images") if request["name"] == image)

    def slow(self, image: str, bytes_per_second: int) -> None:
        """From now on an image comes at this rate."""
        self.ask("POST", "faults", {"fault": "slow", "bytesPerSecond": bytes_per_second, "target": image})

    def no_faults(self) -> None:
        """All faults are over."""
        self.ask("DELETE", "faults")

    def view(self) -> dict:
        """What it knows of the device: twin and connection."""
        return self.ask("GET", f"devices/{DEVICE}")

    def reported(self) -> dict:
        """The reported properties."""
        return self.view()["twin"]["properties"]["reported"]

    def firmware(self) -> dict:
        """The reported property `firmware`."""
        return self.reported().get("firmware", {})

    def is_connected(self) -> bool:
        """Whether the device is there."""
        return self.view()["connected"]

    def desire(self, **properties) -> None:
        """Merges desired properties."""
        self.ask("PATCH", f"devices/{DEVICE}/twin", {"properties": {"desired": properties}})

    def call(self, method: str, payload=None) -> dict:
        """Calls a direct method: status and payload."""
        body = {"methodName": method, "payload": payload, "responseTimeoutInSeconds": 30}
        return self.ask("POST", f"devices/{DEVICE}/methods", body)

    def wait_connected(self, limit: float = 30) -> None:
        """Waits until the device is there."""
        wait_for("the device to connect", limit, self.is_connected)

    def wait_firmware(self, limit: float, **wanted: str) -> dict:
        """Waits until the device reports so."""

        def is_so():
            now = self.firmware()
            return now if all(now.get(name) == value for name, value in wanted.items()) else None

        return wait_for(f"the device to report {wanted}", limit, is_so, lambda: json.dumps(self.firmware()))
