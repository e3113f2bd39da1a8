#!/usr/bin/python3
"""bill.py SECTION BILL: whether a bill of materials (CycloneDX) names the crates that a program says it is made of.

The program says so in a section `.dep-v0`, put there by `cargo auditable`, which scanners of installed systems read."""

import json
import sys
import zlib
from pathlib import Path

Crates = set[tuple[str, str]]


def embedded(section: Path) -> tuple[str, Crates]:
    """What the program says: its version, and the crates that it is made of."""
    packages = json.loads(zlib.decompress(section.read_bytes()))["packages"]
    (version,) = (each["version"] for each in packages if each.get("root"))
    linked = (each for each in packages if each.get("kind", "runtime") == "runtime" and not each.get("root"))
    return version, {(each["name"], each["version"]) for each in linked}


def billed(bill: Path) -> tuple[str, Crates]:
    """The same, as the bill says; it has the crates that were at work in the build, too."""
    content = json.loads(bill.read_text())
    crates = {(each["name"], each["version"]) for each in content["components"]}
    return content["metadata"]["component"]["version"], crates


def main() -> int:
    """Compares."""
    section, bill = map(Path, sys.argv[1:3])
    (version, inside), (billed_version, listed) = embedded(section), billed(bill)
    print(f"{bill.name}: {len(listed)} crates, {len(inside)} of them at run time")
    for name, release in sorted(inside - listed):
        print(f"{bill.name} lacks {name} {release}")
    if version != billed_version:
        print(f"{bill.name} is of {billed_version}, the program of {version}")
    return 1 if inside - listed or version != billed_version or len(inside) < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
