"""A package is installed on a system that has never seen it."""

from harness import check, story
from lab import Lab


@story("install")
def install(lab: Lab) -> None:
    """By apt on a running system: nothing is started by itself; then it is started without any configuration."""
    with lab.bare_board() as board:
        board.power_on()
        board.put(lab.package, "/tmp/twinboot.deb")
        said = board.sh("apt-get install -y -qq /tmp/twinboot.deb 2>&1")
        check("warning" not in said.lower() and "error" not in said.lower(), f"apt said: {said}")
        check(board.sh("dpkg --audit") == "", "dpkg is not content")
        for unit in ("twinboot.service", "twinboot-net.service", "twinboot-net.socket"):
            state = board.try_sh(f"systemctl is-active {unit}")[1].strip()
            check(state == "inactive", f"{unit} is {state} after the installation")
        check(
            board.try_sh("systemctl is-enabled twinboot")[1].strip() == "disabled",
            "twinboot is enabled by itself",
        )
