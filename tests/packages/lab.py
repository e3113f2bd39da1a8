"""What a story works with: the packages, images of systems with them, boards, and a hub."""

import shutil
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from cloud import CONNECTION_STRING, KEY, MQTT, Cloud
from firmware import FIRMWARE, Firmware
from images import Tree, pack
from loader import fw_env_config
from machine import Board, run

# Where both slots keep what belongs to the device.
DATA = "var/lib/twinboot"
AUTHORITY = "etc/ssl/board-ca.pem"
FW_ENV_CONFIG = "etc/fw_env.config"
STRING = "etc/twinboot/connection-string"
BOARD = "etc/twinboot/conf.d/50-board.toml"
CONFIGURATION = """\
[hub]
transport = "mqtt"
[tls]
ca_files = ["/etc/ssl/board-ca.pem"]
system_roots = false
[slots]
a = "/dev/disk/by-partlabel/rootfs-a"
b = "/dev/disk/by-partlabel/rootfs-b"
[download]
backoff = ["100ms", "1s"]
[health]
deadline = "2m"
[report]
progress_every = "1s"
"""
# Of every key and token, whichever it is.
TRACES = ("SharedAccessSignature", "SharedAccessKey=")
# Older than any package of ours.
PREVIOUS = "0.0.1~previous"

HEALTH = "etc/twinboot/health.d/50-board"
# What the sandbox of the service would not let it do.
WELL = """#!/bin/bash
set -e
exec 3<>/dev/tcp/localhost/8443
. /etc/os-release
echo "a trial of $IMAGE_VERSION" >/run/health
"""
ILL = "#!/bin/sh\necho the pump is dry\nexit 1\n"
UNDECIDED = "#!/bin/sh\ntouch /srv/asked\ntest -e /srv/decided || exit 75\n"


class Lab:
    """One release of Debian, with the package under test."""

    def __init__(self, release: str, root: Path, package: Path, emulator: Path, directory: Path):
        self.release, self.root, self.package, self.directory = release, root, package, directory
        self.version = run("dpkg-deb", "--field", package, "Version").strip()
        self.connection_string = CONNECTION_STRING.replace("localhost;", f"localhost:{MQTT};", 1)
        self.secret = KEY
        self.cloud: Cloud | None = None
        self._emulator = emulator
        self._made = 0
        groups = directory / "cgroup"
        groups.mkdir()
        run("mount", "-t", "cgroup2", "cgroup2", groups)
        # The name by which `run` finds it, if nobody is left here to remove it.
        self._cgroups = groups / f"twinboot-packages-{directory.name}-{directory.parent.name}"

    def close(self) -> None:
        """Leaves nothing behind; what is still in use then, `run` takes care of."""
        with suppress(OSError):
            self._cgroups.rmdir()

    def _new(self, name: str) -> Path:
        self._made += 1
        return self.directory / f"{self._made:02}-{name}"

    def new_cloud(self) -> Cloud:
        """An emulator that knows nothing of earlier stories."""
        directory = self._new("cloud")
        shutil.copytree(self.seed.ca.parent, directory)
        self.cloud = Cloud(self._emulator, directory).start()
        return self.cloud

    @cached_property
    def seed(self) -> Cloud:
        """An emulator that has been started once: with its authority, which all others have too."""
        seed = Cloud(self._emulator, self.directory / "seed").start()
        seed.stop()
        return seed

    def board(self, image: Path, data: str | None = DATA, read_only: bool = False) -> Board:
        """A new board, switched off, with `image` in slot A and nothing in slot B."""
        return Board(self._new("board"), self._cgroups, [self.secret, *TRACES], image, data, read_only)

    def bare_board(self) -> Board:
        """A new board whose system has never seen twinboot, and which shares nothing between its slots."""
        return self.board(self.bare, data=None)

    def tree(self, *above: Path) -> Tree:
        """A new tree above Debian's, and above those that are given, the highest first."""
        return Tree(self._new("tree"), *above, self.root)

    @cached_property
    def bare(self) -> Path:
        """A system without twinboot."""
        with self.tree() as tree:
            return tree.image(self.directory / "bare.ext4")

    @cached_property
    def previous(self) -> Path:
        """The package as if it were an older one: with another version, and another configuration file."""
        directory = self._new("previous")
        run("dpkg-deb", "--raw-extract", self.package, directory)
        control = directory / "DEBIAN/control"
        control.write_text(
            control.read_text().replace(f"\nVersion: {self.version}\n", f"\nVersion: {PREVIOUS}\n")
        )
        with open(directory / "etc/twinboot/twinboot.toml", "a") as file:
            file.write("# Of an earlier version.\n")
        package = self.directory / f"twinboot_{PREVIOUS}.deb"
        run("dpkg-deb", "--root-owner-group", "-Znone", "--build", directory, package)
        return package

    def _configured(self, package: Path) -> Path:
        """What a configured twinboot adds to a system, all done in a chroot, as the integrator of a board does."""
        with self.tree() as tree:
            tree.install(package)
            tree.write(BOARD, CONFIGURATION)
            tree.write(STRING, self.connection_string, 0o600)
            tree.write(AUTHORITY, self.seed.ca.read_text())
            tree.write(FW_ENV_CONFIG, fw_env_config("/dev/disk/by-partlabel/env"))
            tree.version("1.0.0")
            tree.chroot("systemctl enable -q twinboot")
            return tree.upper

    @cached_property
    def _new_tree(self) -> Path:
        return self._configured(self.package)

    @cached_property
    def _previous_tree(self) -> Path:
        return self._configured(self.previous)

    @cached_property
    def installed(self) -> Path:
        """A system, version 1.0.0, on which twinboot is installed, configured and enabled."""
        with self.tree(self._new_tree) as tree:
            return tree.image(self.directory / "installed.ext4")

    @cached_property
    def previously_installed(self) -> Path:
        """The same with the older package."""
        with self.tree(self._previous_tree) as tree:
            return tree.image(self.directory / "previous.ext4")

    def _firmware(self, name: str, below: Path, health: str) -> Firmware:
        with self.tree(below) as tree:
            tree.version(FIRMWARE)
            tree.write(HEALTH, health, 0o755)
            image = tree.image(self.directory / f"{name}.ext4")
        packed = image.with_suffix(".ext4.zst")
        firmware = Firmware(FIRMWARE, packed, pack(image, packed))
        image.unlink()
        return firmware

    @cached_property
    def well(self) -> Firmware:
        """Firmware that is well, whose health program wants to see the whole system."""
        return self._firmware("well", self._new_tree, WELL)

    @cached_property
    def ill(self) -> Firmware:
        """Firmware that is not."""
        return self._firmware("ill", self._new_tree, ILL)

    @cached_property
    def undecided(self) -> Firmware:
        """Firmware with the older package, which stays on trial until somebody makes /srv/decided."""
        return self._firmware("undecided", self._previous_tree, UNDECIDED)

    def put_to_work(self, board: Board) -> None:
        """Installs the package on a running system, and configures, enables and starts the service."""
        board.install(self.package)
        board.write(BOARD, CONFIGURATION)
        board.write(AUTHORITY, self.seed.ca.read_text())
        board.write(FW_ENV_CONFIG, fw_env_config("/dev/disk/by-partlabel/env"))
        board.sh(f"umask 077; cat >/{STRING}", input=self.connection_string)
        board.sh("systemctl enable --now twinboot")

    def tidy(self, board: Board) -> None:
        """Takes away what `put_to_work` has made beside the package."""
        board.sh(f"cd /; rm {BOARD} {AUTHORITY} {FW_ENV_CONFIG} {STRING}")
