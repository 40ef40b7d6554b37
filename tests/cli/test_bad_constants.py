"""A bad constant is refused before anything is trained, with the key that it was given under."""

from __future__ import annotations

import inspect
import math
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import fedlight.algorithms
from fedlight.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "line"),
    [
        # λ of a bandit
        ("FedLight --A.discount -0.1", "model.algorithm (FedLight): discount=-0.1 is outside (0, 1]"),
        ("FedMP --A.discount -0.1", "model.algorithm (FedMP): discount=-0.1 is outside (0, 1]"),
        ("UPFL --A.mode bandit --A.discount -0.1", "model.algorithm (UPFL): discount=-0.1 is outside (0, 1]"),
        ("FedLight --A.discount nan", "model.algorithm.discount (FedLight): expected float, got nan"),
        # arms
        ("FedLight --A.ratios []", "model.algorithm (FedLight): ratios is empty: give at least one ratio in [0, 1)"),
        ("FedLight --A.ratios [0.5,1.0]", "model.algorithm (FedLight): ratios[1]=1.0 is outside [0, 1)"),
        ("RandomRatio --A.ratios []", "model.algorithm (RandomRatio): ratios is empty"),
        ("HeteroFL --A.levels []", "model.algorithm (HeteroFL): levels is empty"),
        (
            "FedPace --A.pace BanditPace --A.pace.bandit UCB1 --A.pace.bandit.ratios []",
            "model.algorithm.pace.bandit (UCB1): ratios is empty",
        ),
        # ΔT and T_end
        ("FedLight --A.prune_every 0", "model.algorithm (FedLight): prune_every=0 is no number of rounds between"),
        ("FedLight --A.prune_until -1", "model.algorithm (FedLight): prune_until=-1 ends pruning before the first"),
        ("FedLight --A.prune_until 0", "model.algorithm (FedLight): prune_until=0 is no last round"),
        ("FedLightMask --A.prune_until -1", "model.algorithm (FedLightMask): prune_until=-1 ends pruning before the"),
        ("PruneFL --A.prune_every 0", "model.algorithm (PruneFL): prune_every=0 is no number of rounds between"),
        # the option of the algorithm has another name than that of the part it is handed on to
        ("FedMP --A.max_ratio 1", "model.algorithm (FedMP): max_ratio=1.0 is outside [0, 1)"),
        ("SpeedRatio --A.min_ratio -1", "model.algorithm (SpeedRatio): min_ratio=-1.0 is outside [0, 1)"),
        # a part of a part
        ("FedPace --A.pace StagnationPace --A.pace.patience 0", "model.algorithm.pace (StagnationPace): patience=0"),
        ("FedAvg --A.local LeanLoop --A.local.epochs 0", "model.algorithm.local (LeanLoop): epochs of the local loop"),
        # the rest of the method
        ("FedLight --A.moving_average 1", "model.algorithm (FedLight): moving_average=1.0 is outside [0, 1)"),
        ("FedLight --A.update_norm 0", "model.algorithm (FedLight): update_norm=0.0 is no length"),
        ("FedMP --A.granularity 0", "model.algorithm (FedMP): granularity=0.0 would split intervals for ever"),
        ("FedProx --A.mu -1", "model.algorithm (FedProx): mu=-1.0 of the proximal term is no pull"),
        ("FedMP --A.floor 0", "model.algorithm (FedMP): floor=0.0 would let rewards explode"),
        ("FedAvg --A.clients_per_round 0", "clients_per_round=0 trains nobody"),
        ("FedLight --A.round_to 0", "model.algorithm (FedLight): round_to=0 is not a multiple to round to"),
        # what the server must hold
        (
            "FedPace --A.contribution LeaveOneOut",
            "contribution: LeaveOneOut needs server data: set data.server_fraction",
        ),
        (
            "FedPace --A.contribution Scored --A.contribution.measure LeaveOneOut",
            "contribution: LeaveOneOut needs server data: set data.server_fraction",
        ),
        ("FedDU", "server_update: DynamicServerUpdate needs server data: set data.server_fraction above 0"),
        ("FedNova --A.mu 0.1", "model.algorithm (FedNova): mu=0.1 of FedNova needs lr"),
        ("FedPace --A.contribution GTGShapley", "contribution: GTGShapley needs server data: set data.server_fraction"),
        (
            "FedLight --A.importance MixedImportance --A.importance.global_importance FeatureRank",
            "importance: FeatureRank needs server data: set data.server_fraction",
        ),
        # what can't tell what it is asked for
        (
            "FedPace --A.contribution Scored --A.contribution.measure SampleCount",
            "model.algorithm.contribution (Scored): measure=SampleCount gives no scores: measure by one that does",
        ),
        ("FedLightMask --A.importance NormScale", "importance NormScale scores units, not single weights: use"),
        (
            "FedLightMask --A.importance MixedImportance --A.importance.global_importance PrefixOrder",
            "importance PrefixOrder scores units, not single weights: use",
        ),
        (
            "FedLightMask --A.importance Regrowth --A.importance.grow RollingOrder",
            "importance RollingOrder scores units, not single weights: use",
        ),
    ],
)
def test_it_is_named(refusal, options, line):
    name, *others = options.replace("--A", "--model.algorithm").split()
    assert refusal("fit", "--config", "tiny.yaml", "--model.algorithm", name, *others).startswith(line)
    assert not Path("out").exists()


KNOWN_AT_START = {"clients_per_round"}
"""Its range depends on the fleet; see above."""

MODES = {"UPFL": {"mode": "bandit"}}
"""Where an option counts in one mode only."""

UNUSED = {("UPFL", "ratio")}
"""Not in that mode."""


def numbers():
    """Every number that an algorithm takes, and a value out of range for each."""
    for name in fedlight.algorithms.__all__:
        kind = getattr(fedlight.algorithms, name)
        hints = get_type_hints(kind.__init__)
        for key in inspect.signature(kind).parameters:
            types = {hints[key], *get_args(hints[key])}
            if types & {int, float} and (name, key) not in UNUSED and key not in KNOWN_AT_START:
                yield name, key, -1
                if float in types:
                    yield name, key, math.nan


@pytest.mark.parametrize(("name", "key", "value"), list(numbers()))
def test_every_number_has_a_range(name, key, value):
    with pytest.raises(ConfigError):
        getattr(fedlight.algorithms, name)(**{**MODES.get(name, {}), key: value})
