"""Text as sequences of characters, for language models."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from fedlight.data.examples import Splits
from fedlight.data.source import Source, reason_of
from fedlight.data.windows import Windows, starts_within
from fedlight.errors import ConfigError, DataError


@final
class CharText(Source):
    """A text file cut into sequences of characters; the target of each character is the next one.

    Characters are numbered in the order of their code points, over the whole file; ``class_names`` lists them, so the
    model's vocabulary size is their number (65 for tiny Shakespeare). The last part of the text is the test set.
    Sequences don't overlap, so no character is predicted twice in an epoch; what is left over at the end of a part is
    dropped. Sequences carry no class label.

    Args:
        path: a text file in UTF-8.
        sequence_length: characters per sequence, >= 1.
        test_fraction: share of the text, from its end, that is the test set, in [0, 1); 0 for no test set.
    """

    def __init__(self, path: str, sequence_length: int = 128, test_fraction: float = 0.1) -> None:
        check_lengths("CharText", sequence_length, test_fraction)
        self.path = path
        self.sequence_length = sequence_length
        self.test_fraction = test_fraction

    def load(self) -> Splits:
        """Read and number the text."""
        path, text = read_text(self.path)
        characters, tokens = number_characters(text, text)
        cut = len(tokens) - round(self.test_fraction * len(tokens))
        train, test = self._windows(tokens, 0, cut), self._windows(tokens, cut, len(tokens))
        if len(train) == 0 or (self.test_fraction > 0 and len(test) == 0):
            raise DataError(
                f"{path} has {len(tokens)} characters, too few for a sequence of {self.sequence_length} in each part: "
                "lower dataset.sequence_length"
            )
        return Splits(train, test if len(test) else None, class_names=characters)

    def _windows(self, tokens: Tensor, begin: int, end: int) -> Windows:
        return Windows(tokens, torch.from_numpy(starts_within(begin, end, self.sequence_length)), self.sequence_length)


def check_lengths(source: str, sequence_length: int, test_fraction: float) -> None:
    """Raise ConfigError where a text can't be cut so."""
    if sequence_length < 1 or not 0 <= test_fraction < 1:
        raise ConfigError(
            f"{source}(sequence_length={sequence_length}, test_fraction={test_fraction}): use a length of at least 1 "
            "and a fraction in [0, 1)"
        )


def read_text(path: str) -> tuple[Path, str]:
    """Return a file's full path and its text; raises DataError where it can't be read as UTF-8."""
    full = Path(path).expanduser()
    try:
        return full, full.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"can't read {full} as UTF-8 text ({reason_of(error)}): check dataset.path") from error


def number_characters(alphabet: str, text: str) -> tuple[list[str], Tensor]:
    """Return the characters of ``alphabet`` in the order of their code points, and a text as numbers, int64[n]."""
    characters = np.unique(np.array(list(alphabet)))
    numbers = np.searchsorted(characters, np.array(list(text)))
    return [str(character) for character in characters], torch.from_numpy(numbers.astype(np.int64))
