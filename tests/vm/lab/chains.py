"""The chains that there are. A new one is a class like UBoot, and a line here."""

from .chain import Chain
from .grub import Grub
from .uboot import UBoot, UBootModern, UBootOrder

CHAINS: dict[str, type[Chain]] = {chain.name: chain for chain in (UBoot, UBootModern, UBootOrder, Grub)}
