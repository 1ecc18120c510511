"""Recurrent cells by hand (RNN, GRU, LSTM), their initialisation, and the layer that unrolls a cell over time.

A cell is computed in two parts. `project` multiplies the input by W_x; this does not depend on the hidden state, so it
is one matrix product for all time steps. `step` computes one time step from the projected input and the state. The
weights have the names, shapes and gate order of torch's cells.

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
"""State of a cell: (h,), or (h, c) for the LSTM, each (B, H)."""


def make_weights(gates: int, input_size: int, hidden_size: int) -> Iterator[nn.Parameter]:
    """Yield W_x (G H, I), W_h (G H, H), b_x (G H,) and b_h (G H,), uniform in +-1/sqrt(H) as in torch."""
    for shape in ((input_size,), (hidden_size,), (), ()):
        yield nn.Parameter(torch.empty(gates * hidden_size, *shape).uniform_(-(hidden_size**-0.5), hidden_size**-0.5))


class RNNCell(nn.Module):
    """Simple recurrent cell (Elman 1990):

    h_t = tanh(W_x x_t + W_h h_{t-1} + b)
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(1, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., H)"""
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, H) projected input and the previous state -> next state"""
        (h,) = state
        return (torch.tanh(projected + h @ self.weight_hh.T),)

    def unroll(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, H) projected inputs and the initial state -> (T, B, H) hidden states and the final state"""
        return bptt.rnn(projected, self.weight_hh, *state)


class GRUCell(nn.Module):
    """Gated recurrent unit (Cho et al. 2014), with the reset gate after the matrix product as in cuDNN:

    r = sigmoid(W_r x_t + U_r h_{t-1} + b_r)                reset gate
    z = sigmoid(W_z x_t + U_z h_{t-1} + b_z)                update gate
    n = tanh(W_n x_t + b_n + r (U_n h_{t-1} + b'_n))        candidate state
    h_t = (1 - z) n + z h_{t-1}
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(3, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., 3H)"""
        return F.linear(x, self.weight_ih, self.bias_ih)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, 3H) projected input and the previous state -> next state"""
        (h,) = state
        x_r, x_z, x_n = projected.chunk(3, 1)
        u_r, u_z, u_n = F.linear(h, self.weight_hh, self.bias_hh).chunk(3, 1)
        r, z = torch.sigmoid(x_r + u_r), torch.sigmoid(x_z + u_z)
        n = torch.tanh(x_n + r * u_n)
        return ((1 - z) * n + z * h,)

    def unroll(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, 3H) projected inputs and the initial state -> (T, B, H) hidden states and the final state"""
        return bptt.gru(projected, self.weight_hh, self.bias_hh, *state)


class LSTMCell(nn.Module):
    """Long short-term memory (Hochreiter & Schmidhuber 1997; forget gate: Gers, Schmidhuber & Cummins 2000):

    i = sigmoid(W_i x_t + U_i h_{t-1} + b_i)    input gate
    f = sigmoid(W_f x_t + U_f h_{t-1} + b_f)    forget gate
    g = tanh   (W_g x_t + U_g h_{t-1} + b_g)    candidate
    o = sigmoid(W_o x_t + U_o h_{t-1} + b_o)    output gate
    c_t = f c_{t-1} + i g                       cell state
    h_t = o tanh(c_t)                           hidden state
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh = make_weights(4, input_size, hidden_size)

    def project(self, x: Tensor) -> Tensor:
        """(..., I) -> (..., 4H)"""
        return F.linear(x, self.weight_ih, self.bias_ih + self.bias_hh)

    def step(self, projected: Tensor, state: State) -> State:
        """(B, 4H) projected input and the previous state -> next state"""
        h, c = state
        i, f, g, o = (projected + h @ self.weight_hh.T).chunk(4, 1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(c), c

    def unroll(self, projected: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, 4H) projected inputs and the initial state -> (T, B, H) hidden states and the final state"""
        return bptt.lstm(projected, self.weight_hh, *state)


Cell = RNNCell | GRUCell | LSTMCell

CELLS: dict[CellName, type[RNNCell] | type[GRUCell] | type[LSTMCell]] = {
    "rnn": RNNCell,
    "gru": GRUCell,
    "lstm": LSTMCell,
}
STATES: dict[CellName, int] = {"rnn": 1, "gru": 1, "lstm": 2}
"""Number of tensors in the state of a cell."""


class Recurrent(nn.Module):
    """A cell unrolled over time: with backpropagation through time by hand (`bptt.py`), or a loop with autograd."""

    def __init__(self, cell: Cell, *, by_hand: bool = True) -> None:
        super().__init__()
        self.cell, self.by_hand = cell, by_hand

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) inputs and the initial state -> (T, B, H) hidden states and the final state"""
        projected = self.cell.project(x)
        if self.by_hand and torch.is_grad_enabled():
            return self.cell.unroll(projected, state)
        hidden = []
        for projected_t in projected:
            state = self.cell.step(projected_t, state)
            hidden.append(state[0])
        return torch.stack(hidden), state


class Library(nn.Module):
    """Torch's own layer: nn.RNN, nn.GRU or nn.LSTM."""

    def __init__(self, name: CellName, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.name = name
        self.layer = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}[name](input_size, hidden_size)

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """(T, B, I) inputs and the initial state -> (T, B, H) hidden states and the final state"""
        if len(x) == 1 and not torch.is_grad_enabled():  # nn.LSTM would repack all its weights for this one step
            final = self.step(x[0], state)
            return final[0].unsqueeze(0), final
        initial = tuple(part.unsqueeze(0) for part in state)  # torch's states have a first dimension for layers
        hidden, final = self.layer(x, initial if self.name == "lstm" else initial[0])
        return hidden, tuple(part[0] for part in (final if self.name == "lstm" else (final,)))

    def step(self, x: Tensor, state: State) -> State:
        """(B, I) input and the previous state -> next state"""
        weights = weights_of(self)
        if self.name == "lstm":
            return torch.lstm_cell(x, state, *weights)
        return ((torch.gru_cell if self.name == "gru" else torch.rnn_tanh_cell)(x, state[0], *weights),)


def make_layer(name: CellName, input_size: int, hidden_size: int, by: By) -> Recurrent | Library:
    """Build a recurrent layer: backpropagation through time by hand, a loop with autograd, or torch's own layer."""
    if by == "library":
        return Library(name, input_size, hidden_size)
    return Recurrent(CELLS[name](input_size, hidden_size), by_hand=by == "hand")


def weights_of(layer: nn.Module) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return W_x (G H, I), W_h (G H, H), b_x (G H,) and b_h (G H,) of a layer."""
    w_x, w_h, b_x, b_h = layer.parameters()
    return w_x, w_h, b_x, b_h


@torch.no_grad()
def orthogonal_(layer: nn.Module, gain: float = 1.0) -> None:
    """Initialise W_h of each gate as a random orthogonal matrix times the gain, and the biases as zero.

    Q'Q = 1, so ||Q h|| = ||h||: repeated multiplication by Q keeps the norm (Saxe, McClelland & Ganguli 2014). Q is
    from the QR decomposition of a Gaussian matrix; the signs of R's diagonal make it uniformly distributed.
    """
    _, w_h, b_x, b_h = weights_of(layer)
    for gate in w_h.split(w_h.shape[1]):
        q, r = torch.linalg.qr(torch.randn_like(gate))
        gate.copy_(gain * q * r.diagonal().sign())
    b_x.zero_()
    b_h.zero_()


@torch.no_grad()
def open_forget_gates_(layer: nn.Module, bias: float = 1.0) -> None:
    """Set the forget-gate bias of an LSTM: sigmoid(1) = 0.73 (Jozefowicz, Zaremba & Sutskever 2015)."""
    _, w_h, b_x, b_h = weights_of(layer)
    size = w_h.shape[1]
    b_x[size : 2 * size] = bias
    b_h[size : 2 * size] = 0


@torch.no_grad()
def chrono_(layer: nn.Module, max_steps: int) -> None:
    """Set gate biases for time scales up to `max_steps` (chrono initialisation, Tallec & Ollivier 2018, eq. 16):

    b_f = log(u), u ~ U(1, T_max - 1),    b_i = -b_f

    With a constant gate value f the state decays as f^t, with a time constant of about 1 / (1 - f) = 1 + exp(b_f)
    steps. In a GRU the update gate z has the role of f.
    """
    _, w_h, b_x, b_h = weights_of(layer)
    size = w_h.shape[1]
    gates = len(w_h) // size
    assert gates > 1, "an RNN has no gates"
    b_f = torch.empty(size).uniform_(1, max_steps - 1).log_()
    b_h.zero_()
    b_x[size : 2 * size] = b_f  # f of the LSTM (i, f, g, o), z of the GRU (r, z, n)
    if gates == 4:
        b_x[:size] = -b_f
