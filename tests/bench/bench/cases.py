"""What there is to measure, for each case what with, and what is wanted of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import full, images, life, peers, resting, storage
from .line import Pace
from .place import HOME
from .table import Goal, ratio, rounds, worst
from .tools import TOOLS

INSTALLED = ("wall_s", "written_s", "cpu_s", "pss_mib", "hwm_mib", "kept_mib", "bytes", "stored_mib")


@dataclass(frozen=True)
class Case:
    """One table."""

    columns: tuple[str, ...]
    tools: dict[str, object]
    # What it is about, made once; every tool is handed it.
    subject: Callable[[], object]
    goals: tuple[Goal, ...] = ()


def delta(name: str) -> Case:
    """From one image to another, with the older one at hand."""
    columns = ("bytes", "requests", "connections", "wall_s", "cpu_s", "hwm_mib", "pss_mib")
    goals = (Goal("PSS ≤ 32 MiB", worst("pss_mib", "twinboot"), 32),)
    # Of the pairs that the goals were set for.
    most = {"ext4-packages": 17, "ext4-program": 2.5}.get(name)
    if most:
        goals += (Goal(f"bytes on the wire ≤ {most} MB", worst("bytes", "twinboot"), most),)
    return Case(columns, TOOLS, lambda: images.pair(name), goals)


def install(ending: str, place: Path = HOME) -> Case:
    """All of an image into a block device whose bytes are below `place`."""
    ours, decode, pipeline = full.Twinboot(), full.Decode(), full.Pipeline()
    ways = [ours, decode, full.Storage(), pipeline, *peers.ways(ending)]
    goals: tuple[Goal, ...] = ()
    if ending == ".zst":
        goals = (
            Goal("wall ≤ 1.4 × the decode limit's", ratio("wall_s", ours.name, decode.name), 1.4),
            Goal("wall ≤ 0.7 × the pipeline's", ratio("wall_s", ours.name, pipeline.name), 0.7),
            Goal("wall ≤ 1/3 of RAUC's", ratio("wall_s", ours.name, "rauc"), 1 / 3),
            Goal("wall ≤ 1/4 of Mender's", ratio("wall_s", ours.name, "mender"), 1 / 4),
            Goal("processor ≤ 1.2 × the pipeline's", ratio("cpu_s", ours.name, pipeline.name), 1.2),
            Goal("PSS ≤ 16 MiB", worst("pss_mib", ours.name), 16),
            Goal("stored ≤ 1.02 × the blocks that are not zeros", stored_beside_data(ending), 1.02),
        )
    return Case(INSTALLED, {way.name: way for way in ways}, lambda: full.image(ending, place), goals)


def stored_beside_data(ending: str) -> Callable[[list[dict]], float]:
    """What the slot takes beside what the image has: only blocks that are not zeros are to be written."""
    return lambda results: max(rounds(results, "twinboot", "stored_mib").values()) / full.image(ending).data_mib


def slow_line(pace: Pace, mib: int) -> Case:
    """A download over a line that is slower than all else."""
    tools = {"twinboot": life.SlowLine(pace), "limit-line": life.LineLimit(pace)}
    goals = (Goal("rate ≥ 0.95 × the line's", ratio("rate", "twinboot", "limit-line"), 0.95, at_least=True),
             Goal("one connection", worst("connections", "twinboot"), 1),
             Goal("watchdog of 4 s fed, s between two meals", worst("hunger_s", "twinboot"), 4))
    return Case(("wall_s", "rate", "cpu_s", "pss_mib", "connections", "hunger_s"), tools, lambda: life.small(mib), goals)


CASES: dict[str, Case] = {
    "install-raw": install(""),
    "install-gzip": install(".gz"),
    "install-zstd": install(".zst"),
    "install-zstd-memory": install(".zst", storage.MEMORY),
    **{name: delta(name) for name in images.PAIRS},
    "idle": Case(
        ("rss_mib", "largest_mib", "pss_mib", "anonymous_mib", "threads", "wakeups", "ping_b", "connect_b", "day_b"),
        {"twinboot": life.Idle(), "rauc": resting.Rauc(), "swupdate": resting.SwUpdate()}, lambda: None,
        (Goal("resident ≤ 8 MiB, each process", worst("largest_mib", "twinboot"), 8),
         Goal("resident ≤ 8 MiB, both, what they share counted twice", worst("rss_mib", "twinboot"), 8),
         Goal("resident ≤ 8 MiB, both, what they share counted once (PSS)", worst("pss_mib", "twinboot"), 8),
         Goal("anonymous ≤ 1 MiB, both processes", worst("anonymous_mib", "twinboot"), 1),
         Goal("wake-ups in 10 s ≤ 1", worst("wakeups", "twinboot"), 1))),
    "growth": Case(("updates", "kept_mib", "growth_mib", "wall_s"), {"twinboot": life.Growth()}, lambda: life.small(8),
                   (Goal("growth in the second half ≤ 0.1 MiB", worst("growth_mib", "twinboot"), 0.1),)),
    "start": Case(("cpu_ms", "wall_s"), {"twinboot": life.Start()}, lambda: None,
                  (Goal("processor until CONNECT ≤ 150 ms", worst("cpu_ms", "twinboot"), 150),)),
    "update-wire": Case(("wire_b", "connections", "wall_s"), {"twinboot": life.UpdateWire()}, lambda: life.small(48)),
    "resume": Case(
        ("kills", "twice", "requests", "bytes", "wall_s"), {"twinboot": life.Resume()}, lambda: full.image(".zst"),
        (Goal("fetched twice for each kill ≤ 4.2 MB",
              lambda results: worst("twice", "twinboot")(results) / life.Resume.kills, 4.2),)),
    "slow-20-mbit": slow_line(Pace(20_000_000), 48),
    "slow-1-mbit-loss": slow_line(Pace(1_000_000, loss=2), 6),
    "slow-disk": Case(
        ("wall_s", "rate", "cpu_s", "pss_mib", "hunger_s"),
        {"twinboot": life.SlowDisk(), "limit-disk": life.DiskLimit()}, lambda: life.small(48),
        (Goal("rate ≥ 0.95 × the disk's", ratio("rate", "twinboot", "limit-disk"), 0.95, at_least=True),
         Goal("watchdog of 4 s fed, s between two meals", worst("hunger_s", "twinboot"), 4))),
}
