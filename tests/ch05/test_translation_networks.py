"""GRUs and Transformer for translation: against their equations, torch's attention, and all texts of a vocabulary."""

import itertools
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch05_rnn.language.attention import rotation
from ch05_rnn.sentences.beam import beam_search
from ch05_rnn.sentences.encoder_decoder import END, START
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.translation.gru import TranslationGRU
from ch05_rnn.translation.transformer import MaskedAttention, TranslationTransformer

V, E, H = 10, 8, 6
SOURCES = torch.tensor([[5, 6, 7, 8, END], [7, 5, END, PAD, PAD], [8, END, PAD, PAD, PAD]])
TOKENS = torch.tensor([[START, 4, 5, 6], [START, 6, 6, 7], [START, 8, 4, 4]])


def make(network, *, by_hand=False, dropout=0.0) -> Any:
    """A small network in float64; the matrices that are zero at first are random too."""
    torch.manual_seed(0)
    if network == "gru":
        model = TranslationGRU(V, embedding_size=E, hidden_size=H, dropout=dropout)
    else:
        model = TranslationTransformer(V, width=E, hidden_size=12, layers=2, heads=2, dropout=dropout, by_hand=by_hand)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.5)
    return model.double().eval()


@pytest.fixture(params=["gru", "transformer"])
def model(request):
    return make(request.param)


# What holds for both.


def test_the_decoder_step_by_step_is_the_decoder_at_once(model):
    logits = model(SOURCES, TOKENS)
    memory, state = model.encode(SOURCES)
    for t, tokens in enumerate(TOKENS.unbind(1)):
        one, state = model.step(tokens, state, memory)
        torch.testing.assert_close(one, logits[:, t])
    assert all(len(part) == len(SOURCES) for part in (*memory, *state)), "a beam search repeats and selects rows"


def test_tokens_are_predicted_without_the_later_ones(model):
    changed = TOKENS.clone()
    changed[:, 2:] = 7
    before, after = model(SOURCES, TOKENS), model(SOURCES, changed)
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert not torch.allclose(after[:, 2:], before[:, 2:])


def test_padding_changes_nothing(model):
    together, weights = model(SOURCES, TOKENS), model.alignments(SOURCES, TOKENS)
    torch.testing.assert_close(model(F.pad(SOURCES, (0, 3)), TOKENS), together)
    for n, length in enumerate((SOURCES != PAD).sum(1).tolist()):
        alone = SOURCES[n : n + 1, :length], TOKENS[n : n + 1]
        torch.testing.assert_close(model(*alone)[0], together[n])
        torch.testing.assert_close(model.alignments(*alone)[0], weights[n, :, :length])
        assert (weights[n, :, length:] == 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 4).double())


def test_the_order_of_the_source_matters(model):
    swapped = SOURCES[:1, [1, 0, 2, 3, 4]]
    assert not torch.allclose(model(swapped, TOKENS[:1]), model(SOURCES[:1], TOKENS[:1]))


def test_every_weight_has_a_gradient(model):
    model(SOURCES, TOKENS).square().sum().backward()
    assert all(bool(parameter.grad.abs().sum() > 0) for parameter in model.parameters())


def test_embedding_and_output_layer_are_one_matrix(model):
    assert sum(V in parameter.shape for parameter in model.parameters()) == 2, "the matrix, and the output's bias"
    memory, state = model.encode(SOURCES)
    before, _ = model.step(TOKENS[:, 0], state, memory)
    with torch.no_grad():
        model.embedding.weight[4] = 0  # not in the sources, nor the previous token
        model.bias[4] = 3
    after, _ = model.step(TOKENS[:, 0], state, memory)
    assert after[:, 4].tolist() == [3, 3, 3]
    others = [token for token in range(V) if token != 4]
    torch.testing.assert_close(after[:, others], before[:, others])


@pytest.mark.parametrize("network", ["gru", "transformer"])
def test_dropout_is_for_training_only(network):
    model = make(network, dropout=0.5)
    assert torch.equal(model(SOURCES, TOKENS), model(SOURCES, TOKENS))
    model.train()
    assert not torch.allclose(model(SOURCES, TOKENS), model(SOURCES, TOKENS))


@pytest.mark.bf16
def test_bfloat16_is_close(model):
    model.float()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = model(SOURCES, TOKENS)
    torch.testing.assert_close(rounded.float(), model(SOURCES, TOKENS), rtol=0.1, atol=0.1)


def all_texts(model, source, length):
    """Every text of at most `length` tokens that ends, or has this length, with its log-probability."""
    for size in range(1, length + 1):
        for text in itertools.product(range(V), repeat=size):
            if PAD in text or END in text[:-1] or (size < length and text[-1] != END):
                continue
            log_p = model(source, torch.tensor([[START, *text[:-1]]]))[0].log_softmax(1)
            yield text, float(log_p[range(size), list(text)].sum())


