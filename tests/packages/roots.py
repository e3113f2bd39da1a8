"""Debian as it is before twinboot comes: a minimal system with systemd for each release, made once and kept."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import Failure

# Where packages come from; mmdebstrap knows Debian's own.
MIRROR = [mirror] if (mirror := os.environ.get("DEBIAN_MIRROR")) else []
# dbus for systemd-run and reboots, libubootenv-tool as on a board with U-Boot, man-db for what units refer to.
PACKAGES = ["systemd", "systemd-sysv", "dbus", "libubootenv-tool", "ca-certificates", "man-db", "procps"]
# Nothing here needs them, and every image that is built, fetched and read back is smaller.
UNNEEDED = ["usr/share/locale", "usr/share/i18n", "usr/share/doc/*", "usr/lib/*/gconv", "var/cache/apt/*.bin"]
# What makes no sense on a board that has its host's kernel, network and clock; then `running` means that all is well.
MASKED = [
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
    ),
    *("fstrim.timer", "man-db.timer", "getty.target", "console-getty.service", "systemd-timesyncd.service"),
    *("systemd-networkd.service", "systemd-remount-fs.service", "systemd-sysctl.service"),
    *("systemd-modules-load.service", "systemd-udevd.service", "systemd-udev-trigger.service"),
]


def make(release: str, cache: Path, logs: Path) -> Path:
    """The directory of a release's system: kept, or made now."""
    command = _command(release)
    key = hashlib.sha256("\0".join(command).encode()).hexdigest()[:12]
    root = cache / f"{release}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    # Two runs at once must not make it both.
    with open(cache / f"{release}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if root.is_dir():
            return root
        for old in cache.glob(f"{release}-*"):
            shutil.rmtree(old)
        began = time.monotonic()
        print(f"-- making a Debian {release}: some two minutes, once; it stays in {cache}", flush=True)
        _bootstrap(command, root.with_suffix(".new"), logs / f"mmdebstrap-{release}.log")
        root.with_suffix(".new").rename(root)
        print(f"-- Debian {release} made in {time.monotonic() - began:.0f} s", flush=True)
    return root


def _command(release: str) -> list[str]:
    """How it is made; the directory is still to be added."""
    masks = " ".join(f'"$1/etc/systemd/system/{unit}"' for unit in MASKED)
    trim = " ".join(f'"$1"/{path}' for path in UNNEEDED)
    return [
        *("mmdebstrap", "--variant=minbase", "--format=directory", f"--include={','.join(PACKAGES)}"),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=Acquire::Check-Valid-Until "false"',
        f"--customize-hook=rm -rf {trim}",
        f"--customize-hook=for unit in {masks}; do ln -sf /dev/null $unit; done",
        # A journal that is still there after a reboot, and nothing of the machine on which this is made.
        '--customize-hook=mkdir -p "$1/var/log/journal"; echo board >"$1/etc/hostname"',
        '--customize-hook=printf "127.0.0.1 localhost\\n127.0.1.1 board\\n" >"$1/etc/hosts"; : >"$1/etc/resolv.conf"',
        '--customize-hook=systemctl --root="$1" set-default multi-user.target',
        release,
    ]


def _bootstrap(command: list[str], root: Path, log: Path) -> None:
    with open(log, "wb") as out:
        made = subprocess.run(
            [*command, root, *MIRROR], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
    if made.returncode:
        shutil.rmtree(root, ignore_errors=True)
        raise Failure(f"mmdebstrap ended with {made.returncode}: {log.read_text(errors='replace')[-1500:]}")
