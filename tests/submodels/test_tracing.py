"""The units that tracing finds, against owners written by hand."""

import copy

import pytest
import torch
from nets import IMAGES, STEPS, TOKENS, Net, conv, conv_net, no_grad_inside
from torch import nn

from fedlight.models import Attention
from fedlight.submodels import SubmodelPlan
from fedlight.submodels.structure import Group
from fedlight.submodels.tracer import trace_structure


def names(structure):
    return [(group.name, group.kind, group.size) for group in structure.groups]


def owners(structure, tensor):
    return [None if axis is None else axis.tolist() for axis in structure.axes[tensor]]


def test_chain_of_convolutions_with_batch_norm():
    structure = trace_structure(conv_net(nn.BatchNorm2d(8)), IMAGES)
    assert structure.groups == (
        Group("a", "channels", 0, 8, 1, structure.groups[0].tensors, structure.groups[0].route),
        Group("b", "channels", 8, 6, 1, structure.groups[1].tensors, structure.groups[1].route),
    )
    first, second = list(range(8)), list(range(8, 14))
    assert {name: owners(structure, name) for name in structure.axes} == {
        "a.weight": [first, None, None, None],
        "a.bias": [first],
        "norm.weight": [first],
        "norm.bias": [first],
        "norm.running_mean": [first],
        "norm.running_var": [first],
        "b.weight": [second, first, None, None],
        "b.bias": [second],
        "fc.weight": [None, second],  # the model's outputs are nobody's
    }
    assert set(structure.groups[1].tensors) == {("b.weight", 0), ("b.bias", 0), ("fc.weight", 1)}
    assert structure.shapes["norm.num_batches_tracked"] == ()


def test_flatten_gives_a_channel_all_its_positions():
    net = Net(lambda net, x: net.fc(net.a(x).relu().flatten(1)), a=conv(3, 4), fc=nn.Linear(4 * 64, 5))
    structure = trace_structure(net, IMAGES)
    assert owners(structure, "fc.weight") == [None, [unit for unit in range(4) for _ in range(64)]]


def test_residual_ties_its_branches():
    net = Net(
        lambda net, x: net.fc((net.a(x) + net.c(net.b(net.a(x)).relu())).mean((2, 3))),
        a=conv(3, 4),
        b=conv(4, 6),
        c=conv(6, 4),
        fc=nn.Linear(4, 5),
    )
    structure = trace_structure(net, IMAGES)
    assert names(structure) == [("a", "channels", 4), ("b", "channels", 6)]
    assert owners(structure, "c.weight")[:2] == [[0, 1, 2, 3], [4, 5, 6, 7, 8, 9]]


def test_concatenation_fills_one_dim_from_several_groups():
    net = Net(
        lambda net, x: net.c(torch.cat([net.b(x), x, net.a(x)], 1)).mean((2, 3)),
        a=conv(3, 2),
        b=conv(3, 4),
        c=conv(9, 5),
    )
    structure = trace_structure(net, IMAGES)
    assert owners(structure, "c.weight")[1] == [2, 3, 4, 5, -1, -1, -1, 0, 1]


def test_what_is_added_to_the_inputs_is_whole():
    net = Net(lambda net, x: net.c(net.b(net.a(x)) + x).mean((2, 3)), a=conv(3, 4), b=conv(4, 3), c=conv(3, 5))
    assert names(trace_structure(net, IMAGES)) == [("a", "channels", 4)]


def test_mask_among_the_inputs_keeps_nothing_whole():
    net = Net(lambda net, x, mask: net.fc((net.a(x) * mask[..., None]).mean(1)), a=nn.Linear(6, 8), fc=nn.Linear(8, 5))
    assert names(trace_structure(net, (STEPS, torch.ones(2, 5)))) == [("a", "channels", 8)]


def test_inputs_may_be_changed_in_place():
    net = Net(lambda net, x: net.b(net.a(x.mul_(2))).mean((2, 3)), a=conv(3, 4), b=conv(4, 5))
    inputs = IMAGES.clone()
    assert names(SubmodelPlan.trace(net, inputs).structure) == [("a", "channels", 4)]
    assert torch.equal(inputs, IMAGES)


def test_depthwise_convolution_keeps_each_channel_to_itself():
    net = Net(lambda net, x: net.b(net.d(net.a(x))).mean((2, 3)), a=conv(3, 6), d=conv(6, 6, groups=6), b=conv(6, 5))
    structure = trace_structure(net, IMAGES)
    assert names(structure) == [("a", "channels", 6)]
    assert owners(structure, "d.weight") == [list(range(6)), None, None, None]


