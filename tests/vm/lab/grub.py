"""The chain with GRUB on a PC with a BIOS, and its environment block on FAT."""

import tempfile
from collections.abc import Callable
from pathlib import Path

from .cache import Cache
from .chain import DATA, ENV, HERE, MIB, SHIPPED, SLOTS, Chain, Part, Said, calls_of
from .tool import tool

LOADER = HERE / "loader"
GRUB = Path("/usr/lib/grub/i386-pc")
# What grub.cfg uses, as it says itself, and how this machine reads its disk and writes its console.
MODULES = ("biosdisk", "part_gpt", "ext2", "fat", "normal", "linux", "loadenv", "test", "regexp", "echo", "reboot",
           "sleep", "datehook", "configfile", "serial", "terminal", "boot", "ls", "cat")
BIOS = Part("bios", MIB, "ef02")
# As packaging/boot/grub/grub.cfg tells the integrator to make it.
FACTORY = ("ORDER=A B", "A_OK=1", "A_TRY=0", "B_OK=0", "B_TRY=0")
SIZE = 1024
SIGNATURE = b"# GRUB Environment Block\n"


class Grub(Chain):
    """GRUB 2 on a small PC, 32 bits wide."""

    name = "grub"
    loader = "grub"
    systems = "amd64"
    architecture = "amd64"
    kernel = "linux-image-cloud-amd64"
    # The other program that writes the block, to look at it.
    packages = ("grub-common",)
    machine = ("qemu-system-x86_64", "-machine", "q35", "-cpu", "max", "-accel", "tcg,thread=multi,tb-size=256")
    configuration = '[boot]\nloader = "grub"\n\n[boot.grub]\nenvironment = "/boot/env/grub/grubenv"\n'
    drive = "nvme,drive=disk,serial=lab,bootindex=0"
    partitions = (ENV, *SLOTS, DATA, BIOS)
    # The C library asks for a thread by a call that no filter can look into, is told that there is none, and takes the
    # older one.
    harmless = ("^filter clone3",)

    def build(self, cache: Cache) -> Path:
        """The part of GRUB that a BIOS starts, made for this disk and nothing else."""
        version = tool("grub-mkimage", "--version")
        return cache.get("grub", [Path(__file__), version], _build)

    def firmware(self, built: Path) -> list[str]:
        return []

    def guest_files(self) -> dict[str, Path]:
        return {}

    def environment(self, built: Path, place: Path) -> None:
        """A FAT file system with GRUB's script, what it says of this board, and the block."""
        with place.open("wb") as file:
            file.truncate(ENV.size)
        tool("mformat", "-i", place, "-c", "4", "-v", "ENV", "::")
        tool("mmd", "-i", place, "::grub")
        with tempfile.TemporaryDirectory(dir=place.parent) as directory:
            block = Path(directory, "grubenv")
            tool("grub-editenv", block, "create")
            tool("grub-editenv", block, "set", *FACTORY)
            for file in (SHIPPED / "grub" / "grub.cfg", LOADER / "grub" / "board.cfg", block):
                tool("mcopy", "-i", place, file, f"::grub/{file.name}")

    def finish(self, built: Path, disk: Path) -> None:
        """What grub-install does: the disk's first sector, and the rest in a partition of its own."""
        start = self.start_of(BIOS.name)
        core = (built / "core.img").read_bytes()
        with disk.open("r+b") as file:
            # GRUB's boot.h: where the first sector finds the next one. The partition table behind byte 440 stays.
            boot = bytearray((GRUB / "boot.img").read_bytes())
            boot[0x5C:0x64] = (start // 512).to_bytes(8, "little")
            file.write(boot[:440])
            file.seek(510)
            file.write(b"\x55\xaa")
            # And this one the rest: from which sector, and how many; where to put them is there already.
            rest = bytearray(core + bytes(-len(core) % 512))
            rest[0x1F4:0x1FC] = (start // 512 + 1).to_bytes(8, "little")
            rest[0x1FC:0x1FE] = (len(rest) // 512 - 1).to_bytes(2, "little")
            file.seek(start)
            file.write(rest)

    def said(self, read: Callable[[int, int], bytes]) -> Said:
        variables = self.variables(read)
        first = variables["ORDER"].split()[0]
        other = "B" if first == "A" else "A"
        is_trial = variables.get("twinboot_trial") == first.lower()
        has_fallen_back = variables[f"{other}_TRY"] != "0"
        if variables[f"{first}_OK"] != "1" or (is_trial and has_fallen_back):
            return Said(other.lower(), "")
        return Said(other.lower(), first.lower()) if is_trial else Said(first.lower(), "")

    def variables(self, read: Callable[[int, int], bytes]) -> dict[str, str]:
        """Those of the block on the disk."""
        with tempfile.NamedTemporaryFile() as partition, tempfile.TemporaryDirectory() as place:
            partition.write(read(0, ENV.size))
            partition.flush()
            tool("mcopy", "-i", partition.name, "::grub/grubenv", f"{place}/grubenv")
            block = Path(place, "grubenv").read_bytes()
        if len(block) != SIZE or not block.startswith(SIGNATURE):
            raise ValueError("the environment block is none")
        lines = (line for line in block.decode().splitlines() if not line.startswith("#") and "=" in line)
        return dict(line.split("=", 1) for line in lines)

    def system_calls(self) -> dict[int, str]:
        # As this machine's own compiler has it: the lab's host is of the same kind.
        return calls_of(Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"), r"^#define __NR_(\w+)\s+(\d+)$")


def _build(place: Path) -> None:
    tool("grub-mkimage", "--format=i386-pc", f"--directory={GRUB}", "--prefix=(,gpt1)/grub",
         f"--output={place / 'core.img'}", *MODULES)
