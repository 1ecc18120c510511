"""The cells: equal to torch's, forward and gradient; through time by hand; how they begin; the output layer."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck
from torch.nn import functional as F

from ch05_rnn.language.linear_cross_entropy import LinearCrossEntropy, linear_cross_entropy
from ch05_rnn.recurrence import bptt, cells
from ch05_rnn.recurrence.cells import CELLS, STATES, Library, Recurrent, make_layer, weights_of

T, B, IN, H = 6, 3, 5, 4
NAMES = ("rnn", "gru", "lstm")


def double(*shape, grad=False):
    return torch.randn(*shape, dtype=torch.float64, requires_grad=grad)


def layers(name, by, dtype=torch.float64):
    """torch's layer, and one of ours with the same weights."""
    theirs, ours = Library(name, IN, H).to(dtype), make_layer(name, IN, H, by).to(dtype)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert mine.shape == other.shape
        mine.data.copy_(other.data)
    return theirs, ours


def everything(layer, x, state):
    """Outputs, the state after, and all gradients of a loss that sees both."""
    x, state = x.clone().requires_grad_(), tuple(part.clone().requires_grad_() for part in state)
    hidden, after = layer(x, state)
    loss = (hidden * torch.arange(hidden.numel()).view(hidden.shape).cos()).sum()
    loss = loss + sum((part * torch.arange(part.numel()).view(part.shape).sin()).sum() for part in after)
    parameters = list(layer.parameters())
    return [hidden, *after, *torch.autograd.grad(loss, [x, *state, *parameters])]


