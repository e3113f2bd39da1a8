"""Other updaters, as Debian has them, each told to install an image from a server into a slot.

They do for it what they do: RAUC checks a signature and mounts the bundle, which it fetches whole beforehand; SWUpdate
checks a signature and a digest; Mender a digest. None of them reads back what it wrote.
"""

import hashlib
import inspect
import shutil
import textwrap
from pathlib import Path

from .full import Image, Way, url
from .measure import measured
from .place import HOME, Trouble, run, say
from .server import Server
from .storage import ReadOnly


class Peer(Way):
    """An updater with a file format of its own."""

    # What its file is called, and by which words it packs, for each ending of the plain image.
    ending = ""
    packs: dict[str, str] = {}

    def __init__(self, packed: str) -> None:
        """`packed` is the ending that the case is about; who cannot pack like that packs as it can."""
        self._how = self.packs[packed]

    def file(self, image: Image) -> Path:
        """What the server has; made anew when it is made in another way."""
        recipe = hashlib.sha256(inspect.getsource(type(self).pack).encode()).hexdigest()[:8]
        return image.packed.parent / f"{self.name}-{self._how}-{recipe}{self.ending}"

    def publish(self, image: Image) -> None:
        file = self.file(image)
        if not file.exists():
            say(f"{self.name} packs {image.raw.name} ({self._how})")
            work = HOME / "packing"
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()
            self.pack(image, work).rename(file)
            shutil.rmtree(work)

    def pack(self, image: Image, work: Path) -> Path:
        """Makes the file, in an empty directory."""
        raise NotImplementedError


def certificate(purpose: str) -> tuple[Path, Path]:
    """A certificate that signs itself, and its key; made once."""
    keys = HOME / "keys"
    keys.mkdir(exist_ok=True)
    made = keys / f"{purpose}.crt", keys / f"{purpose}.key"
    if not made[0].exists():
        configuration = keys / f"{purpose}.cnf"
        configuration.write_text("[req]\ndistinguished_name=name\nprompt=no\nx509_extensions=use\n[name]\nCN=bench\n"
                                 f"[use]\nkeyUsage=digitalSignature\nextendedKeyUsage={purpose}\n", encoding="utf-8")
        run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", made[1], "-out", made[0], "-days", "3650",
            "-config", configuration)
    return made


