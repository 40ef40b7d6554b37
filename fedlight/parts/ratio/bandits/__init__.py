"""Bandits over ratios: constants that turn an agent's memory into a choice."""

from fedlight.parts.ratio.bandits.bandit import Bandit
from fedlight.parts.ratio.bandits.discounted_ucb import DiscountedUCB
from fedlight.parts.ratio.bandits.eucb import EUCB
from fedlight.parts.ratio.bandits.sliding_window_ucb import SlidingWindowUCB
from fedlight.parts.ratio.bandits.thompson import Thompson
from fedlight.parts.ratio.bandits.ucb1 import UCB1
from fedlight.parts.ratio.bandits.unimodal_ucb import UnimodalUCB

__all__ = ["EUCB", "UCB1", "Bandit", "DiscountedUCB", "SlidingWindowUCB", "Thompson", "UnimodalUCB"]
