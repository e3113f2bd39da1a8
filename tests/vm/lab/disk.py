"""Images of root file systems, and the disk of a machine: environment, two slots, data. Nothing is ever mounted."""

import hashlib
import random
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from .cache import Cache
from .chain import DATA, MIB, Chain
from .tool import ToolError, tool

# What U-Boot 2023.01 cannot read.
EXT4 = ("-t", "ext4", "-b", "4096", "-O", "^metadata_csum_seed,^orphan_file")


# What images can be made of, and files of the host that can be put into them.
SYSTEMS = frozenset({"debian", "gateway", "stub"})
FILES = frozenset({"twinboot.deb", "hub-ca.crt", "connection-string", "root.pem", "72-twinboot-medium.rules"})


@dataclass(frozen=True)
class Image:
    """What a scenario wants in an image: a system, and how it differs from it."""

    system: str
    """One of SYSTEMS."""
    version: str
    """Its `IMAGE_VERSION`."""
    files: dict[str, str] = field(default_factory=dict)
    """Path and content; in place of what is there."""
    programs: dict[str, str] = field(default_factory=dict)
    """The same, and executable."""
    copies: dict[str, str] = field(default_factory=dict)
    """Path, and which of FILES to put there."""
    without: tuple[str, ...] = ()
    """Paths of files that are removed."""
    trusts: bool = False
    """Whether it has the operator's root key, and so takes bundles that are signed and nothing else."""
    news: int = 0
    """MiB that no other image has, and that cannot be packed: what a bundle of it makes a device fetch."""


def file_system(cache: Cache, name: str, archive: Path, room: int) -> Path:
    """A file system with the tree of an archive, and `room` bytes to work with."""
    inputs = [Path(__file__), name, str(archive), str(room)]

    def build(place: Path) -> None:
        root = place / "root"
        root.mkdir()
        tool("tar", "-C", root, "--numeric-owner", "--xattrs", "-xf", archive)
        used = int(tool("du", "--summarize", "--block-size=1", root).split()[0])
        # Beside the files: a journal, inodes, and what a running system writes outside of its tmpfs. Full, it could not
        # even start a service with a sandbox, which begins in /tmp.
        blocks = (used * 21 // 20 + 32 * MIB + room) // 4096
        tool("mke2fs", "-q", *EXT4, "-J", "size=8", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-d", root,
             place / "image", str(blocks))
        shutil.rmtree(root)

    return cache.get(f"{name}-image", inputs, build) / "image"


def make_image(base: Path, image: Image, files: dict[str, Path], place: Path) -> None:
    """The file system `base` changed into what a scenario wants; `files` are where FILES are."""
    tool("cp", "--sparse=always", "--reflink=auto", base, place)
    release = tool("debugfs", "-R", "cat /usr/lib/os-release", place)
    release = "".join(line + "\n" for line in release.splitlines() if "=" in line)
    changes = [*image.files.items(), ("/usr/lib/os-release", f'{release}IMAGE_VERSION="{image.version}"\n')]
    commands = [f"rm {path}" for path in image.without]
    written = place.with_suffix(".files")
    written.mkdir()
    if image.news:
        news = written / "news"
        news.write_bytes(random.Random(image.version).randbytes(image.news * MIB))
        commands += _put(news, "/usr/share/news", "0100644")
    for number, (path, content, mode) in enumerate(
            [(path, content, "0100644") for path, content in changes]
            + [(path, content, "0100755") for path, content in image.programs.items()]):
        source = written / str(number)
        source.write_text(content, encoding="utf-8")
        commands += _put(source, path, mode)
    for path, name in image.copies.items():
        commands += _put(files[name], path, "0100644")
    said = tool("debugfs", "-w", "-f", "-", place, stdin="\n".join(commands) + "\n")
    shutil.rmtree(written)
    # It goes on after a mistake, and ends with 0. To remove a file that is new is none, nor a directory that is there.
    bad = [line for line in said.splitlines() if ": " in line and not line.startswith(("debugfs", "Allocated"))
           and not line.startswith(("rm: File not found by ext2_lookup while trying to resolve filename",
                                    "mkdir: Ext2 directory already exists",
                                    "ext2fs_mkdir: Ext2 directory already exists"))]
    if bad:
        raise ToolError(f"debugfs: {bad}")


def _put(source: Path, path: str, mode: str) -> list[str]:
    """Its directory is made if its parent is there, as for a unit's drop-ins."""
    return [f"mkdir {Path(path).parent}", f"rm {path}", f"write {source} {path}", f"sif {path} mode {mode}",
            f"sif {path} uid 0", f"sif {path} gid 0"]


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def make_disk(chain: Chain, built: Path, work: Path, slots: dict[str, Path], data: Path) -> None:
    """The file `disk` in `work`, as it leaves the factory: `slots` by their letters, `data` a directory."""
    place = work / "disk"
    table = ["sgdisk", "--clear"]
    for number, part in enumerate(chain.partitions, 1):
        table += [f"--new={number}:{chain.start_of(part.name) // 512}:+{part.size // 1024}K",
                  f"--change-name={number}:{part.name}", f"--typecode={number}:{part.kind}"]
    with place.open("wb") as disk:
        disk.truncate(chain.size())
    tool(*table, place)
    parts = {"env": work / "env.img", "data": work / "data.img"}
    chain.environment(built, parts["env"])
    tool("mke2fs", "-q", *EXT4, "-d", data, parts["data"], f"{DATA.size // 1024}K")
    # As systemd wants a service's directory of state; mke2fs does not take it from the one it copies.
    tool("debugfs", "-w", "-R", "sif <2> mode 040700", parts["data"])
    for name, source in (parts | {f"rootfs-{letter}": image for letter, image in slots.items()}).items():
        tool("dd", f"if={source}", f"of={place}", "bs=1M", f"seek={chain.start_of(name) // MIB}",
             "conv=notrunc,sparse", "status=none")
    for source in parts.values():
        source.unlink()
    chain.finish(built, place)
