import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlight.data import IID, ClassesPerClient, DirichletByClass, DirichletByClient, Partition, Shards
from fedlight.data.dirichlet import _counts, dirichlet
from fedlight.errors import ConfigError, DataError

RULES = [IID(), DirichletByClient(0.3), DirichletByClass(2.0), ClassesPerClient(2), Shards(2)]


def name_of(rule: Partition) -> str:
    return type(rule).__name__


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def balanced(num_classes: int, per_class: int) -> np.ndarray:
    return np.repeat(np.arange(num_classes), per_class)


def class_counts(rule: Partition, labels: np.ndarray, num_clients: int, seed: int = 0) -> np.ndarray:
    assignment = rule.assign(labels, len(labels), num_clients, rng(seed))
    num_classes = labels.max() + 1
    return np.stack([np.bincount(labels[assignment.of(k)], minlength=num_classes) for k in range(num_clients)])


@pytest.mark.parametrize("rule", RULES, ids=name_of)
@given(
    labels=st.lists(st.integers(0, 4), min_size=1, max_size=200), num_clients=st.integers(1, 12), seed=st.integers(0, 9)
)
@settings(max_examples=40, deadline=None)
def test_no_example_is_lost_or_held_twice(rule, labels, num_clients, seed):
    labels = np.array(labels)
    try:
        assignment = rule.assign(labels, len(labels), num_clients, rng(seed))
    except DataError:
        return  # the rule can't be kept here; the refusals are tested below
    assert sorted(assignment.order) == list(range(len(labels)))
    assert assignment.order.dtype == np.int32
    assert assignment.offsets[0] == 0
    assert assignment.offsets[-1] == len(labels)
    assert assignment.sizes.min() >= 1


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_the_same_generator_gives_the_same_clients(rule):
    labels = balanced(5, 20)
    first, again, other = (rule.assign(labels, 100, 8, rng(seed)).order for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("rule", [IID(), DirichletByClient(0.1)], ids=name_of)
def test_equal_amounts_differ_by_at_most_one(rule):
    assert sorted(rule.assign(balanced(2, 13), 26, 4, rng()).sizes) == [6, 6, 7, 7]


def test_iid_needs_no_labels():
    assert IID().assign(None, 10, 3, rng()).sizes.tolist() == [4, 3, 3]


@pytest.mark.parametrize("rule", RULES[1:], ids=name_of)
def test_a_label_free_data_set_is_refused_by_label_partitions(rule):
    with pytest.raises(DataError, match=f"{type(rule).__name__}.*no class labels: use fedlight.data.IID"):
        rule.assign(None, 10, 3, rng())


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_more_clients_than_samples_are_refused(rule):
    with pytest.raises(DataError, match=r"4 examples shared by 5 clients.*num_clients to at most 4"):
        rule.assign(np.array([0, 0, 1, 1]), 4, 5, rng())


@pytest.mark.parametrize("rule", [IID(5), DirichletByClient(1, 5), DirichletByClass(1, 5), Shards(1, 5)], ids=name_of)
def test_min_samples_out_of_reach_is_refused(rule):
    with pytest.raises(DataError, match=r"below min_samples = 5: .* at most 2, or lower min_samples"):
        rule.assign(balanced(2, 6), 12, 3, rng())


def test_a_min_samples_of_one_is_not_to_be_lowered():
    with pytest.raises(DataError, match=r"below min_samples = 1: set data.num_clients to at most 12$"):
        IID().assign(None, 12, 13, rng())
    with pytest.raises(DataError, match=r"below min_samples = 1: raise alpha, lower data.num_clients, or use"):
        DirichletByClass(1e-9).assign(balanced(2, 6), 12, 12, rng())


def test_by_class_gives_up_on_hopeless_min_samples_and_says_what_helps():
    with pytest.raises(
        DataError, match=r"raise alpha, lower data.num_clients or min_samples, or use DirichletByClient"
    ):
        DirichletByClass(0.01, min_samples=9).assign(balanced(2, 50), 100, 10, rng())


def test_by_class_keeps_min_samples():
    for seed in range(20):
        assert DirichletByClass(0.5, min_samples=10).assign(balanced(10, 60), 600, 10, rng(seed)).sizes.min() >= 10


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: IID(0), "min_samples is 0"),
        (lambda: DirichletByClient(0.0), "alpha is 0.0"),
        (lambda: DirichletByClass(float("nan")), "alpha is nan"),
        (lambda: ClassesPerClient(0), "classes_per_client is 0"),
        (lambda: Shards(0), "shards_per_client is 0"),
    ],
)
def test_bad_settings_are_refused_at_once(make, words):
    with pytest.raises(ConfigError, match=words):
        make()


@pytest.mark.parametrize("alpha", [0.1, 1.0, 20.0])
def test_dirichlet_has_the_mean_and_variance_of_the_closed_form(alpha):
    p = np.array([0.5, 0.3, 0.2])
    shares = dirichlet(3 * alpha * p, 40_000, rng())
    assert np.allclose(shares.sum(axis=1), 1)
    assert np.allclose(shares.mean(axis=0), p, atol=0.01)
    assert np.allclose(shares.var(axis=0), p * (1 - p) / (3 * alpha + 1), rtol=0.05)


