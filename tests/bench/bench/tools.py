"""What is compared when a device has an older image: how each tool's publisher prepares the new one, and how the device
gets it.

desync, casync's sibling in Go, is left out: Debian has no package of it.
"""

import filecmp
import hashlib
import inspect
import os
import shutil
import time
from pathlib import Path

from .images import Pair
from .measure import measured
from .place import HOME, TARGET, Trouble, build, need, programs, run, say
from .server import Server

BITA = "0.15.0"


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
        for older in home.parent.glob(f"{pair.name}-*"):
            shutil.rmtree(older)
        work = home.with_suffix(".new")
        work.mkdir(parents=True)
        began = time.monotonic()
        self.prepare(pair, work)
        took = time.monotonic() - began
        size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
        say(f"{self.name} has prepared {pair.name}: {size / 1e6:.1f} MB in {took:.0f} s")
        work.rename(home)

    def fetch(self, pair: Pair, server: Server) -> dict:
        """Gets the new image with the old one at hand, and tells what that took."""
        device = HOME / "device"
        shutil.rmtree(device, ignore_errors=True)
        device.mkdir()
        try:
            self.settle(pair, device)
            warm(pair.old)
            server.forget()
            took = measured(*self.command(pair, server), cwd=device, authority=server.authority)
            result = self.result(pair, device)
            # Who leaves that to the kernel has not ended yet.
            took["wall_s"] = round(took["wall_s"] + made_durable(result), 2)
            count = server.count()
            if not filecmp.cmp(result, pair.new, shallow=False):
                raise Trouble(f"{self.name}: what it made of {pair.name} is not the image")
        finally:
            shutil.rmtree(device, ignore_errors=True)
        return {**took, "bytes": count.bytes, "requests": count.requests, "connections": count.connections}

    def key(self, pair: Pair) -> str:
        """What is published is made anew when this is another one."""
        made_of = [pair.old.parent.name, self.name, inspect.getsource(type(self)), self.version()]
        return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]

    def version(self) -> str:
        """Of the program that makes what is published, where that changes."""
        return ""

    def files(self, pair: Pair) -> Path:
        """Where the server has what was made for a pair."""
        return HOME / "www" / self.name / f"{pair.name}-{self.key(pair)}"

    def address(self, pair: Pair, server: Server, name: str) -> str:
        """Of a file of those."""
        return f"{server.url}/{self.files(pair).relative_to(HOME / 'www')}/{name}"

    def settle(self, pair: Pair, device: Path) -> None:
        """What the device has beforehand."""

    def result(self, _pair: Pair, device: Path) -> Path:
        """Where the new image is."""
        return device / "new"

    def prepare(self, pair: Pair, home: Path) -> None:
        """Fills the server's directory."""
        raise NotImplementedError

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        """What runs on the device, in its directory; what is to be there is a file `new`."""
        raise NotImplementedError


def warm(image: Path) -> None:
    """Has a file in the kernel's memory, for everybody alike."""
    with image.open("rb") as file:
        while file.read(1 << 20):
            pass


def made_durable(path: Path) -> float:
    """Seconds until a file is on the disk."""
    began = time.monotonic()
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return time.monotonic() - began


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

    needs = ("cc=gcc",)

    def __init__(self, chunks: str) -> None:
        self.name = f"bita-{chunks}"
        # By itself it makes no chunk shorter than 16 KiB, which leaves no room around an average of 16 KiB.
        self._how = {"16k": ["--avg-chunk-size", "16KiB", "--min-chunk-size", "4KiB", "--max-chunk-size", "64KiB"],
                     "4k-fixed": ["--fixed-size", "4KiB"]}[chunks]
        self._program = TARGET / "tools" / f"bita-{BITA}" / "bin/bita"

    def install(self) -> None:
        super().install()
        if not self._program.exists():
            say(f"building bita {BITA}, once: some minutes")
            run("cargo", "install", "bita", "--locked", "--version", BITA, "--root", self._program.parents[1],
                "--no-track")

    def version(self) -> str:
        return BITA

    def prepare(self, pair: Pair, home: Path) -> None:
        # As hard as it does by itself, with brotli: zstd's level 19 would take more than twenty minutes of processor.
        run(self._program, "compress", *self._how, "-i", pair.new, home / "new.cba")

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
    """Ours: signed, each block checked as it is written, all of it made durable, read back and compared by digest."""

    # Bytes are the same whatever it was built for; times are told of what is released.
    profile = "release"

    def __init__(self, has_old: bool) -> None:
        self.name = "twinboot" if has_old else "twinboot-full"
        self._has_old = has_old

    @property
    def _programs(self) -> Path:
        return programs(self.profile)

    def install(self) -> None:
        made = ("twinboot-fleet", "examples/bench-install")
        build(self.profile, made, "--features", "fleet", "--bin", made[0], "--example", "bench-install")

    def version(self) -> str:
        return hashlib.sha256((self._programs / "twinboot-fleet").read_bytes()).hexdigest()

    def key(self, pair: Pair) -> str:
        made_of = [pair.old.parent.name, inspect.getsource(Twinboot.prepare), self.version()]
        return hashlib.sha256("\n".join(made_of).encode()).hexdigest()[:12]

    def files(self, pair: Pair) -> Path:
        return HOME / "www" / "twinboot" / f"{pair.name}-{self.key(pair)}"

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
            "--rollback-index", "1", "--created", "2026-11-21T00:00Z", "--part", pair.new, "--delegation",
            keys / "delegation", "--key", keys / "signing.key", "-o", home / "new.twb")

    def command(self, pair: Pair, server: Server) -> list[str | Path]:
        old = [pair.old] if self._has_old else []
        return [self._programs / "examples/bench-install", self.address(pair, server, "new.twb"),
                HOME / "keys/root.pem", server.authority, "new", str(pair.new.stat().st_size), *old]


# In the order in which they are told. The first is what others are compared with.
TOOLS = {tool.name: tool for tool in (
    Twinboot(True), Twinboot(False), Zstd(), Bita("16k"), Bita("4k-fixed"), Casync("16k"), Casync("64k"), Zchunk(),
    Xdelta())}
