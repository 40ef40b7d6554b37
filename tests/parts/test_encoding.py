"""Bytes of sparse tensors."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedlight.errors import ConfigError
from fedlight.parts.encoding import encoded_bytes, scheme_bytes

CONV = (512, 512, 3, 3)
MIB = 2**20


@pytest.mark.parametrize(
    ("density", "scheme", "mib"),
    [
        (1.0, "dense", 9.0), (0.5, "bitmap", 4.781), (0.3, "coo", 4.556), (0.2, "coo", 3.037), (0.1, "csc", 1.163),
        (0.05, "csc", 0.586), (0.01, "csc", 0.124),
    ],
)  # fmt: skip
def test_bytes_of_a_convolution(density, scheme, mib):
    """The computed check of methods_sparse.md §0.4."""
    found = scheme_bytes(CONV, round(density * math.prod(CONV)))
    assert found[scheme] / MIB == pytest.approx(mib, abs=5e-4)
    assert encoded_bytes(CONV, round(density * math.prod(CONV))) <= found[scheme]


def test_by_hand():
    """2 of 12 entries as a 3 x 4 matrix: 4 index bits flat, 2 per column or row, 1 per pointer."""
    assert scheme_bytes((3, 4), 2) == {"dense": 48, "bitmap": 10, "coo": 9, "csr": 9, "csc": 9}
    assert scheme_bytes((3, 4), 2, bytes_per_value=1) == {"dense": 12, "bitmap": 4, "coo": 3, "csr": 3, "csc": 3}
    assert encoded_bytes((3, 4), 12) == 48
    assert encoded_bytes((3, 4), 0) == 0
    assert encoded_bytes((), 1) == 4


def test_a_row_of_numbers_has_flat_offsets():
    assert scheme_bytes((16,), 1)["coo"] == scheme_bytes((16,), 1)["csr"] == 5  # 4 + 32 bits


@given(shape=st.lists(st.integers(1, 9), min_size=1, max_size=4), share=st.floats(0, 1))
def test_never_above_dense_nor_below_the_values(shape, share):
    size = math.prod(shape)
    sent = round(share * size)
    assert 4 * sent <= encoded_bytes(shape, sent) <= 4 * size


def test_impossible_counts_are_refused():
    with pytest.raises(ConfigError, match=r"num_nonzero=13 doesn't fit a tensor of shape \(3, 4\)"):
        encoded_bytes((3, 4), 13)
