"""What a story works with: the packages, images of systems with them, boards, and a hub."""

import shutil
from contextlib import suppress
from functools import cached_property
from pathlib import Path

from cloud import CONNECTION_STRING, HTTPS, MQTT, Cloud
from images import Tree, pack
from loader import fw_env_config
from machine import Board, run

# Where both slots keep what belongs to the device.
DATA = "var/lib/twinboot"
CONFIGURATION = f"""\
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


class Lab:
    """One release of Debian, with the package under test."""

    def __init__(self, release: str, root: Path, package: Path, emulator: Path, directory: Path):
        self.release, self.root, self.package, self.directory = release, root, package, directory
        self._emulator = emulator
        self._cgroups = directory / "cgroup"
        self._cgroups.mkdir(parents=True)
        run("mount", "-t", "cgroup2", "cgroup2", self._cgroups)
        # The name by which `run` finds it, if nobody is left here to remove it.
        self._cgroups /= f"twinboot-packages-{release}-{directory.parent.name}"
        self._made = 0
        self.cloud: Cloud | None = None

    def close(self) -> None:
        """Leaves nothing behind; what is still in use then, `run` takes care of."""
        with suppress(OSError):
            self._cgroups.rmdir()

    def _new(self, name: str) -> Path:
        self._made += 1
        return self.directory / f"{self._made:02}-{name}"

    def board(self, image: Path, data: str | None = DATA, read_only: bool = False) -> Board:
        """A new board, switched off, with `image` in slot A and nothing in slot B."""
        return Board(self._new("board"), self._cgroups, image, data, read_only)

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
    def installed_tree(self) -> Path:
        """What a configured twinboot adds to a system, all done in a chroot."""
        with self.tree() as tree:
            tree.install(self.package)
            self.configure(tree)
            return tree.upper

    def configure(self, tree: Tree) -> None:
        """Does what the integrator of a board does."""
        tree.write("etc/twinboot/conf.d/50-board.toml", CONFIGURATION)
        tree.write("etc/twinboot/connection-string", self.connection_string + "\n", 0o600)
        tree.write("etc/ssl/board-ca.pem", self.seed.ca.read_text())
        tree.write("etc/fw_env.config", fw_env_config("/dev/disk/by-partlabel/env"))
        tree.write("etc/os-release", f'ID=board\nIMAGE_VERSION=1.0.0\nPRETTY_NAME="A board"\n')
        (tree.path / DATA).mkdir(exist_ok=True)
        tree.chroot("systemctl enable -q twinboot")

    @property
    def connection_string(self) -> str:
        """Of the emulator's one device."""
        return CONNECTION_STRING.replace("localhost;", f"localhost:{MQTT};", 1)

    @cached_property
    def installed(self) -> Path:
        """A system, version 1.0.0, on which twinboot is installed, configured and enabled."""
        with self.tree(self.installed_tree) as tree:
            return tree.image(self.directory / "installed.ext4")

    def firmware(self, version: str, files: dict[str, tuple[str, int]]) -> tuple[Path, str]:
        """An image of another version, in which these files are different; packed, with its digest."""
        with self.tree(self.installed_tree) as tree:
            tree.write("etc/os-release", f'ID=board\nIMAGE_VERSION={version}\nPRETTY_NAME="A board"\n')
            for path, (text, mode) in files.items():
                tree.write(path, text, mode)
            image = tree.image(self.directory / f"{version}.ext4")
        packed = image.with_suffix(".ext4.zst")
        digest = pack(image, packed)
        image.unlink()
        return packed, digest

    @cached_property
    def seed(self) -> Cloud:
        """An emulator that has been started once: with its authority, which all others have too."""
        seed = Cloud(self._emulator, self.directory / "seed").start()
        seed.stop()
        return seed

    def new_cloud(self) -> Cloud:
        """An emulator that knows nothing of earlier stories."""
        directory = self._new("cloud")
        shutil.copytree(self.seed.ca.parent, directory)
        self.cloud = Cloud(self._emulator, directory).start()
        return self.cloud
