"""Plays: text by speaking role, as sequences of characters."""

from __future__ import annotations

import re
from typing import final

import numpy as np
import torch

from fedlight.data.char_text import check_lengths, number_characters, read_text
from fedlight.data.examples import Splits
from fedlight.data.source import Source
from fedlight.data.windows import Windows, starts_within
from fedlight.errors import DataError

SPEECH = re.compile(r"^([^\n:]+):[ \t]*(?:\n|$)", re.MULTILINE)
"""The line before a speech: who says it."""


@final
class Speeches(Source):
    """A play as sequences of characters, with the column ``role``: who speaks; the target is the next character.

    The text has a line ``NAME:`` before each speech, after an empty line, as tiny Shakespeare does. What a role says
    in the whole file is joined in order and cut into sequences that don't overlap and never mix two roles; the last
    part of each role's sequences is the test set, so it tests on the roles that were trained on. Roles that say less
    than one sequence are left out, and roles with one sequence only train. Characters are numbered over the whole
    file, names included, as in :class:`~fedlight.data.CharText` (65 for tiny Shakespeare).

    Source: the Shakespeare task of S. Caldas et al., "LEAF: A Benchmark for Federated Settings", 2018 (arXiv
    1812.01097), section 3: one client per role, 80 characters. There a role is one of a play, and each position of
    the text begins a sequence; here names are all that there is, and a "Messenger" is one role in all plays.

    Args:
        path: a text file in UTF-8.
        sequence_length: characters per sequence, >= 1.
        test_fraction: share of each role's sequences, from their end, that is the test set, in [0, 1).
    """

    def __init__(self, path: str, sequence_length: int = 80, test_fraction: float = 0.1) -> None:
        check_lengths("Speeches", sequence_length, test_fraction)
        self.path = path
        self.sequence_length = sequence_length
        self.test_fraction = test_fraction

    def load(self) -> Splits:
        """Read the text, and sort it by role."""
        path, text = read_text(self.path)
        spoken = _by_role(text)
        if not spoken:
            raise DataError(
                f"{path} has no line 'NAME:' after an empty line, so it has no roles: check dataset.path, or use "
                "fedlight.data.CharText"
            )
        characters, tokens = number_characters(text, "".join(spoken.values()))
        train: list[np.ndarray] = []
        test: list[np.ndarray] = []
        begin = 0
        for words in spoken.values():
            starts = starts_within(begin, begin + len(words), self.sequence_length)
            begin += len(words)
            cut = len(starts) - round(self.test_fraction * len(starts))
            train.append(starts[:cut])
            test.append(starts[cut:])
        if not sum(map(len, train)):
            raise DataError(f"no role in {path} says {self.sequence_length + 1} characters: lower sequence_length")
        roles = np.array(list(spoken))

        def windows(starts: list[np.ndarray]) -> Windows:
            role = np.repeat(roles, [len(part) for part in starts])
            places = torch.from_numpy(np.concatenate(starts).astype(np.int64))
            return Windows(tokens, places, self.sequence_length, {"role": role})

        held_out = windows(test)
        return Splits(windows(train), held_out if len(held_out) else None, class_names=characters)


def _by_role(text: str) -> dict[str, str]:
    """Return what every role says in the whole text, its speeches joined by a line break, in the order of entrance."""
    spoken: dict[str, list[str]] = {}
    role: str | None = None
    for block in text.split("\n\n"):
        words = block.strip("\n")
        header = SPEECH.match(words)
        if header:
            role = header.group(1).strip()
            words = words[header.end() :]
        if role is not None and words:
            spoken.setdefault(role, []).append(words)
    return {role: "\n".join(speeches) for role, speeches in spoken.items()}
