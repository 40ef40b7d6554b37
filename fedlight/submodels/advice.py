"""What to do about channels that can't be followed, by the operations on their way."""

from __future__ import annotations

_WAYS_OUT = (
    (("shuffle",), "replace the shuffle by a 1x1 or transposed convolution"),
    (("pad",), "replace the padded shortcut by a 1x1 convolution"),
    (("split", "unbind", "slice", "glu"), "give each part of the split a layer of its own"),
    (("permute", "transpose"), "flatten channels first (NCHW) and leave their order alone"),
    (("cat",), "pool to 1x1 before the concatenation is flattened"),
    (("view", "reshape"), "write -1 for the channels in reshapes, and average over positions before a linear layer"),
)


def passed(route: tuple[str, ...]) -> str:
    """The operations between a group's layers, in brackets; empty if there are none to tell of."""
    return f" ({', '.join(route)} on the way)" if route else ""


def way_out(name: str, route: tuple[str, ...]) -> str:
    """Advise on the group of one name.

    Args:
        name: a layer, or a pattern of layers, that can be protected.
        route: operations between its layers, as autograd names them.
    """
    operations = " ".join(route).lower()
    general = "let layers do what mixes channels or needs their number (nn.LayerNorm, nn.RMSNorm, nn.GroupNorm)"
    advice = next((advice for words, advice in _WAYS_OUT if any(word in operations for word in words)), general)
    return f"{advice}, or keep them whole with protect=[{name!r}]"
