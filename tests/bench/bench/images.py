"""The images: a Debian gateway as it was released, the same with newer packages, and the same with one newer program."""

import hashlib
import inspect
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from .place import HOME, Trouble, need, run, say

SUITE = "bookworm"
# What a gateway has. The kernel is left out but for one pair: on many boards it has a partition of its own.
PACKAGES = ("openssh-server,python3,curl,ca-certificates,network-manager,vim-tiny,iproute2,perl,git,gnupg,sudo,"
            "nginx-light,dbus,systemd-sysv,systemd-timesyncd,less,rsync,strace,tcpdump,sqlite3,jq,locales,kmod,udev,"
            "wpasupplicant,modemmanager,avahi-daemon,mosquitto,python3-requests,python3-yaml,openssl")
KERNEL = "linux-image-amd64"
# Of the package sources that mmdebstrap writes down, those of newer packages are left out: the release as it was.
AS_RELEASED = r'--setup-hook=sed -i -E "/-(updates|security)/d" "$1/etc/apt/sources.list"'
# What no image has, or what is another one each time that the same is installed.
LEFT_OUT = ("dev/*", "boot/initrd*", "etc/machine-id", "var/cache/*", "var/lib/apt/lists", "var/log/*",
            "usr/share/doc", "usr/share/man", "usr/share/locale")
# The program of some MB that is exchanged.
PROGRAM = "usr/bin/python3.11"
SIZE = 1 << 30
# So that two runs make the same images: for mmdebstrap and mksquashfs, and for mke2fs. Not for all programs: cargo would
# build anew what depends on it.
EPOCH = 1750000000
TIME = {"SOURCE_DATE_EPOCH": str(EPOCH), "E2FSPROGS_FAKE_TIME": str(EPOCH)}
UUID = "5b2f6d2e-7f5a-4c58-9d46-0d1c6f3f9a11"


@dataclass(frozen=True)
class Pair:
    """What a device has, and what it is to get."""

    name: str
    old: Path
    new: Path


# What the pairs are made of: with or without a kernel, kind of file system, the new version.
PAIRS = {
    "ext4-packages": (False, "ext4", "v2"),
    "ext4-program": (False, "ext4", "v2program"),
    "ext4-kernel": (True, "ext4", "v2"),
    "squashfs-packages": (False, "squashfs", "v2"),
    "squashfs-program": (False, "squashfs", "v2program"),
}


def pair(name: str) -> Pair:
    """The images of a pair, made if they are not there."""
    with_kernel, kind, new = PAIRS[name]
    home = made(with_kernel)
    return Pair(name, home / f"v1.{kind}", home / f"{new}.{kind}")


def made(with_kernel: bool) -> Path:
    """The directory with all images of a recipe. It is named after the recipe: another one makes others."""
    recipe = hashlib.sha256(inspect.getsource(sys.modules[__name__]).encode()).hexdigest()[:12]
    kind = "kernel" if with_kernel else "plain"
    home = HOME / "images" / f"{kind}-{recipe}"
    if home.exists():
        return home
    if os.getuid() != 0:
        raise Trouble("only root can make the images: run this once as root")
    need("mmdebstrap=mmdebstrap", "mke2fs=e2fsprogs", "mksquashfs=squashfs-tools")
    work = home.with_suffix(".new")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    packages = f"{PACKAGES},{KERNEL}" if with_kernel else PACKAGES
    installed = {}
    for version, options in (("v1", (AS_RELEASED,)), ("v2", ())):
        say(f"making {version} of the images ({kind})")
        tree = work / version
        run("mmdebstrap", "--quiet", "--variant=important", f"--include={packages}", *options, SUITE, tree,
            environment=TIME)
        installed[version] = run("dpkg-query", f"--admindir={tree}/var/lib/dpkg", "-W").splitlines()
        for path in (path for pattern in LEFT_OUT for path in tree.glob(pattern)):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        file_systems(tree, with_kernel)
    newer = sorted(set(installed["v2"]) - set(installed["v1"]))
    (work / "newer-packages").write_text("\n".join(newer) + "\n", encoding="utf-8")
    say(f"{len(newer)} of {len(installed['v2'])} packages are newer in v2")
    if not with_kernel:
        # Its publisher changed nothing else.
        shutil.copy2(work / "v2" / PROGRAM, work / "v1" / PROGRAM)
        (work / "v1").rename(work / "v2program")
        file_systems(work / "v2program", with_kernel)
    for tree in (path for path in work.iterdir() if path.is_dir()):
        shutil.rmtree(tree)
    for older in set(home.parent.glob(f"{kind}-*")) - {work}:
        shutil.rmtree(older)
    work.rename(home)
    return home


def file_systems(tree: Path, with_kernel: bool) -> None:
    """An ext4 of 1 GiB and a squashfs of a tree, beside it."""
    # When a package was unpacked is no part of it.
    for directory, directories, files in os.walk(tree):
        for path in (Path(directory), *(Path(directory, name) for name in directories + files)):
            if path.lstat().st_mtime > EPOCH:
                os.utime(path, (EPOCH, EPOCH), follow_symlinks=False)
    run("mke2fs", "-q", "-t", "ext4", "-U", UUID, "-E", f"hash_seed={UUID},lazy_itable_init=0,root_owner=0:0",
        "-d", tree, tree.with_suffix(".ext4"), str(SIZE >> 10), environment=TIME)
    if not with_kernel:
        run("mksquashfs", tree, tree.with_suffix(".squashfs"), "-comp", "zstd", "-noappend", "-quiet", "-no-progress",
            environment=TIME)
