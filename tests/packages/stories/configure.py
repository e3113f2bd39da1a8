"""The configuration is changed under a running service."""

from cloud import Cloud
from firmware import FIRMWARE, bytes_fetched_twice, ends_well
from harness import check, story, wait_for
from lab import Lab
from machine import Board

# A property that is there by one line of the configuration, so that the hub can tell which one is in force.
PROGRAM = "#!/bin/sh\necho {}\n"
DROP_IN = "/etc/twinboot/conf.d/60-properties.toml"


def declare(board: Board, directory: str, value: int) -> None:
    """Configures a directory with the property `doors`; in force after a reload."""
    board.sh(f"mkdir -p {directory}")
    board.write(f"{directory}/doors.integer", PROGRAM.format(value))
    board.sh(f"chmod 755 {directory}/doors.integer")
    board.write(DROP_IN, f'[properties]\ndirectory = "{directory}"\n')


def doors(cloud: Cloud):
    """What the device says of that property."""
    answer = cloud.call("readProperty", "doors")
    return answer["payload"].get("doors") if answer["status"] == 200 else None


def main_pid(board: Board) -> str:
    """The process of the service."""
    return board.sh("systemctl show -p MainPID --value twinboot")


@story("reload")
def reload(lab: Lab) -> None:
    """`systemctl reload` and SIGHUP: a changed setting is in force; one that is wrong is not, and the old one stays."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        daemon = main_pid(board)
        check(doors(cloud) is None, "the property is there beforehand")
        declare(board, "/etc/board-1", 1)
        board.sh("systemctl reload twinboot")
        wait_for("the new configuration", 30, lambda: doors(cloud) == 1)

        declare(board, "/etc/board-2", 2)
        board.write("/etc/twinboot/conf.d/70-broken.toml", "[hub]\nkeep_alive = 'never'\n")
        status, said = board.try_sh("systemctl reload twinboot")
        check(status != 0, f"a configuration that is wrong was taken: {said}")
        reason = board.sh("journalctl -u twinboot -o cat")
        check("70-broken.toml" in reason, f"the journal does not say where it is wrong: {reason}")
        check(doors(cloud) == 1, "the old configuration is not in force any more")
        status, said = board.try_sh("twinboot reload")
        check(
            status == 1 and "70-broken.toml" in said, f"`twinboot reload` ends with {status} and says {said}"
        )

        board.sh("rm /etc/twinboot/conf.d/70-broken.toml; systemctl kill -s HUP --kill-who=main twinboot")
        wait_for("the configuration after SIGHUP", 30, lambda: doors(cloud) == 2)
        check(main_pid(board) == daemon, "it was started anew")
        check(board.sh("systemctl is-active twinboot") == "active", "it does not run")


@story("reload-key")
def reload_key(lab: Lab) -> None:
    """A new connection string is used after a reload: what systemd has loaded is loaded anew."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        daemon = main_pid(board)
        file = "/etc/twinboot/connection-string"
        board.sh(f"sed 's/SharedAccessKey=.*/SharedAccessKey=AAAA/' {file} >{file}.new; chmod 600 {file}.new")
        board.sh(f"cp -p {file} /root/; mv {file}.new {file}; systemctl reload twinboot")
        wait_for("the device to be refused", 30, lambda: not cloud.is_connected())
        board.sh(f"mv /root/connection-string {file}; systemctl reload twinboot")
        cloud.wait_connected()
        check(main_pid(board) == daemon, "it was started anew")


@story("reload-in-download")
def reload_in_download(lab: Lab) -> None:
    """A download goes on from where it was when the configuration is read again."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        wish.begin(board)
        declare(board, "/etc/board-1", 1)
        board.sh("systemctl reload twinboot")
        wish.may_go_on()
        ends_well(board, cloud, FIRMWARE)
        check(bytes_fetched_twice(wish) <= 4 << 20, f"{bytes_fetched_twice(wish)} bytes were fetched twice")


@story("notify-reload", releases=("trixie",))
def notify_reload(lab: Lab) -> None:
    """The example for systemd 253 and newer, by which systemd itself asks for the reload and waits for its end."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        example = board.sh("find /usr/share/doc/twinboot/examples -name '*notify-reload*.conf'")
        check(len(example.splitlines()) == 1, f"the example is not there: {example}")
        board.sh(f"install -D -m 644 {example} /etc/systemd/system/twinboot.service.d/60-reload.conf")
        board.sh("systemctl daemon-reload; systemctl restart twinboot")
        check(board.sh("systemctl show -p Type --value twinboot") == "notify-reload", "the type is another")
        cloud.wait_connected()
        daemon = main_pid(board)
        declare(board, "/etc/board-1", 1)
        board.sh("systemctl reload twinboot", limit=30)
        wait_for("the new configuration", 30, lambda: doors(cloud) == 1)
        board.write("/etc/twinboot/conf.d/70-broken.toml", "[hub]\nkeep_alive = 'never'\n")
        board.try_sh("systemctl reload twinboot", limit=30)
        check(board.sh("systemctl is-active twinboot") == "active", "a broken file has stopped it")
        check(doors(cloud) == 1, "the old configuration is not in force any more")
        check(main_pid(board) == daemon, "it was started anew")
