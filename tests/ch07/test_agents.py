"""Agents for any environment: environments, advantages, losses by hand, learning, resume, bad input."""

import itertools
import json
import math
from dataclasses import replace
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from ch07_dqn import play
from ch07_dqn.agents import actor_critic, dqn, evaluation, learning_bands, peers, ppo, reinforce, rendering
from ch07_dqn.agents.advantages import generalised_advantages
from ch07_dqn.agents.evaluation import episode_returns, final_test, greedy
from ch07_dqn.agents.vector_environment import Task, VectorEnvironment, task_of
from common import cli
from common.config import RunOptions
from conftest import train_until

PROGRAMS = [reinforce, actor_critic, ppo, dqn]
cpu = torch.device("cpu")


class Count(gymnasium.Env):
    """Observes the number of steps of the episode; the state after `end` steps is terminal. Reward: the action."""

    def __init__(self, end: int = 1_000, render_mode=None) -> None:
        self.observation_space, self.action_space = Box(0, 1_000, (1,)), Discrete(2)
        self.metadata = {"render_modes": ["rgb_array"]}
        self.end, self.steps, self.render_mode = end, 0, render_mode

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.steps += 1
        return np.full(1, self.steps, dtype=np.float32), float(action), self.steps == self.end, False, {}

    def render(self):
        raise gymnasium.error.DependencyNotInstalled("pygame is not installed")


class Match(gymnasium.Env):
    """Shows one of three states at random; the reward is 1 if the action has the number of the state."""

    def __init__(self) -> None:
        self.observation_space, self.action_space = Discrete(3, start=5), Discrete(3, start=1)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = int(self.np_random.integers(3))
        return self.state + 5, {}

    def step(self, action):
        reward = float(action - 1 == self.state)
        self.state = int(self.np_random.integers(3))
        return self.state + 5, reward, False, False, {}


class Pixels(Count):
    """Observes an image."""

    def __init__(self) -> None:
        super().__init__()
        self.observation_space = Box(0, 255, (8, 8, 3), np.uint8)


@pytest.fixture(autouse=True, scope="module")
def _environments():
    """Register the environments of these tests."""
    gymnasium.register("Count-v0", entry_point=lambda **named: Count(**named), max_episode_steps=3)
    gymnasium.register("CountToTwo-v0", entry_point=lambda **named: Count(2, **named), max_episode_steps=3)
    gymnasium.register("Match-v0", entry_point=lambda **named: Match(**named), max_episode_steps=6)
    gymnasium.register("Pixels-v0", entry_point=lambda **named: Pixels(**named), max_episode_steps=3)
    gymnasium.register("Endless-v0", entry_point=lambda **named: Count(**named))
    yield
    for name in ("Count-v0", "CountToTwo-v0", "Match-v0", "Pixels-v0", "Endless-v0"):
        del gymnasium.registry[name]


@pytest.fixture(autouse=True)
def _few_episodes(monkeypatch):
    """Evaluate with few episodes."""
    monkeypatch.setattr(evaluation, "VALID_EPISODES", 2)
    monkeypatch.setattr(evaluation, "TEST_EPISODES", 4)


@pytest.fixture
def no_figures(monkeypatch):
    """Skip the figures."""
    for program in PROGRAMS:
        monkeypatch.setattr(program, "report", lambda *_: None)


def small(program, options, **settings) -> Any:
    """Return settings of a program for a training of less than a second."""
    sizes = {"environments": 4, "epochs": 3, "hidden_size": 8, "run": replace(options, precision="fp32", threads=1)}
    if program is reinforce:
        sizes |= {"steps": 2}
    else:
        sizes |= {"environment_steps": 300}
    if program is ppo:
        sizes |= {"rollout": 8, "passes": 2}
    if program is dqn:
        sizes |= {"warm_up": 40, "batch_size": 16, "gradient_steps": 1, "target_every": 5, "buffer_size": 200}
    return program.Config(**{**sizes, **settings})


# Environments.


def test_the_next_observation_at_a_time_limit_is_that_of_the_old_episode():
    environment = VectorEnvironment("Count-v0", 2)
    assert environment.observation.tolist() == [[0], [0]]
    actions = torch.tensor([0, 1])
    steps = [environment.step(actions) for _ in range(3)]
    assert [step.next_observation.flatten().tolist() for step in steps] == [[1, 1], [2, 2], [3, 3]]
    assert [step.truncated.tolist() for step in steps] == [[False] * 2, [False] * 2, [True] * 2]
    assert not any(step.terminated.any() for step in steps)
    assert [step.reward.tolist() for step in steps] == [[0, 1]] * 3
    assert environment.observation.tolist() == [[0], [0]], "the next actions are chosen in a new episode"
    assert environment.step(actions).next_observation.tolist() == [[1], [1]]
    assert environment.statistics() == {"episode_return": 1.5, "episode_steps": 3, "environment_steps": 8}


def test_a_terminal_state_is_not_a_time_limit():
    environment = VectorEnvironment("CountToTwo-v0", 1)
    environment.step(torch.tensor([1]))
    step = environment.step(torch.tensor([1]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True], [False])
    assert step.next_observation.tolist() == [[2]]
    assert environment.observation.tolist() == [[0]]
    at_both = VectorEnvironment("CountToTwo-v0", 1, time_limit=2)
    at_both.step(torch.tensor([1]))
    step = at_both.step(torch.tensor([1]))
    assert (step.terminated.tolist(), step.truncated.tolist()) == ([True], [False]), "terminal at the time limit"


def test_discrete_observations_are_one_hot_and_actions_start_at_zero():
    environment = VectorEnvironment("Match-v0", 4)
    assert environment.observation.shape == (4, 3) and environment.observation.sum(1).tolist() == [1] * 4
    assert environment.step(environment.observation.argmax(1)).reward.tolist() == [1] * 4
    assert environment.step((environment.observation.argmax(1) + 1) % 3).reward.tolist() == [0] * 4


