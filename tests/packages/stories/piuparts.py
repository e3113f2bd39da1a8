"""Debian's own test of what packages leave behind."""

import subprocess

from harness import Failure, story
from lab import Lab


@story("piuparts")
def piuparts(lab: Lab) -> None:
    """Installed, removed and purged in a chroot, with each file that is left told."""
    log = lab.directory / "piuparts.log"
    with lab.tree() as tree, open(log, "w") as out:
        # There is no network in here, and all that it depends on is there.
        tree.write("etc/apt/sources.list", "")
        command = ["piuparts", f"--existing-chroot={tree.path}", f"--distribution={lab.release}"]
        # The documents of other packages are left out of the root.
        command += [
            "--keep-sources-list",
            "--no-eatmydata",
            "--warn-on-debsums-errors",
            f"--tmpdir={lab.directory}",
        ]
        # debconf's own, where there is no apt-utils.
        command += ["--ignore-regex=/var/cache/debconf/tmp.ci"]
        done = subprocess.run(
            [*command, lab.package], stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
    if done.returncode:
        raise Failure(f"piuparts ended with {done.returncode}:\n{log.read_text()[-3000:]}")
