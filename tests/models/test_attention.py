"""Attention against a loop over heads; rotary positions against their definition."""

import math

import pytest
import torch
from torch import Tensor

from fedlight.errors import ConfigError
from fedlight.models import Attention, rotate


def project(attention: Attention, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    if attention.fused:
        width, kv_width = attention.num_heads * attention.head_dim, attention.num_kv_heads * attention.head_dim
        rows = attention.qkv(stream)
        return rows[..., :width], rows[..., width : width + kv_width], rows[..., width + kv_width :]
    return attention.q_proj(stream), attention.k_proj(stream), attention.v_proj(stream)


def attend_by_loop(attention: Attention, stream: Tensor) -> Tensor:
    """Softmax attention of one head after another, by the text book."""
    queries, keys, values = project(attention, stream)
    d, t = attention.head_dim, stream.shape[1]
    heads = []
    for head in range(attention.num_heads):
        kv = head // (attention.num_heads // attention.num_kv_heads)
        q, k, v = (x[..., h * d : (h + 1) * d] for x, h in ((queries, head), (keys, kv), (values, kv)))
        if attention.rotary:
            q, k = rotate(q), rotate(k)
        scores = q @ k.transpose(1, 2) / math.sqrt(d)
        if attention.causal:
            scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), -math.inf)
        heads.append(scores.softmax(-1) @ v)
    return attention.out_proj(torch.cat(heads, -1))


@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("num_kv_heads", [None, 2, 1])
def test_attention_equals_a_loop_over_heads(num_kv_heads, fused, causal, rotary):
    torch.manual_seed(0)
    attention = Attention(12, 4, num_kv_heads, head_dim=6, fused=fused, causal=causal, rotary=rotary)
    stream = torch.randn(2, 5, 12)
    torch.testing.assert_close(attention(stream), attend_by_loop(attention, stream), atol=1e-6, rtol=1e-5)


def test_grouped_queries_equal_full_attention_with_repeated_keys_and_values():
    torch.manual_seed(0)
    grouped, full = Attention(8, 4, 2), Attention(8, 4)
    full.q_proj.load_state_dict(grouped.q_proj.state_dict())
    full.out_proj.load_state_dict(grouped.out_proj.state_dict())
    rows = torch.tensor([0, 1, 0, 1, 2, 3, 2, 3])  # heads of two dims: kv head 0 twice, then kv head 1 twice
    for name in ("k_proj", "v_proj"):
        thin, wide = getattr(grouped, name), getattr(full, name)
        wide.load_state_dict({"weight": thin.weight[rows], "bias": thin.bias[rows]})
    stream = torch.randn(2, 5, 8)
    torch.testing.assert_close(grouped(stream), full(stream))


def test_causal_attention_does_not_see_later_positions():
    torch.manual_seed(0)
    attention = Attention(8, 2, causal=True, rotary=True)
    stream = torch.randn(1, 6, 8)
    changed = stream.clone()
    changed[:, 4:] = torch.randn(1, 2, 8)
    torch.testing.assert_close(attention(stream)[:, :4], attention(changed)[:, :4])
    assert not torch.allclose(attention(stream)[:, 4:], attention(changed)[:, 4:])


def test_fewer_heads_run_once_the_layers_and_numbers_are_set():
    """A thinned copy (one of two query heads per kv head, narrower stream) equals the full one with zeros instead."""
    torch.manual_seed(0)
    full, thin = Attention(8, 4, 2, head_dim=2), Attention(6, 2, 2, head_dim=2)
    rows, columns = torch.tensor([0, 1, 6, 7]), torch.arange(6)  # heads 0 and 3
    with torch.no_grad():
        for name in ("k_proj", "v_proj"):
            getattr(thin, name).weight.copy_(getattr(full, name).weight[:, columns])
            getattr(thin, name).bias.copy_(getattr(full, name).bias)
        thin.q_proj.weight.copy_(full.q_proj.weight[rows][:, columns])
        thin.q_proj.bias.copy_(full.q_proj.bias[rows])
        thin.out_proj.weight.copy_(full.out_proj.weight[columns][:, rows])
        thin.out_proj.bias.copy_(full.out_proj.bias[columns])
        full.out_proj.weight[:, [2, 3, 4, 5]] = 0
    stream = torch.randn(1, 3, 8)
    stream[..., 6:] = 0
    torch.testing.assert_close(thin(stream[..., :6]), full(stream)[..., :6])


def test_rotation_by_hand():
    # d = 4: pairs (0, 2) and (1, 3) turn by t and t / 100.
    states = torch.tensor([[1.0, 0.0, 0.0, 2.0]]).repeat(3, 1)
    expected = [[math.cos(t), -2 * math.sin(t / 100), math.sin(t), 2 * math.cos(t / 100)] for t in range(3)]
    torch.testing.assert_close(rotate(states), torch.tensor(expected))


def test_rotated_scores_depend_on_the_distance_alone_and_lengths_stay():
    torch.manual_seed(0)
    query, key = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    queries, keys = rotate(query.repeat(10, 1)), rotate(key.repeat(10, 1))
    scores = queries @ keys.T
    for distance in range(-9, 10):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert scores.diagonal(1)[0] != pytest.approx(scores.diagonal(3)[0].item())
    torch.testing.assert_close(queries.norm(dim=1), query.norm().expand(10), atol=1e-6, rtol=0)


def test_rotary_positions_keep_no_tensors():
    names = dict(Attention(8, 2, rotary=True).named_buffers())
    assert names == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10, "num_heads": 4}, "not a multiple of num_heads"),
        ({"dim": 8, "num_heads": 4, "num_kv_heads": 3}, "not a multiple of num_kv_heads"),
        ({"dim": 6, "num_heads": 2, "rotary": True}, "even head_dim"),
    ],
)
def test_sizes_that_do_not_divide_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Attention(**arguments)