def test_grouped_convolution_drops_the_same_channel_of_every_group():
    net = Net(lambda net, x: net.b(net.g(net.a(x))).mean((2, 3)), a=conv(3, 6), g=conv(6, 8, groups=2), b=conv(8, 5))
    structure = trace_structure(net, IMAGES)
    assert names(structure) == [("a", "blocks", 3), ("g", "blocks", 4)]
    assert owners(structure, "a.weight")[0] == [0, 1, 2, 0, 1, 2]
    assert owners(structure, "g.weight")[:2] == [[3, 4, 5, 6, 3, 4, 5, 6], [0, 1, 2]]
    assert owners(structure, "b.weight")[1] == [3, 4, 5, 6, 3, 4, 5, 6]


def test_depthwise_multiplier_leaves_its_inputs_whole():
    """All inputs would have to go together, and a group is never emptied."""
    net = Net(lambda net, x: net.b(net.d(net.a(x))).mean((2, 3)), a=conv(3, 8), d=conv(8, 16, groups=8), b=conv(16, 5))
    structure = trace_structure(net, IMAGES)
    assert names(structure) == [("d", "blocks", 2)]
    assert "a.weight" not in structure.axes


def test_group_norm_drops_the_same_channel_of_every_group():
    structure = trace_structure(conv_net(nn.GroupNorm(2, 8)), IMAGES)
    assert names(structure) == [("a", "blocks", 4), ("b", "channels", 6)]
    assert owners(structure, "norm.weight") == [[0, 1, 2, 3, 0, 1, 2, 3]]


@pytest.mark.parametrize("norm", [nn.GroupNorm(1, 8, affine=False), nn.InstanceNorm2d(8)])
def test_norm_without_tensors_has_owners_all_the_same(norm):
    structure = trace_structure(conv_net(norm), IMAGES)
    assert [axis.tolist() for axis in structure.unsaved["norm"]] == [list(range(8))]
    assert "norm" not in structure.axes


def test_table_of_positions_is_cut_with_the_stream():
    table = torch.randn(1, 5, 8)
    net = Net(
        lambda net, x: net.fc((net.a(x) + net.table).relu().mean(1)), a=nn.Linear(6, 8), table=table, fc=nn.Linear(8, 5)
    )
    structure = trace_structure(net, STEPS)
    assert [None if axis is None else axis.tolist() for axis in structure.unsaved["table"]] == [
        None,
        None,
        list(range(8)),
    ]
    sub = SubmodelPlan.trace(net, STEPS).build(net, torch.arange(8) % 2 == 0)
    assert torch.equal(sub.table, table[:, :, ::2])


def test_attention_drops_heads_and_the_stream_apart():
    net = nn.Sequential(nn.Linear(6, 8), Attention(8, 2, head_dim=3), nn.Linear(8, 5))
    structure = trace_structure(net, STEPS)
    assert names(structure) == [("0", "channels", 8), ("1", "heads", 2), ("1.out_proj", "channels", 8)]
    stream, heads, behind = list(range(8)), [8, 8, 8, 9, 9, 9], list(range(10, 18))
    for name in ("q_proj", "k_proj", "v_proj"):
        assert owners(structure, f"1.{name}.weight") == [heads, stream]
        assert owners(structure, f"1.{name}.bias") == [heads]
    assert owners(structure, "1.out_proj.weight") == [behind, heads]


def test_fused_attention_takes_rows_of_queries_keys_and_values():
    net = nn.Sequential(nn.Linear(6, 8), Attention(8, 2, head_dim=2, fused=True), nn.Linear(8, 5))
    structure = trace_structure(net, STEPS, protect=["0"])
    assert owners(structure, "1.qkv.weight") == [[0, 0, 1, 1] * 3, None]


def test_grouped_queries_leave_keys_and_values_whole():
    net = nn.Sequential(nn.Linear(6, 8), Attention(8, 4, num_kv_heads=2, head_dim=2), nn.Linear(8, 5))
    structure = trace_structure(net, STEPS, protect=["0", "*.out_proj"])
    assert [(group.kind, group.size, group.partitions) for group in structure.groups] == [("heads", 4, 2)]
    assert owners(structure, "1.q_proj.weight") == [[0, 0, 1, 1, 2, 2, 3, 3], None]
    assert "1.k_proj.weight" not in structure.axes


def test_one_query_head_per_key_value_head_of_its_own_is_multi_head_attention():
    net = nn.Sequential(nn.Linear(6, 8), Attention(8, 4, num_kv_heads=4, head_dim=2), nn.Linear(8, 5))
    structure = trace_structure(net, STEPS, protect=["0", "*.out_proj"])
    assert structure.groups[0].partitions == 1
    assert ("1.v_proj.weight", 0) in structure.groups[0].tensors


