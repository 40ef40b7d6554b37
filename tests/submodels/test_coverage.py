"""Slicing, regrowing and adding through channel and mask coverage, on structures written by hand."""

import itertools
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fedlight.errors import CheckpointError, DataError, FedlightError
from fedlight.submodels.axes import axis_classes
from fedlight.submodels.coverage import ChannelCoverage, Coverage, MaskCoverage, coverage_from_state
from fedlight.submodels.structure import Group, Structure


def make_structure() -> Structure:
    """Conv(3 -> 4) with BatchNorm, a fixed channel beside it, flatten of 2 x 2, Linear(20 -> 6), Linear(6 -> 2)."""
    conv, hidden = torch.arange(4), torch.arange(4, 10)
    with_fixed = torch.tensor([0, 1, -1, 2, 3])  # a concatenation: the third channel is never pruned
    axes = {
        "conv.weight": (conv, None, None, None),
        "norm.weight": (conv.clone(),),
        "norm.running_var": (conv.clone(),),
        "fc1.weight": (hidden, with_fixed.repeat_interleave(4)),
        "fc1.bias": (hidden,),
        "fc2.weight": (None, hidden),
        "mix.weight": (hidden, None, conv),
    }
    shapes = {
        "conv.weight": (4, 3, 3, 3),
        "norm.weight": (4,),
        "norm.running_var": (4,),
        "norm.num_batches_tracked": (),
        "fc1.weight": (6, 20),
        "fc1.bias": (6,),
        "fc2.weight": (2, 6),
        "fc2.bias": (2,),
        "mix.weight": (6, 2, 4),
    }
    groups = (
        Group("conv", "channels", 0, 4, 1, (("conv.weight", 0), ("fc1.weight", 1))),
        Group("fc1", "channels", 4, 6, 1, (("fc1.weight", 0), ("fc2.weight", 1))),
    )
    return Structure(groups, axes, shapes)


STRUCTURE = make_structure()


def make_state(seed: int) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=draw) if shape else torch.tensor(seed)
        for name, shape in STRUCTURE.shapes.items()
    }


def positions(name: str, keep: Tensor) -> list[list[int]]:
    """The kept positions of every dim, by a loop: the oracle."""
    found = []
    for size, owner in zip(STRUCTURE.shapes[name], STRUCTURE.axes.get(name, itertools.repeat(None)), strict=False):
        found.append([i for i in range(size) if owner is None or owner[i] < 0 or keep[owner[i]]])
    return found


def covered(name: str, keep: Tensor) -> Tensor:
    mask = torch.zeros(STRUCTURE.shapes[name], dtype=torch.bool)
    for entry in itertools.product(*positions(name, keep)):
        mask[entry] = True
    return mask


keeps = st.tuples(
    st.lists(st.booleans(), min_size=4, max_size=4).filter(any),
    st.lists(st.booleans(), min_size=6, max_size=6).filter(any),
).map(lambda parts: torch.tensor(parts[0] + parts[1]))


def make_coverage(kind: str, keep: Tensor) -> Coverage:
    if kind == "channels":
        return ChannelCoverage(STRUCTURE, keep)
    return MaskCoverage(STRUCTURE, {name: covered(name, keep) for name in STRUCTURE.axes})


kinds = st.sampled_from(["channels", "masks"])


@settings(max_examples=60, deadline=None)
@given(kind=kinds, keep=keeps)
def test_round_trips_are_bit_exact(kind: str, keep: Tensor) -> None:
    coverage, state, base = make_coverage(kind, keep), make_state(1), make_state(2)
    thin = coverage.slice(state)
    grown = coverage.regrow(thin, base)
    assert thin.keys() == grown.keys() == state.keys()
    for name, value in coverage.slice(grown).items():
        assert torch.equal(value, thin[name])
        assert tuple(value.shape) == coverage.thin_shape(name)
        mask = covered(name, keep)
        assert torch.equal(grown[name], torch.where(mask, state[name], base[name]))
    for name, value in coverage.regrow(coverage.slice(base), base).items():
        assert torch.equal(value, base[name])


@settings(max_examples=40, deadline=None)
@given(keep=keeps)
def test_slices_are_what_a_loop_over_positions_finds(keep: Tensor) -> None:
    state = make_state(3)
    for name, value in ChannelCoverage(STRUCTURE, keep).slice(state).items():
        expected = state[name]
        for dim, kept in enumerate(positions(name, keep)):
            expected = expected.index_select(dim, torch.tensor(kept))
        assert torch.equal(value, expected)


