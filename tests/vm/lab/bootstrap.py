"""The packages of Debian that all systems here are made of, and its kernel. The only part that takes minutes."""

import os
from pathlib import Path

from .cache import Cache
from .loader import SUITE
from .tool import tool

# What a gateway's system has, whoever made it. auditd: for auditctl; the daemon does not run, journald listens.
PACKAGES = ("systemd-sysv", "udev", "dbus", "kmod", "iproute2", "netbase", "e2fsprogs", "ca-certificates",
            "libubootenv-tool", "auditd")
# Nothing reads them here, and every byte of an image goes through an emulated processor some times.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*")
# Only fetched: installed, it would bring programs that make an initrd, of which there is none.
KERNEL = ('cd "$1/boot" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get download "$(apt-cache depends '
          "linux-image-cloud-arm64 | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p')\"")


def bootstrap(cache: Cache) -> Path:
    """A file tree in an archive, with the kernel's package in /boot."""
    return cache.get("bootstrap", [Path(__file__), SUITE], _bootstrap) / "root.tar"


def _bootstrap(place: Path) -> None:
    foreign_programs()
    mirror = os.environ.get("DEBIAN_MIRROR")
    tool("mmdebstrap", "--mode=root", "--architectures=arm64", "--variant=minbase",
         "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(PACKAGES)}",
         '--aptopt=Acquire::Languages "none"', '--aptopt=Apt::Install-Recommends "false"',
         *[f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT], f"--customize-hook={KERNEL}",
         SUITE, place / "root.tar", *([mirror] if mirror else []))


def foreign_programs() -> None:
    """Has the host's kernel run arm64 programs by qemu-user, as its package would at the next boot."""
    registry = Path("/proc/sys/fs/binfmt_misc")
    if not (registry / "register").exists():
        tool("mount", "-t", "binfmt_misc", "binfmt_misc", registry)
    if not (registry / "qemu-aarch64").exists():
        rule = Path("/usr/lib/binfmt.d/qemu-aarch64.conf").read_text(encoding="utf-8")
        (registry / "register").write_text(rule, encoding="utf-8")
