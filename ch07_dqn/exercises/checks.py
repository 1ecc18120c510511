"""References, cases and hints of the exercises of chapter 7."""

from collections.abc import Callable
from random import Random

import torch
from torch import Tensor

from common.exercises.exercise import Arguments, Case, Exercise, integers, vector


def flags(*values: int) -> Tensor:
    """Return a vector of booleans."""
    return torch.tensor(values, dtype=torch.bool)


def matrix(*rows: list[float]) -> Tensor:
    """Return a float64 matrix."""
    return torch.tensor(rows, dtype=torch.float64)


def sample_flags(generator: Random, size: int, probability: float = 0.3) -> Tensor:
    """Return random booleans."""
    return torch.tensor([generator.random() < probability for _ in range(size)])


# 1: TD target


def td_target_by_rows(
    reward: Tensor,
    next_q: Tensor,
    terminated: Tensor,
    truncated: Tensor,  # noqa: ARG001  # the signature of the exercise
    discount: float,
) -> Tensor:
    """Expected targets, one by one."""
    rows = zip(reward.tolist(), next_q.tolist(), terminated.tolist(), strict=True)
    return vector(*(r if end else r + discount * max(q) for r, q, end in rows))


def target_arguments(reward: float, q: list[float], terminated: int = 0, truncated: int = 0) -> Arguments:
    """Arguments of the target of one transition."""
    ends = {"terminated": flags(terminated), "truncated": flags(truncated)}
    return {"reward": vector(reward), "next_q": matrix(q), **ends, "discount": 0.5}


def sample_targets(generator: Random, size: int) -> Arguments:
    """Random transitions."""
    ends = {name: sample_flags(generator, size) for name in ("terminated", "truncated")}
    return {"reward": integers(generator, size), "next_q": integers(generator, size, 2), **ends, "discount": 0.5}


TD_TARGET = Exercise(
    file="ex1_td_target",
    function="td_target",
    reference=td_target_by_rows,
    cases=(
        Case(target_arguments(1, [0, 0]), "only the reward"),
        Case(target_arguments(0, [2, 4]), "half of the largest Q-value"),
        Case(target_arguments(0, [-4, -2]), "the largest Q-value may be negative"),
        Case(target_arguments(1, [2, 4], terminated=1), "s' is terminal: no rewards follow"),
        Case(target_arguments(1, [2, 4], truncated=1), "a time limit is not a terminal state: rewards could follow"),
    ),
    sample=sample_targets,
    hint="What is the return after the exit was reached? Which of the two flags says that it was?",
    mistakes={
        "after a terminal state no rewards follow, so the target must not contain its Q-value": (
            lambda reward, next_q, terminated, truncated, discount: (  # noqa: ARG005
                reward + discount * next_q.max(1).values
            )
        ),
        "a time limit only interrupts the episode: the target keeps the Q term": (
            lambda reward, next_q, terminated, truncated, discount: (
                reward + discount * next_q.max(1).values * ~(terminated | truncated)
            )
        ),
        "the flags are swapped: `terminated` means that s' is terminal": (
            lambda reward, next_q, terminated, truncated, discount: (  # noqa: ARG005
                reward + discount * next_q.max(1).values * ~truncated
            )
        ),
    },
)

# 2: double Q-learning


def double_target_by_rows(
    reward: Tensor, online: Tensor, target: Tensor, terminated: Tensor, discount: float
) -> Tensor:
    """Expected targets, one by one."""
    rows = zip(reward.tolist(), online.tolist(), target.tolist(), terminated.tolist(), strict=True)
    return vector(*(r if end else r + discount * other[one.index(max(one))] for r, one, other, end in rows))


def double_arguments(online: list[float], target: list[float], terminated: int = 0) -> Arguments:
    """Arguments of the target of one transition with the reward 0."""
    values = {"reward": vector(0), "online": matrix(online), "target": matrix(target)}
    return {**values, "terminated": flags(terminated), "discount": 0.5}


