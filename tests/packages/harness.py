"""What every story is told with: failing, waiting, and the list of stories."""

import time
from collections.abc import Callable
from dataclasses import dataclass


class Failure(Exception):
    """A story did not go as it must."""


def check(is_so, otherwise: str) -> None:
    """Fails with `otherwise` unless it is so."""
    if not is_so:
        raise Failure(otherwise)


def wait_for(what: str, limit: float, probe: Callable, now: Callable[[], str] = lambda: ""):
    """Asks `probe` until it says something, and returns that; fails after `limit` seconds with what is the case then.

    While it asks, anything that cannot be reached yet is taken as not so."""
    end = time.monotonic() + limit
    while True:
        try:
            if found := probe():
                return found
        except OSError:
            pass
        if time.monotonic() > end:
            raise Failure(f"waited {limit:.0f} s for {what}: {now()}".rstrip(": "))
        time.sleep(0.1)


@dataclass(frozen=True)
class Story:
    """One thing that must go well on each release of Debian."""

    name: str
    tell: Callable
    # Not told where it makes no sense.
    releases: tuple[str, ...]
    # Nearly all of its time it waits, and others can be told meanwhile.
    waits: bool


RELEASES = ("bookworm", "trixie")
STORIES: dict[str, Story] = {}


def story(name: str, releases: tuple[str, ...] = RELEASES, waits: bool = False):
    """Enters a function into the list of stories. It is given a `Lab`."""

    def enter(tell: Callable) -> Callable:
        STORIES[name] = Story(name, tell, releases, waits)
        return tell

    return enter
