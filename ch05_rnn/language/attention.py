"""Causal self-attention with several heads, by hand (Vaswani et al. 2017, section 3.2).

A head compares the query q_t of a position with the keys k_s of the positions that it may read:

    y_t = sum_s alpha_ts v_s,    alpha_ts = softmax over s of (q_t . k_s / sqrt(D))

Position t reads the last C positions, itself included: t - C < s <= t (sliding window). Keys and values of positions
that were read before come from a cache, so a text can be read in several parts with the same result.

Rotary positions (Su et al. 2021) rotate each pair of features of q_t and k_s by an angle proportional to the position.
The dot product then depends on the distance t - s only.

Dimensions: B batch, T new positions, S positions with those of the cache, C context, E width, H heads, D = E / H
features of a head.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Cache = tuple[Tensor, Tensor]
"""Keys and values of earlier positions, each (B, H, S, D)."""

Rotation = tuple[Tensor, Tensor]
"""Cosine and sine of the rotation angles of T positions, each (T, D / 2)."""

EPSILON = 1e-6
"""Keeps the root mean square of zeros from being a divisor."""


def causal_mask(new: int, positions: int, context: int, device: torch.device | None = None) -> Tensor:
    """T, S, C -> (T, S) mask, True where a new position (row) reads a position (column): 0 <= t - s < C

    The new positions are the last T of the S positions.
    """
    t = torch.arange(positions - new, positions, device=device).unsqueeze(1)
    distance = t - torch.arange(positions, device=device)
    return (distance >= 0) & (distance < context)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """(..., T, D) queries, (..., S, D) keys and values, (T, S) mask -> (..., T, D) softmax(Q K' / sqrt(D)) V"""
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    return scores.masked_fill(~mask, -math.inf).softmax(-1) @ v


def rms_normalise(x: Tensor) -> Tensor:
    """(..., E) -> (..., E) x / sqrt(mean(x^2) + epsilon): a root mean square of 1 (Zhang & Sennrich 2019)

    Computed in float32 or wider.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPSILON)).to(x.dtype)


def angles(positions: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """(T,) positions t, D -> (T, D / 2) angles t omega_i with omega_i = 10000^(-2 i / D), i = 0 ... D / 2 - 1"""
    omega = 10_000.0 ** (-torch.arange(0, size, 2, device=positions.device).to(dtype) / size)
    return positions.to(dtype).unsqueeze(1) * omega


def rotation(positions: Tensor, size: int, dtype: torch.dtype) -> Rotation:
    """(T,) positions t, D -> cosine and sine of t omega_i, each (T, D / 2)"""
    turned = angles(positions, size, dtype)
    return turned.cos(), turned.sin()


def rotate(x: Tensor, turn: Rotation) -> Tensor:
    """(..., T, D) features -> (..., T, D) with the pairs (x_i, x_{i + D/2}) rotated by their angles (Su et al. 2021)"""
    cosine, sine = turn
    first, second = x.chunk(2, -1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], -1).to(x.dtype)


class MultiHeadAttention(nn.Module):
    """Causal self-attention: H heads side by side, then a linear layer W_o over all of them.

    With `normalised`, queries and keys have a root mean square of 1 (Henry et al. 2020): scores are then at most
    sqrt(D).
    """

    def __init__(self, width: int, heads: int, context: int, *, normalised: bool = True, by_hand: bool = False) -> None:
        super().__init__()
        self.heads, self.context, self.normalised, self.by_hand = heads, context, normalised, by_hand
        self.project = nn.Linear(width, 3 * width, bias=False)  # W_q, W_k and W_v
        self.output = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, cache: Cache, turn: Rotation | None = None) -> tuple[Tensor, Cache]:
        """(B, T, E) inputs, the cache and the rotation -> (B, T, E), and the cache of the last C - 1 positions"""
        q, k, v = self.project(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (B, H, T, D)
        if self.normalised:
            q, k = rms_normalise(q), rms_normalise(k)
        if turn is not None:
            q, k = rotate(q, turn), rotate(k, turn)
        k, v = (torch.cat([old.to(new.dtype), new], 2) for old, new in zip(cache, (k, v), strict=True))
        y = self.attend(q, k, v).transpose(1, 2).flatten(2)  # (B, T, E)
        outside = max(0, k.shape[2] - (self.context - 1))  # positions that no later position reads
        return self.output(y), (k[:, :, outside:], v[:, :, outside:])

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """(B, H, T, D) queries, (B, H, S, D) keys and values -> (B, H, T, D), by hand or with torch's fused function"""
        new, positions = q.shape[2], k.shape[2]
        if (
            new == positions <= self.context and not self.by_hand
        ):  # without a cache, half of the scores are not computed
            return F.scaled_dot_product_attention(q, k, v, is_causal=True)
        mask = causal_mask(new, positions, self.context, q.device)
        return attend(q, k, v, mask) if self.by_hand else F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