def test_episodes_differ_between_environments_seeds_and_splits():
    starts = {
        tuple(VectorEnvironment("CartPole-v1", 2, seed=seed, split=split).observation[number].tolist())
        for seed in (0, 1, 2, 2**63 - 1)
        for split in ("train", "valid", "test")
        for number in (0, 1)
    }
    assert len(starts) == 24
    one, two = (VectorEnvironment("CartPole-v1", 2, seed=3).observation for _ in range(2))
    assert one.equal(two)
    environment = VectorEnvironment("CartPole-v1", 1)
    first = environment.observation
    environment.restart()
    assert not environment.observation.equal(first)
    assert environment.statistics()["episode_steps"] == 0, "an interrupted episode is not counted"


def test_statistics_are_those_of_the_latest_100_episodes():
    environment = VectorEnvironment("Count-v0", 1)
    for episode in range(103):
        for _ in range(3):
            environment.step(torch.tensor([int(episode >= 98)]))
    assert environment.statistics() == {"episode_return": 0.15, "episode_steps": 3, "environment_steps": 309}


@pytest.mark.parametrize("name", ["CartPole-v1", "Match-v0", "Maze-v0"])
def test_a_restored_environment_continues_exactly(name):
    generator = torch.Generator().manual_seed(0)
    environment = VectorEnvironment(name, 3, seed=4)
    for _ in range(50):
        environment.step(torch.randint(2, (3,), generator=generator))
    restored = VectorEnvironment(name, 3, seed=4)
    restored.step(torch.zeros(3, dtype=torch.long))
    restored.load_state_dict(json.loads(json.dumps(environment.state_dict())))
    assert restored.observation.equal(environment.observation)
    for _ in range(80):
        actions = torch.randint(2, (3,), generator=generator)
        for one, two in zip(environment.step(actions), restored.step(actions), strict=True):
            assert one.equal(two)
        assert restored.observation.equal(environment.observation)
        assert restored.statistics() == environment.statistics()
    with pytest.raises(ValueError, match="wrong number of environments, got 3"):
        VectorEnvironment(name, 2).load_state_dict(environment.state_dict())


def test_returns_of_an_evaluation_are_those_of_one_episode_per_environment():
    settings = ppo.Config(environment="Count-v0")
    always = torch.ones(4, dtype=torch.long)
    assert episode_returns(lambda _: always, settings, "test", 4).tolist() == [3] * 4
    first_two = torch.tensor([1, 1, 0, 0])
    assert final_test(lambda seen: first_two[: len(seen)], settings, cpu) == {
        "return": 1.5,
        "return_sd": 1.5,
        "return_min": 0,
    }
    cart = ppo.Config()
    fixed = torch.tensor([0, 1, 1, 0])
    returns = episode_returns(lambda _: fixed, cart, "valid", 4)
    assert returns.min() < returns.max(), "an episode that has ended receives no more rewards"
    found = [float(episode_returns(lambda _: fixed, cart, split, 4).mean()) for split in ("valid", "test")]
    assert found[0] != found[1] and final_test(lambda _: fixed, cart, cpu)["return"] == found[1]
    assert greedy(nn.Identity())(torch.tensor([[1.0, 2.0], [4.0, 3.0]])).tolist() == [1, 0]


# Advantages.


def column(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype).unsqueeze(1)


def test_advantages_by_hand_with_a_time_limit_in_the_middle():
    """g = 0.5, l = 0.5. d = 1 + 2 - 2 = 1, 2 + 3 - 4 = 1 (time limit), 3 + 4 - 0 = 7, 5 - 8 = -3 (terminal).

    A[3] = -3, A[2] = 7 + 0.25 * -3 = 6.25, A[1] = 1 (the next step is in another episode), A[0] = 1 + 0.25 * 1 = 1.25.
    """
    found = generalised_advantages(
        column(1, 2, 3, 5), column(2, 4, 0, 8), column(4, 6, 8, 100),
        column(0, 0, 0, 1, dtype=torch.bool), column(0, 1, 0, 0, dtype=torch.bool), discount=0.5, gae_lambda=0.5,
    )  # fmt: skip
    assert found.flatten().tolist() == [1.25, 1, 6.25, -3]


def test_a_time_limit_bootstraps_and_a_terminal_state_does_not():
    def advantage(terminated, truncated):
        ends = column(terminated, dtype=torch.bool), column(truncated, dtype=torch.bool)
        return float(generalised_advantages(column(1), column(0), column(10), *ends, discount=0.9, gae_lambda=1))

    assert [advantage(0, 0), advantage(0, 1), advantage(1, 0)] == [10, 10, 1]


def test_with_lambda_1_the_advantage_is_the_return_minus_the_value():
    torch.manual_seed(0)
    reward, value, following = (torch.randn(6, 3, dtype=torch.float64) for _ in range(3))
    following[:-1] = value[1:]
    never = torch.zeros(6, 3, dtype=torch.bool)
    found = generalised_advantages(reward, value, following, never, never, discount=0.9, gae_lambda=1)
    factors = 0.9 ** torch.arange(7, dtype=torch.float64)
    for t in range(6):
        rest = torch.cat([reward[t:], following[-1:]])
        torch.testing.assert_close(found[t], (rest * factors[: len(rest), None]).sum(0) - value[t])


# REINFORCE.


def test_returns_to_go_by_hand():
    """g = 0.5: 1 + 0.5 (2 + 0.5 * 4) = 3; the other episode ends after two steps, at a time limit with the value 6."""
    reward = torch.tensor([[1.0, 1.0], [2.0, 2.0], [4.0, 9.0]])
    valid = torch.tensor([[True, True], [True, True], [True, False]])
    following = torch.tensor([[9.0, 9.0], [9.0, 6.0], [0.0, 9.0]])
    found = reinforce.returns_to_go(reward, following, valid, 0.5)
    assert found.tolist() == [[3, 3.5], [4, 5], [4, 0]]


