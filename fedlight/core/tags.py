"""The TensorBoard tags, all of them: docs/tags.md is this table."""

from __future__ import annotations

from typing import Final

UPLINK_BYTES: Final = "comm/uplink_bytes"
DOWNLINK_BYTES: Final = "comm/downlink_bytes"
SIMULATED_S: Final = "time/simulated_s"
WALL_S: Final = "time/wall_s"
WAITING_SHARE: Final = "time/waiting_share"
MEAN_RATIO: Final = "prune/ratio/mean"
MACS: Final = "compute/macs"
NUM_CLIENTS: Final = "train/num_clients"
REJECTED_CLIENTS: Final = "train/rejected_clients"
STALENESS: Final = "train/staleness"
EMPTY_ROUND: Final = "train/empty_round"
LOST: Final = "fleet/lost"
LOST_JOBS: Final = "fleet/lost_jobs"
IN_FLIGHT: Final = "fleet/in_flight"
UNFIT_CLIENTS: Final = "fleet/unfit_clients"
ENERGY_J: Final = "fleet/energy_j"
CONTRIBUTION: Final = "contribution"
NEVER_TRAINED: Final = "prune/never_trained"
HOLDERS: Final = "prune/holders"

TAGS: Final[dict[str, str]] = {
    "train/<metric>": "what clients log while they train, mean over the round's clients by number of examples",
    "val/<metric>": "what the client's validation_step logs for the global model, for example val/accuracy",
    "test/<metric>": "what the client's test_step logs for the global model",
    NUM_CLIENTS: "clients whose update was merged in this round",
    REJECTED_CLIENTS: "clients left out of this round because their update was not finite",
    STALENESS: "versions by which the global model had moved on when an update came back, mean over updates",
    EMPTY_ROUND: "1 in a round in which no result came back, so that the model stayed as it was; else 0",
    LOST_JOBS: "jobs of this round that never come back",
    f"{LOST}/<cause>": "the same by cause: left (client gone), dropped (connection), late (given up at a deadline)",
    IN_FLIGHT: "clients still at work when the round ends",
    UNFIT_CLIENTS: "clients left out of this round because no submodel that they may get fits their memory",
    ENERGY_J: "joules that this round's clients spent, lost jobs included, where the fleet knows",
    MEAN_RATIO: "mean pruning ratio (fraction removed) over the round's clients",
    "prune/ratio/<client>": "pruning ratio of one client",
    "prune/layer_sparsity/<layer>": "fraction of a layer's units (or masked weights) removed, mean over clients",
    f"{NEVER_TRAINED}/<layer>": "share of a layer's units that no client has held since the run began, where some are "
    "removed",
    f"{HOLDERS}/<layer>": "histogram of how often each unit of a layer was held by a client since the run began",
    "selection/<statistic>": "statistics of the selection: exploration, percentile and preferred_s of Oort, tier and "
    "probability/<tier> of TiFL",
    "bandit/<statistic>": "statistics of the ratio policy, where it is a bandit",
    "ratio/<statistic>": "statistics of the ratio policy, where it is not a bandit",
    "local/<statistic>": "statistics of the local training, where something changes: mu of an adaptive proximal term",
    "search/density": "share of the prunable entries that the map has, where its size is searched for",
    "compression/<statistic>": "statistics of the compression: level, the mean share of entries that clients sent",
    "schedule/<statistic>": "of a deadline: deadline_s, the next round's, and extended_rounds, how many were so far",
    "server/<statistic>": "what the server did with its own data: step, how far it went, and the accuracy it measured",
    f"{CONTRIBUTION}/<client>": "contribution score of one client in this round",
    f"{CONTRIBUTION}/<weight or score>_vs_<examples or kept>": "correlation over the round's clients of their weight, "
    "or their score, with their examples, or with the fraction that they kept: whether it measures more than these",
    "contribution/removed_clients": "clients that a reputation has removed for good",
    "reward/<statistic>": "min_quota, mean_quota: share of the aggregate that clients were given, where rewards differ",
    "picture/<name>": "pictures of the run: layer_sparsity (layers x rounds), ratio and contribution (clients x "
    "rounds), bandit (arms x rounds), timeline and timeline_round (clients x simulated time), fleet (how it "
    "changed), partition (who holds what), participation, staleness, energy, waiting",
    UPLINK_BYTES: "bytes sent by this round's clients, by lost jobs up to their loss",
    DOWNLINK_BYTES: "bytes sent to this round's clients, to lost jobs up to their loss",
    MACS: "multiply-accumulates of this round's training over all clients, of lost jobs up to their loss",
    SIMULATED_S: "simulated seconds since the start of the run",
    WALL_S: "measured seconds that the round took",
    WAITING_SHARE: "share of the round in which clients had no job, mean over the clients that had one in it",
}
"""Tag (or pattern) to its meaning."""
