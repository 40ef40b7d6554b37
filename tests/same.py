"""What "the same" means: bit for bit, or up to the order of sums."""

import torch


def equal(one, other):
    """Bit for bit, NaN being itself."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other or (one != one and other != other)


def assert_close(weights, expected, atol=1e-6):
    """Every tensor of two states to ``atol``."""
    assert weights.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(
            weights[name], value, rtol=0, atol=atol, msg=lambda text, name=name: f"{name}: {text}"
        )