@pytest.mark.parametrize("by", ["loop", "hand"])
@pytest.mark.parametrize("name", NAMES)
def test_a_cell_is_torchs_forward_and_gradient(name, by):
    torch.manual_seed(0)
    theirs, ours = layers(name, by)
    x, state = double(T, B, IN), tuple(double(B, H) for _ in range(STATES[name]))
    for mine, other in zip(everything(ours, x, state), everything(theirs, x, state), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_a_cell_alone_is_torchs_cell(name):
    torch.manual_seed(0)
    ours = CELLS[name](IN, H).double()
    theirs = {"rnn": torch.nn.RNNCell, "gru": torch.nn.GRUCell, "lstm": torch.nn.LSTMCell}[name](IN, H).double()
    theirs.load_state_dict(ours.state_dict())
    x, state = double(B, IN), tuple(double(B, H) for _ in range(STATES[name]))
    expected = theirs(x, state if name == "lstm" else state[0])
    for mine, other in zip(ours.step(ours.project(x), state), expected if name == "lstm" else (expected,), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_through_time_by_hand_are_those_of_differences(name):
    torch.manual_seed(0)
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[name]
    inputs = [double(4, 2, gates * 3, grad=True), double(gates * 3, 3, grad=True)]
    inputs += [double(gates * 3, grad=True)] if name == "gru" else []
    inputs += [double(2, 3, grad=True) for _ in range(STATES[name])]
    function = {"rnn": bptt.RNNThroughTime, "gru": bptt.GRUThroughTime, "lstm": bptt.LSTMThroughTime}[name]
    assert gradcheck(function.apply, inputs)


@pytest.mark.parametrize("name", NAMES)
def test_in_bfloat16_hand_and_loop_agree_to_its_precision(name):
    torch.manual_seed(0)
    x, state = torch.randn(T, B, IN), tuple(torch.randn(B, H) for _ in range(STATES[name]))
    theirs, ours = layers(name, "hand", torch.float32)
    exact = everything(theirs, x, state)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = everything(ours, x, state)
    assert rounded[0].dtype == torch.bfloat16
    for mine, other in zip(rounded, exact, strict=True):
        assert ((mine.float() - other).norm() / other.norm()).item() < 0.02


def test_the_lstms_memory_is_a_sum_and_keeps_single_precision():
    """In bfloat16 a sum of 1,000 small numbers stops growing at 256 of them; c must not."""
    steps = 1_000
    projected = torch.zeros(steps, 1, 4)
    projected[..., 0] = projected[..., 1] = 50.0  # i = f = 1
    projected[..., 2] = math.atanh(0.5)  # g = 1/2
    weight, zero = torch.zeros(4, 1), torch.zeros(1, 1)
    _, (_, c) = bptt.lstm(projected.bfloat16(), weight, zero, zero)
    assert float(c) == pytest.approx(steps / 2, rel=1e-2)


@pytest.mark.parametrize("by", ["loop", "hand", "library"])
@pytest.mark.parametrize("name", NAMES)
def test_the_past_matters_and_the_future_does_not(name, by):
    torch.manual_seed(0)
    layer = make_layer(name, IN, H, by)
    x, state = torch.randn(T, B, IN), tuple(torch.zeros(B, H) for _ in range(STATES[name]))
    changed = x.clone()
    changed[3] += 1
    before, after = layer(x, state)[0], layer(changed, state)[0]
    assert torch.equal(before[:3], after[:3])
    assert not torch.allclose(before[5], after[5])


@pytest.mark.parametrize("by", ["loop", "hand", "library"])
@pytest.mark.parametrize("name", NAMES)
def test_two_halves_with_the_state_carried_are_the_whole(name, by):
    torch.manual_seed(0)
    layer = make_layer(name, IN, H, by).double()
    x, state = double(T, B, IN), tuple(double(B, H) for _ in range(STATES[name]))
    whole, last = layer(x, state)
    first, middle = layer(x[:2], state)
    second, end = layer(x[2:], middle)
    torch.testing.assert_close(torch.cat([first, second]), whole, rtol=1e-12, atol=1e-12)
    for mine, other in zip(end, last, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by", ["hand", "library"])
@pytest.mark.parametrize("name", NAMES)
def test_without_gradients_and_step_by_step_is_the_same(name, by):
    torch.manual_seed(0)
    layer = make_layer(name, IN, H, by).double()
    x, state = double(T, B, IN), tuple(double(B, H) for _ in range(STATES[name]))
    expected, last = layer(x, state)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, state)[0], expected, rtol=1e-12, atol=1e-12)
        for now, hidden in zip(x.split(1), expected.split(1), strict=True):
            written, state = layer(now, state)
            torch.testing.assert_close(written, hidden, rtol=1e-12, atol=1e-12)
    for mine, other in zip(state, last, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_orthogonal_gates_keep_every_length(name):
    layer = Recurrent(CELLS[name](IN, H).double())
    cells.orthogonal_(layer, gain=3.0)
    _, w_h, b_x, b_h = weights_of(layer)
    gates = w_h.split(H)
    for gate in gates:
        torch.testing.assert_close(gate.T @ gate, 9 * torch.eye(H, dtype=torch.float64))
    assert len(gates) == 1 or not torch.allclose(gates[0], gates[1]), "each gate has a matrix of its own"
    assert not b_x.any() and not b_h.any()


def test_forget_gates_open_and_nothing_else():
    layer = Recurrent(CELLS["lstm"](IN, H))
    before = [part.clone() for part in weights_of(layer)]
    cells.open_forget_gates_(layer, 1.0)
    total = weights_of(layer)[2] + weights_of(layer)[3]
    assert torch.equal(total[H : 2 * H], torch.ones(H))
    kept = torch.cat([torch.arange(H), torch.arange(2 * H, 4 * H)])
    assert torch.equal(total[kept], (before[2] + before[3])[kept])


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_chrono_units_remember_over_all_lengths(name):
    torch.manual_seed(0)
    layer = Recurrent(CELLS[name](IN, 2_000))
    cells.chrono_(layer, 101)
    _, _, b_x, b_h = weights_of(layer)
    keep = torch.sigmoid(b_x.detach()[2_000:4_000])
    lengths = 1 / (1 - keep)  # uniform from 2 to 101
    assert 2 <= float(lengths.min()) < 3 and 99 < float(lengths.max()) <= 101.1
    assert float(lengths.mean()) == pytest.approx(51, abs=3)
    if name == "lstm":
        assert torch.equal(b_x[:2_000], -b_x[2_000:4_000])
        assert not b_h.any()


def test_a_chrono_gru_keeps_what_it_holds():
    """z near 1 must keep the past: that is the gate which chrono opens."""
    torch.manual_seed(0)
    layer = Recurrent(CELLS["gru"](IN, 64))
    cells.chrono_(layer, 10_000)
    h = torch.ones(1, 64)
    _, (after,) = layer(torch.zeros(10, 1, IN), (h,))
    assert after.mean().item() > 0.97


# The output layer and its loss in one.


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 9), h=st.integers(1, 4), v=st.integers(2, 7), rows=st.integers(1, 10), few=st.integers(1, 10))
def test_the_closed_form_is_the_usual_loss_and_gradient(n, h, v, rows, few):
    generator = torch.Generator().manual_seed(n * 1_000 + h * 100 + v * 10 + rows)
    shapes = ((n, h), (v, h), (v,))
    ours = [torch.randn(s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes]
    usual = [tensor.detach().clone().requires_grad_() for tensor in ours]
    targets = torch.randint(v, (n,), generator=generator)
    loss = LinearCrossEntropy.apply(*ours, targets, rows, few, False)
    expected = F.cross_entropy(F.linear(*usual), targets)
    torch.testing.assert_close(loss, expected)
    (3 * loss).backward()
    (3 * expected).backward()
    for mine, other in zip(ours, usual, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_the_closed_form_is_that_of_differences():
    torch.manual_seed(0)
    targets = torch.tensor([0, 3, 3, 1, 2])
    assert gradcheck(
        lambda *w: LinearCrossEntropy.apply(*w, targets, 3, 2, False),
        [double(5, 3, grad=True), double(4, 3, grad=True), double(4, grad=True)],
    )


def test_large_logits_do_not_overflow():
    hidden = torch.tensor([[1000.0], [-1000.0]])
    weight, bias = torch.tensor([[1.0], [-1.0], [0.0]]), torch.zeros(3)
    loss = linear_cross_entropy(hidden, weight, bias, torch.tensor([0, 0]))
    assert float(loss) == pytest.approx((0 + 2000) / 2)


def test_in_bfloat16_the_output_layer_stays_within_its_precision():
    torch.manual_seed(0)
    ours = [(torch.randn(s) * scale).requires_grad_() for s, scale in (((300, 64), 1), ((500, 64), 0.1), ((500,), 0.1))]
    targets = torch.randint(500, (300,))
    expected = torch.autograd.grad(F.cross_entropy(F.linear(*ours), targets), ours)
    hidden, weight, bias = ours
    loss = linear_cross_entropy(hidden, weight, bias, targets, bf16=True)
    assert loss.item() == pytest.approx(F.cross_entropy(F.linear(*ours), targets).item(), abs=0.005)
    for mine, other in zip(torch.autograd.grad(loss, ours), expected, strict=True):
        assert mine.dtype == torch.float32
        assert float((mine - other).norm() / other.norm()) < 0.02


def test_without_gradients_only_the_loss_is_computed():
    with torch.no_grad():
        loss = linear_cross_entropy(torch.randn(4, 3), torch.randn(5, 3), torch.zeros(5), torch.tensor([0, 1, 2, 3]))
    assert not loss.requires_grad