@settings(max_examples=60, deadline=None)
@given(kind=kinds, keep=keeps, weight=st.floats(0.01, 100.0), precision=st.sampled_from([torch.float32, torch.float64]))
def test_sums_and_counts_equal_dense_masks(kind: str, keep: Tensor, weight: float, precision: torch.dtype) -> None:
    coverage, state = make_coverage(kind, keep), make_state(4)
    for name, shape in STRUCTURE.shapes.items():
        if not shape:
            continue
        mask = covered(name, keep)
        total = torch.full(shape, 2.0, dtype=precision)
        coverage.scatter_add_(name, total, coverage.gather(name, state[name]), weight)
        expected = 2.0 + weight * torch.where(mask, state[name], torch.zeros(())).to(precision)
        atol = (1 + weight) * (1e-6 if precision == torch.float32 else 1e-14)
        torch.testing.assert_close(total, expected, rtol=0, atol=atol)
        assert bool((total[~mask] == 2.0).all())

        counts = torch.zeros(coverage.count_shape(name), dtype=precision)
        coverage.count_add_(name, counts, weight)
        assert torch.equal(counts.expand(shape), torch.where(mask, torch.tensor(weight, dtype=precision), 0.0))


def test_numbers_by_hand() -> None:
    coverage = ChannelCoverage(STRUCTURE, torch.tensor([1, 0, 0, 1, 0, 1, 0, 0, 0, 0], dtype=torch.bool))
    state = make_state(0)
    state["fc2.weight"] = torch.arange(12.0).view(2, 6)
    thin = coverage.slice(state)
    assert thin["fc2.weight"].tolist() == [[1.0], [7.0]]
    assert tuple(thin["fc1.weight"].shape) == (1, 12)  # two conv channels and the fixed one, 4 positions each
    assert torch.equal(thin["fc1.weight"][0], state["fc1.weight"][1, [0, 1, 2, 3, 8, 9, 10, 11, 16, 17, 18, 19]])
    total = torch.zeros(2, 6, dtype=torch.float64)
    coverage.scatter_add_("fc2.weight", total, thin["fc2.weight"], 0.5)
    assert total.tolist() == [[0, 0.5, 0, 0, 0, 0], [0, 3.5, 0, 0, 0, 0]]
    counts = torch.zeros(coverage.count_shape("fc2.weight"))
    coverage.count_add_("fc2.weight", counts, 3.0)
    assert counts.tolist() == [[0, 3, 0, 0, 0, 0]]


def test_counts_are_small_where_no_unit_owns_a_dim() -> None:
    coverage = ChannelCoverage(STRUCTURE, torch.ones(10, dtype=torch.bool))
    assert coverage.count_shape("conv.weight") == (4, 1, 1, 1)
    assert coverage.count_shape("mix.weight") == (6, 1, 4)
    assert coverage.count_shape("fc2.bias") == (1,)
    assert MaskCoverage(STRUCTURE, {}).count_shape("conv.weight") == (4, 3, 3, 3)


@pytest.mark.parametrize(("rows", "columns", "block"), [(300, 400, 1), (300, 100, 4), (9, 1000, 16)])
def test_large_tensors_are_added_in_chunks_or_by_rows(rows: int, columns: int, block: int) -> None:
    group_pair = (Group("a", "channels", 0, rows, 1, ()), Group("b", "channels", rows, columns, 1, ()))
    shape = (rows, columns * block)
    axes = (torch.arange(rows), torch.arange(rows, rows + columns).repeat_interleave(block))
    structure = Structure(group_pair, {"w": axes}, {"w": shape})
    keep = torch.rand(rows + columns, generator=torch.Generator().manual_seed(0)) < 0.7
    coverage, full = ChannelCoverage(structure, keep), torch.randn(shape)
    mask = keep[:rows, None] & keep[None, rows:].repeat_interleave(block, 1)
    assert mask.sum() > 1 << 15
    thin = coverage.slice({"w": full})
    assert torch.equal(thin["w"], full[keep[:rows]][:, keep[rows:].repeat_interleave(block)])
    assert torch.equal(coverage.regrow(thin, {"w": torch.zeros(shape)})["w"], full * mask)
    total, counts = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape)
    for _ in range(2):
        coverage.scatter_add_("w", total, thin["w"], 2.0)
        coverage.count_add_("w", counts, 2.0)
    assert torch.equal(total, 4.0 * full.double() * mask)
    assert torch.equal(counts, 4.0 * mask)


