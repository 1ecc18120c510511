"""Backpropagation through time by hand for RNN, GRU and LSTM.

Autograd records about a dozen operations per time step and stores their results. Written by hand, a step stores only
its gates and writes into preallocated memory. Everything that is not sequential is computed for all steps at once: the
derivatives of the gates before the backward loop, and the gradient of W_h after it, as one matrix product.

A projected input is W_x x_t + b, computed for all steps in advance (`cells.py`). Matrix products have its precision.
Everything else is in float32 or wider, above all the LSTM's cell state c, which is a sum over many steps.

Notation: dx is dL/dx, the gradient of the loss with respect to x.

Dimensions: T steps, B batch, H hidden units.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

# Gradients of sigmoid and tanh from their outputs y, in one pass: dz = dy y (1 - y) and dz = dy (1 - y^2).
sigmoid_backward, tanh_backward = torch.ops.aten.sigmoid_backward, torch.ops.aten.tanh_backward


def tanh_(x: Tensor) -> Tensor:
    """Compute tanh(x) = 2 sigmoid(2x) - 1 in place.

    On a CPU, torch's own tanh starts all threads, which takes longer than the rest of a time step.
    """
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


def at_least_single(dtype: torch.dtype) -> torch.dtype:
    """Return the wider of this type and float32."""
    return torch.promote_types(dtype, torch.float32)


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
    hidden, c_last = LSTMThroughTime.apply(projected, weight, h, c)  # pyright: ignore[reportGeneralTypeIssues]
    return hidden, (hidden[-1], c_last)


class RNNThroughTime(Function):
    """h_t = tanh(a_t + W h_{t-1}), with a_t the projected input (Werbos 1990):

    dh_t     = dL/dh_t from the layers above + W' da_{t+1}
    da_t     = dh_t (1 - h_t^2)         one factor W' diag(1 - h_t^2) for every step back in time
    dW       = sum_t da_t h_{t-1}'
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, h: Tensor) -> Tensor:
        """(T, B, H) projected inputs, (H, H) W, (B, H) h_0 -> (T, B, H) h_1 ... h_T"""
        W, wide = weight.to(projected.dtype), at_least_single(projected.dtype)
        h = _allocate_states(h, projected, W)
        for t, a in enumerate(projected):
            h[t + 1] = tanh_(torch.addmm(a, h[t], W.T).to(wide))
        ctx.save_for_backward(W, h)
        return h[1:]

    @staticmethod
    def backward(ctx: Any, dh_above: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients of h_1 ... h_T -> gradients of the inputs of forward"""
        W, h = ctx.saved_tensors
        wide = at_least_single(W.dtype)
        dh_above, da = dh_above.to(wide), torch.empty_like(h[1:])
        derivatives = 1 - h[1:].to(wide).square()  # da_t / dh_t
        dh = torch.zeros_like(dh_above[0])
        for t in reversed(range(len(da))):
            dh += dh_above[t]
            torch.mul(dh, derivatives[t], out=da[t])
            dh = (da[t] @ W).to(wide)
        return da, _sum_over_time(da, h[:-1]), dh


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
        U, b, wide = weight.to(projected.dtype), bias.to(projected.dtype), at_least_single(projected.dtype)
        h, gates = _allocate_states(h, projected, U), torch.empty_like(projected, dtype=wide)
        rz, n = gates.split([2 * U.shape[1], U.shape[1]], 2)
        u = torch.empty_like(n)
        for t, a in enumerate(projected):
            a_rz, a_n = a.split([rz.shape[2], n.shape[2]], 1)
            u_rz, u[t] = torch.addmm(b, h[t], U.T).split([rz.shape[2], n.shape[2]], 1)
            rz[t] = a_rz + u_rz
            r, z = rz[t].sigmoid_().chunk(2, 1)
            tanh_(torch.addcmul(a_n.to(wide), r, u[t], out=n[t]))
            h[t + 1] = torch.lerp(n[t], h[t].to(wide), z)
        ctx.save_for_backward(U, gates, u, h)
        return h[1:]

    @staticmethod
    def backward(ctx: Any, dh_above: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients of h_1 ... h_T -> gradients of the inputs of forward"""
        U, gates, u, h = ctx.saved_tensors
        dh_above = dh_above.to(gates.dtype)
        r, z, n = gates.chunk(3, 2)
        of_n = tanh_backward(1 - z, n)
        of_r, of_z, of_u = sigmoid_backward(of_n * u, r), sigmoid_backward(h[:-1] - n, z), of_n * r
        derivatives = torch.stack([of_r, of_z, of_u, of_n], dim=2)  # (T, B, 4, H): (da_r, da_z, du, da_n) / dh_t
        d = torch.empty_like(derivatives, dtype=U.dtype)
        dh = torch.zeros_like(dh_above[0])
        for t in reversed(range(len(d))):
            dh += dh_above[t]
            torch.mul(dh.unsqueeze(1), derivatives[t], out=d[t])
            dh = dh * z[t] + d[t, :, :3].flatten(1) @ U
        da, du = d[:, :, [0, 1, 3]].flatten(2), d[:, :, :3].flatten(2)
        return da, _sum_over_time(du, h[:-1]), du.sum((0, 1)), dh


class LSTMThroughTime(Function):
    """The LSTM of `cells.py`, its four gates i, f, g, o concatenated; U are their recurrent weights. With di, df, dg
    and do the gradients before sigmoid and tanh:

    dc_t += dh_t o (1 - tanh(c_t)^2)
    do = dh_t tanh(c_t) o (1 - o)       di = dc_t g i (1 - i)
    df = dc_t c_{t-1} f (1 - f)         dg = dc_t i (1 - g^2)
    dc_{t-1} = dc_t f                   the forget gate is the only factor on this path
    dh_{t-1} = U' (di, df, dg, do)
    dU = sum_t (di, df, dg, do) h_{t-1}'
    """

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """(T, B, 4H) projected inputs, (4H, H) U, (B, H) h_0, c_0 -> (T, B, H) h_1 ... h_T, (B, H) c_T"""
        U = weight.to(projected.dtype)
        gates = projected.to(at_least_single(projected.dtype), copy=True)
        h, c = _allocate_states(h, projected, U), _allocate_states(c, gates, U)
        tanh_c = torch.empty_like(c[1:])
        i, f, g, o = (gate.unbind() for gate in gates.chunk(4, 2))
        for t, all_four in enumerate(gates):
            all_four += h[t] @ U.T
            g[t].mul_(2)  # tanh(x) = 2 sigmoid(2x) - 1: one sigmoid call for all four gates
            all_four.sigmoid_()
            g[t].mul_(2).sub_(1)
            torch.mul(f[t], c[t], out=c[t + 1]).addcmul_(i[t], g[t])
            tanh_(tanh_c[t].copy_(c[t + 1]))
            torch.mul(o[t], tanh_c[t], out=h[t + 1])
        ctx.save_for_backward(U, gates, tanh_c, h, c)
        return h[1:], c[-1]

    @staticmethod
    def backward(ctx: Any, dh_above: Tensor, dc: Tensor) -> tuple[Tensor, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """(T, B, H) gradients of h_1 ... h_T, (B, H) of c_T -> gradients of the inputs of forward"""
        U, gates, tanh_c, h, c = ctx.saved_tensors
        dh_above = dh_above.to(gates.dtype)
        i, f, g, o = gates.chunk(4, 2)
        derivatives = torch.empty_like(gates)  # (da_i, da_f, da_g) / dc_t and da_o / dh_t
        of_i, of_f, of_g, of_o = derivatives.chunk(4, 2)
        sigmoid_backward(g, i, grad_input=of_i)
        sigmoid_backward(c[:-1], f, grad_input=of_f)
        tanh_backward(i, g, grad_input=of_g)
        sigmoid_backward(tanh_c, o, grad_input=of_o)
        of_c = tanh_backward(o, tanh_c)  # dc_t / dh_t
        da = torch.empty_like(gates, dtype=U.dtype)
        da_o = da.chunk(4, 2)[3]
        of_ifg, da_ifg = (both.unflatten(2, (4, -1))[:, :, :3] for both in (derivatives, da))  # (T, B, 3, H)
        dh, dc = torch.zeros_like(dh_above[0]), dc.clone()
        for t in reversed(range(len(da))):
            dh += dh_above[t]
            dc.addcmul_(dh, of_c[t])
            torch.mul(dc.unsqueeze(1), of_ifg[t], out=da_ifg[t])
            torch.mul(dh, of_o[t], out=da_o[t])
            dc *= f[t]
            dh = (da[t] @ U).to(dc.dtype)
        return da, _sum_over_time(da, h[:-1]), dh, dc


def _allocate_states(initial: Tensor, like: Tensor, weight: Tensor) -> Tensor:
    """(B, H) initial state -> (T + 1, B, H) memory for the states of all steps, with the initial state at index 0"""
    states = like.new_empty(len(like) + 1, like.shape[1], weight.shape[1])
    states[0] = initial
    return states


def _sum_over_time(da: Tensor, h: Tensor) -> Tensor:
    """(T, B, G) gradients of the gates, (T, B, H) previous hidden states -> (G, H) sum over steps and batch of da h'"""
    return da.flatten(0, 1).T @ h.flatten(0, 1)