def sample_double(generator: Random, size: int) -> Arguments:
    """Random transitions, without equal Q-values of the online network."""
    online = torch.stack([torch.tensor(generator.sample(range(-3, 4), 3)).double() for _ in range(size)])
    values = {"reward": integers(generator, size), "online": online, "target": integers(generator, size, 3)}
    return {**values, "terminated": sample_flags(generator, size), "discount": 0.5}


DOUBLE_Q_LEARNING = Exercise(
    file="ex2_double_q_learning",
    function="double_q_target",
    reference=double_target_by_rows,
    cases=(
        Case(double_arguments([1, 2], [1, 2]), "equal networks: the largest Q-value"),
        Case(double_arguments([1, 2], [4, 2]), "the online network selects action 1, the target network evaluates it"),
        Case(double_arguments([8, 6], [2, 4]), "the online network selects action 0, the target network evaluates it"),
        Case(double_arguments([1, 2], [4, 2], terminated=1), "s' is terminal: y = r"),
    ),
    sample=sample_double,
    hint="`argmax(1)` gives one action per row. `Tensor.gather(1, index)` takes a value per row for (B, 1) indices.",
    mistakes={
        "the target network selects and evaluates; the online network must select": (
            lambda reward, online, target, terminated, discount: (  # noqa: ARG005
                reward + discount * target.max(1).values * ~terminated
            )
        ),
        "the online network selects and evaluates; the target network must evaluate": (
            lambda reward, online, target, terminated, discount: (  # noqa: ARG005
                reward + discount * online.max(1).values * ~terminated
            )
        ),
        "the networks are swapped": lambda reward, online, target, terminated, discount: double_target_by_rows(
            reward, target, online, terminated, discount
        ),
        "no rewards follow a terminal state": lambda reward, online, target, terminated, discount: (
            double_target_by_rows(reward, online, target, torch.zeros_like(terminated), discount)
        ),
    },
)

# 3: epsilon-greedy


def epsilon_greedy_by_enumeration(q: Tensor, epsilon: float) -> Tensor:
    """Expected probabilities: the sum over all outcomes of both draws."""
    values = q.tolist()
    greedy = values.index(max(values))
    p = [0.0] * len(values)
    for action in range(len(values)):
        p[action] += epsilon / len(values)
        p[greedy] += (1 - epsilon) / len(values)
    return torch.tensor(p, dtype=q.dtype)


def one_hot_of(q: Tensor) -> Tensor:
    """Return 1 for the greedy action, else 0."""
    return torch.zeros_like(q).index_fill(0, q.argmax(), 1)


EPSILON_GREEDY = Exercise(
    file="ex3_epsilon_greedy",
    function="epsilon_greedy",
    reference=epsilon_greedy_by_enumeration,
    cases=(
        Case({"q": vector(1, 2), "epsilon": 0.0}, "without exploration the greedy action is certain"),
        Case({"q": vector(1, 2), "epsilon": 1.0}, "with epsilon = 1 all actions have the same probability"),
        Case({"q": vector(2, 1), "epsilon": 0.2}, "the random action can be the greedy one"),
        Case({"q": vector(0, 3, 1, 2), "epsilon": 0.4}, "each action gets 0.1, the greedy action 0.6 more"),
        Case({"q": vector(1, 1), "epsilon": 0.2}, "of equal Q-values, the first one is greedy"),
    ),
    sample=lambda generator, size: {
        "q": integers(generator, size),
        "epsilon": generator.choice([0.0, 0.1, 0.5]),
    },
    hint="Add the probabilities of the two ways to take the greedy action: on purpose, and by chance.",
    mistakes={
        "the random action is sampled from all A actions, so the greedy one also gets epsilon / A": (
            lambda q, epsilon: one_hot_of(q) * (1 - epsilon) + (1 - one_hot_of(q)) * epsilon / len(q)
        ),
        "the random action is sampled from all A actions, the greedy one included": lambda q, epsilon: (
            one_hot_of(q) * (1 - epsilon) + (1 - one_hot_of(q)) * epsilon / max(1, len(q) - 1)
        ),
        "epsilon is the probability of exploration, not of the greedy action": lambda q, epsilon: (
            one_hot_of(q) * epsilon + (1 - epsilon) / len(q)
        ),
    },
)

# 4: value iteration