@pytest.mark.parametrize("baseline", [0.0, 3.0])
def test_the_expected_gradient_is_the_gradient_of_the_expected_return(baseline):
    """Two states, two actions, three steps: all trajectories are enumerated. A baseline leaves the expectation."""
    torch.manual_seed(0)
    logits = torch.randn(2, 2, dtype=torch.float64, requires_grad=True)
    moves = torch.rand(2, 2, dtype=torch.float64)  # probability of state 1 after action a in state s
    rewards = torch.randn(2, 2, dtype=torch.float64)
    policy = logits.log_softmax(1)
    expected_return, expected_loss = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
    for states in itertools.product(range(2), repeat=2):
        for actions in itertools.product(range(2), repeat=3):
            visited = (0, *states)
            steps = list(zip(visited, actions, strict=True))
            log_prob = torch.stack([policy[s, a] for s, a in steps]).unsqueeze(1)
            reward = torch.stack([rewards[s, a] for s, a in steps]).unsqueeze(1)
            dynamics = math.prod(
                float(moves[s, a] if after else 1 - moves[s, a]) for (s, a), after in zip(steps, states, strict=False)
            )
            probability = log_prob.sum().exp() * dynamics
            valid = torch.ones(3, 1, dtype=torch.bool)
            returns = reinforce.returns_to_go(reward, torch.zeros_like(reward), valid, 1.0)
            weight = returns - baseline * torch.tensor([[1.0 + state] for state in visited])
            expected_return = expected_return + probability * reward.sum()
            expected_loss = expected_loss + probability.detach() * reinforce.policy_loss(log_prob, weight, valid)
    (exact,) = torch.autograd.grad(expected_return, logits, retain_graph=True)
    (found,) = torch.autograd.grad(-expected_loss, logits)
    torch.testing.assert_close(found, exact, rtol=1e-12, atol=1e-12)


def test_the_loss_is_a_mean_over_episodes_without_the_padding():
    log_prob, weight = torch.tensor([[-1.0, -2.0], [-3.0, -4.0]]), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    valid = torch.tensor([[True, True], [True, False]])
    assert float(reinforce.policy_loss(log_prob, weight, valid)) == (1 + 4 + 9) / 2


def test_episodes_are_whole_and_padded():
    model = reinforce.PolicyNetwork(task_of("CountToTwo-v0"), reinforce.Config(environment="CountToTwo-v0"))
    environment = VectorEnvironment("Count-v0", 2)
    environment.step(torch.zeros(2, dtype=torch.long))
    episodes = reinforce.play_episodes(model, environment)
    assert episodes.observation[:, 0].flatten().tolist() == [0, 1, 2] and episodes.valid.all()
    assert episodes.truncated.tolist() == [[False] * 2] * 2 + [[True] * 2]
    torch.manual_seed(1)
    cart = VectorEnvironment("CartPole-v1", 3)
    episodes = reinforce.play_episodes(reinforce.PolicyNetwork(cart.task, reinforce.Config()), cart)
    lengths = episodes.valid.sum(0)
    assert lengths.max() == len(episodes.valid) and lengths.min() < lengths.max()
    assert cart.statistics() == {
        "episode_return": pytest.approx(float(lengths.float().mean())),
        "episode_steps": pytest.approx(float(lengths.float().mean())),
        "environment_steps": int(lengths.sum()),
    }


@pytest.mark.parametrize("baseline", [False, True])
def test_a_step_of_reinforce_equals_its_definition(baseline):
    torch.manual_seed(0)
    task, config = Task("", 2, 3, 9, ""), reinforce.Config(baseline=baseline, discount=0.9, hidden_size=4)
    model = reinforce.PolicyNetwork(task, config).double()
    observation = torch.randn(5, 2, 2, dtype=torch.float64)
    episodes = reinforce.Episodes(
        observation[:4], torch.randint(3, (4, 2)), torch.randn(4, 2, dtype=torch.float64), observation[1:],
        torch.tensor([[False, False]] * 3 + [[True, False]]), torch.tensor([[True, True]] * 2 + [[True, False]] * 2),
    )  # fmt: skip
    twin = reinforce.PolicyNetwork(task, config).double()
    twin.load_state_dict(model.state_dict())
    reinforce.train_step(model, torch.optim.SGD(model.parameters(), 0.1), episodes, config)
    policy_loss, errors = torch.zeros((), dtype=torch.float64), []
    for number, length in enumerate((4, 2)):
        for t in range(length):
            rewards = episodes.reward[t:length, number]
            target = sum(0.9**k * reward for k, reward in enumerate(rewards))
            if baseline and number == 0:
                target = target + 0.9 ** len(rewards) * twin.values(observation[4, 0]).detach()
            value = twin.values(observation[t, number])
            errors.append((target - value) ** 2)
            chosen = torch.distributions.Categorical(logits=twin(observation[t, number]))
            advantage = target - value.detach() if baseline else target
            policy_loss = policy_loss - chosen.log_prob(episodes.action[t, number]) * advantage / 2
    loss = policy_loss + torch.stack(errors).mean() if baseline else policy_loss
    optimizer = torch.optim.SGD(twin.parameters(), 0.1)
    loss.backward()
    optimizer.step()
    for one, two in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(one, two)


# The actor-critic.


