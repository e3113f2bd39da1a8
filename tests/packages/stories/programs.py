"""Programs of the integrator, run by the real service manager: in the full system, and never beyond their time."""

from firmware import FIRMWARE, ends_well
from harness import check, story
from lab import Lab
from machine import Board

UNITS = "systemctl list-units --all --no-legend 'twinboot-program-*'"
GONE = f'left=$({UNITS}); echo "$left"; test -z "$left"'
# Where a program says that it has begun, and that it was asked to end.
SLOW = """#!/bin/sh
trap 'echo asked to end >>/run/slow' TERM
echo begun >>/run/slow
while :; do sleep 1; done
"""
PROPERTIES = {
    "environment.string": "#!/bin/sh\nenv | cut -d= -f1 | sort | tr '\\n' ' '\n",
    "network.string": "#!/bin/sh\nls /sys/class/net | tr '\\n' ' '\n",
    "site.string.rw": "#!/bin/sh\ncase $1 in get) cat /etc/site;; set) cat >/etc/site;; esac\n",
    "fails.string": "#!/bin/sh\necho the pump is dry >&2\nexit 7\n",
    "later.string": "#!/bin/sh\nexit 75\n",
    "terminated.string": "#!/bin/sh\nkill -TERM $$\n",
    "crashes.string": "#!/bin/sh\nkill -SEGV $$\n",
    "broken.string": "#!/no/such/interpreter\n",
    "long.string": "#!/bin/sh\nexec head -c 100000 /dev/zero\n",
    "slow.string": SLOW,
}
AS_NEW = """#!/bin/sh
set -e
cp /proc/self/cgroup /etc/as-new
ls /sys/class/net >>/etc/as-new
"""
HOOKS = {
    "pre-download/10-note": "#!/bin/sh\necho $TWINBOOT_STAGE >>/var/lib/twinboot/hooks\n",
    "pre-arm/10-idle": "#!/bin/sh\ntest -e /srv/idle || { echo the oven is hot; exit 75; }\n"
    "echo $TWINBOOT_STAGE $TWINBOOT_VERSION >>/var/lib/twinboot/hooks\n",
    "post-rollback/10-never": "#!/bin/sh\necho $TWINBOOT_STAGE >>/var/lib/twinboot/hooks\n",
}


def put(board: Board, directory: str, programs: dict[str, str]) -> None:
    """Installs programs on the board."""
    for name, text in programs.items():
        path = f"{directory}/{name}"
        board.sh(f"mkdir -p $(dirname {path}); cat >{path}; chmod 755 {path}", input=text)


def refused(board: Board, name: str) -> str:
    """Why a property cannot be read."""
    status, said = board.try_sh(f"twinboot properties get {name}")
    check(status == 1, f"{name} was read: {said}")
    return said


@story("programs")
def programs(lab: Lab) -> None:
    """What a program sees, and what is told of its end, is what it would be without a service manager between."""
    with lab.board(lab.installed) as board:
        put(board_on(board), "/etc/twinboot/properties.d", PROPERTIES)
        seen = board.sh("twinboot properties get environment").split()[1:]
        for name in ("PATH", "TWINBOOT_PROPERTY"):
            check(name in seen, f"{name} is not among {seen}")
        for name in ("NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY", "RUNTIME_DIRECTORY", "STATE_DIRECTORY"):
            check(name not in seen, f"{name} of the service is among {seen}")
        host = set(board.sh("ls /sys/class/net").split())
        check(set(board.sh("twinboot properties get network").split()[1:]) == host, "it has another network")
        # systemd would make something else of these.
        strange = "50% of $HOME ${PATH} %h %n"
        board.sh(f"twinboot properties set site '{strange}'")
        check(board.sh("cat /etc/site") == strange, "what was set is not what arrived")
        for name, why in (
            ("fails", "ended with exit status: 7: the pump is dry"),
            ("later", "ended with exit status: 75"),
            ("terminated", "ended with signal: 15 (SIGTERM)"),
            ("crashes", "ended with signal: 11 (SIGSEGV)"),
            ("broken", "cannot be run"),
            ("long", "printed more than 4096 bytes"),
        ):
            said = refused(board, name)
            check(why in said, f"{name}: {said}")
        told = board.try_sh("journalctl -o cat | grep twinboot-program")[1]
        noise = [line for line in told.splitlines() if "Failed to execute" not in line and "step EXEC" not in line]
        check(not noise, f"asking is told in the journal: {noise}")


