"""Exercises of chapter 7: three typical wrong answers each, and what the reader is told."""

import pytest
import torch

from ch07_dqn.exercises import checks
from common.exercises.check import check


def always_bootstrapping(reward, next_q, terminated, truncated, discount):
    return reward + discount * next_q.max(1).values


def done_is_terminal(reward, next_q, terminated, truncated, discount):
    return reward + discount * next_q.max(1).values * ~(terminated | truncated)


def largest_of_all_rows(reward, next_q, terminated, truncated, discount):
    return reward + discount * next_q.max() * ~terminated


def own_maximum(reward, online, target, terminated, discount):
    return reward + discount * target.max(1).values * ~terminated


def online_only(reward, online, target, terminated, discount):
    return reward + discount * online.max(1).values * ~terminated


def indexed_without_gather(reward, online, target, terminated, discount):
    return reward + discount * target[:, online.argmax(1)] * ~terminated


def others_only(q, epsilon):
    p = torch.full_like(q, epsilon / max(1, len(q) - 1))
    p[q.argmax()] = 1 - epsilon
    return p


def without_own_share(q, epsilon):
    p = torch.full_like(q, epsilon / len(q))
    p[q.argmax()] = 1 - epsilon
    return p


def all_maxima(q, epsilon):
    greedy = (q == q.max()).to(q.dtype)
    return epsilon / len(q) + (1 - epsilon) * greedy / greedy.sum()


def one_sweep(reward, next_state, terminal, discount):
    return reward.clone()


def never_terminal(reward, next_state, terminal, discount):
    q = torch.zeros_like(reward)
    for _ in range(100):
        q = reward + discount * q.max(1).values[next_state]
    return q


def until_equal(reward, next_state, terminal, discount):
    q, before = torch.zeros_like(reward), None
    while before is None or not torch.equal(q, before + 1):
        before, q = q, reward + discount * (q.max(1).values * ~terminal)[next_state]
    return q


def across_episodes(reward, terminated, truncated, discount):
    total = sum(discount**i * float(r) for i, r in enumerate(reward))
    return total, 0.0 if terminated.any() else discount ** len(reward)


def limit_is_terminal(reward, terminated, truncated, discount):
    total, factor = 0.0, 1.0
    for r, end in zip(reward.tolist(), (terminated | truncated).tolist(), strict=True):
        total, factor = total + factor * r, factor * discount
        if end:
            return total, 0.0
    return total, factor


def undiscounted(reward, terminated, truncated, discount):
    total, factor = 0.0, 1.0
    for step, r in enumerate(reward.tolist()):
        total, factor = total + r, factor * discount
        if terminated[step] or truncated[step]:
            return total, 0.0 if terminated[step] else factor
    return total, factor


def unnormalised(delta, alpha, beta):
    p = delta.abs() ** alpha / (delta.abs() ** alpha).sum()
    return p, (len(delta) * p) ** -beta


def positive_exponent(delta, alpha, beta):
    p = delta.abs() ** alpha / (delta.abs() ** alpha).sum()
    w = (len(delta) * p) ** beta
    return p, w / w.max()


def signed(delta, alpha, beta):
    p = delta**alpha / (delta**alpha).sum()
    w = (len(delta) * p) ** -beta
    return p, w / w.max()


def gae(delta, chain, factor):
    result, following = torch.zeros_like(delta), 0.0
    for t in reversed(range(len(delta))):
        following = delta[t] + factor * float(chain[t]) * following
        result[t] = following
    return result


def without_ends(reward, value, next_value, terminated, truncated, discount, lam):
    return gae(reward + discount * next_value - value, ~(terminated | truncated), discount * lam)


def across_time_limits(reward, value, next_value, terminated, truncated, discount, lam):
    return gae(reward + discount * next_value * ~terminated - value, ~terminated, discount * lam)


def without_lambda(reward, value, next_value, terminated, truncated, discount, lam):
    return gae(reward + discount * next_value * ~terminated - value, ~(terminated | truncated), discount)


def actor(z, action, advantage, h, *, sign=1, entropy=True):
    log_p = torch.log_softmax(z, 0)
    p = log_p.exp()
    gradient = advantage * p + h * p * (log_p - (p * log_p).sum()) * entropy
    gradient[action] -= advantage
    return sign * gradient


