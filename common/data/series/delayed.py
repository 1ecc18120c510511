"""A series in which a response depends on a cue 30 to 60 steps earlier; its best possible forecast is known.

    idle       mean 0; in each step a cue follows with probability 0.1
    cue        one value of mean k, with k = 1 or k = -1 at random
    wait       29 to 59 values of mean 0, the number uniform
    trigger    one value of mean 2
    response   8 values of mean 3 k, then idle again

To each mean is added noise of standard deviation 0.1. The means that can follow each other differ by at least ten
standard deviations, so the values reveal the state, and the states are a Markov chain: (kind, steps since the cue)
while it waits. With transition matrix P and means m the best forecast is E[y_{t+h} | state_t = s] = (P^h m)_s.
Between cue and trigger no value depends on the kind: a forecast from the last 24 values cannot contain it.

Dimensions: N values, H steps ahead, S states.
"""

import torch
from torch import Tensor

SIGMA = 0.1
CUE, TRIGGER, RESPONSE = 1.0, 2.0, 3.0
CUE_PROBABILITY = 0.1
DELAYS = range(30, 61)
"""Steps from the cue to the trigger, uniform."""
RESPONSE_LENGTH = 8
KIND_STATES = DELAYS.stop + RESPONSE_LENGTH
"""States of each kind: 0 to 59 steps since the cue, the trigger, the response."""
STATES = 1 + 2 * KIND_STATES


def chain() -> tuple[Tensor, Tensor]:
    """(S, S) transition matrix and (S,) means; state 0 is idle"""
    P, m = torch.zeros(STATES, STATES, dtype=torch.float64), torch.zeros(STATES, dtype=torch.float64)
    P[0, 0] = 1 - CUE_PROBABILITY
    trigger = DELAYS.stop - 1
    for kind, cue in ((1, 1), (-1, 1 + KIND_STATES)):
        P[0, cue] = CUE_PROBABILITY / 2
        m[cue] = CUE * kind
        for since in range(trigger):
            longer = sum(delay > since for delay in DELAYS)
            now = (since + 1 in DELAYS) / longer  # P(delay = since + 1 | delay > since)
            P[cue + since, cue + trigger] += now
            if since + 1 < trigger:
                P[cue + since, cue + since + 1] += 1 - now
        m[cue + trigger] = TRIGGER
        for step in range(trigger, KIND_STATES):
            P[cue + step, cue + step + 1 if step + 1 < KIND_STATES else 0] = 1
        m[cue + trigger + 1 : cue + KIND_STATES] = RESPONSE * kind
    return P, m


def is_trigger(states: Tensor) -> Tensor:
    """(N,) states -> (N,) whether each is the trigger: the next values are the response to the cue"""
    return (states > 0) & ((states - 1) % KIND_STATES == DELAYS.stop - 1)


def draw(length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """(N,) values and (N,) states, from idle on"""
    P, m = chain()
    cumulative, uniform = P.cumsum(1), torch.rand(length, generator=generator, dtype=torch.float64)
    states, state = torch.empty(length, dtype=torch.int64), 0
    for step in range(length):
        states[step] = state = int(torch.searchsorted(cumulative[state], uniform[step], right=True))
    return m[states] + SIGMA * torch.randn(length, generator=generator, dtype=torch.float64), states


def expectations(states: Tensor, horizon: int) -> Tensor:
    """(N,) states -> (N, H) E[y_{t+h} | state_t], h = 1 ... H"""
    P, ahead = chain()
    means = []
    for _ in range(horizon):
        ahead = P @ ahead
        means.append(ahead[states])
    return torch.stack(means, dim=1)