@pytest.mark.parametrize("make", [lambda keep: ChannelCoverage(STRUCTURE, keep), lambda _: MaskCoverage(STRUCTURE, {})])
def test_full_coverage_changes_nothing_and_shares_nothing(make: Callable[[Tensor], Coverage]) -> None:
    coverage, state = make(torch.ones(10, dtype=torch.bool)), make_state(5)
    thin = coverage.slice(state)
    assert coverage.is_full
    assert not any(coverage.layer_sparsity().values())
    for name, value in thin.items():
        assert torch.equal(value, state[name])
        assert value.data_ptr() != state[name].data_ptr()


@settings(max_examples=20, deadline=None)
@given(kind=kinds, keep=keeps)
def test_slices_and_regrown_tensors_are_fresh(kind: str, keep: Tensor) -> None:
    coverage, state = make_coverage(kind, keep), make_state(6)
    before = {name: value.clone() for name, value in state.items()}
    thin = coverage.slice(state)
    kept = {name: value.clone() for name, value in thin.items()}
    for value in coverage.regrow(thin, state).values():
        value.fill_(7)
    assert all(torch.equal(thin[name], kept[name]) for name in thin)
    for value in thin.values():
        value.fill_(7)
    assert all(torch.equal(state[name], before[name]) for name in state)


def test_integer_buffers_pass_through() -> None:
    keep = torch.tensor([True] * 3 + [False] + [True] * 6)
    for kind in ("channels", "masks"):
        coverage = make_coverage(kind, keep)
        thin = coverage.slice(make_state(11))
        assert thin["norm.num_batches_tracked"].dtype == torch.int64
        assert coverage.regrow(thin, make_state(12))["norm.num_batches_tracked"] == 11


def test_parameters_that_require_grad_are_copied_without_history() -> None:
    state = {name: v.requires_grad_() if v.is_floating_point() else v for name, v in make_state(0).items()}
    keep = torch.tensor([True, False] * 5)
    for kind in ("channels", "masks"):
        coverage = make_coverage(kind, keep)
        thin = coverage.slice(state)
        assert not any(value.requires_grad for value in [*thin.values(), *coverage.regrow(thin, state).values()])


@settings(max_examples=20, deadline=None)
@given(kind=kinds, keep=keeps)
def test_state_dict_restores_an_equal_coverage(kind: str, keep: Tensor) -> None:
    coverage, state = make_coverage(kind, keep), make_state(7)
    again = coverage_from_state(STRUCTURE, coverage.state_dict())
    assert again.is_full == coverage.is_full
    assert torch.equal(again.keep, coverage.keep)
    for name, value in coverage.slice(state).items():
        assert torch.equal(again.slice(state)[name], value)


def test_state_dict_can_be_saved_without_pickled_code(tmp_path: object) -> None:
    for kind in ("channels", "masks"):
        saved = make_coverage(kind, torch.tensor([True, False] * 5)).state_dict()
        torch.save(saved, f"{tmp_path}/coverage.pt")
        loaded = torch.load(f"{tmp_path}/coverage.pt", weights_only=True)
        assert coverage_from_state(STRUCTURE, loaded).state_dict().keys() == saved.keys()
    with pytest.raises(CheckpointError, match="'blocks'"):
        coverage_from_state(STRUCTURE, {"kind": "blocks"})


def test_a_mask_ignores_what_a_client_left_outside_of_it() -> None:
    structure = Structure((), {}, {"b": (2,)})
    coverage = MaskCoverage(structure, {"b": torch.tensor([True, False])})
    total = torch.zeros(2, dtype=torch.float64)
    coverage.scatter_add_("b", total, torch.tensor([1.0, torch.nan]), 2.0)
    assert total.tolist() == [2.0, 0.0]
    assert coverage.regrow({"b": torch.tensor([1.0, torch.nan])}, {"b": torch.tensor([5.0, 6.0])})["b"].tolist() == [
        1,
        6,
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_masks_of_any_precision_are_bit_exact(dtype: torch.dtype) -> None:
    structure, mask = Structure((), {}, {"b": (4,)}), torch.tensor([True, False, True, False])
    coverage = MaskCoverage(structure, {"b": mask})
    full = torch.tensor([-0.0, torch.nan, -1.5, -torch.inf], dtype=dtype)
    assert coverage.gather("b", full).tolist() == [0.0, 0.0, -1.5, 0.0]
    assert torch.equal(coverage.gather("b", full).signbit(), torch.tensor([True, False, True, False]))
    base = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=dtype)
    assert coverage.regrow({"b": full}, {"b": base})["b"].tolist() == [0.0, 2.0, -1.5, 4.0]


