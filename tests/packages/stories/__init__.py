"""The stories, in the order in which they are told: that of these imports."""

# isort: skip_file
from harness import STORIES
from stories import install, configure
from stories import update, programs, upgrade, conffiles
from stories import removal, piuparts, readonly, secrets, restarts

__all__ = [
    "STORIES",
    "configure",
    "conffiles",
    "install",
    "piuparts",
    "programs",
    "readonly",
    "removal",
    "restarts",
    "secrets",
]
__all__ += ["update", "upgrade"]
