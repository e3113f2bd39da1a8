"""The images: a Debian gateway, the same with newer packages, and the same with another application."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from .place import HOME, need, run, say

# What a gateway has. The kernel is left out: on a board it has a partition of its own.
PACKAGES = ("openssh-server,python3,curl,ca-certificates,network-manager,vim-tiny,iproute2,perl,git,gnupg,sudo,"
            "nginx-light,dbus,systemd-sysv,systemd-timesyncd,less,rsync,strace,tcpdump,sqlite3,jq,locales,kmod,udev,"
            "wpasupplicant,modemmanager,avahi-daemon,mosquitto,python3-requests,python3-yaml,openssl")
# Of the package sources that mmdebstrap writes down, those of newer packages are left out: the release as it was.
AS_RELEASED = r'--setup-hook=sed -i -E "/-(updates|security)/d" "$1/etc/apt/sources.list"'
LEFT_OUT = ("dev/*", "var/cache/apt", "var/lib/apt/lists", "usr/share/doc", "usr/share/man", "usr/share/locale")
UUID = "5b2f6d2e-7f5a-4c58-9d46-0d1c6f3f9a11"

PAIRS = ("ext4-packages", "ext4-application", "squashfs-packages", "squashfs-application")


@dataclass(frozen=True)
class Pair:
    """What a device has, and what it is to get."""

    name: str
    old: Path
    new: Path


def pair(name: str, given: Path | None) -> Pair:
    """The images of a pair, made if they are not there."""
    kind, what = name.split("-")
    home = given or made()
    return Pair(name, home / f"v1.{kind}", home / f"{'v2' if what == 'packages' else 'v2app'}.{kind}")


def made() -> Path:
    """The directory with all images."""
    home = HOME / "images"
    if home.exists():
        return home
    need("mmdebstrap=mmdebstrap", "mke2fs=e2fsprogs", "mksquashfs=squashfs-tools")
    work = HOME / "images.new"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    run("cargo", "build", "--locked", "--quiet", "--package", "twinboot", "--features", "fleet")
    for version, options in (("v1", (AS_RELEASED,)), ("v2", ())):
        say(f"making the images of {version}")
        tree = work / version
        run("mmdebstrap", "--quiet", "--variant=important", f"--include={PACKAGES}", *options, "bookworm", tree)
        for pattern in LEFT_OUT:
            for path in tree.glob(pattern):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        application(tree, "twinboot")
        file_systems(work, version)
        if version == "v1":
            # The same with another application: its publisher changed nothing else.
            application(tree, "twinboot-fleet")
            tree.rename(work / "v2app")
            file_systems(work, "v2app")
            tree = work / "v2app"
        shutil.rmtree(tree)
    work.rename(home)
    return home


def application(tree: Path, program: str) -> None:
    """Puts one program into the system."""
    place = tree / "opt/app/app"
    place.parent.mkdir(parents=True, exist_ok=True)
    run("strip", "-o", place, HOME.parent / "debug" / program)


def file_systems(work: Path, version: str) -> None:
    """An ext4 of 1 GiB and a squashfs of a tree."""
    run("mke2fs", "-q", "-t", "ext4", "-U", UUID, "-E", f"hash_seed={UUID},lazy_itable_init=0,root_owner=0:0",
        "-d", work / version, work / f"{version}.ext4", "1G")
    run("mksquashfs", work / version, work / f"{version}.squashfs", "-comp", "zstd", "-noappend", "-quiet",
        "-no-progress")
