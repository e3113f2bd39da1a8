"""Firmware, the wish for it, and its good end."""

from dataclasses import dataclass
from pathlib import Path

from cloud import Cloud
from harness import check, wait_for
from machine import Board

FIRMWARE = "2.0.0"
# Enough of it to be in the middle, and slow enough to stay there.
MIDDLE = 12 << 20
SLOW = 6 << 20


@dataclass
class Firmware:
    """An image, packed."""

    version: str
    file: Path
    digest: str

    def publish(self, cloud: Cloud) -> "Wish":
        """Puts it on the image server."""
        return Wish(cloud, self, cloud.publish(self.file, self.version, self.digest))


@dataclass
class Wish:
    """What a twin can ask for."""

    cloud: Cloud
    firmware: Firmware
    firmware_property: dict

    @property
    def name(self) -> str:
        """Of the image."""
        return self.firmware.file.name

    def ask(self) -> None:
        """Sets it in the twin."""
        self.cloud.desire(firmware=self.firmware_property)

    def begin(self, board: Board) -> None:
        """Asks for it, and waits until a download that will not end by itself is in the middle."""
        self.cloud.slow(self.name, SLOW)
        self.ask()
        wait_for(
            "the middle of the download", 60, lambda: self.cloud.sent(self.name) >= MIDDLE, board.journal_tail
        )

    def may_go_on(self) -> None:
        """Ends the slowness."""
        sent, size = self.cloud.sent(self.name), self.firmware.file.stat().st_size
        check(sent < size, "the download was over too soon to be in its middle")
        self.cloud.no_faults()


def bytes_fetched_twice(wish: Wish) -> int:
    """How much the server has sent beyond the image."""
    return wish.cloud.sent(wish.name) - wish.firmware.file.stat().st_size


def ends_well(board: Board, cloud: Cloud, version: str) -> None:
    """The board reboots into the new system, which is judged, and is the default at last."""
    before = board.slot
    # One that is found to be ill may not live until it has booted: then what was reported is the better story.
    board.wait_reboot(120, settle=False)
    check(board.slot != before, "the loader chose the old slot")
    is_committed(board, cloud, version)
    board.settle()


def is_committed(board: Board, cloud: Cloud, version: str) -> None:
    """The system that runs becomes the default, and that is reported."""

    def is_so() -> bool:
        told = cloud.firmware()
        check(board.is_on(), f"the new system has gone down; reported is {told}")
        return (told.get("fwUpdateStatus"), told.get("currentFwVersion")) == ("current", version)

    wait_for(f"{version} to be reported", 90, is_so, lambda: str(cloud.firmware()))
    variables = board.loader.variables()
    check(variables["slot"] == board.slot, f"the loader's default is slot {variables['slot']}")
    check(variables["upgrade_available"] == "0", "the loader still thinks of a trial")
    check(board.loader.fallbacks == 0, "the loader has fallen back")
    left = board.sh("systemctl list-units --all --no-legend 'twinboot-program-*'")
    check(left == "", f"left behind: {left}")


def verdicts(board: Board) -> int:
    """How often a system was judged on this board, in this slot."""
    return int(board.sh("journalctl -u twinboot -o cat | grep -c 'passed its trial' || :"))
