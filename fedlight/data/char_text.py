"""Text as sequences of characters, for language models."""

from __future__ import annotations

from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from fedlight.data.examples import Examples, Splits
from fedlight.data.source import Source, reason_of
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
        if sequence_length < 1 or not 0 <= test_fraction < 1:
            raise ConfigError(
                f"CharText(sequence_length={sequence_length}, test_fraction={test_fraction}): use a length of at "
                "least 1 and a fraction in [0, 1)"
            )
        self.path = path
        self.sequence_length = sequence_length
        self.test_fraction = test_fraction

    def load(self) -> Splits:
        """Read and number the text."""
        path = Path(self.path).expanduser()
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"can't read {path} as UTF-8 text ({reason_of(error)}): check dataset.path") from error
        characters, numbers = np.unique(np.array(list(text)), return_inverse=True)
        tokens = torch.from_numpy(numbers.astype(np.int64))
        cut = len(tokens) - round(self.test_fraction * len(tokens))
        train = Sequences(tokens[:cut], self.sequence_length)
        test = Sequences(tokens[cut:], self.sequence_length)
        if len(train) == 0 or (self.test_fraction > 0 and len(test) == 0):
            raise DataError(
                f"{path} has {len(tokens)} characters, too few for a sequence of {self.sequence_length} in each part: "
                "lower dataset.sequence_length"
            )
        return Splits(train, test if len(test) else None, class_names=[str(character) for character in characters])


@final
class Sequences(Examples):
    """Sequences of L tokens that don't overlap, each with the L tokens that follow its own as targets.

    Args:
        tokens: int64[n].
        length: L, tokens per sequence, >= 1.
    """

    def __init__(self, tokens: Tensor, length: int) -> None:
        # A window is L + 1 tokens long and begins L after the one before: a view, not a copy.
        self._windows = (
            tokens.unfold(0, length + 1, length) if len(tokens) > length else tokens.new_empty(0, length + 1)
        )

    def __len__(self) -> int:
        return len(self._windows)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Return inputs and targets, int64[B, L] each."""
        windows = self._windows.index_select(0, indices)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    @property
    def labels(self) -> None:
        """None: a sequence has no class."""
        return
