"""A whole update inside the sandbox, with everything real but kernel, loader and hub."""

from firmware import FIRMWARE, ends_well
from harness import check, story
from lab import Lab


@story("update")
def update(lab: Lab) -> None:
    """The twin asks, the new system is tried, its health program sees the whole system, and it becomes the default."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        cloud.wait_connected()
        wish.ask()
        ends_well(board, cloud, FIRMWARE)
        # The health program has written outside the sandbox's directories, and reached the network.
        check(
            board.sh("cat /run/health") == f"a trial of {FIRMWARE}",
            "the health program has not run as it should",
        )
        # U-Boot's own tools, on the board, see the same as the loader does.
        check(board.sh("fw_printenv -n slot") == "b", "fw_printenv says otherwise")
        explained = board.sh("journalctl -u twinboot -x")
        check("░░ Subject:" in explained, f"the journal explains nothing: {explained}")
        denied = board.try_sh(
            "journalctl -u 'twinboot*' -o cat | grep -iE 'operation not permitted|permission denied'"
        )[1]
        check(denied == "", f"refused by the sandbox: {denied}")

        # It stays, whoever reboots.
        board.sh("systemctl reboot")
        board.wait_reboot()
        check(board.slot == "b", "it has gone back at the next boot")
        cloud.wait_connected()
        status = board.sh("twinboot status")
        check(FIRMWARE in status, f"twinboot status says: {status}")

        answer = cloud.call("rollback")
        check(answer["status"] in (200, 202), f"rollback is answered with {answer}")
        board.wait_reboot(60)
        check(board.slot == "a", "the loader did not go back")
        cloud.wait_firmware(60, fwUpdateStatus="rolledback", currentFwVersion="1.0.0")


@story("rollback")
def rollback(lab: Lab) -> None:
    """A new system whose health program fails goes away by itself, and the old one says why."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.ill.publish(cloud)
        board.power_on()
        cloud.wait_connected()
        wish.ask()
        # It may be found to be ill before it has quite booted.
        board.wait_reboot(120, settle=False)
        check(board.slot == "b", "the new system was not tried")
        board.wait_reboot(120)
        check(board.slot == "a", "the old system did not come back")
        told = cloud.wait_firmware(60, fwUpdateStatus="rolledback", currentFwVersion="1.0.0")
        check(told["fwUpdateCode"] == "health.failed", f"reported is {told}")
        check("the pump is dry" in told["fwUpdateSubstatus"], f"reported is {told}")
        variables = board.loader.variables()
        check(
            (variables["slot"], variables["upgrade_available"]) == ("a", "0"), f"the loader has {variables}"
        )
        check(board.loader.fallbacks == 0, "the loader had to fall back")
