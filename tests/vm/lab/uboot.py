"""The chains with U-Boot, built from Debian's source for QEMU's arm64 board, and its variables in files on FAT."""

import os
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from .bootstrap import SUITE
from .cache import Cache
from .chain import ENV, HERE, SHIPPED, Chain, Said, calls_of
from .tool import ToolError, tool

LOADER = HERE / "loader"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# As loader/ab.config and fw_env.config.files have them.
COPIES, SIZE = ("uboot.env", "uboot-redund.env"), 0x4000


class UBoot(Chain):
    """U-Boot on a small gateway: a Cortex-A53, which QEMU knows with its instructions for AES and SHA-2."""

    name = "uboot"
    loader = "u-boot"
    systems = "arm64"
    suite = SUITE
    """Of Debian, whose source it is."""
    shell = ()
    """What it is configured with besides loader/ab.config."""
    dialect = "upgrade-available"
    architecture = "arm64"
    kernel = "linux-image-cloud-arm64"
    packages = ("libubootenv-tool",)
    # Its kernel isolates page tables if it randomizes addresses, and then each system call costs QEMU its TLB: hence
    # `kpti=off nokaslr norandmaps` in loader/board.env.
    machine = ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a53", "-accel",
               "tcg,thread=multi,tb-size=256")
    drive = "nvme,drive=disk,serial=lab"

    def build(self, cache: Cache) -> Path:
        # One program for both dialects: what differs is on the disk.
        inputs = [self.suite, *self.shell, LOADER / "ab.config", _variables(UBoot.dialect)]
        return cache.get(self.loader, inputs, lambda place: _build(place, self.suite, self.shell))

    def firmware(self, built: Path) -> list[str]:
        return ["-bios", str(built / "u-boot.bin")]

    def guest_files(self) -> dict[str, Path]:
        return {"/etc/fw_env.config": SHIPPED / "uboot" / "fw_env.config.files"}

    def environment(self, built: Path, place: Path) -> None:
        """A FAT file system with the script and two good copies of the variables, as after `saveenv; saveenv`."""
        with place.open("wb") as file:
            file.truncate(ENV.size)
        tool("mformat", "-i", place, "-c", "4", "-v", "ENV", "::")
        with tempfile.TemporaryDirectory(dir=place.parent) as directory:
            work = Path(directory)
            (work / "text").write_text(_variables(self.dialect), encoding="utf-8")
            tool("mkenvimage", "-r", "-s", hex(SIZE), "-o", work / "env", work / "text")
            for name in COPIES:
                tool("mcopy", "-i", place, work / "env", f"::{name}")
            tool("mkimage", "-A", "arm64", "-T", "script", "-C", "none", "-n", "twinboot", "-d",
                 SHIPPED / "uboot" / f"{self.dialect}.cmd", work / "boot.scr")
            tool("mcopy", "-i", place, work / "boot.scr", "::boot.scr")

    def said(self, read: Callable[[int, int], bytes]) -> Said:
        variables = self.variables(read)
        slot = variables.get("slot", "")
        if slot not in ("a", "b"):
            raise ValueError(f"slot is {slot!r}")
        if variables.get("upgrade_available", "0") == "0":
            return Said(slot, "")
        return Said("b" if slot == "a" else "a", slot)

    def variables(self, read: Callable[[int, int], bytes]) -> dict[str, str]:
        """Those of the newer good copy."""
        with tempfile.NamedTemporaryFile() as partition:
            partition.write(read(0, ENV.size))
            partition.flush()
            found = []
            for name in COPIES:
                with tempfile.TemporaryDirectory() as place:
                    tool("mcopy", "-i", partition.name, f"::{name}", f"{place}/copy")
                    copy = Path(place, "copy").read_bytes()
                if len(copy) == SIZE and zlib.crc32(copy[5:]) == int.from_bytes(copy[:4], "little"):
                    found.append((copy[4], copy[5:]))
        if not found:
            raise ValueError("no copy of the environment is good")
        # The newer one has the next number, and 0 comes after 255.
        best = found[0]
        for other in found[1:]:
            if (other[0] - best[0]) % 256 in range(1, 128):
                best = other
        words = best[1].split(b"\0\0", 1)[0].decode().split("\0")
        return dict(word.split("=", 1) for word in words)

    def system_calls(self) -> dict[int, str]:
        # Linux' own table, which comes with the cross compiler.
        return calls_of(Path("/usr/aarch64-linux-gnu/include/asm-generic/unistd.h"),
                        r"^#define __NR(?:3264)?_(\w+)\s+(\d+)$")


