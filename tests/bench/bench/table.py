"""What is printed."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

# What can be told of a measurement: its key, how that is called, in what it is counted, and what one of those is.
COLUMNS = {
    "bytes": ("bytes on the wire", "MB", 1e6),
    "requests": ("requests", "", 1),
    "connections": ("connections", "", 1),
    "wall_s": ("wall", "s", 1),
    "written_s": ("of it until written", "s", 1),
    "cpu_s": ("processor", "s", 1),
    "cpu_ms": ("processor", "ms", 1),
    "hwm_mib": ("memory", "MiB", 1),
    "pss_mib": ("PSS", "MiB", 1),
    "stored_mib": ("stored", "MiB", 1),
    "rss_mib": ("resident", "MiB", 1),
    "largest_mib": ("of the larger process", "MiB", 1),
    "anonymous_mib": ("anonymous", "MiB", 1),
    "kept_mib": ("anonymous afterwards", "MiB", 1),
    "growth_mib": ("growth in the second half", "MiB", 1),
    "updates": ("updates", "", 1),
    "threads": ("threads", "", 1),
    "wakeups": ("wake-ups in 10 s", "", 1),
    "day_b": ("bytes a day", "kB", 1e3),
    "ping_b": ("a keep-alive", "B", 1),
    "connect_b": ("a connection", "B", 1),
    "wire_b": ("to and from the hub", "kB", 1e3),
    "kills": ("kills", "", 1),
    "twice": ("fetched twice", "MB", 1e6),
    "rate": ("rate", "kB/s", 1e3),
    "hunger_s": ("watchdog unfed", "s", 1),
}


@dataclass(frozen=True)
class Goal:
    """What is wanted of a case's results: at most so much, or at least."""

    text: str
    value: Callable[[list[dict]], float]
    limit: float
    at_least: bool = False

    def line(self, results: list[dict]) -> str:
        """A row of the table of goals. A tool that could not run leaves nothing to compare with."""
        try:
            value = self.value(results)
        except LookupError as missing:
            return f"| {self.text} | – | not measured: {missing.args[0]} |"
        met = value >= self.limit if self.at_least else value <= self.limit
        return f"| {self.text} | {number(value)} | {'met' if met else 'MISSED'} |"


def ratio(key: str, tool: str, other: str) -> Callable[[list[dict]], float]:
    """How much one has beside another: the median of the ratios within each round."""
    def value(results: list[dict]) -> float:
        mine, theirs = rounds(results, tool, key), rounds(results, other, key)
        return median(mine[turn] / max(theirs[turn], 0.01) for turn in mine if turn in theirs)
    return value


def worst(key: str, tool: str) -> Callable[[list[dict]], float]:
    """The most of all rounds, in the column's unit."""
    return lambda results: max(rounds(results, tool, key).values()) / COLUMNS[key][2]


def rounds(results: list[dict], tool: str, key: str) -> dict[int, float]:
    """What a tool had in each round."""
    found = {result["round"]: result[key] for result in results if result["tool"] == tool}
    if not found:
        raise LookupError(f"no {tool} in this run")
    return found


def line(columns: tuple[str, ...], result: dict) -> str:
    """One measurement."""
    told = ((COLUMNS[key], result[key]) for key in columns if key in result)
    return ", ".join(f"{name} {number(value / unit)} {word}".rstrip() for (name, word, unit), value in told)


def of(case: str, columns: tuple[str, ...], results: list[dict], goals: tuple[Goal, ...] = ()) -> str:
    """A table of a case's measurements, the median and the spread where there is one; and of its goals.

    The last column is the time beside that of the case's first tool: the median of the ratios within each round.
    """
    tools = list(dict.fromkeys(result["tool"] for result in results))
    timed = "wall_s" in columns and len(tools) > 1
    names = [f"{name}{f', {word}' if word else ''}" for name, word, _ in map(COLUMNS.get, columns)]
    heads = [case, *names, *([f"wall / {tools[0]}'s"] if timed else [])]
    rows = [f"\n| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for tool in tools:
        mine = [result for result in results if result["tool"] == tool]
        cells = [cell([result[key] / COLUMNS[key][2] for result in mine if key in result]) for key in columns]
        if timed:
            beside = ratio("wall_s", tool, tools[0])(results)
            cells.append(number(beside))
        rows.append(f"| {tool} | {' | '.join(cells)} |")
    if goals:
        rows += ["\n| goal | measured | |", "| --- | ---: | --- |", *(goal.line(results) for goal in goals)]
    return "\n".join(rows) + "\n"


def cell(values: list[float]) -> str:
    """The median, and how far the rounds were apart."""
    if not values:
        return "–"
    low, middle, high = (number(value) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(value: float) -> str:
    """Three digits, more or less."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
