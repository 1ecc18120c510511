"""The three recurrent cells by hand, how their weights begin, and a layer that walks a cell through time.

A cell does its work in two parts: `project` is what the input adds to the gates, which does not depend on the past and
can be computed for all steps at once; `step` is the rest. Weights have the names, shapes and order of gates that
torch's cells have.

Dimensions: T steps, B batch, I inputs, H hidden units, G gates (1, 3 or 4).
"""

from collections.abc import Iterator
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.recurrence import bptt

CellName = Literal["rnn", "gru", "lstm"]
By = Literal["hand", "loop", "library"]

State = tuple[Tensor, ...]
"""What a cell remembers: (h,), or (h, c) of the LSTM, each (B, H)."""


def make_weights(gates: int, input_size: int, hidden_size: int) -> Iterator[nn.Parameter]:
    """Yield W_x (G H, I), W_h (G H, H), b_x (G H,) and b_h (G H,), uniform in +-1/sqrt(H), as torch begins."""
    for shape in ((input_size,), (hidden_size,), (), ()):
        yield nn.Parameter(torch.empty(gates * hidden_size, *shape).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))


class RNNCell(nn.Module):
    """The simplest recurrent cell (Elman 1990):

    h_t = tanh(W_x x_t + W_h h_{t-1} + b)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(1, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., H)"""
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, H) projected input -> state after it"""
        (h,) = state
        return (torch.tanh(projected + h @ self.weight_hh.T),)

    def walk(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, H) projected inputs -> (T, B, H) hidden states and the last, with gradients by hand"""
        return bptt.rnn(projected, self.weight_hh, *state)


class GRUCell(nn.Module):
    """The gated recurrent unit (Cho et al. 2014), reset gate after the product as in cuDNN:

    r = sigmoid(W_r x_t + U_r h_{t-1} + b_r)                what of the past the candidate sees
    z = sigmoid(W_z x_t + U_z h_{t-1} + b_z)                what of the past stays
    n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b'_n))        the candidate
    h_t = (1 - z) n + z h_{t-1}
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(3, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., 3H)"""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, 3H) projected input -> state after it"""
        (h,) = state
        x_r, x_z, x_n = projected.chunk(3, 1)
        u_r, u_z, u_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, 1)
        r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
        n = torch.tanh(x_n + r * u_n)
        return ((1 - z) * n + z * h,)

    def walk(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, 3H) projected inputs -> (T, B, H) hidden states and the last, with gradients by hand"""
        return bptt.gru(projected, self.weight_hh, self.bias_hh, *state)


class LSTMCell(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000):

    i = sigmoid(W_i x_t + U_i h_{t-1} + b_i)    what enters the memory
    f = sigmoid(W_f x_t + U_f h_{t-1} + b_f)    what stays in it
    g = tanh   (W_g x_t + U_g h_{t-1} + b_g)    the candidate
    o = sigmoid(W_o x_t + U_o h_{t-1} + b_o)    what of it is shown
    c_t = f c_{t-1} + i g
    h_t = o tanh(c_t)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(4, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., 4H)"""
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, 4H) projected input -> state after it"""
        h, c = state
        i, f, g, o = (projected + h @ self.weight_hh.T).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def walk(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, 4H) projected inputs -> (T, B, H) hidden states and the last state, with gradients by hand"""
        return bptt.lstm(projected, self.weight_hh, *state)


Cell = RNNCell | GRUCell | LSTMCell

CELLS: dict[CellName, type[RNNCell] | type[GRUCell] | type[LSTMCell]] = {
    "rnn": RNNCell,
    "gru": GRUCell,
    "lstm": LSTMCell,
}
STATES: dict[CellName, int] = {"rnn": 1, "gru": 1, "lstm": 2}
"""How many vectors a cell remembers."""


class Recurrent(nn.Module):
    """A cell walked through time: with gradients by hand (`bptt.py`), or step by step, autograd following."""

    def __init__(self, cell: Cell, *, by_hand: bool = True) -> None:
        super().__init__()
        self.cell, self.by_hand = cell, by_hand

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) inputs and the state before them -> (T, B, H) hidden states and the state after them"""
        projected = self.cell.project(x)
        if self.by_hand and torch.is_grad_enabled():
            return self.cell.walk(projected, state)
        hidden = []
        for now in projected:
            state = self.cell.step(now, state)
            hidden.append(state[0])
        return torch.stack(hidden), state


