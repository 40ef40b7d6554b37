"""Rounds that bring nothing: what is said of them, and when a run that can't go on ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import final

from fedlight.core import tags
from fedlight.core.clock import Clock

_MAX_NAMES = 8
_ROUNDS = 10
_LEAST_ROUNDS = 100


@final
class Standstill:
    """Watches for rounds without a result.

    A run is over where nobody is up or at work and none will ever come, or where time stands still: 100 rounds, or ten
    per client of the fleet where these are more, in which nothing came back and no simulated time passed. A few such
    rounds are no end yet: others may be selected, or smaller submodels chosen.

    Args:
        num_clients: clients of the fleet.

    Attributes:
        is_over: whether the run can't go on.
    """

    def __init__(self, num_clients: int) -> None:
        self.is_over = False
        self._patience = max(_LEAST_ROUNDS, _ROUNDS * num_clients)
        self._num_still = 0
        self._told_empty = False
        self._told_unfit = False

    def watch(
        self, round_idx: int, began_s: float, clock: Clock, num_back: int, unfit: Sequence[int], is_stranded: bool
    ) -> list[str]:
        """Take in a round that has just ended; return what is to be said of it, in lines.

        Args:
            round_idx: the round.
            began_s: simulated time at its start.
            clock: the time now, who is at work and what was lost.
            num_back: results that came back.
            unfit: clients left out because of their memory.
            is_stranded: whether nobody was up and none will come.
        """
        start, lines = f"round {round_idx + 1}:", []
        if unfit and not self._told_unfit:
            self._told_unfit = True
            whose = "a client whose" if len(unfit) == 1 else f"{len(unfit)} clients whose"
            lines.append(
                f"{start} left out {whose} memory holds no submodel that they may get: {named(sorted(unfit))} "
                f"(told once; {tags.UNFIT_CLIENTS} counts them; more memory_bytes or a smaller client model lets them "
                "take part)"
            )
        still = not num_back and clock.now_s == began_s
        self._num_still = self._num_still + 1 if still else 0
        if is_stranded and not num_back and not len(clock):
            self.is_over = True
            lines.append(
                f"{start} at {clock.now_s:.6g} simulated s no client is up and none will come back; the run ends here"
            )
        elif self._num_still >= self._patience:
            self.is_over = True
            lines.append(
                f"{start} at {clock.now_s:.6g} simulated s nothing has come back and no time has passed for "
                f"{self._num_still} rounds ({len(unfit)} clients unfit for lack of memory); the run ends here"
            )
        elif not num_back and not self._told_empty:
            self._told_empty = True
            lines.append(
                f"{start} no result came back ({clock.num_lost} lost, {len(clock)} at work, {len(unfit)} unfit), the "
                f"model stays as it is (told once; {tags.EMPTY_ROUND} counts such rounds)"
            )
        return lines


def named(clients: Sequence[int], name: Callable[[int], str] = str) -> str:
    """Return the names of the first eight clients, and how many more there are."""
    more = f" and {len(clients) - _MAX_NAMES} more" if len(clients) > _MAX_NAMES else ""
    return ", ".join(map(name, clients[:_MAX_NAMES])) + more
