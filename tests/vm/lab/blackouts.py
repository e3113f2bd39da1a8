"""Good updates, one after the other, with the power going in every phase: each must succeed in the end."""

import itertools
import re
import time
from typing import TYPE_CHECKING

from .cuts import PHASES, Plan, plan
from .machine import Moment, Unexpected
from .truth import disagreement

if TYPE_CHECKING:
    from .play import Play
    from .scenario import Cuts

_LOST = " failed, the running | rolled back, the old "


class Blackouts:
    """The step `cuts`, as it is played."""

    def __init__(self, play: "Play", step: "Cuts") -> None:
        self.play_, self.step = play, step
        self.machine, self.chance = play.machine, play.chance
        # Since when the journal is of interest: the wish, or the last time the power came.
        self._since = Moment(0, 0)

    def play(self) -> None:
        """Until the power went as often as it shall."""
        for number, image in enumerate(itertools.cycle(self.step.images)):
            if len(self.play_.cuts) >= self.step.number:
                return
            self._since = self.machine.now()
            begun = self._since
            self.play_.wish(image, bundle=self.step.bundle and self.step.bundle + number)
            for phase in self.step.cuts:
                if len(self.play_.cuts) == self.step.number or self._black_out(plan(phase, self.chance)):
                    break
            self._end(image, begun)

    def _black_out(self, plan_: Plan) -> bool:
        """The power goes in this phase, if it still comes; whether the update is over."""
        if not self._reached(plan_):
            return False
        began = time.monotonic()
        is_late = False
        if plan_.way.kind == "seconds":
            time.sleep(plan_.number)
        else:
            # It need not write so often.
            is_late = not self.play_.trapped(plan_.way.kind, int(plan_.number), plan_.way.part, 30)
        story = self.machine.cut_power(self.chance)
        self._since = self.machine.now()
        cut = f"{plan_}{' (it did not come)' if is_late else ''}, after {time.monotonic() - began:.1f} s: {story}"
        self.play_.cuts.append(cut)
        slot = self.play_.up()
        self.play_.tell(f"    cut {len(self.play_.cuts)}: {cut}; up on {slot}")
        status = self._agree()
        return status["phase"] == "idle"

    def _reached(self, plan_: Plan) -> bool:
        """Waits until the moment can be counted from; whether it comes."""
        end = time.monotonic() + 900
        while time.monotonic() < end:
            for message in self._news():
                if re.search(plan_.way.begins, message):
                    return True
                if re.search(PHASES[plan_.phase].over, message):
                    return False
            time.sleep(0.05)
        raise Unexpected(f"neither {plan_.way.begins!r} nor {PHASES[plan_.phase].over!r} in the journal")

    def _news(self) -> list[str]:
        return [str(entry.get("MESSAGE")) for entry in self.machine.journal()[self._since.journal:]
                if str(entry.get("_SYSTEMD_UNIT", "")).startswith("twinboot")]

    def _agree(self, limit: float = 600) -> dict:
        """Waits until all say the same; the status."""
        end = time.monotonic() + limit
        while True:
            try:
                wrong, status = disagreement(self.play_.chain, self.machine, self.play_.hub)
            except Unexpected as error:
                wrong = str(error)
            if wrong is None:
                return status
            if time.monotonic() > end:
                raise Unexpected(f"still so after {limit:.0f} s: {wrong}")
            time.sleep(0.5)

    def _end(self, image: str, begun: Moment) -> None:
        """Waits until the update is over: it succeeded, as the power alone spoils nothing."""
        wanted = self.play_.scenario.images[image].version
        end = time.monotonic() + 900
        while True:
            self._since = begun
            if lost := [message for message in self._news() if re.search(_LOST, message)]:
                raise Unexpected(f"the update to {wanted} is lost: {lost}")
            status = self._agree(max(1, end - time.monotonic()))
            if status["phase"] == "idle" and status["version"]["running"] == wanted:
                self.play_.settle(status["booted"])
                return
            if time.monotonic() > end:
                raise Unexpected(f"the update to {wanted} does not end: {status}")
            time.sleep(1)