class UBootModern(UBoot):
    """The same board with a U-Boot of today, and its new shell."""

    name = "uboot-modern"
    loader = "u-boot-modern"
    suite = "trixie"
    shell = ("# CONFIG_HUSH_OLD_PARSER is not set", "CONFIG_HUSH_MODERN_PARSER=y")


class UBootOrder(UBoot):
    """The same board with RAUC's variables."""

    name = "uboot-order"
    dialect = "boot-order"
    configuration = '[boot]\ndialect = "boot_order"\n'

    def said(self, read: Callable[[int, int], bytes]) -> Said:
        variables = self.variables(read)
        first = variables["BOOT_ORDER"].split()[0].lower()
        other = "b" if first == "a" else "a"
        trial, _, full = variables.get("twinboot_trial", "").partition(":")
        if trial != first:
            return Said(first, "")
        # Fallen back: its own boots are used up, and the other slot was booted since.
        left = {slot: int(variables[f"BOOT_{slot.upper()}_LEFT"], 16) for slot in "ab"}
        if left[first] == 0 and left[other] < int(full, 16):
            return Said(other, "")
        return Said(other, first)


def _variables(dialect: str) -> str:
    """What is shipped, in which this board's win: each once, since not every reader takes the last of two."""
    board = _read(LOADER / "board.env")
    variables = board | _read(SHIPPED / "uboot" / f"{dialect}.env") | board
    return "".join(f"{name}={value}\n" for name, value in variables.items())


def _read(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text(encoding="utf-8").splitlines())


def _build(place: Path, suite: str, shell: tuple[str, ...]) -> None:
    source, objects = place / "source", place / "objects"
    _fetch(place / "apt", source, suite)
    # Where the board's own default variables would be looked for.
    (source / "board/emulation/qemu-arm/ab.env").write_text(_variables(UBoot.dialect), encoding="utf-8")
    wanted = place / "wanted.config"
    # What is to be left out, and is not in every version, comes last.
    wanted.write_text("\n".join([*shell, (LOADER / "ab.config").read_text(encoding="utf-8")]), encoding="utf-8")
    make = ["make", "--silent", "-C", source, f"O={objects}", "CROSS_COMPILE=aarch64-linux-gnu-"]
    tool(*make, "qemu_arm64_defconfig")
    tool("scripts/kconfig/merge_config.sh", "-m", "-O", objects, objects / ".config", wanted, cwd=source)
    tool(*make, "olddefconfig")
    _check(objects / ".config", wanted)
    tool(*make, f"-j{os.cpu_count()}", "u-boot.bin")
    (objects / "u-boot.bin").rename(place / "u-boot.bin")
    tool("rm", "-rf", source, objects, place / "apt")


def _fetch(apt: Path, source: Path, suite: str) -> None:
    """Debian's source package, with lists of our own: the machine's may not have sources, or be another system's."""
    for directory in ("lists/partial", "archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {_mirror()} {suite} main\n", encoding="utf-8")
    (apt / "status").touch()
    get = ["apt-get", "--quiet"]
    for option in (f"Dir::Etc::sourcelist={apt}/sources.list", "Dir::Etc::sourceparts=/dev/null", f"Dir::State={apt}",
                   f"Dir::State::status={apt}/status", f"Dir::Cache={apt}", "APT::Sandbox::User=root"):
        get += ["-o", option]
    tool(*get, "update")
    # As it was released: what Debian changes is about other boards.
    tool(*get, "source", "--download-only", "--tar-only", "u-boot", cwd=apt)
    source.mkdir()
    tool("tar", "--strip-components=1", "-C", source, "-xf", next(apt.glob("u-boot_*.orig.tar.*z*")))


def _mirror() -> str:
    """Where this machine, a Debian too, has its packages from, if nobody says otherwise."""
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        return mirror
    known = tool("apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}", "Component: main").split()
    if not known:
        raise ToolError(f"this machine's apt knows no Debian {SUITE}: say where it is, DEBIAN_MIRROR=http://…/debian")
    return known[0]


def _check(made: Path, wanted: Path) -> None:
    """What we asked for and did not get would only be noticed on the machine's console, if at all."""
    got = set(made.read_text(encoding="utf-8").splitlines())
    asked = wanted.read_text(encoding="utf-8").split("# Left out:")[0].splitlines()
    missing = [line for line in asked if line.startswith(("CONFIG_", "# CONFIG_")) and line not in got]
    if missing:
        raise ToolError(f"U-Boot cannot be configured so: {missing}")
