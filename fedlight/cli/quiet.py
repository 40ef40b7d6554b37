"""Keeps off the screen what a user of fedlight can't act on; everything else that Lightning says is shown."""

from __future__ import annotations

import logging
import re
import warnings
from typing import Final, final

LOG_NOISE: Final = {
    r"💡 Tip: ": "advertises packages that fedlight doesn't use",
    r"(GPU|TPU|HPU) available: False": "says which accelerators are not there",
    r"(\[rank: \d+\] )?Seed set to ": "the seed stands in the config, which is saved",
    r"`Trainer\.fit` stopped: `max_epochs=": "the table at the end says how many rounds there were",
    r"Initializing distributed: GLOBAL_RANK": "Lightning says afterwards how many processes there are",
    r"Restor(ing|ed all) states from": "was asked for by --ckpt_path",
    r"Loaded model weights from": "was asked for by --ckpt_path",
    r"No seed found, seed set to": "the seed stands in the config, which is saved",
}
"""Start of a log message to the reason why it isn't shown."""

WARNING_NOISE: Final = {
    r".*does not have many workers which may be a bottleneck": "data are indexed in memory; there are no workers",
    r".*The number of training batches \(1\) is smaller than the logging interval": "one batch is one round",
    r"Total length of `EvaluationBatches` across ranks is zero": "the config switches validation off",
    r"Checkpoint directory .* exists and is not empty": "a resumed run goes on in its own folder",
    r"Be aware that when using `ckpt_path`, callbacks used to create": "validate and test need no callbacks of the fit",
    r".*It is recommended to use .*sync_dist=True.* when logging on epoch level": "every process evaluates all data",
    r"Using `DistributedSampler` with the dataloaders": "fedlight shares clients out itself",
    r"`isinstance\(treespec, LeafSpec\)` is deprecated": "Lightning's own use of an older name in torch",
    r".*you may want to set.*`use_distributed_sampler=False`": "it is set",
}
"""Start (a regular expression) of a warning to the reason why it isn't shown."""


@final
class _Quiet(logging.Filter):
    """Drops the records whose message begins like one of :data:`LOG_NOISE`."""

    def __init__(self) -> None:
        super().__init__()
        self._noise = re.compile("|".join(LOG_NOISE))

    def filter(self, record: logging.LogRecord) -> bool:
        return self._noise.match(record.getMessage()) is None


def silence_noise() -> None:
    """Install the filters; may be called any number of times."""
    import lightning.pytorch  # noqa: F401 - its handlers exist once it is imported

    for name in ("lightning", "lightning.pytorch", "lightning.fabric"):
        for handler in logging.getLogger(name).handlers:
            if not any(isinstance(known, _Quiet) for known in handler.filters):
                handler.addFilter(_Quiet())
    for message in WARNING_NOISE:
        warnings.filterwarnings("ignore", message=message)
