"""Who makes signed bundles: the operator's tool, with a root key and a key that it lets sign."""

import json
from pathlib import Path

from .tool import tool

PRODUCT, BOARD = "gateway", "rev-b"
# What an image says of itself, beside the root key in /etc/twinboot/keys.d.
TRUST = f'[trust]\nproduct = "{PRODUCT}"\ncompatible = ["{BOARD}"]\n'


class Operator:
    """Keys of its own: what one has signed is nothing to a device that trusts another."""

    def __init__(self, fleet: Path, place: Path) -> None:
        self._fleet, self._place = fleet, place
        place.mkdir(mode=0o700)
        self._bundle("keygen", "root")
        self._bundle("keygen", "ci")
        self._bundle("delegate", "delegation", "--epoch", "1", "--signer", "ci.pem", "--key", "root.key")

    def root(self) -> Path:
        """The public key for a device's keys.d."""
        return self._place / "root.pem"

    def bundle(self, image: Path, version: str, index: int, place: Path, address: str = "") -> dict[str, object]:
        """Makes a bundle of an image at `place`, with this rollback index: what a device is told to install it from
        `address`."""
        told = self._place / "deploy.json"
        self._bundle("create", "--version-label", version, "--product", PRODUCT, "--compatible", BOARD,
                     "--rollback-index", str(index), "--delegation", "delegation", "--key", "ci.key", "--level", "3",
                     "--part", image, "--output", place,
                     *(("--url", address, "--deploy-json", told) if address else ()))
        if not address:
            return {}
        wish = json.loads(told.read_text(encoding="utf-8"))
        told.unlink()
        return wish

    def _bundle(self, *words: str | Path) -> None:
        tool(self._fleet, "bundle", *words, cwd=self._place)
