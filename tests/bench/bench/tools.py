"""What is compared: how each tool's publisher prepares an image, and how its device gets it."""

import filecmp
import os
import shutil
from pathlib import Path

from .images import Pair
from .measure import measured
from .place import HOME, TARGET, Trouble, need, run, say
from .server import Server

BITA = "0.13.0"


class Tool:
    """One way to bring a device from one image to another. What it publishes is made once."""

    name = ""
    needs: tuple[str, ...] = ()

    def install(self) -> None:
        """Sees to it that the programs are there."""
        need(*self.needs)

    def publish(self, pair: Pair) -> None:
        """Makes what the server has to have."""
        home = self.files(pair)
        if home.exists():
            return
        say(f"{self.name} prepares {pair.name}")
        work = home.with_suffix(".new")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        self.prepare(pair, work)
        work.rename(home)

    def fetch(self, pair: Pair, server: Server) -> dict:
        """Gets the new image with the old one at hand, and tells what that took."""
        device = HOME / "device"
        shutil.rmtree(device, ignore_errors=True)
        device.mkdir()
        try:
            self.settle(pair, device)
            server.count()
            took = measured(*self.command(pair, server), cwd=device, environment=self.environment(server))
            count = server.count()
            if not filecmp.cmp(self.result(pair, device), pair.new, shallow=False):
                raise Trouble(f"{self.name}: what it made of {pair.name} is not the image")
        finally:
            shutil.rmtree(device, ignore_errors=True)
        return {**took, "bytes": count.bytes, "requests": count.requests}

    def files(self, pair: Pair) -> Path:
        """Where the server has what was made for a pair."""
        return HOME / "www" / self.name / pair.name

    def address(self, pair: Pair, server: Server, name: str) -> str:
        """Of a file of those."""
        return f"{server.plain}/{self.name}/{pair.name}/{name}"

    def settle(self, pair: Pair, device: Path) -> None:
        """What the device has beforehand."""

    def result(self, _pair: Pair, device: Path) -> Path:
        """Where the new image is."""
        return device / "new"

    def environment(self, _server: Server) -> dict[str, str]:
        """Variables for the command."""
        return {}

    def prepare(self, pair: Pair, home: Path) -> None:
        """Fills the server's directory."""
        raise NotImplementedError

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        """What runs on the device, in its directory; what is to be there is a file `new`."""
        raise NotImplementedError


class Zstd(Tool):
    """All of it, compressed as well as it goes, through a pipe of shell."""

    name = "zstd-full"
    needs = ("zstd=zstd", "curl=curl")

    def prepare(self, pair: Pair, home: Path) -> None:
        run("zstd", "-q", "-19", "-T0", pair.new, "-o", home / "new.zst")

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        return ["sh", "-c", f"curl -sf {self.address(pair, server, 'new.zst')} | zstd -dcq > new"]


class Xdelta(Tool):
    """A patch for just these two images: what knows both of them, and needs the publisher for each pair."""

    name = "xdelta3-pair"
    needs = ("xdelta3=xdelta3", "curl=curl")

    def prepare(self, pair: Pair, home: Path) -> None:
        run("xdelta3", "-e", "-9", "-S", "lzma", "-B", str(1 << 30), "-s", pair.old, pair.new, home / "patch")

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        address = self.address(pair, server, "patch")
        return ["sh", "-c", f"curl -sf {address} | xdelta3 -d -B {1 << 30} -s {pair.old} /dev/stdin new"]


class Casync(Tool):
    """Chunks by content, each of them a file on the server."""

    needs = ("casync=casync",)

    def __init__(self, size: str) -> None:
        self.name = f"casync-{size}"
        self._size = {"16k": "16384", "64k": "65536"}[size]

    def prepare(self, pair: Pair, home: Path) -> None:
        run("casync", "make", f"--chunk-size={self._size}", f"--store={home}/store", home / "new.caibx", pair.new)

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        return ["casync", "extract", f"--store={self.address(pair, server, 'store')}", f"--seed={pair.old}",
                self.address(pair, server, "new.caibx"), "new"]