def test_the_loss_of_the_actor_critic_equals_its_definition():
    torch.manual_seed(0)
    task, config = Task("", 2, 3, 9, ""), actor_critic.Config(entropy_weight=0.07, critic_weight=0.3, hidden_size=4)
    model = actor_critic.ActorCritic(task, config).double()
    rollout = actor_critic.Rollout(
        torch.randn(4, 2, 2).double(), torch.randint(3, (4, 2)), torch.randn(4, 2, 2).double(),
        torch.randn(4, 2).double(), torch.rand(4, 2) < 0.3, torch.rand(4, 2) < 0.3,
    )  # fmt: skip
    value, following = model.values(rollout.observation), model.values(rollout.next_observation)
    advantage = generalised_advantages(
        rollout.reward, value, following, rollout.terminated, rollout.truncated, discount=0.98, gae_lambda=0.95
    ).detach()  # fmt: skip
    policy = torch.distributions.Categorical(logits=model(rollout.observation))
    critic_loss = (value.detach() + advantage - value).square().mean()
    expected = (
        -(policy.log_prob(rollout.action) * advantage).mean() + 0.3 * critic_loss - 0.07 * policy.entropy().mean()
    )
    config = replace(config, discount=0.98, gae_lambda=0.95)
    found = actor_critic.losses(model, rollout, config)
    torch.testing.assert_close(found.loss, expected)
    torch.testing.assert_close(found.entropy, policy.entropy().mean())
    for one, two in zip(
        torch.autograd.grad(found.loss, list(model.parameters())),
        torch.autograd.grad(expected, list(model.parameters())),
        strict=True,
    ):
        torch.testing.assert_close(one, two)


# PPO.


def test_the_clipped_objective_by_hand():
    """A = 2 and A = -2, c = 0.2, ratios below, inside and above [0.8, 1.2]; the gradient is A or, if clipped, 0."""
    ratio = torch.tensor([0.5, 1.1, 1.5, 0.5, 1.1, 1.5], requires_grad=True)
    advantage = torch.tensor([2.0, 2.0, 2.0, -2.0, -2.0, -2.0])
    objective = ppo.clipped_objective(ratio, advantage, 0.2)
    torch.testing.assert_close(objective, torch.tensor([1.0, 2.2, 2.4, -1.6, -2.2, -3.0]))
    objective.sum().backward()
    assert ratio.grad is not None and ratio.grad.tolist() == [2, 2, 0, 0, -2, -2]


def test_the_clipped_value_loss_by_hand():
    """Old value 1, c = 0.5. Target 4: value 3 counts as 1.5, error 2.5 instead of 1. Target 0: value 3 has error 3."""
    value = torch.tensor([3.0, 1.2, 3.0], requires_grad=True)
    loss = ppo.clipped_value_loss(value, torch.ones(3), torch.tensor([4.0, 4.0, 0.0]), 0.5)
    torch.testing.assert_close(loss, torch.tensor([2.5**2, 2.8**2, 3.0**2]))
    loss.sum().backward()
    assert value.grad is not None
    torch.testing.assert_close(value.grad, torch.tensor([0.0, -5.6, 6.0]))


def some_batch(model, size=12):
    """Return a batch of an older policy, for which some ratios are outside the clip range."""
    torch.manual_seed(3)
    observation, action = torch.randn(size, 2).double(), torch.randint(3, (size,))
    log_prob = model(observation).log_softmax(1).gather(1, action[:, None]).squeeze(1).detach()
    value = model.values(observation).detach()
    return ppo.Batch(
        observation, action, log_prob + 0.3 * torch.randn(size).double(), value + torch.randn(size).double(),
        torch.randn(size).double(), torch.randn(size).double(),
    )  # fmt: skip


def small_ppo(**settings):
    config = ppo.Config(**{"hidden_size": 4, "critic_weight": 0.3, "entropy_weight": 0.07, **settings})
    torch.manual_seed(0)
    return config, ppo.ActorCritic(Task("", 2, 3, 9, ""), config).double()


@pytest.mark.parametrize("clip_objective", [True, False])
@pytest.mark.parametrize("clip_values", [True, False])
@pytest.mark.parametrize("normalise_advantages", [True, False])
def test_the_losses_of_ppo_equal_their_definition(clip_objective, clip_values, normalise_advantages):
    config, model = small_ppo(
        clip_objective=clip_objective, clip_values=clip_values, normalise_advantages=normalise_advantages
    )
    batch = some_batch(model)
    policy = torch.distributions.Categorical(logits=model(batch.observation))
    ratios = (policy.log_prob(batch.action) - batch.log_prob).exp().tolist()
    assert any(ratio > 1.2 for ratio in ratios) and any(ratio < 0.8 for ratio in ratios)
    advantages = batch.advantage
    if normalise_advantages:
        advantages = (advantages - advantages.mean()) / advantages.std()
    objective, error = [], []
    values = model.values(batch.observation)
    for p, a, v, old, target in zip(
        ratios, advantages.tolist(), values.tolist(), batch.value.tolist(), batch.value_target.tolist(), strict=True
    ):
        clipped = min(p * a, min(max(p, 0.8), 1.2) * a)
        objective.append(clipped if clip_objective else p * a)
        limited = old + min(max(v - old, -0.2), 0.2)
        error.append(max((v - target) ** 2, (limited - target) ** 2) if clip_values else (v - target) ** 2)
    found = ppo.Losses(*(part.detach() for part in ppo.losses(model, batch, config, 0.2)))
    mean = lambda numbers: sum(numbers) / len(numbers)  # noqa: E731
    assert float(found.policy_loss) == pytest.approx(-mean(objective), rel=1e-6)
    assert float(found.critic_loss) == pytest.approx(mean(error))
    assert float(found.entropy) == pytest.approx(float(policy.entropy().mean().detach()))
    assert float(found.approximate_kl) == pytest.approx(mean([p - 1 - math.log(p) for p in ratios]))
    assert float(found.clip_fraction) == pytest.approx(mean([abs(p - 1) > 0.2 for p in ratios]))
    whole = float(found.policy_loss + 0.3 * found.critic_loss - 0.07 * found.entropy)
    assert float(found.loss) == pytest.approx(whole)