def test_the_same_owner_vector_is_one_class() -> None:
    classes = axis_classes(STRUCTURE)
    assert len(classes.owners) == 3  # conv, hidden, and the flattened concatenation
    assert classes.of_dims["norm.weight"][0] == classes.of_dims["mix.weight"][2]
    assert axis_classes(STRUCTURE) is classes
    assert sorted(classes.blocks) == [1, 1, 4]


@pytest.mark.parametrize("kind", ["channels", "masks"])
@pytest.mark.parametrize(
    "misuse",
    [
        lambda c, s: c.slice({k: v for k, v in s.items() if k != "fc2.bias"}),
        lambda c, s: c.slice({**s, "extra": torch.zeros(1)}),
        lambda c, s: c.slice({**s, "fc2.bias": torch.zeros(3)}),
        lambda c, s: c.regrow({**c.slice(s), "extra": torch.zeros(1)}, s),
        lambda c, s: c.regrow(c.slice(s), {k: v for k, v in s.items() if k != "fc2.bias"}),
        lambda c, s: c.regrow({**c.slice(s), "fc1.bias": torch.zeros(7)}, s),
        lambda c, s: c.regrow(c.slice(s), {**s, "fc1.bias": torch.zeros(7)}),
        lambda c, s: c.gather("nowhere", s["fc1.bias"]),
        lambda c, s: c.scatter_add_("nowhere", torch.zeros(6), torch.zeros(6), 1.0),
        lambda c, s: c.scatter_add_("fc1.bias", torch.zeros(6), torch.zeros(1), 1.0),
        lambda c, s: c.scatter_add_("fc1.bias", torch.zeros(7), c.gather("fc1.bias", s["fc1.bias"]), 1.0),
        lambda c, s: c.count_add_("fc1.bias", torch.zeros(7), 1.0),
        lambda c, s: c.count_shape("nowhere"),
        lambda c, s: c.thin_shape("nowhere"),
    ],
)
def test_misuse_names_the_tensor(kind: str, misuse: Callable[[Coverage, dict[str, Tensor]], object]) -> None:
    coverage = make_coverage(kind, torch.tensor([True, False] * 5))
    with pytest.raises(CheckpointError, match=r"'(extra|fc2.bias|fc1.bias|nowhere)'"):
        misuse(coverage, make_state(0))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: ChannelCoverage(STRUCTURE, torch.ones(9, dtype=torch.bool)), "10 units"),
        (lambda: ChannelCoverage(STRUCTURE, torch.ones(10)), "float32"),
        (lambda: ChannelCoverage(STRUCTURE, torch.arange(10) >= 4), "'conv'"),
        (lambda: MaskCoverage(STRUCTURE, {"fc2.bias": torch.ones(3, dtype=torch.bool)}), "fc2.bias"),
        (lambda: MaskCoverage(STRUCTURE, {"fc2.bias": torch.ones(2)}), "float32"),
        (lambda: MaskCoverage(STRUCTURE, {"nowhere": torch.ones(2, dtype=torch.bool)}), "nowhere"),
    ],
)
def test_coverage_that_does_not_fit_the_model_is_refused(make: Callable[[], Coverage], what: str) -> None:
    with pytest.raises(FedlightError, match=what) as caught:
        make()
    assert isinstance(caught.value, CheckpointError | DataError)


def test_sparsity_of_masks_is_counted_by_layer() -> None:
    name = next(name for name, shape in STRUCTURE.shapes.items() if name.endswith(".weight") and len(shape) > 1)
    mask = torch.ones(STRUCTURE.shapes[name], dtype=torch.bool)
    mask.view(-1)[: mask.numel() // 2] = False
    sparsity = MaskCoverage(STRUCTURE, {name: mask}).layer_sparsity()
    assert sparsity == {name.removesuffix(".weight"): mask.numel() // 2 / mask.numel()}
