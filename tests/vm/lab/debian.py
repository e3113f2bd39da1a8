"""The systems that the machines run: a small Debian, once as it comes and once with twinboot, and hardly anything."""

import shutil
from collections.abc import Callable
from pathlib import Path

from .bootstrap import bootstrap, foreign_programs
from .cache import Cache
from .chain import Chain
from .tool import tool

HERE = Path(__file__).resolve().parent.parent
# Files that every system gets, in the places where they are there.
GUEST = HERE / "guest"
# And what is different on this board from what twinboot takes for granted.
BOARD = HERE / "board.toml"

# Modules besides what is built into Debian's kernel for virtual machines (PCI, NVMe, ext4, GPT, serial console).
MODULES = ("virtio_pci", "virtio_net", "virtio_console", "vfat", "nls_cp437", "nls_ascii", "autofs4", "loop",
           "squashfs", "overlay", "virtio_scsi", "sd_mod")
# Nobody waits for these, and each costs a second where a processor is emulated.
MASKED = ("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer",
          "e2scrub_reap.service", "fstrim.timer", "auditd.service", "systemd-pcrphase.service",
          "systemd-pcrphase-sysinit.service", "systemd-random-seed.service", "systemd-update-utmp.service",
          "systemd-update-utmp-runlevel.service", "systemd-binfmt.service", "kmod-static-nodes.service",
          "systemd-sysctl.service", "systemd-journal-flush.service", "getty.target", "systemd-logind.service",
          "systemd-user-sessions.service", "systemd-fsckd.socket",
          "systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-clean.timer", "dev-hugepages.mount",
          "dev-mqueue.mount", "sys-kernel-debug.mount",
          "sys-kernel-tracing.mount", "sys-kernel-config.mount", "sys-fs-fuse-connections.mount",
          *(f"modprobe@{module}.service" for module in ("configfs", "dm_mod", "drm", "efi_pstore", "fuse", "loop")))
# Large, and about devices and alphabets that no machine here has.
TOO_LARGE = ("usr/lib/udev/hwdb.bin", "usr/lib/udev/hwdb.d", "usr/lib/*/gconv")
# What an image for gateways has no use for, as nobody installs packages in it: what does that, what only that needs, and
# what installs boot loaders. Every byte of an image goes through an emulated processor some times.
FOR_PACKAGES = (
    "usr/bin/apt*", "usr/lib/apt", "usr/lib/*/libapt-*", "var/lib/apt", "usr/bin/dpkg*", "var/lib/dpkg", "usr/bin/gpgv",
    "usr/bin/perl*", "usr/lib/*/perl-base", "usr/share/perl*", "usr/share/debconf", "var/cache/debconf",
    *(f"usr/lib/*/lib{name}.so*" for name in
      ("stdc++", "gnutls", "hogweed", "nettle", "p11-kit", "idn2", "unistring", "tasn1", "xxhash", "db-5.3")),
    "usr/lib/*/security/pam_userdb.so", "usr/sbin/arpd",
    "usr/bin/grub-[!e]*", "usr/sbin/grub-*", "usr/lib/grub*", "usr/share/grub",
    "usr/lib/systemd/systemd-networkd", "usr/bin/openssl", "usr/bin/localedef", "usr/sbin/ldconfig", "usr/sbin/tc",
    "usr/sbin/devlink", "usr/sbin/tipc", "usr/bin/rdma",
)
# Of systemd's generators, each of which is a program that is started before anything else.
GENERATORS = frozenset({"systemd-fstab-generator"})


def debian(cache: Cache, chain: Chain) -> Path:
    """A file tree in an archive: Debian with its kernel and the lab's own services."""
    base = bootstrap(cache, chain.architecture, chain.kernel, chain.packages)
    files = sorted(path for path in GUEST.rglob("*") if path.is_file())
    own = chain.guest_files()
    inputs = [Path(__file__), str(base), *chain.modules, *(str(path.relative_to(HERE)) for path in files), *files,
              *own, *own.values()]
    return cache.get(f"{chain.systems}-debian", inputs,
                     lambda place: unpacked(base, place, lambda root: _complete(chain, root, own))) / "root.tar"


