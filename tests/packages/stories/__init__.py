"""The stories, in the order in which they are told."""

from harness import STORIES
from stories import install

__all__ = ["STORIES", "install"]
