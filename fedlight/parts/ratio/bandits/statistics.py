"""What bandits log."""

from __future__ import annotations

from collections.abc import Sequence

from fedlight.parts.ratio.bandits.bandit import Bandit, Memory


def bandit_metrics(bandit: Bandit, agents: Sequence[Memory], round_idx: int) -> dict[str, float]:
    """Return discounted plays and mean reward of every arm over some agents, and their mean number of arms."""
    if not agents:
        return {}
    tags = {"bandit/arms": sum(map(bandit.num_arms, agents)) / len(agents)}
    for arms in zip(*(bandit.statistics(memory, round_idx) for memory in agents), strict=True):
        plays = sum(arm.plays for arm in arms)
        tags[f"bandit/plays/{arms[0].ratio:g}"] = plays
        if plays > 0:
            tags[f"bandit/reward/{arms[0].ratio:g}"] = sum(arm.rewards for arm in arms) / plays
    return tags
