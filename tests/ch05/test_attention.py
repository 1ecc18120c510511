"""Attention against a plain loop and against torch's own; padding changes nothing."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ch05_rnn.sentences import padding
from ch05_rnn.sentences.attention import AdditiveAttention, DotAttention
from ch05_rnn.sentences.padding import PAD, batch_count, batches_by_length, pad, run_packed

B, T, S, H, A = 3, 4, 5, 6, 2
LENGTHS = torch.tensor([5, 2, 1])


@pytest.fixture(params=["dot", "additive"])
def attention(request):
    torch.manual_seed(0)
    return (DotAttention() if request.param == "dot" else AdditiveAttention(H, A)).double()


@pytest.fixture
def tensors():
    generator = torch.Generator().manual_seed(1)
    queries = torch.randn(B, T, H, generator=generator, dtype=torch.float64, requires_grad=True)
    states = torch.randn(B, S, H, generator=generator, dtype=torch.float64, requires_grad=True)
    return queries, states, torch.arange(S) < LENGTHS.unsqueeze(1)


def score(attention, q, h):
    """e_ts as the docstrings write it, one pair at a time."""
    if isinstance(attention, DotAttention):
        return torch.stack([q[i] * h[i] for i in range(H)]).sum() / math.sqrt(H)
    hidden = torch.tanh(attention.W.weight @ q + attention.W.bias + attention.U.weight @ h)
    return attention.v.weight[0] @ hidden


def test_attention_is_a_plain_loop(attention, tensors):
    queries, states, mask = tensors
    context, weights = attention(queries, states, mask)
    for b in range(B):
        for t in range(T):
            e = [score(attention, queries[b, t], states[b, s]).exp() for s in range(LENGTHS[b])]
            alpha = [one / sum(e) for one in e]
            expected = sum(alpha[s] * states[b, s] for s in range(LENGTHS[b]))
            torch.testing.assert_close(context[b, t], expected)
            torch.testing.assert_close(weights[b, t, : LENGTHS[b]], torch.stack(alpha))
            assert (weights[b, t, LENGTHS[b] :] == 0).all(), "something was taken of the padding"


def test_dot_attention_is_torchs_forward_and_gradient(tensors):
    queries, states, mask = tensors
    ours, _ = DotAttention()(queries, states, mask)
    theirs = F.scaled_dot_product_attention(queries, states, states, attn_mask=mask.unsqueeze(1))
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    weight = torch.randn_like(ours)
    for mine, its in zip(
        torch.autograd.grad((ours * weight).sum(), (queries, states)),
        torch.autograd.grad((theirs * weight).sum(), (queries, states)),
        strict=True,
    ):
        torch.testing.assert_close(mine, its, rtol=1e-10, atol=1e-12)


def test_gradients_are_those_of_finite_differences(attention, tensors):
    queries, states, mask = tensors
    assert torch.autograd.gradcheck(lambda q, h: attention(q, h, mask), (queries, states))


def test_what_is_padding_does_not_matter(attention, tensors):
    queries, states, mask = tensors
    context, weights = attention(queries, states, mask)
    filled = states.detach().clone()
    filled[~mask] = 1e6
    other, same = attention(queries, filled, mask)
    torch.testing.assert_close(other, context)
    assert torch.equal(same, weights)
    torch.testing.assert_close(weights.sum(2), torch.ones(B, T, dtype=torch.float64))


def test_padded_rows_end_in_pad():
    rows, lengths = pad([torch.tensor([3, 4, 5]), torch.tensor([6])])
    assert rows.tolist() == [[3, 4, 5], [6, PAD, PAD]]
    assert lengths.tolist() == [3, 1]


def test_a_text_is_read_in_company_as_alone():
    torch.manual_seed(0)
    lstm = nn.LSTM(4, 3, batch_first=True, bidirectional=True).double()
    features = torch.randn(B, S, 4, dtype=torch.float64)
    together = run_packed(lstm, features, LENGTHS)
    assert together.states.shape == (B, S, 6)
    for b, length in enumerate(LENGTHS.tolist()):
        states, (hidden, cell) = lstm(features[b : b + 1, :length])  # without any packing
        torch.testing.assert_close(together.states[b, :length], states[0])
        assert (together.states[b, length:] == 0).all()
        torch.testing.assert_close(together.hidden[b], torch.cat([hidden[0, 0], hidden[1, 0]]))
        torch.testing.assert_close(together.cell[b], torch.cat([cell[0, 0], cell[1, 0]]))
        torch.testing.assert_close(together.hidden[b, :3], states[0, -1, :3])  # after the last symbol
        torch.testing.assert_close(together.hidden[b, 3:], states[0, 0, 3:])  # and after the first


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=300), st.integers(1, 9), st.integers(0, 9))
def test_a_pass_has_everybody_once_in_batches_of_one_size(lengths, batch_size, seed):
    generator = torch.Generator().manual_seed(seed)
    batches = batches_by_length(torch.tensor(lengths), batch_size, generator)
    assert sorted(torch.cat(batches).tolist()) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // batch_size) == batch_count(len(lengths), batch_size), "a run counts on it"
    assert all(len(batch) <= batch_size for batch in batches)


def test_several_processes_leave_out_a_batch_that_is_too_small_for_them(monkeypatch):
    monkeypatch.setattr(padding.distributed, "world_size", lambda: 3)
    for texts, expected in ((12, 3), (14, 3), (15, 4), (16, 4)):
        batches = batches_by_length(torch.ones(texts), 4, torch.Generator())
        assert len(batches) == batch_count(texts, 4) == expected
        assert all(len(batch) >= 3 for batch in batches)


def test_batches_hold_texts_of_about_a_length_and_differ_from_pass_to_pass():
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 60, (4_000,), generator=generator)
    first, second = (batches_by_length(lengths, 32, generator) for _ in range(2))
    padding = sum(int((lengths[batch].max() - lengths[batch]).sum()) for batch in first) / int(lengths.sum())
    assert padding < 0.04
    assert {tuple(sorted(batch.tolist())) for batch in first}.isdisjoint(tuple(sorted(b.tolist())) for b in second)
    sizes = [int(lengths[batch].max()) for batch in first]
    assert sizes != sorted(sizes), "short texts first, long ones last"
