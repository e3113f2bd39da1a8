"""The package comes to a system that has never seen it."""

from harness import check, story
from lab import Lab
from loader import fw_env_config
from machine import Board

UNITS = (
    "twinboot.service",
    "twinboot-net.service",
    "twinboot-net.socket",
    "twinboot-trial.timer",
    "twinboot-trial.service",
    "twinboot-trial-over.service",
)
COMPLETIONS = (
    "/usr/share/bash-completion/completions/twinboot",
    "/usr/share/zsh/vendor-completions/_twinboot",
    "/usr/share/fish/vendor_completions.d/twinboot.fish",
)
MANUAL = (("8", "twinboot"), ("5", "twinboot.toml"), ("7", "twinboot-journal"), ("7", "twinboot-programs"))


def starts_nothing(board: Board) -> None:
    """What a package may not do: begin by itself."""
    for unit in UNITS:
        state = board.try_sh(f"systemctl is-active {unit}")[1].strip()
        check(state == "inactive", f"{unit} is {state} after the installation")
    for unit in ("twinboot.service", "twinboot-trial.timer"):
        state = board.try_sh(f"systemctl is-enabled {unit}")[1].strip()
        check(state == "disabled", f"{unit} is {state} after the installation")


@story("install")
def install(lab: Lab) -> None:
    """By apt on a running system: nothing is started, and all that belongs to it is there."""
    with lab.bare_board() as board:
        board.power_on()
        said = board.install(lab.package)
        for word in ("warning", "error", "fail", "cannot"):
            check(word not in said.lower(), f"apt said: {said}")
        check(board.sh("dpkg --audit") == "", "dpkg is not content")
        board.sh("getent group twinboot")
        starts_nothing(board)

        said = board.sh(
            "systemd-analyze verify " + " ".join(f"/usr/lib/systemd/system/{unit}" for unit in UNITS)
        )
        check(said == "", f"systemd-analyze verify says: {said}")
        for section, page in MANUAL:
            said = board.sh(f"man --warnings -P cat {section} {page} 2>&1 >/dev/null")
            check(said == "", f"{page}({section}) is not sound: {said}")
        for file in COMPLETIONS:
            board.sh(f"test -s {file}")
        # What it says of itself, beside a configuration that is as it came.
        board.sh("twinboot --version && twinboot check-config >/dev/null; test $? -le 1")


@story("wait-for-configuration")
def wait_for_configuration(lab: Lab) -> None:
    """Started with nothing configured it runs, says what is missing, and goes on by itself when it is there."""
    with lab.bare_board() as board:
        cloud = lab.new_cloud()
        board.power_on()
        board.install(lab.package)
        # Whom to trust here is nothing that would be missing in the field.
        board.write("/etc/ssl/hub-ca.pem", cloud.ca.read_text())
        board.write("/etc/twinboot/conf.d/50-board.toml", '[tls]\nca_files = ["/etc/ssl/hub-ca.pem"]\n')
        board.sh("systemctl enable --now twinboot")
        check(board.sh("systemctl is-active twinboot") == "active", "it does not run")
        started = board.sh("systemctl show -p MainPID twinboot")
        # U-Boot's configuration is the first thing that is not there.
        board.wait_sh(
            "the status to say what is missing", "systemctl status twinboot | grep 'Status: .*fw_env.config'"
        )
        board.wait_sh(
            "the journal to say it", "journalctl -u twinboot -p warning -o cat | grep fw_env.config"
        )
        explained = board.sh("journalctl -u twinboot -x")
        check(
            "░░ Subject: Something is missing" in explained, f"no explanation by the catalog in: {explained}"
        )

        board.write("/etc/fw_env.config", fw_env_config("/dev/disk/by-partlabel/env"))
        board.wait_sh(
            "the status to say what is still missing",
            "systemctl status twinboot | grep 'Status: .*connection.string'",
        )
        board.sh("umask 077; cat >/etc/twinboot/connection-string", input=lab.connection_string)
        cloud.wait_connected()
        check(board.sh("systemctl show -p MainPID twinboot") == started, "it was started anew")
        check(board.sh("systemctl show -p NRestarts --value twinboot") == "0", "it failed meanwhile")


@story("image")
def image(lab: Lab) -> None:
    """Installed in a chroot, as image builders do, and enabled there: the image boots into a device of the hub."""
    with lab.board(lab.installed) as board:
        cloud = lab.new_cloud()
        board.power_on()
        cloud.wait_connected()
        check(board.sh("dpkg --audit") == "", "dpkg is not content")
        board.sh("getent group twinboot")
        check(
            board.sh("stat -c %A:%U:%G /run/twinboot/control.sock") == "srw-rw----:root:twinboot",
            "the socket",
        )
        said = board.sh("twinboot status")
        check("slot A" in said or "slot a" in said, f"twinboot status says: {said}")
