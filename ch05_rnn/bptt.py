"""Backpropagation through time by hand: from the loss's gradient at every hidden state to that of every weight.

Autograd records each of a step's dozen operations and keeps each result. By hand a step keeps only its gates, works in
memory that is there already, and leaves everything that does not depend on the order of time, the gradient of W_h
above all, to one product over all steps at the end.

A projected input is what the input adds to the gates, computed for all steps beforehand. Everything is computed in its
precision; only the LSTM's memory c, a sum over many steps, never has less than single precision.

In what follows dx means dL/dx, the gradient of the loss in x.

Dimensions: T steps, B batch, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# A sigmoid's and a tanh's gradient from their own outputs: dz = dy y (1 - y) and dz = dy (1 - y^2), in one pass.
sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


def rnn(projected: Tensor, weight: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    """(T, B, H) projected inputs, (H, H) W, (B, H) h_0 -> (T, B, H) h_1 ... h_T, and the state (h_T,)"""
    hidden: Any = RNNThroughTime.apply(projected, weight, h)
    return hidden, (hidden[-1],)


def gru(projected: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> tuple[Tensor, tuple[Tensor]]:
    """(T, B, 3H) projected inputs, (3H, H) U, (3H,) b', (B, H) h_0 -> (T, B, H) h_1 ... h_T, and the state (h_T,)"""
    hidden: Any = GRUThroughTime.apply(projected, weight, bias, h)
    return hidden, (hidden[-1],)