def gateway(cache: Cache, chain: Chain, package: Path, authority: Path) -> Path:
    """The same with the package installed, as for an image; what it takes for granted is so on this board."""
    base = debian(cache, chain)
    board = {"/etc/twinboot/conf.d/50-board.toml": BOARD, "/usr/local/share/hub-ca.crt": authority}
    inputs = [Path(__file__), str(base), package, *board, *board.values()]

    def change(root: Path) -> None:
        shutil.copy(package, root / "tmp/twinboot.deb")
        tool("chroot", root, "env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "--install", "/tmp/twinboot.deb")
        (root / "tmp/twinboot.deb").unlink()
        for path, file in board.items():
            shutil.copy(file, root / path.lstrip("/"))
        tool("systemctl", f"--root={root}", "enable", "--quiet", "twinboot.service")
        _remove(root, FOR_PACKAGES)

    def build(place: Path) -> None:
        foreign_programs(chain.architecture)
        unpacked(base, place, change)

    return cache.get(f"{chain.systems}-gateway", inputs, build) / "root.tar"


def stub(cache: Cache, chain: Chain) -> Path:
    """A kernel and a shell: enough to be a system that does not come up, and small."""
    base = debian(cache, chain)

    def reduce(root: Path) -> None:
        kept = {root / path for path in ("boot/vmlinuz", "usr/lib/os-release", "usr/bin/bash", "usr/bin/sh")}
        for pattern in ("ld-linux*", "*/ld-linux*", "*/libc.so.6", "*/libtinfo.so.6*"):
            for directory in ("usr/lib", "usr/lib64"):
                kept |= set((root / directory).glob(pattern))
        for path in sorted(root.rglob("*"), reverse=True):
            if path.is_dir() and not path.is_symlink():
                if path.parent != root and not any(path.iterdir()):
                    path.rmdir()
            elif path not in kept and path.parent != root:
                path.unlink()
        (root / "usr/bin/sh").unlink(missing_ok=True)
        (root / "usr/bin/sh").symlink_to("bash")
        (root / "usr/sbin").mkdir(exist_ok=True)

    return cache.get(f"{chain.systems}-stub", [Path(__file__), str(base)],
                     lambda place: unpacked(base, place, reduce)) / "root.tar"


def unpacked(archive: Path, place: Path, change: Callable[[Path], None]) -> None:
    """Unpacks a tree, changes it, and packs it again as root.tar in `place`."""
    root = place / "root"
    root.mkdir()
    tool("tar", "-C", root, "--numeric-owner", "--xattrs", "-xf", archive)
    change(root)
    tool("tar", "-C", root, "--numeric-owner", "--xattrs", "-cf", place / "root.tar", ".")
    shutil.rmtree(root)


def _complete(chain: Chain, root: Path, own: dict[str, Path]) -> None:
    """From what Debian's packages make of a directory to a system that boots in the lab."""
    _kernel(root, (*MODULES, *chain.modules))
    # A package that is installed later shall come with everything it has.
    (root / "etc/dpkg/dpkg.cfg.d/99mmdebstrap").unlink()
    (root / "boot/env").mkdir()
    (root / "var/lib/twinboot").mkdir()
    (root / "etc/machine-id").write_text("", encoding="ascii")
    tool("chroot", root, "passwd", "--delete", "root")
    tool("cp", "--recursive", f"{GUEST}/.", root)
    for path, file in own.items():
        shutil.copy(file, root / path.lstrip("/"))
    for unit in sorted((GUEST / "etc/systemd/system").glob("*.service")):
        tool("systemctl", f"--root={root}", "enable", "--quiet", unit.name)
    tool("systemctl", f"--root={root}", "mask", "--quiet", *MASKED)
    _remove(root, TOO_LARGE)
    (root / "etc/systemd/system-generators").mkdir()
    for generator in (root / "usr/lib/systemd/system-generators").iterdir():
        if generator.name not in GENERATORS:
            (root / "etc/systemd/system-generators" / generator.name).symlink_to("/dev/null")
    tool("systemctl", f"--root={root}", "set-default", "--quiet", "multi-user.target")
    # As if it had been started before: what systemd does at a first start is done, and takes its time.
    for directory in ("etc", "var"):
        (root / directory / ".updated").touch()


def _remove(root: Path, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        for path in root.glob(pattern):
            tool("rm", "-rf", path)


def _kernel(root: Path, modules: tuple[str, ...]) -> None:
    """Debian's kernel for virtual machines, which needs no initrd here, and a few of its modules."""
    package = next((root / "boot").glob("linux-image-*.deb"))
    unpacked_to = root / "kernel"
    tool("dpkg-deb", "--extract", package, unpacked_to)
    package.unlink()
    next((unpacked_to / "boot").glob("vmlinuz-*")).rename(root / "boot/vmlinuz")
    release = next((unpacked_to / "lib/modules").iterdir())
    target = root / "usr/lib/modules" / release.name
    tool("depmod", "--basedir", unpacked_to, release.name)
    needed = tool("modprobe", "--dirname", unpacked_to, "--set-version", release.name, "--all", "--show-depends",
                  *modules)
    for line in needed.splitlines():
        if line.startswith("insmod "):
            module = Path(line.split()[1])
            kept = target / module.relative_to(release)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(module, kept)
    for listing in release.glob("modules.*"):
        if listing.name in ("modules.builtin", "modules.builtin.modinfo", "modules.order"):
            shutil.copy(listing, target)
    tool("depmod", "--basedir", root / "usr", release.name)
    shutil.rmtree(unpacked_to)
