"""Print what the bandits of fedlight learn on a stationary toy: python tools/bandit_tables.py [--seeds 60].

Reward 1 - 2 |α - .45| + .1 ε over ratios α in [0, .8]. First table: mean |α - .45| over the last quarter of the rounds,
random play .203. Second: mean noise-free reward over all rounds, random play .594, columns are factors on the bonus.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np

from fedlight.parts.ratio import EUCB, UCB1, DiscountedUCB, SlidingWindowUCB, Thompson, UnimodalUCB
from fedlight.parts.ratio.bandits import Bandit

PEAK = 0.45


def play(bandit: Bandit, rounds: int, seed: int) -> np.ndarray:
    """Return the ratios that one agent plays."""
    rng = np.random.default_rng(seed)
    memory, ratios = bandit.start(), np.zeros(rounds)
    for round_idx in range(rounds):
        ratio = bandit.select(memory, round_idx, lambda: rng)
        reward = 1 - 2 * abs(ratio - PEAK) + 0.1 * rng.standard_normal()
        memory = bandit.update(memory, round_idx, ratio, reward)
        ratios[round_idx] = ratio
    return ratios


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=60)
    seeds = range(parser.parse_args().seeds)
    nine = [index / 10 for index in range(9)]
    lengths = (50, 200, 1000)
    print("| policy |", " | ".join(f"{rounds} rounds" for rounds in lengths), "|\n|---|---|---|---|")
    for name, bandit in {
        "E-UCB λ=.90": EUCB(0.0, 0.8, 0.90, 0.1),
        "E-UCB λ=.95": EUCB(0.0, 0.8, 0.95, 0.1),
        "E-UCB λ=.99": EUCB(0.0, 0.8, 0.99, 0.1),
        "E-UCB λ=.99, bonus ¼": EUCB(0.0, 0.8, 0.99, 0.1, 0.25),
        "D-UCB 9 arms, λ=.90": DiscountedUCB(nine, 0.90),
        "D-UCB 9 arms, λ=.99, bonus ½": DiscountedUCB(nine, 0.99, 0.5),
        "UCB1 9 arms, bonus ½": UCB1(nine, 0.5),
    }.items():
        cells = []
        for rounds in lengths:
            last = [play(bandit, rounds, seed)[-(rounds // 4) :] for seed in seeds]
            cells.append(f"{np.abs(np.array(last) - PEAK).mean():.3f}")
        print(f"| {name} |", " | ".join(cells), "|", flush=True)

    scales = (1.0, 0.5, 0.25, 0.1)
    print("\n| policy, 100 rounds |", " | ".join(f"{scale:g}" for scale in scales), "|\n|---|---|---|---|---|")
    discounts = (0.90, 0.95, 0.98, 0.99)
    makers: dict[str, Callable[[float], Bandit]] = {
        **{f"E-UCB λ={discount}": partial(EUCB, 0.0, 0.8, discount, 0.1) for discount in discounts},
        **{f"D-UCB 5 arms, λ={discount}": partial(DiscountedUCB, None, discount) for discount in discounts},
        "UCB1 5 arms": partial(UCB1, None),
        "sliding window of 50": partial(SlidingWindowUCB, None, 50),
        "Thompson": partial(Thompson, None, 1.0),
        "unimodal": partial(UnimodalUCB, None, 1.0),
    }
    for name, make in makers.items():
        cells = [f"{np.mean([_worth(play(make(scale), 100, seed)) for seed in seeds]):.3f}" for scale in scales]
        print(f"| {name} |", " | ".join(cells), "|", flush=True)


def _worth(ratios: np.ndarray) -> float:
    return float((1 - 2 * np.abs(ratios - PEAK)).mean())


if __name__ == "__main__":
    main()