def test_a_new_batch_has_ratio_1():
    config, model = small_ppo(environment="CartPole-v1")
    model = ppo.ActorCritic(task_of("CartPole-v1"), config)
    rollout = ppo.roll_out(model, VectorEnvironment("CartPole-v1", 4), 40)
    assert rollout.observation.shape == (40, 4, 4)
    ended = rollout.terminated | rollout.truncated
    assert ended.any()
    assert (rollout.next_observation[:-1] != rollout.observation[1:]).any(2).equal(ended[:-1])
    batch = ppo.batch_of(model, rollout, discount=0.9, gae_lambda=0.8)
    found = ppo.losses(model, batch, config, 0.2)
    assert float(found.approximate_kl) == pytest.approx(0, abs=1e-6) and float(found.clip_fraction) == 0
    value, following = model.values(rollout.observation), model.values(rollout.next_observation)
    expected = generalised_advantages(
        rollout.reward, value, following, rollout.terminated, rollout.truncated, discount=0.9, gae_lambda=0.8
    )
    torch.testing.assert_close(batch.advantage, expected.flatten())
    torch.testing.assert_close(batch.value_target, (value + expected).flatten())


def test_actions_follow_the_policy():
    """The frequencies of 4,000 actions are the probabilities, and log_prob is that of the action."""
    model = ppo.ActorCritic(task_of("CartPole-v1"), ppo.Config())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.policy.bias.copy_(torch.tensor([0.8, 0.2]).log())
    torch.manual_seed(0)
    rollout = ppo.roll_out(model, VectorEnvironment("CartPole-v1", 40), 100)
    assert float(rollout.action.float().mean()) == pytest.approx(0.2, abs=0.03)
    torch.testing.assert_close(rollout.log_prob, torch.tensor([0.8, 0.2]).log()[rollout.action])


def gradient_norm_of(model, before):
    """Return the norm of the change of a model's weights."""
    changes = [new.detach() - old for new, old in zip(model.parameters(), before, strict=True)]
    return math.sqrt(sum(float(change.square().sum()) for change in changes))


def test_the_gradient_norm_is_limited():
    for limit, check in ((0.01, lambda norm: norm == pytest.approx(0.01, rel=1e-3)), (0.0, lambda norm: norm > 0.1)):
        config, model = small_ppo(gradient_norm=limit)
        before = [parameter.detach().clone() for parameter in model.parameters()]
        ppo.train_step(model, torch.optim.SGD(model.parameters(), 1.0), some_batch(model), config, 0.2)
        assert check(gradient_norm_of(model, before)), limit


@pytest.mark.parametrize(
    ("settings", "sizes"),
    [
        ({"passes": 3, "minibatches": 1}, [12] * 3),
        ({"passes": 2, "minibatches": 3}, [4] * 6),
        ({"passes": 4, "minibatches": 2, "target_kl": 1e-9}, [6, 6]),
    ],
)
def test_passes_minibatches_and_the_target_kl(monkeypatch, settings, sizes):
    config, model = small_ppo(**settings)
    seen, step = [], ppo.train_step

    def watch(model, optimizer, batch, *rest):
        seen.append(batch.advantage.tolist())
        return step(model, optimizer, batch, *rest)

    monkeypatch.setattr(ppo, "train_step", watch)
    batch = some_batch(model)
    ppo.update(model, torch.optim.SGD(model.parameters(), 0.1), batch, config, 0.2)
    assert [len(values) for values in seen] == sizes
    per_pass = config.minibatches
    for first in range(0, len(seen), per_pass):
        used = sorted(value for values in seen[first : first + per_pass] for value in values)
        assert used == sorted(batch.advantage.tolist()), "every pass uses each transition once"
    assert seen[0] != batch.advantage.tolist()[: len(seen[0])], "shuffled"


def test_initial_weights_shared_layers_and_adam_epsilon():
    task = Task("", 4, 3, 9, "")
    model = ppo.ActorCritic(task, ppo.Config())
    first, second = (layer.weight for layer in model.actor if isinstance(layer, nn.Linear))
    torch.testing.assert_close(first.T @ first, 2 * torch.eye(4), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(second.T @ second, 2 * torch.eye(64), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(model.policy.weight @ model.policy.weight.T, 1e-4 * torch.eye(3), rtol=1e-3, atol=1e-8)
    assert float(model.value.weight.detach().norm()) == pytest.approx(1, rel=1e-4)
    assert not any(value.any() for name, value in model.named_parameters() if name.endswith("bias"))
    usual = ppo.ActorCritic(task, ppo.Config(orthogonal=False)).actor[0]
    assert isinstance(usual, nn.Linear) and usual.bias.any() and float(usual.weight.detach().abs().max()) <= 0.5
    assert model.actor is not model.critic
    shared = ppo.ActorCritic(task, ppo.Config(shared=True))
    assert shared.actor is shared.critic
    assert sum(p.numel() for p in shared.parameters()) < sum(p.numel() for p in model.parameters())
    assert ppo.make_optimizer(model, ppo.Config(adam_epsilon=1e-3)).param_groups[0]["eps"] == 1e-3


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    ("settings", "rates", "clips"),
    [
        ({}, [0.1, 0.05], [0.2, 0.2]),
        ({"anneal": False}, [0.1, 0.1], [0.2, 0.2]),
        ({"anneal_clip": True}, [0.1, 0.05], [0.2, 0.1]),
    ],
)
def test_annealing(options, monkeypatch, settings, rates, clips):
    seen, step = [], ppo.train_step

    def watch(model, optimizer, batch, config, clip):
        seen.append((optimizer.param_groups[0]["lr"], clip))
        return step(model, optimizer, batch, config, clip)

    monkeypatch.setattr(ppo, "train_step", watch)
    config = small(ppo, options, epochs=2, environment_steps=64, passes=1, learning_rate=0.1, **settings)
    ppo.train(config)
    assert [rate for rate, _ in seen] == pytest.approx(rates) and [clip for _, clip in seen] == pytest.approx(clips)


# The deep Q-network.


class Table(nn.Module):
    """Q-values of two states (one-hot), two actions."""

    def __init__(self, values) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.tensor(values, dtype=torch.float64))

    def forward(self, observations):
        return observations @ self.values