def q_by_equations(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
    """Expected Q-values by policy iteration: solve the linear equations of a policy, then improve it."""
    states = len(reward)
    policy = torch.zeros(states, dtype=torch.int64)
    for _ in range(100):
        transition = torch.zeros(states, states, dtype=reward.dtype)
        transition[torch.arange(states), next_state[torch.arange(states), policy]] = 1
        transition *= ~terminal
        system = torch.eye(states, dtype=reward.dtype) - discount * transition
        value = torch.linalg.solve(system, reward[torch.arange(states), policy])
        # the value of a state is that of its policy's action; a terminal next state has the value 0
        value_after = (value * ~terminal)[next_state]
        q = reward + discount * value_after
        better = q.argmax(1)
        if torch.allclose(q.max(1).values, q[torch.arange(states), policy], rtol=0, atol=1e-12):
            return q
        policy = better
    raise AssertionError("policy iteration does not end")


def environment(reward: list[list[float]], next_state: list[list[int]], terminal: list[int]) -> Arguments:
    """Arguments of value iteration with gamma = 0.5."""
    tables = {"reward": matrix(*reward), "next_state": torch.tensor(next_state), "terminal": flags(*terminal)}
    return {**tables, "discount": 0.5}


def sample_environment(generator: Random, size: int) -> Arguments:
    """Random environment with two actions."""
    states = size + 1
    next_state = [[generator.randrange(states) for _ in range(2)] for _ in range(states)]
    tables = {"reward": integers(generator, states, 2), "next_state": torch.tensor(next_state)}
    return {**tables, "terminal": sample_flags(generator, states), "discount": 0.5}


def swept(
    sweeps: int, *, ends: bool = True, best: Callable[[Tensor], Tensor] = lambda q: q.max(1).values
) -> Callable[..., Tensor]:
    """Make a wrong function with a fixed number of sweeps."""

    def wrong(reward: Tensor, next_state: Tensor, terminal: Tensor, discount: float) -> Tensor:
        q = torch.zeros_like(reward)
        for _ in range(sweeps):
            q = reward + discount * (best(q) * ~(terminal & ends))[next_state]
        return q

    return wrong


VALUE_ITERATION = Exercise(
    file="ex4_value_iteration",
    function="value_iteration",
    reference=q_by_equations,
    cases=(
        Case(environment([[1]], [[0]], [1]), "the only state is terminal: the return is the reward"),
        Case(environment([[1], [0]], [[1], [1]], [0, 1]), "one step to a terminal state"),
        Case(environment([[0], [1], [0]], [[1], [2], [2]], [0, 0, 1]), "two steps: the reward is discounted once"),
        Case(environment([[1]], [[0]], [0]), "a reward of 1 in every step forever: 1 / (1 - gamma) = 2"),
        Case(environment([[0, 1], [4, 0]], [[1, 0], [0, 1]], [0, 0]), "a later reward of 4 is better than 1 now"),
        Case(
            environment([[1], [7]], [[1], [1]], [0, 1]), "the reward of the terminal state's own action does not count"
        ),
    ),
    sample=sample_environment,
    hint=(
        "The value of a state is the largest Q-value of its row, or 0 if the state is terminal. Indexing these values "
        "with next_state gives the values of all next states, of shape (S, A)."
    ),
    mistakes={
        "one application moves a reward back by one step only: repeat until nothing changes": swept(1),
        "no rewards follow a terminal state: its value is 0": swept(60, ends=False),
        "the best next action counts, not the mean of all": swept(60, best=lambda q: q.mean(1)),
    },
)

# 5: n-step return


def n_step_by_sums(reward: Tensor, terminated: Tensor, truncated: Tensor, discount: float) -> tuple[float, float]:
    """Expected return and factor from closed formulas."""
    ends = (terminated | truncated).nonzero().flatten().tolist()
    k = ends[0] + 1 if ends else len(reward)
    total = sum(discount**i * r for i, r in enumerate(reward.tolist()[:k]))
    return float(total), 0.0 if bool(terminated[k - 1]) else discount**k


def steps(reward: list[float], terminated: list[int], truncated: list[int] | None = None) -> Arguments:
    """Arguments of a return with gamma = 0.5."""
    ends = {"terminated": flags(*terminated), "truncated": flags(*(truncated or [0] * len(reward)))}
    return {"reward": vector(*reward), **ends, "discount": 0.5}


def sample_steps(generator: Random, size: int) -> Arguments:
    """Random transitions; a step is not both terminated and truncated."""
    terminated = sample_flags(generator, size, 0.2)
    truncated = sample_flags(generator, size, 0.2) & ~terminated
    return {"reward": integers(generator, size), "terminated": terminated, "truncated": truncated, "discount": 0.5}


def discounted_sum(reward: Tensor, discount: float) -> float:
    """Sum of all discounted rewards, also those of the next episode."""
    return float(sum(discount**i * r for i, r in enumerate(reward.tolist())))


N_STEP_RETURN = Exercise(
    file="ex5_n_step_return",
    function="n_step_return",
    reference=n_step_by_sums,
    results=("R", "f"),
    cases=(
        Case(steps([1], [0]), "one step"),
        Case(steps([0, 4], [0, 0]), "the second reward is discounted once"),
        Case(steps([1], [1]), "s_1 is terminal: f = 0"),
        Case(steps([1], [0], [1]), "a time limit: f = gamma"),
        Case(steps([1, 4], [1, 0]), "the second transition belongs to the next episode"),
        Case(steps([1, 4], [0, 0], [1, 0]), "after a time limit the next episode begins, too: k = 1"),
    ),
    sample=sample_steps,
    hint=(
        "Go through the transitions with two variables: the sum so far, and the discount of the next reward. Return "
        "early if a flag is set."
    ),
    mistakes={
        "the rewards after the end belong to the next episode": (
            lambda reward, terminated, truncated, discount: (
                discounted_sum(reward, discount),
                n_step_by_sums(reward, terminated, truncated, discount)[1],
            )
        ),
        "at a time limit f remains gamma^k: rewards could follow": lambda reward, terminated, truncated, discount: (
            n_step_by_sums(reward, terminated | truncated, truncated, discount)
        ),
        "f is gamma^k with the number k of rewards in the sum": lambda reward, terminated, truncated, discount: (
            n_step_by_sums(reward, terminated, truncated, discount)[0],
            0.0 if n_step_by_sums(reward, terminated, truncated, discount)[1] == 0 else discount ** len(reward),
        ),
        "an episode ends at a time limit as well": lambda reward, terminated, truncated, discount: n_step_by_sums(
            reward, terminated, torch.zeros_like(truncated), discount
        ),
    },
)

# 6: prioritised replay


def priorities_by_logarithms(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
    """Expected probabilities and weights: powers as softmax of logarithms; the smallest P has the weight 1."""
    log_p = torch.log_softmax(alpha * delta.abs().log(), 0)
    return log_p.exp(), (beta * (log_p.min() - log_p)).exp()


def wrong_priorities(
    *, absolute: bool = True, power: bool = True, sign: int = -1, normalised: bool = True
) -> Callable[..., tuple[Tensor, Tensor]]:
    """Make a wrong function."""

    def wrong(delta: Tensor, alpha: float, beta: float) -> tuple[Tensor, Tensor]:
        p = (delta.abs() if absolute else delta) ** (alpha if power else 1)
        p = p / p.sum()
        w = (len(delta) * p) ** (sign * beta)
        return p, w / w.max() if normalised else w

    return wrong


PRIORITISED_REPLAY = Exercise(
    file="ex6_prioritised_replay",
    function="prioritise",
    reference=priorities_by_logarithms,
    results=("P", "w"),
    cases=(
        Case({"delta": vector(1, 1), "alpha": 1.0, "beta": 1.0}, "equal errors: uniform sampling, all weights 1"),
        Case({"delta": vector(1, 3), "alpha": 1.0, "beta": 0.0}, "with beta = 0 nothing is corrected"),
        Case({"delta": vector(1, -3), "alpha": 1.0, "beta": 0.0}, "the sign of an error does not matter"),
        Case({"delta": vector(1, 3), "alpha": 1.0, "beta": 1.0}, "sampled three times as often, weighted by a third"),
        Case({"delta": vector(1, 4), "alpha": 0.5, "beta": 1.0}, "alpha = 0.5: the roots of the errors"),
        Case({"delta": vector(1, 4), "alpha": 0.0, "beta": 1.0}, "alpha = 0: uniform sampling"),
    ),
    sample=lambda generator, size: {
        "delta": integers(generator, size + 1, low=1, high=4),
        "alpha": generator.choice([0.0, 0.5, 1.0]),
        "beta": generator.choice([0.0, 0.5, 1.0]),
    },
    hint="The largest weight belongs to the smallest probability. Both results can be written without a loop.",
    mistakes={
        "the weights are divided by the largest one": wrong_priorities(normalised=False),
        "frequent transitions need small weights: the exponent is -beta": wrong_priorities(sign=1),
        "the magnitudes of the errors are raised to the power alpha": wrong_priorities(power=False),
        "the sign of an error does not matter: use its magnitude": wrong_priorities(absolute=False),
    },
)

# 7: advantages


def advantages_by_sums(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    discount: float,
    lam: float,
) -> Tensor:
    """Expected advantages as sums of discounted TD errors up to the end of the episode."""
    result = []
    for start in range(len(reward)):
        total, factor = 0.0, 1.0
        for t in range(start, len(reward)):
            bootstrap = 0.0 if terminated[t] else discount * float(next_value[t])
            total += factor * (float(reward[t]) + bootstrap - float(value[t]))
            factor *= discount * lam
            if terminated[t] or truncated[t]:
                break
        result.append(total)
    return vector(*result)


def rollout(
    reward: list[float],
    value: list[float],
    next_value: list[float],
    *,
    terminated: list[int] | None = None,
    truncated: list[int] | None = None,
    lam: float = 0.5,
) -> Arguments:
    """Arguments of the estimate with gamma = 0.5."""
    numbers = {"reward": vector(*reward), "value": vector(*value), "next_value": vector(*next_value)}
    never = [0] * len(reward)
    ends = {"terminated": flags(*(terminated or never)), "truncated": flags(*(truncated or never))}
    return {**numbers, **ends, "discount": 0.5, "lam": lam}


def sample_rollout(generator: Random, size: int) -> Arguments:
    """Random rollout."""
    numbers = {name: integers(generator, size) for name in ("reward", "value", "next_value")}
    terminated = sample_flags(generator, size)
    ends = {"terminated": terminated, "truncated": sample_flags(generator, size) & ~terminated}
    return {**numbers, **ends, "discount": 0.5, "lam": generator.choice([0.0, 0.5, 1.0])}


def wrong_advantages(*, bootstrap: str = "terminated", chain: str = "both", use_lambda: bool = True) -> Callable:
    """Make a wrong function: which flags end the bootstrap and the chain of TD errors."""

    def wrong(
        reward: Tensor,
        value: Tensor,
        next_value: Tensor,
        terminated: Tensor,
        truncated: Tensor,
        discount: float,
        lam: float,
    ) -> Tensor:
        sets = {"terminated": terminated, "both": terminated | truncated, "none": torch.zeros_like(terminated)}
        delta = reward + discount * next_value * ~sets[bootstrap] - value
        result, following = torch.zeros_like(delta), torch.zeros_like(delta[0])
        for t in reversed(range(len(delta))):
            following = delta[t] + discount * (lam if use_lambda else 1) * ~sets[chain][t] * following
            result[t] = following
        return result

    return wrong


ADVANTAGES = Exercise(
    file="ex7_advantages",
    function="advantages",
    reference=advantages_by_sums,
    cases=(
        Case(rollout([1], [0], [0]), "one step: the TD error"),
        Case(rollout([1], [2], [4]), "delta = 1 + 0.5 * 4 - 2"),
        Case(rollout([0, 4], [0, 0], [0, 0]), "the second TD error is discounted by gamma lambda = 0.25"),
        Case(rollout([1], [0], [4], terminated=[1]), "s_1 is terminal: V is left out"),
        Case(rollout([1], [0], [4], truncated=[1]), "a time limit: V estimates the rewards that could follow"),
        Case(rollout([0, 4], [0, 0], [0, 0], terminated=[1, 0]), "the second step belongs to another episode"),
        Case(rollout([0, 4], [0, 0], [0, 0], truncated=[1, 0]), "after a time limit another episode begins as well"),
        Case(rollout([0, 4], [0, 0], [0, 0], lam=0.0), "lambda = 0: one-step TD errors"),
    ),
    sample=sample_rollout,
    hint=(
        "First compute all TD errors at once. Then go from the last step to the first, and keep A of the following "
        "step in a variable."
    ),
    mistakes={
        "V of a terminal state is left out": wrong_advantages(bootstrap="none"),
        "at a time limit V is kept: it estimates the rewards that could follow": wrong_advantages(bootstrap="both"),
        "after the end of an episode another one begins: leave out A_(t+1)": wrong_advantages(chain="none"),
        "another episode begins after a time limit, too: leave out A_(t+1)": wrong_advantages(chain="terminated"),
        "lambda is missing": wrong_advantages(use_lambda=False),
    },
)

# 8: policy gradient


def actor_gradient(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """Gradient of the loss by autograd."""
    z = z.clone().requires_grad_()
    policy = torch.distributions.Categorical(logits=z)
    loss = -advantage * policy.log_prob(torch.tensor(action)) - h * policy.entropy()
    (gradient,) = torch.autograd.grad(loss, z)
    return gradient


def entropy_without_mean(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """Typical mistake: the derivative of the entropy without that of the softmax."""
    log_p = torch.log_softmax(z, 0)
    return actor_gradient(z, action, advantage, 0.0) + h * log_p.exp() * (log_p + 1)


def actor_arguments(z: list[float], action: int, advantage: float = 1.0, h: float = 0.0) -> Arguments:
    """Arguments of the gradient."""
    return {"z": vector(*z), "action": action, "advantage": advantage, "h": h}


POLICY_GRADIENT = Exercise(
    file="ex8_policy_gradient",
    function="policy_gradient",
    reference=actor_gradient,
    cases=(
        Case(actor_arguments([0, 0], 0), "a good action: its logit grows, so the gradient is negative there"),
        Case(actor_arguments([0, 0], 1, advantage=-2.0), "a bad action: its logit falls"),
        Case(actor_arguments([0, 0], 0, advantage=0.0, h=1.0), "the entropy is largest for equal logits: no gradient"),
        Case(actor_arguments([1, 0], 0, advantage=0.0, h=1.0), "the entropy bonus makes the logits more equal"),
        Case(actor_arguments([1, 0, -1], 2, advantage=1.0, h=0.5), "both terms"),
        Case(actor_arguments([1000, 0], 0), "e^1000 overflows: use log_softmax"),
    ),
    sample=lambda generator, size: {
        "z": integers(generator, size + 1),
        "action": generator.randrange(size + 1),
        "advantage": float(generator.randint(-2, 2)),
        "h": generator.choice([0.0, 0.5, 1.0]),
    },
    hint=(
        "d log p_a / dz = y - p with one-hot y. For the entropy, first differentiate with respect to p, then apply the "
        "rule of the softmax: p (g - sum_k p_k g_k)."
    ),
    mistakes={
        "the sign is wrong: the loss must fall if the probability of a good action grows": (
            lambda z, action, advantage, h: -actor_gradient(z, action, advantage, -h)
        ),
        "the entropy bonus is subtracted from the loss: its gradient has the other sign": (
            lambda z, action, advantage, h: actor_gradient(z, action, advantage, -h)
        ),
        "the gradient of the entropy is missing": lambda z, action, advantage, h: (  # noqa: ARG005
            actor_gradient(z, action, advantage, 0.0)
        ),
        "dH/dp must be multiplied by the Jacobian of the softmax": entropy_without_mean,
    },
)

EXERCISES = (
    *(TD_TARGET, DOUBLE_Q_LEARNING, EPSILON_GREEDY, VALUE_ITERATION, N_STEP_RETURN, PRIORITISED_REPLAY),
    *(ADVANTAGES, POLICY_GRADIENT),
)
"""Exercises of the chapter in order."""