def lstm(projected: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """(T, B, 4H) projected inputs, (4H, H) U, (B, H) h_0 and c_0 -> (T, B, H) h_1 ... h_T, and the state (h_T, c_T)"""
    hidden, memory = LSTMThroughTime.apply(projected, weight, h, c)  # pyright: ignore[reportGeneralTypeIssues]
    return hidden, (hidden[-1], memory)


class RNNThroughTime(Function):
    """h_t = tanh(a_t + W h_{t-1}), with a_t the projected input (Werbos 1990):

    dh_t     = what the layers above ask for at t, plus what t + 1 hands back
    da_t     = dh_t (1 - h_t^2)
    dh_{t-1} = W' da_t                  handed back: a factor W' diag(1 - h_t^2) for every step into the past
    dW       = sum_t da_t h_{t-1}'
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, h: Tensor) -> Tensor:
        """(T, B, H) projected inputs, (H, H) W, (B, H) h_0 -> (T, B, H) h_1 ... h_T"""
        W = weight.to(projected.dtype)
        h = _with_first(h, projected, projected.shape[2])
        for t, a in enumerate(projected):
            torch.addmm(a, h[t], W.T, out=h[t + 1]).tanh_()
        ctx.save_for_backward(W, h)
        return h[1:]

    @staticmethod
    def backward(ctx: Any, asked: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients in h_1 ... h_T -> gradients in the inputs of forward"""
        W, h = ctx.saved_tensors
        da = torch.empty_like(asked)
        dh = torch.zeros_like(h[0])
        for t in reversed(range(len(da))):
            dh += asked[t]
            tanh_backward(dh, h[t + 1], grad_input=da[t])
            torch.mm(da[t], W, out=dh)
        return da, _over_time(da, h[:-1]), dh


class GRUThroughTime(Function):
    """The GRU of `cells.py`: r, z = sigmoid(a + U h_{t-1} + b'), u = U_n h_{t-1} + b'_n, n = tanh(a_n + r u),
    h_t = n + z (h_{t-1} - n):

    da_n = dh_t (1 - z) (1 - n^2)       du = da_n r
    da_z = dh_t (h_{t-1} - n) z (1 - z)
    da_r = da_n u r (1 - r)
    dh_{t-1} = dh_t z + U' (da_r, da_z, du)
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        """(T, B, 3H) projected inputs, (3H, H) U, (3H,) b', (B, H) h_0 -> (T, B, H) h_1 ... h_T"""
        U, b = weight.to(projected.dtype), bias.to(projected.dtype)
        H = U.shape[1]
        gates = torch.empty_like(projected)
        h = _with_first(h, projected, H)
        candidates = torch.empty_like(h[1:])  # u
        for t, a in enumerate(projected):
            from_past = torch.addmm(b, h[t], U.T)
            rz, n = gates[t, :, : 2 * H], gates[t, :, 2 * H :]
            torch.add(a[:, : 2 * H], from_past[:, : 2 * H], out=rz).sigmoid_()
            r, z = rz.chunk(2, 1)
            u = candidates[t].copy_(from_past[:, 2 * H :])
            torch.addcmul(a[:, 2 * H :], r, u, out=n).tanh_()
            torch.lerp(n, h[t], z, out=h[t + 1])
        ctx.save_for_backward(U, gates, candidates, h)
        return h[1:]

    @staticmethod
    def backward(ctx: Any, asked: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients in h_1 ... h_T -> gradients in the inputs of forward"""
        U, gates, candidates, h = ctx.saved_tensors
        H = U.shape[1]
        da, du = torch.empty_like(gates), torch.empty_like(gates)
        dh = torch.zeros_like(h[0])
        for t in reversed(range(len(da))):
            r, z, n = gates[t].chunk(3, 1)
            da_r, da_z, da_n = da[t].chunk(3, 1)
            dh += asked[t]
            tanh_backward(dh * (1 - z), n, grad_input=da_n)
            sigmoid_backward(dh * (h[t] - n), z, grad_input=da_z)
            sigmoid_backward(da_n * candidates[t], r, grad_input=da_r)
            du[t, :, : 2 * H] = da[t, :, : 2 * H]
            torch.mul(da_n, r, out=du[t, :, 2 * H :])
            dh.mul_(z).addmm_(du[t], U)
        return da, _over_time(du, h[:-1]), du.sum((0, 1)), dh


class LSTMThroughTime(Function):
    """The LSTM of `cells.py`, its four gates i, f, g, o beside each other; U all their recurrent weights:

    dc_t += dh_t o (1 - tanh(c_t)^2)
    do = dh_t tanh(c_t) o (1 - o)       di = dc_t g i (1 - i)
    df = dc_t c_{t-1} f (1 - f)         dg = dc_t i (1 - g^2)           in the gates before sigmoid and tanh
    dc_{t-1} = dc_t f                   the error's straight way back: no matrix, no tanh, only the forget gate
    dh_{t-1} = U' (di, df, dg, do)
    dU = sum_t (di, df, dg, do) h_{t-1}'
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(T, B, 4H) projected inputs, (4H, H) U, (B, H) h_0, c_0 -> (T, B, H) h_1 ... h_T, (B, H) c_T"""
        U = weight.to(projected.dtype)
        H = U.shape[1]
        gates = torch.empty_like(projected)
        h = _with_first(h, projected, H)
        c = _with_first(c, projected.float() if projected.dtype == torch.bfloat16 else projected, H)
        tanh_c = torch.empty_like(h[1:])
        for t, a in enumerate(projected):
            z = torch.addmm(a, h[t], U.T, out=gates[t])
            z[:, : 2 * H].sigmoid_()
            z[:, 2 * H : 3 * H].tanh_()
            z[:, 3 * H :].sigmoid_()
            i, f, g, o = z.chunk(4, 1)
            torch.mul(f, c[t], out=c[t + 1]).addcmul_(i, g)
            torch.tanh(c[t + 1], out=tanh_c[t])
            torch.mul(o, tanh_c[t], out=h[t + 1])
        ctx.save_for_backward(U, gates, tanh_c, h, c)
        return h[1:], c[-1]

    @staticmethod
    def backward(ctx: Any, asked: Tensor, dc: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients in h_1 ... h_T, (B, H) in c_T -> gradients in the inputs of forward"""
        U, gates, tanh_c, h, c = ctx.saved_tensors
        da = torch.empty_like(gates)
        dh, dc = torch.zeros_like(h[0]), dc.clone()
        for t in reversed(range(len(da))):
            i, f, g, o = gates[t].chunk(4, 1)
            da_i, da_f, da_g, da_o = da[t].chunk(4, 1)
            dh += asked[t]
            dc += tanh_backward(dh * o, tanh_c[t])
            sigmoid_backward(dh * tanh_c[t], o, grad_input=da_o)
            sigmoid_backward(dc * g, i, grad_input=da_i)
            sigmoid_backward(dc * c[t], f, grad_input=da_f)
            tanh_backward(dc * i, g, grad_input=da_g)
            dc *= f
            torch.mm(da[t], U, out=dh)
        return da, _over_time(da, h[:-1]), dh, dc


def _with_first(first: Tensor, like: Tensor, size: int) -> Tensor:
    """(B, H) a state -> (T + 1, B, H) room for the states of all steps, this one the first"""
    states = like.new_empty(len(like) + 1, like.shape[1], size)
    states[0] = first
    return states


def _over_time(da: Tensor, h: Tensor) -> Tensor:
    """(T, B, G) gradients in the gates, (T, B, H) the states before -> (G, H) sum over steps and batch of da h'"""
    return da.flatten(0, 1).T @ h.flatten(0, 1)
