"""An nginx with files, that counts."""

import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .place import Trouble, run

CONFIGURATION = """
daemon off; pid {home}/pid; error_log {home}/error.log; worker_processes 1;
events {{}}
http {{
  access_log {home}/access.log; log_format count '$status $request_length $bytes_sent';
  access_log {home}/count.log count;
  client_body_temp_path {home}; proxy_temp_path {home}; fastcgi_temp_path {home}; uwsgi_temp_path {home};
  scgi_temp_path {home};
  keepalive_requests 100000;
  server {{
    listen 127.0.0.1:{plain}; listen 127.0.0.1:{tls} ssl;
    ssl_certificate {home}/server.crt; ssl_certificate_key {home}/server.key;
    root {files};
  }}
}}
"""


@dataclass(frozen=True)
class Count:
    """What went over the wire."""

    bytes: int
    requests: int


class Server:
    """Serves a directory on two ports, one of them with TLS."""

    def __init__(self, files: Path) -> None:
        self._home = tempfile.TemporaryDirectory(prefix="bench-nginx-")
        self.home = Path(self._home.name)
        self.home.chmod(0o755)
        ports = free_ports(2)
        self.plain, self.tls = (f"http://localhost:{ports[0]}", f"https://localhost:{ports[1]}")
        self.authority = self.home / "ca.crt"
        certificate(self.home)
        text = CONFIGURATION.format(home=self.home, files=files, plain=ports[0], tls=ports[1])
        (self.home / "nginx.conf").write_text(text, encoding="utf-8")

    def __enter__(self) -> "Server":
        self._process = subprocess.Popen(["nginx", "-c", self.home / "nginx.conf", "-e", self.home / "error.log"],
                                         stdin=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while not (self.home / "pid").exists():
            if time.monotonic() > deadline or self._process.poll() is not None:
                raise Trouble(f"nginx does not start: {(self.home / 'error.log').read_text()}")
            time.sleep(0.02)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait()
        self._home.cleanup()

    def count(self) -> Count:
        """What went over the wire since the last time that this was asked. Connections must be closed."""
        log = self.home / "count.log"
        lines = [line.split() for line in log.read_text(encoding="utf-8").splitlines()]
        log.open("w", encoding="utf-8").close()
        return Count(sum(int(line[1]) + int(line[2]) for line in lines), len(lines))


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def certificate(home: Path) -> None:
    """An authority, and a certificate for localhost."""
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("openssl", "req", "-x509", *key, "-keyout", home / "ca.key", "-out", home / "ca.crt", "-days", "3650", "-subj",
        "/CN=bench", "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=keyCertSign")
    run("openssl", "req", *key, "-keyout", home / "server.key", "-out", home / "server.csr", "-subj", "/CN=localhost")
    (home / "extensions").write_text("subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n", encoding="utf-8")
    run("openssl", "x509", "-req", "-in", home / "server.csr", "-CA", home / "ca.crt", "-CAkey", home / "ca.key",
        "-CAcreateserial", "-out", home / "server.crt", "-days", "3650", "-extfile", home / "extensions")