def clipped_term_only(ratio, advantage, clip):
    return advantage * ((ratio - 1).abs() < clip)


def clipped_above_only(ratio, advantage, clip):
    return advantage * (ratio < 1 + clip)


def times_the_ratio(ratio, advantage, clip):
    constant = ((advantage > 0) & (ratio > 1 + clip)) | ((advantage < 0) & (ratio < 1 - clip))
    return ratio * advantage * ~constant


WRONG = [
    (
        checks.TD_TARGET,
        always_bootstrapping,
        "terminated = [True], truncated = [False], discount = 0.5 you return [3.0]",
    ),
    (checks.TD_TARGET, done_is_terminal, "a time limit only interrupts the episode"),
    (checks.TD_TARGET, largest_of_all_rows, "for reward = ["),
    (checks.DOUBLE_Q_LEARNING, own_maximum, "the target network selects and evaluates; the online network must select"),
    (
        checks.DOUBLE_Q_LEARNING,
        online_only,
        "the online network selects and evaluates; the target network must evaluate",
    ),
    (checks.DOUBLE_Q_LEARNING, indexed_without_gather, "you return a tensor of shape (1, 1)"),
    (checks.EPSILON_GREEDY, others_only, "the random action is sampled from all A actions, the greedy one included"),
    (
        checks.EPSILON_GREEDY,
        without_own_share,
        "epsilon = 1.0 you return [0.5, 0.0], expected [0.5, 0.5]",
    ),
    (checks.EPSILON_GREEDY, all_maxima, "of equal Q-values, the first one is greedy"),
    (checks.VALUE_ITERATION, one_sweep, "one application moves a reward back by one step only"),
    (checks.VALUE_ITERATION, never_terminal, "no rewards follow a terminal state: its value is 0"),
    (checks.VALUE_ITERATION, until_equal, "your function exceeds the time limit: 0.5 seconds"),
    (checks.N_STEP_RETURN, across_episodes, "the second transition belongs to the next episode"),
    (checks.N_STEP_RETURN, limit_is_terminal, "at a time limit f remains gamma^k"),
    (checks.N_STEP_RETURN, undiscounted, "for R you return 4.0, expected 2.0"),
    (checks.PRIORITISED_REPLAY, unnormalised, "the weights are divided by the largest one"),
    (checks.PRIORITISED_REPLAY, positive_exponent, "frequent transitions need small weights"),
    (checks.PRIORITISED_REPLAY, signed, "delta = [1.0, -3.0], alpha = 1.0, beta = 0.0 for P you return [-0.5, 1.5]"),
    (checks.ADVANTAGES, without_ends, "V of a terminal state is left out"),
    (checks.ADVANTAGES, across_time_limits, "another episode begins after a time limit, too"),
    (checks.ADVANTAGES, without_lambda, "lambda is missing"),
    (
        checks.POLICY_GRADIENT,
        lambda **given: actor(**given, sign=-1),
        "advantage = 1.0, h = 0.0 you return [0.5, -0.5]",
    ),
    (checks.POLICY_GRADIENT, lambda **given: actor(**given, entropy=False), "the gradient of the entropy is missing"),
    (
        checks.POLICY_GRADIENT,
        lambda z, action, advantage, h: actor(z, action, advantage, -h),
        "the entropy bonus is subtracted from the loss",
    ),
    (checks.CLIPPED_OBJECTIVE, clipped_term_only, "where the ratio left the interval in the wrong direction"),
    (checks.CLIPPED_OBJECTIVE, clipped_above_only, "for A < 0 the objective is constant below 1 - c"),
    (checks.CLIPPED_OBJECTIVE, times_the_ratio, "the derivative is A, not p A"),
]


@pytest.mark.parametrize(("exercise", "wrong", "part"), WRONG, ids=lambda value: getattr(value, "file", None))
def test_wrong_answers_are_explained(exercise, wrong, part, monkeypatch):
    if wrong is until_equal:
        monkeypatch.setattr("common.exercises.check.SECONDS", 0.5)
    verdict = check(exercise, wrong)
    assert verdict.status == "wrong"
    assert part in f"{verdict.message}\n{verdict.note}"