class Bita(Tool):
    """Chunks in one file, fetched by ranges."""

    def __init__(self, chunks: str) -> None:
        self.name = f"bita-{chunks}"
        self._how = {"16k": ["--avg-chunk-size", "16KiB"], "4k-fixed": ["--fixed-size", "4KiB"]}[chunks]
        self._program = TARGET / "tools" / f"bita-{BITA}" / "bin/bita"

    def install(self) -> None:
        if not self._program.exists():
            say(f"building bita {BITA}, once")
            run("cargo", "install", "bita", "--locked", "--version", BITA, "--root", self._program.parents[1],
                "--no-track")

    def prepare(self, pair: Pair, home: Path) -> None:
        run(self._program, "compress", *self._how, "--compression", "zstd", "--compression-level", "19", "-i", pair.new,
            home / "new.cba")

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        return [self._program, "clone", "--seed", pair.old, self.address(pair, server, "new.cba"), "new"]


class Zchunk(Tool):
    """Chunks in one file. Its device must have kept the old one in the same form."""

    name = "zchunk"
    needs = ("zck=zchunk", "zckdl=zchunk", "unzck=zchunk")

    def prepare(self, pair: Pair, home: Path) -> None:
        run("zck", "-o", home / "new.zck", pair.new)
        run("zck", "-o", home / "old.zck", pair.old)

    def settle(self, pair: Pair, device: Path) -> None:
        shutil.copy(self.files(pair) / "old.zck", device)

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        address = self.address(pair, server, "new.zck")
        return ["sh", "-c", f"zckdl -q -s old.zck {address} && unzck -c new.zck > new"]


class Twinboot(Tool):
    """Ours: signed, over TLS, each block checked as it is written, and all of it made durable."""

    def __init__(self, has_old: bool) -> None:
        self.name = "twinboot" if has_old else "twinboot-full"
        self._has_old = has_old
        self._programs = TARGET / "release"

    def install(self) -> None:
        run("cargo", "build", "--locked", "--quiet", "--release", "--features", "fleet", "--bin", "twinboot-fleet",
            "--example", "bench-install")

    def files(self, pair: Pair) -> Path:
        return HOME / "www" / "twinboot" / pair.name

    def address(self, pair: Pair, server: Server, name: str) -> str:
        return f"{server.tls}/twinboot/{pair.name}/{name}"

    def prepare(self, pair: Pair, home: Path) -> None:
        keys = HOME / "keys"
        keys.mkdir(exist_ok=True)
        tool = self._programs / "twinboot-fleet"
        if not (keys / "delegation").exists():
            run(tool, "bundle", "keygen", keys / "root")
            run(tool, "bundle", "keygen", keys / "signing")
            run(tool, "bundle", "delegate", keys / "delegation", "--epoch", "1", "--signer", keys / "signing.pem",
                "--key", keys / "root.key")
        run(tool, "bundle", "create", "--version-label", "2", "--product", "bench", "--compatible", "bench",
            "--rollback-index", "1", "--part", pair.new, "--delegation", keys / "delegation", "--key",
            keys / "signing.key", "-o", home / "new.twb")

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        old = [pair.old] if self._has_old else []
        return [self._programs / "examples/bench-install", self.address(pair, server, "new.twb"),
                HOME / "keys/root.pem", server.authority, "new", str(pair.new.stat().st_size), *old]


# In the order in which they are told.
TOOLS = {tool.name: (lambda tool=tool: tool) for tool in (
    Twinboot(True), Twinboot(False), Zstd(), Bita("16k"), Bita("4k-fixed"), Casync("16k"), Casync("64k"), Zchunk(),
    Xdelta())}

# Children of a session must not read a configuration of whoever runs it.
os.environ.pop("CASYNC_STORE", None)
