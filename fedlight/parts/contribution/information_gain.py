"""Contribution by what a client's data tell about the parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, final

from torch import Tensor

from fedlight.core.slots import Contribution
from fedlight.core.types import RoundState, Update
from fedlight.errors import ConfigError
from fedlight.parts.contribution.direction import Support, checked_support
from fedlight.parts.contribution.plain import sample_counts
from fedlight.submodels.coverage import Coverage


@final
class InformationGain(Contribution):
    """Score a client by the entropy that its data take from a Gaussian belief about the parameters.

    IG_n = ½ Σ_j log(1 + |D_n| F_jj / λ), F = Σ g² / steps from the statistic ``sq_grad``: the diagonal Laplace form of
    R. H. L. Sim, Y. Zhang, M. C. Chan, B. K. H. Low: Collaborative Machine Learning with Incentive-Aware Model Rewards,
    ICML 2020 (there I(θ; D) itself).

    g is the gradient of a batch's mean, so F is about 1/B of the Fisher information of an example at batch size B: take
    that into λ. >= 0, grows with the examples, and adds over parameters. Inflated by label noise, whose gradients are
    large. Clients sum up g² while they train, at no extra pass; costs O(D), or O(last layer). Needs no server data.
    Weighs by examples; put it in :class:`~fedlight.parts.Scored` to weigh by it.

    Args:
        prior_precision: λ > 0, how sure one is of the parameters without data.
        layers: ``last``: parameters of one row per output of the model only; ``all``: every trained parameter.
        support: ``covered``: the mean over the entries that the client holds stands for those that it doesn't;
            ``full``: what it doesn't hold tells nothing, so who is pruned hard scores low.
    """

    needs: Literal["own"] = "own"
    statistics = frozenset({"sq_grad"})

    def __init__(
        self,
        prior_precision: float = 1.0,
        layers: Literal["last", "all"] = "last",
        support: Support = "covered",
    ) -> None:
        if not prior_precision > 0.0:
            raise ConfigError(f"prior_precision={prior_precision} is no precision: use a number above 0")
        if layers not in ("last", "all"):
            raise ConfigError(f"layers={layers!r} is unknown to InformationGain: use 'last' or 'all'")
        self.prior_precision = prior_precision
        self.layers = layers
        self.support = checked_support(support, "InformationGain")
        self._last: tuple[str, ...] = ()
        self._sizes: dict[str, int] = {}

    def weights(self, state: RoundState, clients: Sequence[int]) -> dict[int, float]:
        """Return |D_n| for every client."""
        return sample_counts(state, clients)

    def begin(self, state: RoundState) -> None:
        """Start a round."""
        self._last = tuple(state.plan.output_rows)
        self._sizes = {name: value.numel() for name, value in state.weights.items()}
        if self.layers == "last" and not self._last:
            raise ConfigError(
                "layers='last' of InformationGain is the layer with one row per output, and this model has none: "
                "use layers: all"
            )

    def score(self, coverage: Coverage, update: Update) -> float | None:
        """Return IG_n >= 0 in nats; None if the client took no step."""
        sums = update.statistics.get("sq_grad", {})
        if update.num_steps == 0 or not sums:
            return None
        gain, held, size = 0.0, 0, 0
        for name, value in sums.items():
            if self.layers == "last" and name not in self._last:
                continue
            scale = update.num_examples / (update.num_steps * self.prior_precision)
            gain += 0.5 * float((value.double() * scale).log1p().sum())
            held += _num_held(coverage, name, value)
            size += self._sizes[name]
        return gain * size / held if self.support == "covered" and held else gain


def _num_held(coverage: Coverage, name: str, value: Tensor) -> int:
    masks = coverage.masks or {}
    return int(masks[name].sum()) if name in masks else value.numel()