def test_dirichlet_survives_tiny_concentrations_and_missing_classes():
    shares = dirichlet(np.array([1e-4, 1e-4, 0.0]), 2000, rng())
    assert np.isfinite(shares).all()
    assert (shares[:, 2] == 0).all()
    assert shares.max(axis=1).min() > 0.5
    assert abs(shares[:, 0].mean() - 0.5) < 0.05


def test_counts_by_client_are_dirichlet_multinomial_while_no_class_runs_out():
    """Var = n p (1 - p) (n + A) / (1 + A) with A the sum of the concentrations."""
    n, num_clients, concentration = 50, 20_000, 2.0
    shares = dirichlet(np.full(4, concentration / 4), num_clients, rng())
    pools = np.full(4, n * num_clients)
    counts = _counts(shares, np.full(num_clients, n), pools, rng(1))
    assert (counts.sum(axis=1) == n).all()
    assert np.allclose(counts.mean(axis=0), n / 4, rtol=0.02)
    assert np.allclose(counts.var(axis=0), n * 0.25 * 0.75 * (n + concentration) / (1 + concentration), rtol=0.05)


def test_by_class_shares_have_the_mean_and_variance_of_the_closed_form():
    alpha, num_clients, per_class = 0.7, 5, 1000
    labels = balanced(1, per_class)
    rule = DirichletByClass(alpha)
    shares = np.stack([class_counts(rule, labels, num_clients, seed)[:, 0] for seed in range(1500)]) / per_class
    assert np.allclose(shares.mean(axis=0), 0.2, atol=0.02)
    assert np.allclose(shares.var(axis=0), 0.2 * 0.8 / (num_clients * alpha + 1), rtol=0.12)


def test_small_alpha_by_client_gives_nearly_one_class_and_large_alpha_all():
    labels = balanced(5, 200)
    skewed = class_counts(DirichletByClient(1e-3), labels, 20)
    even = class_counts(DirichletByClient(1e4), labels, 20)
    assert np.median(skewed.max(axis=1)) == 50
    assert (abs(even - 10) <= 9).all()
    # Plain multinomial counts have variance 50 · 0.2 · 0.8 = 8; sharing out without replacement takes a little off.
    assert 6 < even.var() < 9


def test_by_client_follows_class_frequencies_of_unbalanced_data():
    labels = np.repeat([0, 1, 3], [600, 300, 100])  # class 2 has no examples
    counts = class_counts(DirichletByClient(1e4), labels, 10)
    assert np.allclose(counts.mean(axis=0), [60, 30, 0, 10])
    assert (abs(counts - [60, 30, 0, 10]) < 25).all()


@given(num_classes=st.integers(1, 6), k=st.integers(1, 6), num_clients=st.integers(1, 15), seed=st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_every_client_holds_exactly_k_classes_and_owners_are_balanced(num_classes, k, num_clients, seed):
    labels = balanced(num_classes, 60)
    if k > num_classes or k * num_clients < num_classes:
        with pytest.raises(DataError, match="classes_per_client"):
            class_counts(ClassesPerClient(k), labels, num_clients, seed)
        return
    counts = class_counts(ClassesPerClient(k), labels, num_clients, seed)
    assert ((counts > 0).sum(axis=1) == k).all()
    owners = (counts > 0).sum(axis=0)
    assert owners.max() - owners.min() <= 1
    for column in counts.T:
        held = column[column > 0]
        assert held.max() - held.min() <= 1


def test_a_class_too_small_for_its_owners_is_named():
    with pytest.raises(DataError, match="class 1 has 2 examples for the 3 clients"):
        ClassesPerClient(2).assign(np.array([0] * 10 + [1] * 2), 12, 3, rng())


def test_classes_per_client_keeps_min_samples():
    with pytest.raises(DataError, match="leaves a client with 2 examples, below min_samples = 3"):
        ClassesPerClient(1, min_samples=3).assign(np.repeat([0, 1], [10, 2]), 12, 2, rng())


def test_shards_hold_few_classes_and_equal_amounts():
    counts = class_counts(Shards(2), balanced(10, 100), 50)
    assert (counts.sum(axis=1) == 20).all()
    # 100 shards of 10 never straddle two classes of 100.
    assert (counts > 0).sum(axis=1).max() == 2


def test_more_shards_than_examples_are_refused():
    with pytest.raises(DataError, match="6 examples can't be cut into 4 x 2 shards"):
        Shards(2).assign(np.zeros(6, dtype=np.int64), 6, 4, rng())


def test_uneven_shards_keep_min_samples():
    # Shards of 2, 2, 2, 2, 1 and 1: the client that gets both short ones is left with 4.
    labels = np.zeros(10, dtype=np.int64)
    smallest = {int(Shards(3).assign(labels, 10, 2, rng(seed)).sizes.min()): seed for seed in range(50)}
    assert set(smallest) == {4, 5}
    Shards(3, min_samples=5).assign(labels, 10, 2, rng(smallest[5]))
    with pytest.raises(DataError, match="Shards leaves a client with 4 examples"):
        Shards(3, min_samples=5).assign(labels, 10, 2, rng(smallest[4]))