def test_targets_by_hand():
    """g = 0.5. Online: action 1 in state 1 (4 > 3); target network: action 0 (20 > 10)."""
    online, target = Table([[1.0, 2.0], [3.0, 4.0]]), Table([[5.0, 6.0], [20.0, 10.0]])
    one_hot = torch.eye(2, dtype=torch.float64)
    batch = dqn.Batch(
        one_hot[[0, 0]], torch.tensor([0, 0]), torch.ones(2).double(), one_hot[[1, 1]], torch.tensor([False, True])
    )
    assert dqn.targets(batch, online, target, discount=0.5, double=False).tolist() == [1 + 10, 1]
    assert dqn.targets(batch, online, target, discount=0.5, double=True).tolist() == [1 + 5, 1]
    config = dqn.Config(discount=0.5, double=True, gradient_norm=0)
    loss, value = dqn.train_step(online, target, torch.optim.SGD(online.parameters(), 1.0), batch, config)
    assert float(loss) == pytest.approx((4.5 + 0) / 2) and float(value) == 1, "Huber: |6 - 1| - 0.5, and no error"
    torch.testing.assert_close(online.values, torch.tensor([[1.5, 2.0], [3.0, 4.0]]).double(), check_dtype=False)


def test_the_replay_buffer_keeps_the_newest_transitions():
    buffer = dqn.ReplayBuffer(5, 1, cpu)
    for first in (0, 2, 4, 6):
        numbers = torch.tensor([first, first + 1])
        buffer.add(numbers[:, None].float(), numbers, numbers.float(), numbers[:, None] + 0.5, numbers > 6)
        assert len(buffer) == min(5, first + 2)
    torch.manual_seed(0)
    batch = buffer.sample(400)
    counts = batch.action.bincount(minlength=8).tolist()
    assert counts[:3] == [0, 0, 0] and min(counts[3:]) > 40, "the newest five, about equally often"
    assert batch.observation.flatten().equal(batch.action.float()) and batch.reward.equal(batch.action.float())
    assert batch.next_observation.flatten().equal(batch.action + 0.5) and batch.terminated.equal(batch.action > 6)
    restored = dqn.ReplayBuffer(5, 1, cpu)
    restored.load_state_dict(buffer.state_dict())
    assert len(restored) == 5 and restored.added == 8
    assert all(one.equal(two) for one, two in zip(restored.fields, buffer.fields, strict=True))


def test_agents_learn_from_the_last_observation_of_an_episode():
    environment, buffer = VectorEnvironment("Count-v0", 1), dqn.ReplayBuffer(4, 1, cpu)
    for _ in range(4):
        dqn.environment_step(environment, buffer, nn.Linear(1, 2), 1.0)
    assert buffer.fields.observation.flatten().tolist() == [0, 1, 2, 0]
    assert buffer.fields.next_observation.flatten().tolist() == [1, 2, 3, 1]
    assert not buffer.fields.terminated.any()
    model = actor_critic.ActorCritic(environment.task, actor_critic.Config())
    rollout = actor_critic.roll_out(model, VectorEnvironment("Count-v0", 1), 4)
    assert rollout.next_observation.flatten().tolist() == [1, 2, 3, 1]
    assert rollout.truncated.flatten().tolist() == [False, False, True, False] and not rollout.terminated.any()


def test_epsilon_and_actions():
    config = dqn.Config(epsilon=0.1, exploration=0.5)
    assert [dqn.epsilon_at(p, config) for p in (0, 0.25, 0.5, 0.9)] == pytest.approx([1, 0.55, 0.1, 0.1])
    assert dqn.epsilon_at(0, replace(config, exploration=0.0)) == 0.1
    model, states = Table([[0.0, 1.0], [1.0, 0.0]]), torch.eye(2).double().repeat(500, 1)
    best = torch.tensor([1, 0]).repeat(500)
    torch.manual_seed(0)
    assert dqn.act(model, states, 0.0, 2).equal(best)
    assert float((dqn.act(model, states, 0.4, 2) == best).float().mean()) == pytest.approx(0.8, abs=0.05)
    assert float((dqn.act(model, states, 1.0, 2) == best).float().mean()) == pytest.approx(0.5, abs=0.06)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("target_every", [0, 3])
def test_steps_of_the_deep_q_network(options, monkeypatch, target_every):
    """Warm-up, gradient steps per environment step, and updates of the target network."""
    seen, step = [], dqn.train_step

    def watch(model, target_network, optimizer, batch, config):
        equal = all(one.equal(two) for one, two in zip(model.parameters(), target_network.parameters(), strict=True))
        seen.append((model is target_network, equal))
        return step(model, target_network, optimizer, batch, config)

    monkeypatch.setattr(dqn, "train_step", watch)
    config = small(dqn, options, epochs=1, environment_steps=40 + 5 * 4, target_every=target_every, gradient_steps=2)
    result = dqn.train(config)
    assert result["environment_steps"] == 60
    assert [same for same, _ in seen] == [target_every == 0] * 10
    if target_every:
        assert [equal for _, equal in seen] == [step in (0, 1, 4, 7) for step in range(10)]


# All agents.