@story("programs-end")
def programs_end(lab: Lab) -> None:
    """Nothing outlives its time, nor the daemon: not its stop, not its death."""
    with lab.board(lab.installed) as board:
        put(board_on(board), "/etc/twinboot/properties.d", {"slow.string": SLOW})
        board.sh("touch /run/slow")
        check("did not end within 10s" in refused(board, "slow"), "it was not told that it took too long")
        check(board.sh("cat /run/slow") == "begun\nasked to end", "it was not asked to end")
        check(board.sh(UNITS) == "", "it is still there")

        def begin() -> None:
            board.sh(">/run/slow; twinboot properties get slow >/dev/null 2>&1 &")
            board.wait_sh("the program to begin", "grep begun /run/slow")

        begin()
        board.sh("systemctl kill -s KILL --kill-whom=main twinboot")
        check(board.sh(UNITS) != "", "it was gone before anybody could stop it")
        board.wait_sh("the daemon to come back", "twinboot status")
        board.wait_sh("what was left behind to end", GONE)
        # Often: the signal that ends the service may also hit whom it asks to end the program.
        for _ in range(10):
            begin()
            board.sh("systemctl stop twinboot")
            board.wait_sh("it to end with the daemon", GONE, 5)
            board.sh("systemctl start twinboot")
            board.wait_sh("the daemon to answer", "twinboot status")
        check(board.sh("ps ax -o args | grep -c '[p]roperties.d/slow' || :") == "0", "a process is left")


@story("factory-program")
def factory_program(lab: Lab) -> None:
    """The program of a factory reset may write what the service may not, in a unit whose name is always the same."""
    with lab.board(lab.installed) as board:
        board.power_on()
        put(board, "/usr/local/sbin", {"as-new": AS_NEW})
        board.write("etc/twinboot/conf.d/60-reset.toml", '[factory_reset]\nprogram = "/usr/local/sbin/as-new"\n')
        board.sh("systemctl restart twinboot")
        network = board.sh("ls /sys/class/net")
        board.sh("twinboot factory-reset --yes")
        board.wait_reboot(60)
        seen = board.sh("cat /etc/as-new")
        check("/twinboot-program-factory-reset.service" in seen, f"it ran elsewhere: {seen}")
        check(seen.endswith(network), f"it had another network: {seen}")
        board.wait_sh("the end of the reset", "twinboot status --json | grep -q '\"factory_reset\": *true'")


@story("hooks")
def hooks(lab: Lab) -> None:
    """A hook has the switch-over wait, and says for what; then it goes on."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        wish = lab.well.publish(cloud)
        board.power_on()
        board.write("etc/twinboot/conf.d/60-hooks.toml", '[hooks]\nask_again = "1s"\n')
        put(board, "/etc/twinboot/hooks.d", HOOKS)
        board.sh("twinboot check-config >/dev/null; systemctl restart twinboot")
        cloud.wait_connected()
        wish.ask()
        words = "waiting for hook pre-arm/10-idle: the oven is hot"
        board.wait_sh("the hook to be waited for", f"twinboot status | grep '{words}'", 120)
        check(words in cloud.firmware()["fwUpdateSubstatus"], f"reported is {cloud.firmware()}")
        check(board.loader.variables()["upgrade_available"] == "0", "it is armed")
        board.sh("touch /srv/idle")
        ends_well(board, cloud, FIRMWARE)
        ran = board.sh("cat /var/lib/twinboot/hooks")
        check(ran == f"pre-download\npre-arm {FIRMWARE}", f"these ran: {ran}")


def board_on(board: Board) -> Board:
    """The board, switched on."""
    board.power_on()
    board.wait_sh("the daemon to answer", "twinboot status")
    return board
