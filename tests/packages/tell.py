"""Tells stories on one release, one after the other. Started by `run`, as the first process of its namespaces:
RELEASE ROOT PACKAGE EMULATOR LOGS DIRECTORY STORY…"""

import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

from harness import Failure
from lab import Lab
from machine import run
from stories import STORIES


def main(release: str, root: str, package: str, emulator: str, logs: str, place: str, *names: str) -> int:
    """Tells them; 1 if one failed."""
    run("ip", "link", "set", "lo", "up")
    # What is mounted from here on, nobody else sees.
    run("mount", "--make-rprivate", "/")
    directory = Path(place)
    directory.mkdir()
    lab = Lab(release, Path(root), Path(package), Path(emulator), directory)
    failed = 0
    try:
        for name in names:
            failed += not one(lab, STORIES[name], Path(logs))
    finally:
        lab.close()
    return 1 if failed else 0


def one(lab: Lab, story, logs: Path) -> bool:
    """Tells one story; whether it went well."""
    began = time.monotonic()
    name = f"{lab.release}/{story.name}"
    try:
        story.tell(lab)
        why = None
    except (Failure, OSError, subprocess.SubprocessError, LookupError) as failure:
        why = str(failure) if isinstance(failure, Failure) else traceback.format_exc()
    finally:
        if lab.cloud:
            lab.cloud.stop()
            lab.cloud = None
    took = time.monotonic() - began
    for journal in lab.directory.glob("*.journal"):
        kept = logs / f"{lab.release}-{story.name}.journal"
        shutil.move(journal, kept)
        ours = [line for line in kept.read_text().splitlines() if "twinboot" in line][-25:]
        why = "\n".join([why or "", *ours, f"(the journal: {kept})"])
    if why is None:
        print(f"ok      {name:40} {took:5.1f} s", flush=True)
        return True
    indented = why.replace("\n", "\n        ")
    print(f"FAILED  {name:40} {took:5.1f} s\n        {indented}", flush=True)
    return False


if __name__ == "__main__":
    try:
        sys.exit(main(*sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(130)
