"""The device's key is where it must be, and nowhere else."""

from cloud import DEVICE
from harness import check, story
from lab import TRACES, Lab
from machine import Board

STRING = "/etc/twinboot/connection-string"


def finds_nothing(board: Board, lab: Lab) -> None:
    """Looks wherever others could."""
    places = {
        "the journal": "journalctl -a -o export",
        "systemctl show": "systemctl show 'twinboot*'; systemctl cat 'twinboot*'",
        "systemctl status": "systemctl status 'twinboot*'",
        "environments and command lines": "cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline | tr '\\0' '\\n'",
        "twinboot status": "twinboot status; twinboot status --json; twinboot properties",
    }
    for place, script in places.items():
        said = board.try_sh(script)[1]
        check(DEVICE in said or "twinboot" in said, f"{place} could not be looked at: {said[-300:]}")
        for trace in (lab.secret, *TRACES):
            check(trace not in said, f"{place} shows {trace!r}")


def files_with_it(board: Board, lab: Lab) -> set[str]:
    """The files that have the key in them."""
    # /run is a file system of its own.
    script = (
        f"grep -rlsF -D skip '{lab.secret}' /run /bin /boot /etc /home /opt /root /srv /tmp /usr /var || :"
    )
    return set(board.sh(script).splitlines())


@story("secrets")
def secrets(lab: Lab) -> None:
    """With credentials by systemd: no journal, no property, no environment and no file of ours holds the key."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        check(cloud.call("getStatus")["status"] == 200, "the device does not answer")
        # All that makes it talk: a refusal, a lost connection, a crash of either side.
        cloud.ask("POST", f"devices/{DEVICE}/drop")
        board.sh("systemctl reload twinboot")
        cloud.wait_connected()
        for unit in ("twinboot-net.service", "twinboot.service"):
            board.sh(f"systemctl kill -s SEGV --kill-who=main {unit}")
            board.wait_sh(f"{unit} to run again", f"test $(systemctl show -p MainPID --value {unit}) != 0")
            cloud.wait_connected()
        finds_nothing(board, lab)
        expected = {STRING, "/run/credentials/twinboot-net.service/etc_connection-string"}
        found = files_with_it(board, lab)
        check(found <= expected and STRING in found, f"the key is in {sorted(found)}")
        # Wherever the host's kernel would put it, if it is in here at all.
        cores = board.sh("find / /run /tmp -xdev -name '*core*' -type f -newer /run/board/boot_id")
        check(cores == "", f"core files were left: {cores}")
        for process in board.sh("pgrep -x twinboot").split():
            limits = board.sh(f"grep 'core file' /proc/{process}/limits").split()
            check(limits[4] == "0", f"process {process} may dump core: {limits}")
        # The side with the devices has no key at all.
        board.sh(
            "test -d /run/credentials/twinboot-net.service && test ! -e /run/credentials/twinboot.service"
        )


@story("credential-elsewhere")
def credential_elsewhere(lab: Lab) -> None:
    """The connection string lies where a drop-in says, or on the storage that both slots share; /etc comes last."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        board.sh(f"mkdir -m 700 /srv/factory; mv {STRING} /srv/factory/identity; systemctl restart twinboot")
        board.wait_sh(
            "it to say what is missing", "systemctl status twinboot | grep 'Status: .*connection.string'"
        )
        check(not cloud.is_connected(), "it is connected without a connection string")
        shared = "/var/lib/twinboot/credentials"
        board.sh(f"install -D -m 600 /srv/factory/identity {shared}/connection-string")
        # An old one, left behind where it is looked for last.
        board.sh(f"umask 077; echo HostName=nowhere.invalid >{STRING}; systemctl restart twinboot")
        cloud.wait_connected()
        board.sh(f"rm -r {shared} {STRING}; systemctl restart twinboot")
        board.wait_sh(
            "it to be missed again", "systemctl status twinboot | grep 'Status: .*connection.string'"
        )
        board.sh(f"install -D -m 600 /dev/stdin {shared}/connection-string", input="HostName=nowhere.invalid")
        board.sh("mkdir -p /etc/systemd/system/twinboot-net.service.d")
        board.write(
            "/etc/systemd/system/twinboot-net.service.d/50-factory.conf",
            "[Service]\nLoadCredential=connection-string:/srv/factory/identity\n",
        )
        board.sh("systemctl daemon-reload; systemctl restart twinboot")
        cloud.wait_connected()
        finds_nothing(board, lab)
