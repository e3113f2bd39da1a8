"""A board without a virtual machine: a real systemd as the first process of namespaces of its own, slots, environment
and data on partitions (loop devices), and the loader between two boots.

`systemctl reboot` inside ends the namespaces' init, and the loader chooses what comes next. It is no kernel, no
bootloader binary, and no disk that loses power; those are what the tier `vm` is for."""

import os
import shutil
import signal
import subprocess
import time
import uuid
from pathlib import Path

from harness import Failure, wait_for
from loader import Loader

MACHINE = Path(__file__).with_name("machine.sh")
# What scripts on a board, and in a chroot, find in their environment.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # Wide enough for systemctl not to cut a line.
    "COLUMNS": "300",
}
CLOCKS = {"boottime": time.CLOCK_BOOTTIME, "monotonic": time.CLOCK_MONOTONIC}
SLOT_SIZE = 288 << 20
ENV_SIZE = 1 << 20
DATA_SIZE = 32 << 20
# A boot takes some five seconds; the machine may be busy with other things.
UP = 120


def run(*command, **options) -> str:
    """Runs a program of the host that must succeed; its output."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    if done.returncode:
        raise Failure(f"{command[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


class Partition:
    """A loop device that goes away with the last one who uses it, even if nobody is left to say so."""

    def __init__(self, file: Path):
        self.file = file
        self.device = run("losetup", "--find", "--show", file).strip()
        self._held = os.open(self.device, os.O_RDONLY | os.O_CLOEXEC)
        # It is in use, by us: that only marks it.
        run("losetup", "--detach", self.device)

    def is_free(self) -> bool:
        """Whether nobody has it mounted."""
        try:
            os.close(os.open(self.device, os.O_RDONLY | os.O_EXCL))
            return True
        except OSError:
            return False

    def release(self) -> None:
        """Lets it go, and its file."""
        os.close(self._held)
        self.file.unlink()


class Board:
    """One board. `with Board(...) as board:` leaves nothing of it."""

    def __init__(
        self,
        directory: Path,
        cgroups: Path,
        secrets: list[str],
        image: Path,
        data: str | None,
        read_only: bool,
    ):
        """Its slot A holds `image`. `data` is where the partition that both slots share is mounted, if it is. None
        of `secrets` may be in its journal at the end."""
        self._secrets = secrets
        self.directory = directory
        self.options = "ro" if read_only else "rw"
        directory.mkdir(parents=True)
        (directory / "root").mkdir()
        (directory / "console").touch()
        self.partitions: dict[str, Partition] = {}
        run("cp", "--sparse=always", image, directory / "rootfs-a.img")
        for name, size in (
            ("rootfs-a", SLOT_SIZE),
            ("rootfs-b", SLOT_SIZE),
            ("env", ENV_SIZE),
            ("data", DATA_SIZE),
        ):
            file = directory / f"{name}.img"
            with open(file, "ab") as disk:
                disk.truncate(size)
            if name == "data":
                run("mkfs.ext4", "-q", file)
            self.partitions[name] = Partition(file)
        lines = (f"{name} {partition.device}\n" for name, partition in self.partitions.items())
        (directory / "devices").write_text("".join(lines))
        (directory / "mounts").write_text(f"data {data} rw\n" if data else "")
        self.loader = Loader(self.partitions["env"].device, directory)
        self.slot = ""
        self._process: subprocess.Popen | None = None
        self._init = 0
        self._cgroup = cgroups / directory.name

    def __enter__(self) -> "Board":
        return self

    def __exit__(self, kind, error, trace) -> None:
        try:
            if error is not None:
                self.keep_journal()
            elif self.is_on():
                self._kept_its_secrets()
            if self._process:
                self.cut_power()
        finally:
            for partition in self.partitions.values():
                partition.release()
            shutil.rmtree(self.directory)

    def _kept_its_secrets(self) -> None:
        journal = self.sh("journalctl -a -o export")
        for secret in self._secrets:
            if secret in journal:
                self.keep_journal()
                raise Failure(f"the journal shows {secret!r}")

    def keep_journal(self) -> None:
        """Puts the journal of this boot where the report of a failure looks for it."""
        try:
            _, text = self.try_sh("journalctl -o short-monotonic --no-hostname", limit=20)
            self.directory.with_suffix(".journal").write_text(text)
        except (subprocess.TimeoutExpired, OSError):
            pass

    def power_on(self, settle: bool = True) -> None:
        """Boots what the loader chooses; waits until systemd is done with it, unless it may not live that long."""
        self.slot = self.loader.choose()
        device = self.partitions[f"rootfs-{self.slot}"].device
        (self.directory / "boot_id").write_text(f"{uuid.uuid4()}\n")
        (self.directory / "cmdline").write_text(f"console=null root={device} {self.options} panic=10\n")
        self._cgroup.mkdir(parents=True, exist_ok=True)
        enter = 'echo $$ >"$0"/cgroup.procs; exec "$@"'
        # Clocks that count from the boot begin now; a second ago, for the rounding.
        boot = [f"--{clock}={1 - int(time.clock_gettime(number))}" for clock, number in CLOCKS.items()]
        kinds = ("mount", "pid", "uts", "ipc", "cgroup", "time")
        namespaces = ["unshare", "--fork", "--kill-child", *(f"--{kind}" for kind in kinds), *boot]
        machine = ["sh", MACHINE, device, self.options, self.directory]
        command = ["sh", "-c", enter, self._cgroup, *namespaces, *machine]
        with open(self.directory / "boot.log", "ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_for("the board's first process", UP, self._find_init, self._boot_log)
        if settle:
            self.settle()

    def settle(self) -> None:
        """Waits until systemd is done, and all units are well."""
        state = wait_for("systemd to be done", UP, self._settled, self._boot_log)
        if state != "running":
            raise Failure(f"the system is {state}: {self.try_sh('systemctl --failed --no-legend')[1]}")

    def _find_init(self) -> int:
        if self._process.poll() is not None:
            raise Failure(f"the board's init ended at once: {self._boot_log()}")
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
        self._init = int(children[0]) if children else 0
        # Until then it is the shell that prepares the machine.
        return self._init and Path(f"/proc/{self._init}/comm").read_text() == "systemd\n"

    def _boot_log(self) -> str:
        return (self.directory / "boot.log").read_text()[-1000:]

    def _settled(self) -> str:
        if not self.is_on():
            raise Failure("the system has gone down before it was up")
        state = self.try_sh("systemctl is-system-running 2>/dev/null")[1].strip()
        return state if state in ("running", "degraded", "maintenance") else ""

    def is_on(self) -> bool:
        """Whether its first process lives."""
        return self._process is not None and self._process.poll() is None

    def try_sh(self, script: str, limit: float = 60, input: str | None = None) -> tuple[int, str]:
        """Runs a script on the board; exit status and all that was said."""
        command = [
            "nsenter",
            f"--target={self._init}",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--cgroup",
            "--time",
            "--",
            "sh",
            "-c",
            script,
        ]
        done = subprocess.run(
            command,
            input=input or "",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=limit,
            env=ENVIRONMENT,
        )
        return done.returncode, done.stdout

    def sh(self, script: str, limit: float = 60, input: str | None = None) -> str:
        """Runs a script on the board that must succeed; all that it said, without the last line's end."""
        status, said = self.try_sh(script, limit, input)
        if status:
            raise Failure(f"`{script}` ended with {status}: {said.strip()}")
        return said.rstrip("\n")

    def wait_sh(self, what: str, script: str, limit: float = 30) -> str:
        """Waits until a script succeeds; what it said then."""
        last = ["", ""]

        def succeeds():
            status, last[0] = self.try_sh(script)
            return (last[0] or "-") if status == 0 else None

        return wait_for(what, limit, succeeds, lambda: last[0].strip())

    def put(self, source: Path, path: str) -> None:
        """Copies a file of the host onto the board."""
        shutil.copyfile(source, f"/proc/{self._init}/root/{path}")

    def install(self, package: Path, *options: str) -> str:
        """Has apt install a package of the host's; what that said."""
        self.put(package, f"/tmp/{package.name}")
        return self.sh(
            f"apt-get install -y -qq {' '.join(options)} /tmp/{package.name} </dev/null", limit=120
        )

    def journal_tail(self) -> str:
        """The end of the service's journal."""
        return self.try_sh("journalctl -u twinboot -n 5 -o cat")[1]

    def write(self, path: str, text: str) -> None:
        """Makes a file on the board."""
        Path(f"/proc/{self._init}/root/{path}").write_text(text)

    def wait_off(self, limit: float = 60) -> str:
        """Waits until the system has gone down by itself: "reboot" or "poweroff"."""
        try:
            status = self._process.wait(limit)
        except subprocess.TimeoutExpired:
            raise Failure(f"waited {limit:.0f} s for the system to go down") from None
        self._is_down()
        # reboot(2) in such namespaces ends their init by SIGHUP, halting by SIGINT; `unshare` dies of the same.
        ways = {signal.SIGHUP: "reboot", signal.SIGINT: "poweroff"}
        return ways.get(-status) or f"status {status}"

    def _is_down(self) -> None:
        self._process = None
        # The kernel still takes the last processes apart when their init is gone.
        wait_for("the board's processes to be gone", 30, self._is_deserted)
        wait_for("the slots to be free", 30, lambda: all(p.is_free() for p in self.partitions.values()))
        for path, _, _ in os.walk(self._cgroup, topdown=False):
            os.rmdir(path)

    def _is_deserted(self) -> bool:
        """Whether none of its processes is left, also of those that nobody waits for (cgroup_is_populated)."""
        return "populated 0\n" in (self._cgroup / "cgroup.events").read_text()

    def wait_reboot(self, limit: float = 60, settle: bool = True) -> None:
        """Waits until the system reboots, and boots what the loader chooses. See `power_on`."""
        how = self.wait_off(limit)
        if how != "reboot":
            raise Failure(f"a reboot was expected, not: {how}")
        self.power_on(settle)

    def cut_power(self) -> None:
        """Every process dies at once. What they had handed to the kernel is not lost."""
        # With the one that waits for it dies the init, and with that all others.
        self._process.kill()
        self._process.wait(60)
        self._is_down()
