"""What the administrator has written in /etc/twinboot stays."""

from harness import check, story
from lab import Lab

FILE = "/etc/twinboot/twinboot.toml"
DROP_IN = "/etc/twinboot/conf.d/50-board.toml"
EDITED = "# by the administrator"


@story("conffiles")
def conffiles(lab: Lab) -> None:
    """An edited twinboot.toml in an upgrade that brings another one: what dpkg is told to do, it does."""
    for option, kept, aside in (("confold", True, ".dpkg-dist"), ("confnew", False, ".dpkg-old")):
        with lab.board(lab.previously_installed) as board:
            cloud = lab.new_cloud()
            board.power_on()
            cloud.wait_connected()
            board.sh(f"echo '{EDITED}' >>{FILE}")
            before = board.sh(f"sha256sum {DROP_IN} /etc/twinboot/connection-string")
            board.install(lab.package, f"-oDpkg::Options::=--force-{option}")
            check((board.try_sh(f"grep -q '{EDITED}' {FILE}")[0] == 0) == kept, f"{option}: the edited file")
            board.sh(f"test -s {FILE}{aside}")
            check(
                board.sh(f"sha256sum {DROP_IN} /etc/twinboot/connection-string") == before,
                "conf.d has changed",
            )
            # What dpkg has put aside is no configuration.
            board.sh("twinboot check-config >/dev/null")
            check(board.sh("systemctl is-active twinboot") == "active", "it does not run any more")
            cloud.wait_connected()
            cloud.stop()


@story("conffile-untouched")
def untouched(lab: Lab) -> None:
    """A twinboot.toml that nobody has edited is replaced by an upgrade, without a question."""
    with lab.board(lab.previously_installed) as board:
        board.power_on()
        before = board.sh(f"sha256sum {FILE} {DROP_IN}").splitlines()
        board.install(lab.package)
        after = board.sh(f"sha256sum {FILE} {DROP_IN}").splitlines()
        check(before[0] != after[0], "it is still the old one")
        check(before[1] == after[1], "conf.d has changed")
        board.sh(f"! ls {FILE}.dpkg-*")