@pytest.mark.parametrize("program", [*PROGRAMS, "baseline"])
def test_every_agent_learns_with_its_own_training_step(options, program):
    torch.manual_seed(0)
    baseline = {"baseline": True} if program == "baseline" else {}
    program = reinforce if baseline else program
    config: Any = small(program, options, environment="Match-v0", environments=16, **baseline)
    environment = VectorEnvironment("Match-v0", 16)
    parameters = environment.task, config
    if program is reinforce:
        model = reinforce.PolicyNetwork(*parameters)
        optimizer = reinforce.make_optimizer(model, config)

        def step():
            reinforce.train_step(model, optimizer, reinforce.play_episodes(model, environment), config)
    elif program is actor_critic:
        model = actor_critic.ActorCritic(*parameters)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)

        def step():
            actor_critic.train_step(model, optimizer, actor_critic.roll_out(model, environment, 6), config)
    elif program is ppo:
        model = ppo.ActorCritic(*parameters)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)

        def step():
            batch = ppo.batch_of(model, ppo.roll_out(model, environment, 6), discount=0.9, gae_lambda=0.8)
            ppo.update(model, optimizer, batch, config, 0.2)
    else:
        model = dqn.QNetwork(*parameters)
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        buffer = dqn.ReplayBuffer(1_000, 3, cpu)

        def step():
            dqn.environment_step(environment, buffer, model, 0.5)
            dqn.train_step(model, model, optimizer, buffer.sample(32), replace(config, discount=0.5))

    def learned():
        return model(torch.eye(3)).argmax(1).tolist() == [0, 1, 2]

    train_until(learned, step, at_most=1_000)
    assert float(episode_returns(greedy(model), config, "test", 8).min()) == 6


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_resumed_run_ends_with_the_same_weights(options, monkeypatch, program):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    config = small(program, options, **({"baseline": True} if program is reinforce else {}))
    first = program.train(config)
    validate, calls = program.validate, []

    def stop_in_the_third_epoch(*arguments):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return validate(*arguments)

    monkeypatch.setattr(program, "validate", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        program.train(config)
    monkeypatch.setattr(program, "validate", validate)
    second = program.train(replace(config, run=replace(config.run, resume=True)))
    one, two = (program.restore(folder)[0] for folder in sorted(options.out.glob("*/*/*")))
    assert all(a.equal(b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    exact = {name for name in first if not name.endswith("_seconds") and not name.endswith("per_second")}
    assert {name: first[name] for name in exact} == {name: second[name] for name in exact}


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("keep", "epoch"), [("best", 2), ("last", 3)])
def test_the_weights_of_the_best_validation_epoch_are_kept(options, monkeypatch, program, keep, epoch):
    returns, weights = iter([5.0, 9.0, 9.0, 3.0]), []

    def validate(model, settings):
        weights.append([parameter.detach().clone() for parameter in model.parameters()])
        return {"return": next(returns)}

    monkeypatch.setattr(program, "validate", validate)
    program.train(small(program, options, epochs=4, keep=keep))
    (folder,) = options.out.glob("*/*/*")
    model = program.restore(folder)[0]
    assert all(one.equal(two) for one, two in zip(model.parameters(), weights[epoch], strict=True))
    assert not all(one.equal(two) for one, two in zip(model.parameters(), weights[5 - epoch], strict=True))


@pytest.mark.parametrize("program", PROGRAMS)
def test_runs_on_a_maze_with_figures(options, program):
    config = small(program, options, environment="Maze-v0", time_limit=30, epochs=2)
    metrics = program.train(config)
    assert metrics["test_return"] == 0, "the exit is more than 30 steps away"
    assert metrics["environment_steps"] > 0 and metrics["episode_steps"] == 30
    (folder,) = options.out.glob("*/*/*")
    assert (folder / "curves.png").is_file()
    model, restored = program.restore(folder)
    assert restored == config
    assert model(torch.zeros(2, 231)).shape == (2, 4)
    assert json.loads((folder / "config.json").read_text())["data"]["name"] == "Maze-v0"


@pytest.mark.parametrize("program", PROGRAMS)
def test_the_benchmark_takes_training_steps(options, program):
    workload = program.workload(small(program, options), cpu)
    workload.step()
    assert workload.unit == "steps" and workload.items > 0


@pytest.mark.parametrize("environment", ["Acrobot-v1", "MountainCar-v0"])
def test_other_environments(environment):
    task = task_of(environment)
    assert (task.actions, task.observation_size) == {"Acrobot-v1": (3, 6), "MountainCar-v0": (3, 2)}[environment]
    step = VectorEnvironment(environment, 2).step(torch.tensor([0, 2]))
    assert step.reward.tolist() == [-1, -1] and step.next_observation.shape == (2, task.observation_size)


# Bad input.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("CartPool-v1", "--environment CartPool-v1: Environment `CartPool` doesn't exist. Did you mean: `CartPole`?"),
        (
            "CartPole-v9",
            "--environment CartPole-v9: Environment version `v9` for environment `CartPole` doesn't exist.",
        ),
        ("gone.module:Maze-v0", "--environment gone.module:Maze-v0: No module named 'gone'"),
        ("Pendulum-v1", "--environment Pendulum-v1 has the actions Box(-2.0, 2.0, (1,), float32): these agents need"),
        (
            "Pixels-v0",
            "--environment Pixels-v0 observes images or arrays (Box(0, 255, (8, 8, 3), uint8)): these agents",
        ),
        ("Endless-v0", "--environment Endless-v0 has no time limit: set --time-limit"),
    ],
)
def test_unsuitable_environments_are_refused_in_one_line(options, fails, name, message):
    for program in PROGRAMS:
        words = ["--environment", name, "--out", str(options.out)]
        error = fails(cli.main, program, arguments=[program.__name__.rpartition(".")[2], *words])
        assert message in error
    assert not options.out.exists() or not any(options.out.iterdir()), "nothing was written"


def test_a_time_limit_can_be_given():
    assert task_of("Endless-v0", 7).time_limit == 7
    environment = VectorEnvironment("Endless-v0", 1, time_limit=2)
    environment.step(torch.tensor([0]))
    assert environment.step(torch.tensor([0])).truncated.tolist() == [True]


