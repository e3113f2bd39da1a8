"""The service dies, again and again: it comes back, and never in a hot loop."""

import time

from cloud import Cloud
from harness import check, story, wait_for
from lab import Lab
from machine import Board

KILLS = 10
# No faster than one start in so many seconds.
PACE = 4.5


def pid(board: Board, unit: str) -> int:
    """Its main process; 0 if there is none."""
    return int(board.sh(f"systemctl show -p MainPID --value {unit}"))


def kill(board: Board, cloud: Cloud, unit: str, limit: float) -> None:
    """Kills it, and waits until another process has its place."""
    old = wait_for(f"{unit} to run", limit, lambda: pid(board, unit))
    board.sh(f"kill -9 {old}")
    wait_for(f"{unit} to come back", limit, lambda: pid(board, unit) not in (0, old), board.journal_tail)


@story("kill", waits=True)
def killed(lab: Lab) -> None:
    """Ten times in a row: it comes back each time, at its pace, and connects at last."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        began = time.monotonic()
        for _ in range(KILLS):
            kill(board, cloud, "twinboot.service", 15)
        took = time.monotonic() - began
        check(took >= KILLS * PACE, f"{KILLS} restarts within {took:.1f} s are a hot loop")
        cloud.wait_connected()
        check(board.sh("systemctl is-active twinboot") == "active", "it does not run")


@story("kill-network-side", waits=True)
def network_side_killed(lab: Lab) -> None:
    """The network side alone, as soon as it is there: systemd never gives it up, and the other side does not mind."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        daemon = pid(board, "twinboot.service")
        for _ in range(KILLS):
            kill(board, cloud, "twinboot-net.service", 60)
        check(
            board.sh("systemctl is-active twinboot-net.socket") == "active", "nobody listens for it any more"
        )
        cloud.wait_connected(60)
        check(pid(board, "twinboot.service") == daemon, "the side with the devices was restarted")
        check(
            board.sh("systemctl show -p NRestarts --value twinboot") == "0",
            "the side with the devices was restarted",
        )


@story("crash-loop", waits=True)
def crash_loop(lab: Lab) -> None:
    """A program that ends at once is tried at the unit's pace, for ever; put right, it runs without anybody's help."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        board.sh("mv /usr/bin/twinboot /usr/bin/twinboot.good; cp /bin/false /usr/bin/twinboot")
        board.sh("systemctl kill -s KILL twinboot.service twinboot-net.service")
        began = time.monotonic()
        # More than the five starts that systemd would allow a unit without a word of its own.
        wait_for("the sixth restart", 60, lambda: restarts(board) >= 6, board.journal_tail)
        took = time.monotonic() - began
        check(took >= 5 * PACE, f"6 restarts within {took:.1f} s are a hot loop")
        lines = int(board.sh("journalctl -u twinboot -u twinboot-net -o cat --since=-20s | wc -l"))
        check(lines <= 60, f"{lines} lines in the journal within 20 s")
        board.sh("mv /usr/bin/twinboot.good /usr/bin/twinboot")
        cloud.wait_connected(60)


def restarts(board: Board) -> int:
    """How often systemd has started it again by itself."""
    return int(board.sh("systemctl show -p NRestarts --value twinboot"))
