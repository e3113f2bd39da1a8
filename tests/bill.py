#!/usr/bin/python3
"""bill.py SECTION BILL: whether a bill of materials (CycloneDX) names the crates that a program says it is made of.

The program says so in a section `.dep-v0`, put there by `cargo auditable`, which scanners of installed systems read."""

import json
import sys
import zlib
from pathlib import Path

Crates = set[tuple[str, str]]


def embedded(section: Path) -> Crates:
    """What the program says."""
    packages = json.loads(zlib.decompress(section.read_bytes()))["packages"]
    return {(each["name"], each["version"]) for each in packages if each.get("kind", "runtime") == "runtime"}


def billed(bill: Path) -> Crates:
    """What the bill says."""
    content = json.loads(bill.read_text())
    crates = [*content["components"], content["metadata"]["component"]]
    return {(each["name"], each["version"]) for each in crates}


def main() -> int:
    """Compares."""
    section, bill = map(Path, sys.argv[1:3])
    inside, listed = embedded(section), billed(bill)
    print(f"{bill.name}: {len(listed)} crates, {len(inside)} of them at run time")
    for name, version in sorted(inside - listed):
        print(f"{bill.name} lacks {name} {version}")
    return 1 if inside - listed or len(inside) < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