def script(path: Path, text: str) -> Path:
    """A program of a shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + textwrap.dedent(text), encoding="utf-8")
    path.chmod(0o755)
    return path


class Rauc(Peer):
    """A plain bundle: the kernel would need NBD for one that is streamed."""

    name, ending = "rauc", ".raucb"
    needs = ("rauc=rauc", "mksquashfs=squashfs-tools", "dbus-run-session=dbus", "openssl=openssl")
    packs = {".zst": "zstd", ".gz": "gzip", "": "gzip"}

    def pack(self, image: Image, work: Path) -> Path:
        crt, key = certificate("emailProtection")
        content, bundle = work / "content", work / "bundle"
        content.mkdir()
        shutil.copy(image.raw, content / "rootfs.ext4")
        (content / "manifest.raucm").write_text("[update]\ncompatible=bench\nversion=2\n[bundle]\nformat=plain\n"
                                                "[image.rootfs]\nfilename=rootfs.ext4\n", encoding="utf-8")
        run("rauc", f"--cert={crt}", f"--key={key}", "bundle", content, bundle, f"--mksquashfs-args=-comp {self._how}")
        return bundle

    def run(self, image: Image, server: Server, slot: str, device: Path) -> dict:
        with ReadOnly(image.old) as booted:
            configure_rauc(device, booted, slot)
            # Its service, on a bus of its own; the bundle is fetched to where TMPDIR says.
            go = script(device / "go", f"""\
                export DBUS_STARTER_BUS_TYPE=session TMPDIR={device}
                rauc -c system.conf --override-boot-slot=A service & service=$!
                until rauc status >/dev/null 2>&1; do kill -0 $service || exit 1; sleep 0.02; done
                rauc install {url(image, server, self.file(image))}; status=$?
                kill $service; wait $service; exit $status
                """)
            return measured("dbus-run-session", "--", go, cwd=device, authority=server.authority)


def configure_rauc(device: Path, booted: str, slot: str) -> None:
    """Writes what its service has to know: two slots, and a loader that always says yes."""
    backend = script(device / "backend", 'case "$1" in get-primary) echo A ;; get-state) echo good ;; esac')
    (device / "mnt").mkdir()
    (device / "system.conf").write_text(textwrap.dedent(f"""\
        [system]
        compatible=bench
        bootloader=custom
        bundle-formats=plain
        max-bundle-download-size={2 << 30}
        mountprefix={device}/mnt
        statusfile={device}/status
        [keyring]
        path={certificate("emailProtection")[0]}
        [handlers]
        bootloader-custom-backend={backend}
        [slot.rootfs.0]
        device={booted}
        type=raw
        bootname=A
        [slot.rootfs.1]
        device={slot}
        type=raw
        bootname=B
        """), encoding="utf-8")


class SwUpdate(Peer):
    """An archive whose image is written while it is fetched."""

    name, ending = "swupdate", ".swu"
    needs = ("swupdate=swupdate", "cpio=cpio", "openssl=openssl")
    packs = {".zst": "zstd", ".gz": "zlib", "": "none"}
    # The archive says where the image goes, and the loop device has another number each time: a link does it.
    place = "/dev/bench-swupdate"

    def pack(self, image: Image, work: Path) -> Path:
        crt, key = certificate("emailProtection")
        compressed = "" if self._how == "none" else f'compressed = "{self._how}"; '
        sha256 = run("sha256sum", image.packed).split()[0]
        (work / "sw-description").write_text(
            'software = { version = "2"; hardware-compatibility: [ "1.0" ]; images: ( { filename = "image"; type = "raw"; '
            f'device = "{self.place}"; {compressed}installed-directly = true; sha256 = "{sha256}"; }} ); }}\n',
            encoding="utf-8")
        run("openssl", "cms", "-sign", "-in", "sw-description", "-out", "sw-description.sig", "-signer", crt, "-inkey", key,
            "-outform", "DER", "-nosmimecap", "-binary", cwd=work)
        (work / "image").hardlink_to(image.packed)
        run("sh", "-c", "printf '%s\\n' sw-description sw-description.sig image | cpio -o -H crc >archive", cwd=work)
        return work / "archive"

    def run(self, image: Image, server: Server, slot: str, device: Path) -> dict:
        link = Path(self.place)
        link.unlink(missing_ok=True)
        link.symlink_to(slot)
        try:
            return super().run(image, server, slot, device)
        finally:
            link.unlink()

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        address = url(image, server, self.file(image))
        return ["swupdate", "-k", certificate("emailProtection")[0], "-H", "bench:1.0", "-d", f"-u {address}"]


class Mender(Peer):
    """An artifact, installed without a server of Mender's. Its client is slow to start: what counts is the rest."""

    name, ending = "mender", ".mender"
    needs = ("mender=mender-client", "mender-artifact=mender-artifact", "findmnt=util-linux")
    # It knows no zstd.
    packs = {".zst": "gzip", ".gz": "gzip", "": "none"}

    def pack(self, image: Image, work: Path) -> Path:
        run("mender-artifact", "write", "rootfs-image", "-t", "bench", "-n", "v2", "-f", image.raw, "-o", work / "artifact",
            "--compression", self._how)
        return work / "artifact"

    def command(self, image: Image, server: Server, slot: str, device: Path) -> list[str | Path]:
        # It wants to run from one of its slots. That is this machine's own root, which it never writes.
        booted = run("findmnt", "-no", "SOURCE", "/").strip()
        if not booted.startswith("/dev/"):
            raise Trouble(f"mender: the root of this machine is no block device, but {booted}")
        (device / "rootfs2").symlink_to(slot)
        variables = device / "variables"
        variables.write_text(f"mender_boot_part={booted[-1]}\nmender_boot_part_hex={booted[-1]}\nupgrade_available=0\n"
                             "bootcount=0\nmender_uboot_separator=1\n", encoding="utf-8")
        script(device / "bin/fw_printenv", f"""\
            [ $# -eq 0 ] && exec cat {variables}
            for name; do grep "^$name=" {variables}; done""")
        script(device / "bin/fw_setenv", "exec cat >/dev/null")
        for name, text in (("data/device_type", "device_type=bench"), ("etc/artifact_info", "artifact_name=v1"),
                           ("mender.conf", f'{{"RootfsPartA": "{booted}", "RootfsPartB": "{device}/rootfs2"}}')):
            (device / name).parent.mkdir(exist_ok=True)
            (device / name).write_text(text + "\n", encoding="utf-8")
        go = script(device / "go", f"""\
            mount --bind etc /etc/mender
            export PATH={device}/bin:$PATH
            exec mender --no-syslog --config mender.conf --data {device}/data install \
                {url(image, server, self.file(image))}""")
        return [go]


def ways(packed: str) -> list[Peer]:
    """All of them, for a case about images that are packed like this."""
    return [peer(packed) for peer in (Rauc, SwUpdate, Mender)]