@pytest.mark.parametrize(
    ("program", "bad", "message"),
    [
        (ppo, {"clip": 0.0}, "--clip must be a number above 0, got 0"),
        (ppo, {"gae_lambda": 1.5}, "--gae-lambda must be between 0 and 1, got 1.5"),
        (ppo, {"entropy_weight": -1.0}, "--entropy-weight must not be negative, got -1"),
        (ppo, {"minibatches": 200}, "--minibatches must be at most half of 256 transitions, got 200"),
        (ppo, {"discount": 0.0}, "--discount must be above 0 and at most 1, got 0"),
        (actor_critic, {"critic_weight": -1.0}, "--critic-weight must not be negative"),
        (actor_critic, {"rollout": 0}, "--rollout must be a number above 0"),
        (reinforce, {"steps": 0}, "--steps must be a number above 0"),
        (dqn, {"epsilon": 2.0}, "--epsilon must be between 0 and 1, got 2"),
        (dqn, {"exploration": -0.1}, "--exploration must be between 0 and 1"),
        (dqn, {"target_every": -1}, "--target-every must not be negative"),
        (dqn, {"buffer_size": 4}, "--buffer-size must be at least --environments, got 4"),
        (dqn, {"run": RunOptions(precision="bf16")}, "--precision must be fp32"),
        (learning_bands, {"agents": ()}, "--agents needs at least one agent"),
        (peers, {"algorithms": ()}, "--algorithms needs at least one algorithm"),
    ],
)
def test_invalid_settings_are_rejected(program, bad, message):
    with pytest.raises(ValueError, match=message):
        program.Config(**bad)


# Comparisons.


def test_bands_by_hand():
    grid, mean, deviation = learning_bands.band([([0, 10, 20], [0, 10, 20]), ([5, 15], [10, 20])], points=3)
    assert grid.tolist() == [5, 10, 15]
    assert mean.tolist() == [7.5, 12.5, 17.5]
    assert deviation.tolist() == pytest.approx([math.sqrt(12.5)] * 3)
    assert learning_bands.band([([0, 1], [2, 4])], points=2)[2].tolist() == [0, 0]


def test_learning_bands_of_several_agents(options, monkeypatch):
    agents = {"reinforce": (reinforce, small(reinforce, options)), "ppo": (ppo, small(ppo, options))}
    monkeypatch.setattr(learning_bands, "AGENTS", agents)
    config = learning_bands.Config(agents=("reinforce", "ppo"), seeds=2, epochs=2, run=options)
    metrics = learning_bands.train(config)
    (folder,) = options.out.glob("*/*/*")
    assert (folder / "learning_bands.png").is_file()
    for name in agents:
        returns = [
            json.loads(path.read_text())["metrics"]["test_return"]
            for path in (folder / "agents" / name).glob("*/*/*/*/summary.json")
        ]
        assert len(returns) == 2 and returns[0] != returns[1]
        assert metrics[f"{name}_test_return"] == pytest.approx(sum(returns) / 2)
        assert metrics[f"{name}_lowest_test_return"] == min(returns)


def test_peers_without_stable_baselines_names_the_command(monkeypatch, fails, options):
    monkeypatch.setitem(__import__("sys").modules, "stable_baselines3", None)
    error = fails(cli.main, peers, arguments=["peers", "--out", str(options.out)])
    assert error == "error: peers needs Stable-Baselines3: pip install '.[peers]'\n"
    assert not options.out.exists() or not any(options.out.iterdir())


def test_peers_compares_both(options):
    pytest.importorskip("stable_baselines3")
    metrics = peers.train(peers.Config(seeds=1, environment_steps=1_200, run=options))
    for name in ("ours_ppo", "sb3_ppo", "ours_dqn", "sb3_dqn"):
        assert metrics[f"{name}_return"] >= 8 and metrics[f"{name}_seconds"] > 0
        assert 1_000 <= metrics[f"{name}_environment_steps"] <= 1_600


# The player.


def test_play_shows_an_episode_of_any_agent(options, capsys, fails, tmp_path):
    for program in PROGRAMS:
        program.train(
            small(
                program,
                options,
                epochs=1,
                environments=2,
                **({} if program is reinforce else {"environment_steps": 60}),
            )
        )
        (folder,) = options.out.glob(f"ch07_dqn/{program.__name__.rpartition('.')[2]}/*")
        capsys.readouterr()
        play.main(["--folder", str(folder), "--gif", str(tmp_path / "cart.gif")])
        output = capsys.readouterr().out
        steps = int(output.partition("CartPole-v1: return ")[2].split()[0])
        assert f"return {steps} in {steps} steps" in output and "█" in output
        assert (tmp_path / "cart.gif").read_bytes()[:3] == b"GIF"
    assert "--episode must not be negative" in fails(play.main, ["--episode", "-1"])


@pytest.mark.parametrize("name", ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Maze-v0"])
def test_episodes_are_drawn(name):
    frames, episode_return = rendering.play_episode(
        lambda observations: torch.zeros(len(observations), dtype=torch.long), name, time_limit=8
    )
    assert len(frames) == 9
    assert episode_return == {"CartPole-v1": 8, "Maze-v0": 0}.get(name, -8)
    assert frames[0].dtype == np.uint8 and frames[0].std() > 5
    if name != "Maze-v0":
        assert (frames[0] != frames[-1]).any(), "the picture shows the state"
    text = rendering.text_of(frames[0], 40)
    assert {"█", "▀", "▄"} & set(text) and max(len(line) for line in text.splitlines()) <= 40


def test_the_pole_leans_as_its_angle_says():
    left, right = np.zeros((200, 300)), np.zeros((200, 300))
    for picture, angle in ((left, -0.2), (right, 0.2)):
        image = rendering.Image.new("RGB", (rendering.WIDTH, rendering.HEIGHT), "white")
        rendering.draw_cart_pole(rendering.ImageDraw.Draw(image), np.array([0.0, 0.0, angle, 0.0]))
        picture[:] = np.asarray(image).min(2) < 128
    columns = np.arange(300)
    assert (left[90:110] * columns).sum() / left[90:110].sum() < 145
    assert (right[90:110] * columns).sum() / right[90:110].sum() > 155


def test_an_environment_that_cannot_be_drawn_is_named():
    with pytest.raises(ValueError, match="Count-v0 cannot be drawn: pygame is not installed"):
        rendering.play_episode(lambda observations: torch.zeros(1, dtype=torch.long), "Count-v0")
