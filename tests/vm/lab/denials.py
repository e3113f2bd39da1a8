"""What the kernel denied twinboot: records of its audit, as journald writes them into the journal.

Two kinds, from two sources that do not see each other's (denials.rules in guest/, and SYSTEMD_LOG_SECCOMP on the
kernel's command line): a filter of system calls, and everything else that answers with EPERM, EACCES or EROFS.
"""

import errno
import re
from collections.abc import Iterable

PROGRAM = "/usr/bin/twinboot"


def denials(entries: Iterable[dict[str, object]], calls: dict[int, str]) -> list[str]:
    """The records among the journal's entries, in words: `filter openat`, `EACCES openat /etc/shadow`. `calls`: the
    machine's system calls by number."""
    audit = [(str(entry.get("_AUDIT_ID")), str(entry.get("MESSAGE"))) for entry in entries
             if entry.get("_TRANSPORT") == "audit"]
    paths: dict[str, list[str]] = {}
    for record, message in audit:
        if message.startswith("PATH ") and (name := _field(message, "name")):
            paths.setdefault(record, []).append(name)
    found = []
    for record, message in audit:
        kind = message.split(" ", 1)[0]
        if kind not in ("SECCOMP", "SYSCALL") or _field(message, "exe") != PROGRAM:
            continue
        call = calls.get(int(_field(message, "syscall") or -1), "?")
        code = "filter" if kind == "SECCOMP" else errno.errorcode.get(-int(_field(message, "exit") or 0), "?")
        found.append(" ".join([code, call, *paths.get(record, [])]))
    return found


def lost(entries: Iterable[dict[str, object]]) -> list[str]:
    """What the kernel says of records that it could not keep; then nobody knows what they were."""
    return [str(entry["MESSAGE"]) for entry in entries if entry.get("_TRANSPORT") == "kernel"
            and re.search(r"^audit: .*limit exceeded", str(entry.get("MESSAGE")))]


def _field(message: str, name: str) -> str | None:
    value = re.search(rf'\b{name}=("[^"]*"|\S+)', message)
    return value[1].strip('"') if value else None