class Library(nn.Module):
    """The same as torch has it: nn.RNN, nn.GRU or nn.LSTM."""

    def __init__(self, name: CellName, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.name = name
        self.layer = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[name](input_size, hidden_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) inputs and the state before them -> (T, B, H) hidden states and the state after them"""
        if len(x) == 1 and not torch.is_grad_enabled():  # for one step nn.LSTM would arrange all its weights anew
            after = self.step(x[0], state)
            return after[0].unsqueeze(0), after
        before = tuple(part.unsqueeze(0) for part in state)  # torch counts its layers in the first dimension
        hidden, after = self.layer(x, before if self.name == "lstm" else before[0])
        return hidden, tuple(part[0] for part in (after if self.name == "lstm" else (after,)))

    def step(self, x: Tensor, state: State) -> State:
        """(B, I) input and the state before it -> state after it"""
        weights = weights_of(self)
        if self.name == "lstm":
            return torch.lstm_cell(x, state, *weights)
        return ((torch.gru_cell if self.name == "gru" else torch.rnn_tanh_cell)(x, state[0], *weights),)


def make_layer(name: CellName, input_size: int, hidden_size: int, by: By) -> Recurrent | Library:
    """Build a recurrent layer: gradients by hand, by autograd step after step, or torch's own layer."""
    if by == "library":
        return Library(name, input_size, hidden_size)
    return Recurrent(CELLS[name](input_size, hidden_size), by_hand=by == "hand")


def weights_of(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Give W_x (G H, I), W_h (G H, H), b_x (G H,) and b_h (G H,) of a layer."""
    w_x, w_h, b_x, b_h = layer.parameters()
    return w_x, w_h, b_x, b_h


@torch.no_grad()
def orthogonal_(layer: nn.Module, gain: float = 1.0) -> None:
    """Begin with an orthogonal W_h for each gate, times the gain, and biases of zero (Saxe, McClelland & Ganguli 2014).

    Q'Q = 1, so ||Q h|| = ||h||: what is multiplied by it a hundred times is neither longer nor shorter. Q comes from
    the factors Q R of a normal matrix, and with the signs of R's diagonal every direction is equally probable.
    """
    _, w_h, b_x, b_h = weights_of(layer)
    for gate in w_h.split(w_h.shape[1]):
        q, r = torch.linalg.qr(torch.randn_like(gate))
        gate.copy_(gain * q * r.diagonal().sign())
    b_x.zero_()
    b_h.zero_()


@torch.no_grad()
def forget_(layer: nn.Module, bias: float = 1.0) -> None:
    """Let an LSTM begin by remembering: forget gates at sigmoid(1) = 0.73 (Jozefowicz, Zaremba & Sutskever 2015)."""
    _, w_h, b_x, b_h = weights_of(layer)
    size = w_h.shape[1]
    b_x[size : 2 * size] = bias
    b_h[size : 2 * size] = 0


@torch.no_grad()
def chrono_(layer: nn.Module, longest: int) -> None:
    """Let the units of an LSTM begin with memories of all lengths up to so many steps (Tallec & Ollivier 2018, eq. 16):

    b_f = log(u), u ~ U(1, T_max - 1),    b_i = -b_f

    A unit whose gate stays at f forgets as f^t, over about 1 / (1 - f) = 1 + exp(b_f) steps. Of a GRU, z is what stays.
    """
    _, w_h, b_x, b_h = weights_of(layer)
    size = w_h.shape[1]
    gates = len(w_h) // size
    assert gates > 1, "an RNN has no gates"
    b_f = torch.empty(size).uniform_(1, longest - 1).log_()
    b_h.zero_()
    b_x[size : 2 * size] = b_f  # f of the LSTM (i, f, g, o), z of the GRU (r, z, n)
    if gates == 4:
        b_x[:size] = -b_f