def lstm_net(kind=nn.LSTM, **settings):
    return Net(
        lambda net, x: net.fc(net.lstm(net.e(x))[0][:, -1]),
        e=nn.Embedding(11, 4),
        lstm=kind(4, 3, batch_first=True, **settings),
        fc=nn.Linear(3, 5),
    )


def test_hidden_unit_owns_a_row_of_every_gate_in_all_layers():
    structure = trace_structure(lstm_net(num_layers=2), TOKENS)
    assert names(structure) == [("e", "channels", 4), ("lstm", "hidden", 3)]
    hidden, gates = [4, 5, 6], [4, 5, 6] * 4
    assert owners(structure, "lstm.weight_ih_l0") == [gates, [0, 1, 2, 3]]
    assert owners(structure, "lstm.weight_ih_l1") == [gates, hidden]
    assert owners(structure, "lstm.weight_hh_l0") == owners(structure, "lstm.weight_hh_l1") == [gates, hidden]
    assert owners(structure, "lstm.bias_hh_l1") == [gates]
    assert owners(structure, "e.weight") == [None, [0, 1, 2, 3]]


@pytest.mark.parametrize(("kind", "gates"), [(nn.GRU, 3), (nn.RNN, 1)])
def test_other_recurrent_layers_have_other_numbers_of_gates(kind, gates):
    structure = trace_structure(lstm_net(kind), TOKENS)
    assert owners(structure, "lstm.weight_hh_l0") == [[4, 5, 6] * gates, [4, 5, 6]]


def test_final_states_and_packed_sequences_are_followed():
    def run(net, x):
        packed = nn.utils.rnn.pack_padded_sequence(net.e(x), torch.tensor([5, 3]), batch_first=True)
        _, (last, _) = net.lstm(packed)
        return net.fc(last[-1])

    net = Net(run, e=nn.Embedding(11, 4), lstm=nn.LSTM(4, 3, batch_first=True), fc=nn.Linear(3, 5))
    assert [group.name for group in SubmodelPlan.trace(net, TOKENS).groups] == ["e", "lstm"]


def test_all_outputs_are_whole_wherever_they_are():
    net = Net(
        lambda net, x: {"features": net.b(net.a(x)), "heads": [net.fc(net.b(net.a(x)).mean((2, 3)))]},
        a=conv(3, 8),
        b=conv(8, 6),
        fc=nn.Linear(6, 5),
    )
    assert names(trace_structure(net, IMAGES)) == [("a", "channels", 8)]


def test_protected_layers_and_what_is_tied_to_them_are_whole():
    net = Net(
        lambda net, x: net.fc((net.a(x) + net.c(net.b(net.a(x)).relu())).mean((2, 3))),
        a=conv(3, 4),
        b=conv(4, 6),
        c=conv(6, 4),
        fc=nn.Linear(4, 5),
    )
    assert names(trace_structure(net, IMAGES, protect=["c"])) == [("b", "channels", 6)]
    assert names(trace_structure(net, IMAGES, protect=["?"])) == []


def test_frozen_parameters_are_traced_too():
    net = conv_net().requires_grad_(False)
    assert names(trace_structure(net, IMAGES)) == [("a", "channels", 8), ("b", "channels", 6)]


def test_what_gradients_do_not_reach_is_whole():
    net = Net(no_grad_inside, a=conv(3, 8), b=conv(8, 6), fc=nn.Linear(6, 5))
    assert names(trace_structure(net, IMAGES)) == []


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("wrap", [lambda x: x, lambda x: (x,), lambda x: [x], lambda x: {"inputs": x}])
def test_example_inputs_of_every_form(batch, wrap):
    net = Net(lambda net, inputs: net.fc(net.a(inputs).relu().flatten(1)), a=conv(3, 4), fc=nn.Linear(256, 5))
    assert SubmodelPlan.trace(net, wrap(IMAGES[:batch])).num_units == 4


def test_inputs_in_half_precision_or_of_several_tensors():
    net = Net(lambda net, x, y: net.fc((net.a(x) + y).relu()), a=nn.Linear(6, 4), fc=nn.Linear(4, 2)).half()
    assert SubmodelPlan.trace(net, (torch.randn(2, 6).half(), torch.ones(2, 1).half())).num_units == 4


def test_model_is_left_as_it_was():
    net = conv_net(nn.BatchNorm2d(8)).train()
    net.a.requires_grad_(False)
    before = copy.deepcopy(net.state_dict())
    SubmodelPlan.trace(net, IMAGES)
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert all(layer.training for layer in net.modules())
    assert [p.requires_grad for p in net.a.parameters()] == [False, False]
    assert all(p.grad is None for p in net.parameters())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in net.modules())


def test_tracing_leaves_the_random_state_alone():
    net = conv_net()
    before = torch.get_rng_state()
    SubmodelPlan.trace(net, IMAGES)
    assert torch.equal(torch.get_rng_state(), before)
