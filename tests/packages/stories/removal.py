"""The package goes: what stays, what comes back, and what a purge leaves."""

from firmware import FIRMWARE, bytes_fetched_twice, ends_well
from harness import Failure, check, story
from lab import Lab
from machine import Board

STRING = "/etc/twinboot/connection-string"
# Where dpkg, apt, man-db and the journal keep their own books, and what is no file system of ours.
OTHERS = """/proc /sys /dev /run /tmp /var/tmp /var/log /var/cache /var/lib/dpkg /var/lib/apt /var/lib/systemd/catalog
    /var/lib/systemd/deb-systemd-helper-enabled/.placeholder /lost+found"""
# Rewritten whenever a group comes or goes.
ACCOUNTS = ("group", "gshadow", "group-", "gshadow-", ".pwd.lock")


@story("reinstall")
def reinstall(lab: Lab) -> None:
    """Once more the same package: it runs as before, with the same configuration."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        board.sh("rm /usr/share/man/man8/twinboot.8.gz")
        before = board.sh("find /etc/twinboot -type f -exec sha256sum {} + | sort")
        board.install(lab.package, "--reinstall")
        board.sh("test -s /usr/share/man/man8/twinboot.8.gz")
        check(
            board.sh("find /etc/twinboot -type f -exec sha256sum {} + | sort") == before, "/etc has changed"
        )
        check(board.sh("systemctl is-active twinboot") == "active", "it does not run any more")
        check(board.sh("systemctl is-enabled twinboot") == "enabled", "it is not enabled any more")
        cloud.wait_connected()


def is_gone(board: Board) -> None:
    """Nothing of it runs, and systemd knows no such units."""
    check(board.try_sh("pgrep -x twinboot")[1] == "", "a process of it lives on")
    for unit in ("twinboot.service", "twinboot-net.service", "twinboot-net.socket", "twinboot-trial.timer"):
        state = board.sh(f"systemctl show -p ActiveState --value {unit}")
        check(state == "inactive", f"{unit} is {state}")
    failed = board.sh("systemctl --failed --no-legend")
    check(failed == "", f"failed units: {failed}")


@story("remove-and-return")
def remove_and_return(lab: Lab) -> None:
    """Removed in the middle of a download: state and configuration stay. Installed again, it goes on where it was."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        wish.begin(board)
        board.sh("apt-get remove -y -qq twinboot")
        is_gone(board)
        board.sh(
            f"test -s {STRING} && test -s /etc/twinboot/twinboot.toml && test -s /etc/twinboot/conf.d/50-board.toml"
        )
        check(board.sh("ls -A /var/lib/twinboot | grep -v lost+found") != "", "the state is gone")
        board.install(lab.package)
        board.sh("systemctl enable --now twinboot")
        wish.may_go_on()
        ends_well(board, cloud, FIRMWARE)
        check(bytes_fetched_twice(wish) <= 6 << 20, f"{bytes_fetched_twice(wish)} bytes were fetched twice")


def snapshot(board: Board) -> dict[str, str]:
    """All that is on a system: files with their contents, units, users and groups."""
    pruned = " -o ".join(f"-path {path}" for path in OTHERS.split())
    script = f"""
        find / -xdev \\( {pruned} \\) -prune -o -path '/etc/*' -type f -printf '%M %u:%g ' -exec sha256sum {{}} \\; \
            -o -printf '%M %u:%g %p %l\\n' | LC_ALL=C sort
        systemctl list-unit-files --no-legend | sed 's/^/unit /'
        systemctl list-units --all --no-legend --plain 'twinboot*' | sed 's/^/loaded /'
        getent passwd | sed 's/^/user /'
        getent group | sed 's/^/group /'"""
    lines = (
        line
        for line in board.sh(script).splitlines()
        if not line.endswith(tuple(f"/etc/{file} " for file in ACCOUNTS))
    )
    return {line: line for line in lines if not any(line.endswith(f"/etc/{file}") for file in ACCOUNTS)}


def difference(before: dict[str, str], after: dict[str, str]) -> str:
    """What one has and the other has not."""
    lines = [f"- {line}" for line in before if line not in after] + [
        f"+ {line}" for line in after if line not in before
    ]
    return "\n".join(lines)


@story("purge")
def purge(lab: Lab) -> None:
    """A purge of a system that has worked leaves nothing of it."""
    with lab.bare_board() as board:
        cloud = lab.new_cloud()
        board.power_on()
        before = snapshot(board)
        lab.put_to_work(board)
        cloud.wait_connected()
        if not difference(before, snapshot(board)):
            raise Failure("the snapshot sees nothing")
        # Elsewhere, so that nothing of the administrator's is in the way.
        lab.tidy(board)
        board.sh("apt-get purge -y -qq twinboot")
        is_gone(board)
        left = difference(before, snapshot(board))
        check(left == "", f"a purge changes:\n{left}")


@story("purge-leaves-keys")
def purge_leaves_keys(lab: Lab) -> None:
    """What the administrator has put into /etc/twinboot stays, keys above all, and that is said."""
    with lab.bare_board() as board:
        cloud = lab.new_cloud()
        board.power_on()
        lab.put_to_work(board)
        cloud.wait_connected()
        said = board.sh("apt-get purge -y -qq twinboot")
        is_gone(board)
        check(STRING in said, f"apt does not say that the connection string stays: {said}")
        check(lab.secret not in said, "apt shows the key")
        check(board.sh(f"cat {STRING}") == lab.connection_string, "the connection string is gone")
        check(board.sh(f"stat -c %a {STRING}") == "600", "it can be read by others")
        board.sh("test ! -e /etc/twinboot/twinboot.toml && ! getent group twinboot")
        # And back.
        board.install(lab.package)
        board.sh("systemctl enable --now twinboot")
        cloud.wait_connected()
