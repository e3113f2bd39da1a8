"""What is printed."""

from statistics import median

COLUMNS = (("bytes on the wire", "bytes", 1e6, "MB"), ("requests", "requests", 1, ""), ("wall", "wall_s", 1, "s"),
           ("processor", "cpu_s", 1, "s"), ("memory", "pss_mib", 1, "MiB"))


def line(result: dict) -> str:
    """One measurement."""
    return ", ".join(f"{name} {number(result[key] / unit)} {word}".rstrip() for name, key, unit, word in COLUMNS)


def of(pair: str, results: list[dict]) -> str:
    """A table of a pair's measurements: the median, and the spread where there is one."""
    heads = " | ".join(f"{name}{f', {word}' if word else ''}" for name, _, _, word in COLUMNS)
    rows = [f"\n| {pair} | {heads} |", "| --- |" + " ---: |" * len(COLUMNS)]
    for tool in dict.fromkeys(result["tool"] for result in results):
        mine = [result for result in results if result["tool"] == tool]
        cells = [cell([result[key] / unit for result in mine]) for _, key, unit, _ in COLUMNS]
        rows.append(f"| {tool} | {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def cell(values: list[float]) -> str:
    """The median, and how far the rounds were apart."""
    low, high = number(min(values)), number(max(values))
    return number(median(values)) if low == high else f"{number(median(values))} ({low}–{high})"


def number(value: float) -> str:
    """Three digits, more or less."""
    return f"{value:.0f}" if value >= 100 or value == int(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
