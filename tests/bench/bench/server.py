"""An nginx with files behind TLS, that counts what goes through its sockets.

Two servers in one: the one in front passes bytes on and counts them, connection by connection; the one behind speaks
TLS and HTTP. So handshakes, records and heads are counted for everybody alike, and only TCP's own are not.
"""

import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .place import Trouble, need, run

STREAM = "/usr/lib/nginx/modules/ngx_stream_module.so"
CONFIGURATION = """
load_module {stream};
daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1; user root;
events {{}}
stream {{
  log_format count '$bytes_received $bytes_sent';
  access_log {home}/connections.log count;
  server {{ listen 127.0.0.1:{port}; proxy_pass unix:{home}/tls.sock; proxy_timeout 1h; }}
}}
http {{
  log_format count '$body_bytes_sent';
  access_log {home}/requests.log count;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home};
  scgi_temp_path {home};
  types {{}} default_type application/octet-stream;
  sendfile on;
  keepalive_requests 100000;
  server {{
    listen unix:{home}/tls.sock ssl;
    server_name localhost;
    ssl_certificate {home}/server.crt; ssl_certificate_key {home}/server.key;
    root {files};
  }}
}}
"""
# How long a connection may take to be logged after its program has ended.
PATIENCE = 10


@dataclass(frozen=True)
class Count:
    """What went over the wire."""

    bytes: int
    requests: int
    connections: int
    # Of files alone.
    bodies: int


class Server:
    """Serves a directory."""

    def __init__(self, files: Path) -> None:
        need("nginx=nginx-light", f"{STREAM}=libnginx-mod-stream", "openssl=openssl")
        self._home = tempfile.TemporaryDirectory(prefix="bench-nginx-")
        self.home = Path(self._home.name)
        self.authority = self.home / "ca.crt"
        self._files = files
        certificate(self.home)

    def __enter__(self) -> "Server":
        for _ in range(5):
            self.port = free_port()
            text = CONFIGURATION.format(home=self.home, files=self._files, port=self.port, stream=STREAM)
            (self.home / "nginx.conf").write_text(text, encoding="utf-8")
            self._process = subprocess.Popen(["nginx", "-c", self.home / "nginx.conf", "-e", self.home / "error.log"],
                                             stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            if self._is_up():
                self.url = f"https://localhost:{self.port}"
                return self
        raise Trouble(f"nginx does not start: {(self.home / 'error.log').read_text()}")

    def _is_up(self) -> bool:
        deadline = time.monotonic() + 10
        while self._process.poll() is None and time.monotonic() < deadline:
            if (self.home / "pid").exists():
                return True
            time.sleep(0.02)
        self._process.kill()
        self._process.wait()
        return False

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._home.cleanup()

    def forget(self) -> None:
        """Begins to count anew."""
        for name in ("connections.log", "requests.log"):
            (self.home / name).open("w", encoding="utf-8").close()

    def count(self) -> Count:
        """What went over the wire since it was told to forget. Whoever connected has ended."""
        deadline = time.monotonic() + PATIENCE
        while self._is_connected():
            if time.monotonic() > deadline:
                raise Trouble("a connection to the server stays open although its program has ended")
            time.sleep(0.02)
        lines = [list(map(int, line.split())) for line in self._lines("connections.log")]
        bodies = [int(line) for line in self._lines("requests.log")]
        return Count(sum(map(sum, lines)), len(bodies), len(lines), sum(bodies))

    def _lines(self, name: str) -> list[str]:
        return (self.home / name).read_text(encoding="utf-8").splitlines()

    def _is_connected(self) -> bool:
        """Whether nginx has not closed some connection yet. It logs one before it closes it."""
        established, close_wait = "01", "08"
        lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
        words = [line.split() for line in lines]
        return any(local.endswith(f":{self.port:04X}") and state in (established, close_wait)
                   for _, local, _, state, *_ in words)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def certificate(home: Path) -> None:
    """An authority, and a certificate for localhost."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", home / "ca.key", "-out", home / "ca.crt", "-days", "3650", "-subj",
        "/CN=bench", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
    run("openssl", "req", *key, "-keyout", home / "server.key", "-out", home / "server.csr", "-subj", "/CN=localhost")
    (home / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n", encoding="utf-8")
    run("openssl", "x509", "-req", "-in", home / "server.csr", "-CA", home / "ca.crt", "-CAkey", home / "ca.key",
        "-CAcreateserial", "-out", home / "server.crt", "-days", "3650", "-extfile", home / "extensions")
