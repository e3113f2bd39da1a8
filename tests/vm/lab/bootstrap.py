"""The packages of Debian that all systems here are made of, and its kernel. The only part that takes minutes."""

import os
from pathlib import Path

from .cache import Cache
from .tool import tool

SUITE = "bookworm"

# What a gateway's system has, whoever made it. auditd: for auditctl; the daemon does not run, journald listens.
PACKAGES = ("systemd-sysv", "udev", "dbus", "kmod", "iproute2", "netbase", "e2fsprogs", "ca-certificates", "auditd")
# Nothing reads them here, and every byte of an image goes through an emulated processor some times.
LEFT_OUT = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/zoneinfo/*")
# Only fetched: installed, it would bring programs that make an initrd, of which there is none.
KERNEL = ('cd "$1/boot" && export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG" && apt-get download "$(apt-cache depends '
          "@KERNEL@ | sed -n 's/.*Depends: \\(linux-image-[0-9].*\\)/\\1/p')\"")


def bootstrap(cache: Cache, architecture: str, kernel: str, packages: tuple[str, ...]) -> Path:
    """A file tree in an archive, with the package of the kernel `kernel` in /boot, and `packages` besides ours."""
    inputs = [Path(__file__), SUITE, architecture, kernel, *packages]

    def build(place: Path) -> None:
        foreign_programs(architecture)
        mirror = os.environ.get("DEBIAN_MIRROR")
        tool("mmdebstrap", "--mode=root", f"--architectures={architecture}", "--variant=minbase",
             "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr", f"--include={','.join(PACKAGES + packages)}",
             '--aptopt=Acquire::Languages "none"', '--aptopt=Apt::Install-Recommends "false"',
             *[f"--dpkgopt=path-exclude={path}" for path in LEFT_OUT],
             f"--customize-hook={KERNEL.replace('@KERNEL@', kernel)}",
             SUITE, place / "root.tar", *([mirror] if mirror else []))

    return cache.get(f"bootstrap-{architecture}", inputs, build) / "root.tar"


def foreign_programs(architecture: str) -> None:
    """Has the host's kernel run the architecture's programs by qemu-user, as its package would at the next boot."""
    foreign = {"arm64": "aarch64"}.get(architecture)
    if foreign is None:
        return
    registry = Path("/proc/sys/fs/binfmt_misc")
    if not (registry / "register").exists():
        tool("mount", "-t", "binfmt_misc", "binfmt_misc", registry)
    if not (registry / f"qemu-{foreign}").exists():
        rule = Path(f"/usr/lib/binfmt.d/qemu-{foreign}.conf").read_text(encoding="utf-8")
        (registry / "register").write_text(rule, encoding="utf-8")
