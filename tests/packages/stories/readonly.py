"""A root file system that nothing can be written to, as squashfs and dm-verity make it."""

from firmware import FIRMWARE, ends_well
from harness import check, story
from lab import Lab


@story("read-only-root")
def read_only_root(lab: Lab) -> None:
    """With the state on another partition the service runs, and a whole update goes well."""
    with lab.board(lab.installed, read_only=True) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        status, said = board.try_sh("touch /etc/twinboot/x")
        check(status != 0 and "Read-only" in said, "the root file system can be written")
        cloud.wait_connected()
        wish.ask()
        ends_well(board, cloud, FIRMWARE)
        status, _ = board.try_sh("touch /etc/twinboot/x")
        check(status != 0, "the new root file system can be written")