@pytest.mark.parametrize("penalty", [0.0, 1.0])
@torch.inference_mode()
def test_a_wide_beam_finds_the_best_translation_of_each_source(model, penalty):
    width, (memory, state) = V * V, model.encode(SOURCES)
    repeated = tuple(part.repeat_interleave(width, 0) for part in memory)

    def step(tokens, state):
        logits, state = model.step(tokens, state, repeated)
        return logits.log_softmax(1), state

    tokens, scores = beam_search(
        step, state, width=width, start=START, end=END, pad=PAD, max_length=2, length_penalty=penalty
    )
    for n, length in enumerate((SOURCES != PAD).sum(1).tolist()):
        texts = {text: total / len(text) ** penalty for text, total in all_texts(model, SOURCES[n : n + 1, :length], 2)}
        best = max(texts, key=texts.__getitem__)
        assert tuple(tokens[n].tolist())[: len(best)] == best
        assert float(scores[n]) == pytest.approx(texts[best])


# GRUs.


def test_the_gru_s_decoder_is_its_equations():
    model = make("gru")
    logits, weights = model(SOURCES, TOKENS), model.alignments(SOURCES, TOKENS)
    E_, b = model.embedding.weight, model.bias
    W, U, v = model.attention.W, model.attention.U.weight, model.attention.v.weight[0]
    for n, length in enumerate((SOURCES != PAD).sum(1).tolist()):
        h, final = model.encoder(E_[SOURCES[n : n + 1, :length]] * math.sqrt(E))
        s = torch.tanh(model.initial(torch.cat([final[0, 0], final[1, 0]])))
        for t, token in enumerate(TOKENS[n].tolist()):
            e = torch.stack([v @ torch.tanh(W(s) + U @ h[0, r]) for r in range(length)])
            alpha = e.exp() / e.exp().sum()
            c = torch.stack([alpha[r] * h[0, r] for r in range(length)]).sum(0)
            y = E_[token] * math.sqrt(E)
            s = gru_step(model.cell, torch.cat([y, c]), s)
            r = torch.tanh(model.readout(torch.cat([s, c, y])))
            torch.testing.assert_close(weights[n, t, :length], alpha)
            torch.testing.assert_close(logits[n, t], E_ @ r + b)


def gru_step(cell, x, h):
    """r and z are gates, and h' = (1 - z) n + z h (Cho et al. 2014, as in torch)."""
    W_r, W_z, W_n = (cell.weight_ih @ x + cell.bias_ih).chunk(3)
    U_r, U_z, U_n = (cell.weight_hh @ h + cell.bias_hh).chunk(3)
    r, z = torch.sigmoid(W_r + U_r), torch.sigmoid(W_z + U_z)
    return (1 - z) * torch.tanh(W_n + r * U_n) + z * h


# The Transformer.


def test_attention_by_hand_is_torchs_with_its_gradient():
    results = []
    for by_hand in (True, False):
        model = make("transformer", by_hand=by_hand)
        logits = model(SOURCES, TOKENS)
        gradients = torch.autograd.grad(logits.square().sum(), list(model.parameters()))
        results.append([logits, *gradients])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("by_hand", [True, False])
def test_cross_attention_is_that_of_nn_multihead_attention(by_hand):
    torch.manual_seed(0)
    ours = MaskedAttention(E, 2, by_hand=by_hand).double()
    theirs = nn.MultiheadAttention(E, 2, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key_value.weight]))
        theirs.out_proj.weight.copy_(ours.output.weight)
    x, states = (torch.randn(3, size, E, dtype=torch.float64, requires_grad=True) for size in (4, 5))
    mask = SOURCES != PAD
    y = ours(x, ours.keys_values(states), mask)
    expected, weights = theirs(x, states, states, key_padding_mask=~mask)
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours.weights(x, ours.keys_values(states)[0], mask), weights)
    for mine, other in zip(
        torch.autograd.grad(y.square().sum(), (x, states)),
        torch.autograd.grad(expected.square().sum(), (x, states)),
        strict=True,
    ):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


def test_self_attention_depends_on_distances_only():
    attention = MaskedAttention(E, 2, by_hand=True).double()
    x, mask = torch.randn(1, 5, E, dtype=torch.float64), torch.ones(1, 5, dtype=torch.bool)
    results = []
    for first in (0, 17):
        turn = rotation(first + torch.arange(5), E // 2, torch.float64)
        results.append(attention(x, attention.keys_values(x, turn), mask, turn))
    torch.testing.assert_close(results[0], results[1])
    assert not torch.allclose(results[0], attention(x, attention.keys_values(x), mask))


def test_blocks_are_the_identity_at_first():
    model = TranslationTransformer(V, width=E, hidden_size=12, layers=2, heads=2, dropout=0.0).eval()
    x = model.embedding(TOKENS) * math.sqrt(E)
    expected = model.decoder_norm(x) @ model.embedding.weight.T
    torch.testing.assert_close(model(SOURCES, TOKENS), expected)


def test_alignments_are_the_mean_over_the_heads_of_the_last_block(monkeypatch):
    model, seen = make("transformer"), []
    weights = model.alignments(SOURCES, TOKENS)
    attention = model.decoder[-1].cross_attention
    attention.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    model(SOURCES, TOKENS)
    ((x, (keys, _), mask),) = seen
    q = attention.query(x)
    D = E // 2
    for n, t in itertools.product(range(3), range(4)):
        length, total = int(mask[n].sum()), 0
        for head in range(2):
            scores = keys[n, head, :length] @ q[n, t, head * D : (head + 1) * D] / math.sqrt(D)
            total = total + scores.softmax(0)
        torch.testing.assert_close(weights[n, t, :length], total / 2)
