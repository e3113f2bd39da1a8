"""U-Boot, as far as it decides which slot boots: the environment by U-Boot's own tools, the rules by its documentation.

It is told by the variables alone, as the real one is (CONFIG_BOOTCOUNT_LIMIT and CONFIG_BOOTCOUNT_ENV): while
upgrade_available is not 0 each boot adds 1 to bootcount, and beyond bootlimit it runs altbootcmd."""

import subprocess
from pathlib import Path

SIZE = 0x4000
OFFSETS = (0, 0x8000)
FACTORY = {"slot": "a", "upgrade_available": "0", "bootcount": "0", "bootlimit": "3"}


def fw_env_config(device: str) -> str:
    """What the tools and twinboot are told about an environment on `device`."""
    return "".join(f"{device} {offset:#x} {SIZE:#x}\n" for offset in OFFSETS)


class Loader:
    """The loader of one board, whose environment is two copies on a partition."""

    def __init__(self, partition: str, directory: Path):
        self.config = directory / "fw_env.config"
        self.config.write_text(fw_env_config(partition))
        self.fallbacks = 0
        defaults = directory / "factory.env"
        defaults.write_text("".join(f"{name}={value}\n" for name, value in FACTORY.items()))
        # A copy at a time is written, and only if there is something new to write.
        for copy in OFFSETS:
            self._run("fw_setenv", "-f", defaults, "made", f"{copy:#x}")

    def _run(self, program: str, *arguments) -> str:
        command = [program, "-c", self.config, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def variables(self) -> dict[str, str]:
        """All that is set."""
        lines = self._run("fw_printenv").splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    def set(self, **variables: str) -> None:
        """Sets variables in one write."""
        script = self.config.with_name("script.env")
        script.write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        self._run("fw_setenv", "-s", script)

    def choose(self) -> str:
        """Counts this boot if it has to, and says which slot it is."""
        now = self.variables()
        if now["upgrade_available"] == "0":
            return now["slot"]
        count = int(now["bootcount"]) + 1
        if count <= int(now["bootlimit"]):
            self.set(bootcount=str(count))
            return now["slot"]
        self.fallbacks += 1
        other = "b" if now["slot"] == "a" else "a"
        self.set(slot=other, upgrade_available="0", bootcount="0")
        return other
