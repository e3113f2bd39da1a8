"""What is printed."""

from statistics import median

# What is told of each measurement: its name, its key, in what, and how that is called.
COLUMNS = (("bytes on the wire", "bytes", 1e6, "MB"), ("requests", "requests", 1, ""),
           ("connections", "connections", 1, ""), ("wall", "wall_s", 1, "s"), ("processor", "cpu_s", 1, "s"),
           ("memory", "hwm_mib", 1, "MiB"), ("PSS", "pss_mib", 1, "MiB"))


def line(result: dict) -> str:
    """One measurement."""
    return ", ".join(f"{name} {number(result[key] / unit)} {word}".rstrip() for name, key, unit, word in COLUMNS)


def of(case: str, results: list[dict]) -> str:
    """A table of a case's measurements: the median, and the spread where there is one.

    The last column is the time beside that of the case's first tool: the median of the ratios within each round.
    """
    tools = list(dict.fromkeys(result["tool"] for result in results))
    first = {result["round"]: result["wall_s"] for result in results if result["tool"] == tools[0]}
    heads = " | ".join(f"{name}{f', {word}' if word else ''}" for name, _, _, word in COLUMNS)
    rows = [f"\n| {case} | {heads} | wall / {tools[0]}'s |", "| --- |" + " ---: |" * (len(COLUMNS) + 1)]
    for tool in tools:
        mine = [result for result in results if result["tool"] == tool]
        cells = [cell([result[key] / unit for result in mine]) for _, key, unit, _ in COLUMNS]
        cells.append(cell([result["wall_s"] / max(first[result["round"]], 0.01) for result in mine]))
        rows.append(f"| {tool} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def cell(values: list[float]) -> str:
    """The median, and how far the rounds were apart."""
    low, middle, high = (number(value) for value in (min(values), median(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def number(value: float) -> str:
    """Three digits, more or less."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
