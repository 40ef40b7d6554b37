"""The errors that a user can mend: every message says what is wrong, where, and the way out."""


class FedlightError(Exception):
    """A user's mistake: the command line prints its message as one line, without a traceback.

    The message names the file, key, layer or client, and ends with what to do about it.
    """


class ConfigError(FedlightError):
    """A setting, or a combination of settings, that can't be run."""


class DataError(FedlightError):
    """Data that don't fit what was asked of them."""


class CheckpointError(FedlightError):
    """A checkpoint or state dict that doesn't fit this run."""


class UnsupportedModelError(FedlightError):
    """A model whose submodels would not be exact; names the layer, the pattern, what to change or protect."""


class UnsupportedClientError(FedlightError):
    """A LightningModule that the chosen local loop can't honour; names the hook and the loop that can."""


class DivergedError(FedlightError):
    """A run that came to its end without a single update that could be merged: none was finite, or none came back."""
