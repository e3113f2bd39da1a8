"""U-Boot, built from Debian's source for QEMU's arm64 board, with the configuration and variables in loader/."""

import os
from pathlib import Path

from .cache import Cache
from .tool import ToolError, tool

HERE = Path(__file__).resolve().parent.parent / "loader"
SUITE = "bookworm"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def loader(cache: Cache) -> Path:
    """The program that QEMU starts in place of a boot ROM."""
    inputs = [Path(__file__), HERE / "ab.config", HERE / "ab.env"]
    return cache.get("loader", inputs, _build) / "u-boot.bin"


def _build(place: Path) -> None:
    source, objects = place / "source", place / "objects"
    _fetch(place / "apt", source)
    # Where the board's own default variables would be looked for.
    (source / "board/emulation/qemu-arm/ab.env").write_bytes((HERE / "ab.env").read_bytes())
    make = ["make", "--silent", "-C", source, f"O={objects}", "CROSS_COMPILE=aarch64-linux-gnu-"]
    tool(*make, "qemu_arm64_defconfig")
    tool("scripts/kconfig/merge_config.sh", "-m", "-O", objects, objects / ".config", HERE / "ab.config", cwd=source)
    tool(*make, "olddefconfig")
    _check(objects / ".config")
    tool(*make, f"-j{os.cpu_count()}", "u-boot.bin")
    (objects / "u-boot.bin").rename(place / "u-boot.bin")
    tool("rm", "-rf", source, objects, place / "apt")


def _fetch(apt: Path, source: Path) -> None:
    """Debian's source package, with lists of our own: the machine's may not have sources, or be another system's."""
    for directory in ("lists/partial", "archives/partial"):
        (apt / directory).mkdir(parents=True)
    (apt / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {_mirror()} {SUITE} main\n", encoding="utf-8")
    (apt / "status").touch()
    get = ["apt-get", "--quiet"]
    for option in (f"Dir::Etc::sourcelist={apt}/sources.list", "Dir::Etc::sourceparts=/dev/null", f"Dir::State={apt}",
                   f"Dir::State::status={apt}/status", f"Dir::Cache={apt}", "APT::Sandbox::User=root"):
        get += ["-o", option]
    tool(*get, "update")
    tool(*get, "source", "--download-only", "u-boot", cwd=apt)
    tool("dpkg-source", "--extract", next(apt.glob("u-boot_*.dsc")), source)


def _mirror() -> str:
    """Where this machine, a Debian too, has its packages from, if nobody says otherwise."""
    if mirror := os.environ.get("DEBIAN_MIRROR"):
        return mirror
    known = tool("apt-get", "indextargets", "--format", "$(REPO_URI)", f"Codename: {SUITE}", "Component: main").split()
    if not known:
        raise ToolError(f"this machine's apt knows no Debian {SUITE}: say where one is with DEBIAN_MIRROR=http://…/debian")
    return known[0]


def _check(made: Path) -> None:
    """What we asked for and did not get would only be noticed on the machine's console, if at all."""
    got = set(made.read_text(encoding="utf-8").splitlines())
    asked = (HERE / "ab.config").read_text(encoding="utf-8").splitlines()
    missing = [line for line in asked if line.startswith(("CONFIG_", "# CONFIG_")) and line not in got]
    if missing:
        raise ToolError(f"U-Boot cannot be configured so: {missing}")
