"""Seeds depend on what they are for, and on nothing else."""

from hypothesis import given
from hypothesis import strategies as st

from fedlight.core.seeds import SERVER, derive_seed, numpy_generator, torch_generator

numbers = st.integers(-1, 10**6)
purposes = st.sampled_from(["batches", "noise", "selection"])
keys = st.tuples(numbers, numbers, numbers, purposes)


@given(keys, keys)
def test_seeds_are_equal_exactly_if_their_keys_are(first, second):
    assert (derive_seed(*first) == derive_seed(*second)) == (first == second)


@given(keys)
def test_seeds_fit_every_generator(key):
    assert 0 <= derive_seed(*key) < 2**63
    assert torch_generator(*key).initial_seed() == derive_seed(*key)
    assert numpy_generator(*key).random() == numpy_generator(*key).random()


def test_neighbouring_fields_do_not_run_together():
    assert derive_seed(1, 11, 1, "a") != derive_seed(11, 1, 1, "a")
    assert derive_seed(0, 1, SERVER, "1") != derive_seed(0, -1, 1, "1")
