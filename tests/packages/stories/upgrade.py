"""The package is upgraded under a running service: the program is another, an update of the firmware goes on."""

from firmware import FIRMWARE, bytes_fetched_twice, ends_well, is_committed, verdicts
from harness import check, story
from lab import PREVIOUS, Lab
from machine import Board

# What may be fetched twice after a restart: what lies between two checkpoints, and what was on its way.
TWICE = 6 << 20


def version(board: Board) -> str:
    """Of the package."""
    return board.sh("dpkg-query -W -f '${Version}' twinboot")


def upgrade(board: Board, lab: Lab) -> None:
    """By apt; the service runs on as another process, without a failure."""
    before = board.sh("systemctl show -p MainPID --value twinboot")
    check(version(board) == PREVIOUS, f"it begins with version {version(board)}")
    board.install(lab.package)
    check(version(board) == lab.version, f"it ends with version {version(board)}")
    check(board.sh("systemctl is-active twinboot") == "active", "it does not run any more")
    check(board.sh("systemctl show -p MainPID --value twinboot") != before, "the old program runs on")
    check(board.sh("systemctl show -p NRestarts --value twinboot") == "0", "it failed meanwhile")


@story("upgrade")
def idle(lab: Lab) -> None:
    """With nothing under way: the new program connects."""
    with lab.board(lab.previously_installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        upgrade(board, lab)
        cloud.wait_connected()
        check(cloud.call("getStatus")["status"] == 200, "the device does not answer")
        check(board.sh("systemctl is-enabled twinboot") == "enabled", "it is not enabled any more")


@story("upgrade-stopped")
def stopped(lab: Lab) -> None:
    """A service that does not run is not started by an upgrade."""
    with lab.board(lab.previously_installed) as board:
        board.power_on()
        board.sh("systemctl disable --now twinboot")
        board.install(lab.package)
        for unit in ("twinboot.service", "twinboot-net.service", "twinboot-net.socket"):
            state = board.try_sh(f"systemctl is-active {unit}")[1].strip()
            check(state == "inactive", f"{unit} is {state}")
        check(board.try_sh("systemctl is-enabled twinboot")[1].strip() == "disabled", "it was enabled")


@story("upgrade-in-download")
def in_download(lab: Lab) -> None:
    """In the middle of a download: it goes on from its checkpoint, and the update ends well."""
    with lab.board(lab.previously_installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        wish.begin(board)
        upgrade(board, lab)
        wish.may_go_on()
        ends_well(board, cloud, FIRMWARE)
        check(bytes_fetched_twice(wish) <= TWICE, f"{bytes_fetched_twice(wish)} bytes were fetched twice")


@story("upgrade-in-trial")
def in_trial(lab: Lab) -> None:
    """In the middle of a trial: the new program judges, once, and commits."""
    with lab.board(lab.previously_installed) as board:
        cloud = lab.new_cloud()
        wish = lab.undecided.publish(cloud)
        board.power_on()
        cloud.wait_connected()
        wish.ask()
        board.wait_reboot(120)
        check(board.slot == "b", "the new system was not tried")
        board.wait_sh("the health program to be asked", "test -e /srv/asked")
        upgrade(board, lab)
        board.sh("rm /srv/asked")
        board.wait_sh("the health program to be asked by the new program", "test -e /srv/asked")
        check(board.loader.variables()["upgrade_available"] == "1", "the trial is over too soon")
        board.sh("touch /srv/decided")
        is_committed(board, cloud, lab.undecided.version)
        check(verdicts(board) == 1, f"it was judged {verdicts(board)} times")
        check(board.loader.variables()["bootcount"] in ("0", "1"), "it was booted more than once")


@story("downgrade")
def downgrade(lab: Lab) -> None:
    """An older package is refused by apt unless asked for, and then goes on with what the newer one has kept."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        wish.begin(board)
        board.put(lab.previous, "/tmp/previous.deb")
        status, said = board.try_sh("apt-get install -y -qq /tmp/previous.deb")
        check(status != 0 and "downgrade" in said, f"apt has taken an older package: {said}")
        board.install(lab.previous, "--allow-downgrades")
        check(version(board) == PREVIOUS, f"it is version {version(board)}")
        check(board.sh("systemctl is-active twinboot") == "active", "it does not run any more")
        wish.may_go_on()
        ends_well(board, cloud, FIRMWARE)
