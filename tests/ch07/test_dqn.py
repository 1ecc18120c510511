"""Agents of one maze: the table, the deep Q-network with its switches, the actor-critic; throughput."""

import json
import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from ch07_dqn.mazes import learning_curves, maze_actor_critic, maze_dqn, one_maze, q_table, throughput
from ch07_dqn.mazes.network import QNetwork
from ch07_dqn.mazes.replay import Batch
from common.config import RunOptions
from common.data.mazes.batch import ACTIONS, MazeBatch, Step, next_states
from common.data.mazes.maze import distances, parse_maze, shortest_path
from conftest import train_until

CORRIDOR = parse_maze("#####\nS   E\n#####")


@pytest.fixture
def config(options):
    """Settings of a short training in a maze of 3 x 4 cells."""
    return maze_dqn.Config(
        maze=1, rows=3, columns=4, environments=16, warm_up=200, buffer_size=300, batch_size=64, epochs=4, steps=60,
        n_steps=2,
        target_every=20, run=options,
    )  # fmt: skip


@pytest.fixture
def no_figures(monkeypatch):
    for program in (maze_dqn, maze_actor_critic, q_table):
        monkeypatch.setattr(program, "report", lambda *_: None)


def some_batch(size=32, states=15, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    return Batch(
        torch.randint(states, (size,), generator=generator),
        torch.randint(ACTIONS, (size,), generator=generator),
        torch.randn(size, generator=generator, dtype=dtype),
        torch.randint(states, (size,), generator=generator),
        0.9 * (torch.rand(size, generator=generator) < 0.8).to(dtype),
        torch.rand(size, generator=generator, dtype=dtype),
        torch.arange(size),
    )


# The maze and its metrics.


def optimal_values(maze, discount=0.9):
    """Return the (H, W, A) optimal values, by value iteration."""
    return q_table.value_iteration(MazeBatch([maze]), discount)[0].view(*maze.walls.shape, ACTIONS)


def test_greedy_path_and_metrics():
    values = optimal_values(CORRIDOR)
    assert one_maze.greedy_path(values, CORRIDOR) == shortest_path(CORRIDOR)
    metrics = one_maze.measure(values, CORRIDOR)
    assert metrics == {"solve_rate": 1, "path_steps": 4, "shortest_steps": 4, "optimal_action_rate": 1}
    assert one_maze.is_shortest(metrics)
    values[1, 2] = torch.tensor([0, 0, 0, 1])  # back to the west at the third tile
    assert one_maze.greedy_path(values, CORRIDOR) == [(1, 0), (1, 1), (1, 2)]
    metrics = one_maze.measure(values, CORRIDOR)
    assert (metrics["solve_rate"], metrics["path_steps"], metrics["optimal_action_rate"]) == (0, 15, 0.75)
    assert not one_maze.is_shortest(metrics)


def test_a_detour_is_solved_but_not_shortest():
    maze = parse_maze("######\nS    E\n#    #\n######")
    values = optimal_values(maze)
    values[1, 1], values[2, 1], values[2, 2] = (torch.eye(4)[a].double() for a in (2, 1, 0))
    metrics = one_maze.measure(values, maze)
    assert (metrics["solve_rate"], metrics["path_steps"], metrics["shortest_steps"]) == (1, 7, 5)
    assert not one_maze.is_shortest(metrics)


def test_solve_time():
    solved = one_maze.SolveTime()
    for shortest, seconds in ((True, 1.0), (False, 2.0), (True, 3.0), (True, 4.0)):
        solved.update(shortest, seconds=seconds, steps=10 * seconds)
    assert solved.metrics() == {"solved_seconds": 3.0, "solved_steps": 30.0}
    other = one_maze.SolveTime()
    other.load_state_dict(solved.state_dict())
    assert other.metrics() == solved.metrics()
    other.update(False, seconds=5.0, steps=50)
    assert other.metrics() == {"solved_seconds": 5.0, "solved_steps": 50}, (
        "not solved: the effort of the whole training"
    )


def test_episode_statistics_by_hand():
    """The exit of the corridor is four steps away; with a limit of three steps no episode reaches it."""
    environment, right = MazeBatch([CORRIDOR], 2), torch.ones(2, dtype=torch.int64)
    found = one_maze.episode_statistics([environment.step(right) for _ in range(8)])
    assert found == {"episode_return": 1.0, "episode_steps": 4.0}
    environment = MazeBatch([CORRIDOR], 2, limit=3)
    found = one_maze.episode_statistics([environment.step(right) for _ in range(6)])
    assert found == {"episode_return": 0.0, "episode_steps": 3.0}
    assert one_maze.episode_statistics([environment.step(right)])["episode_return"] == 0


def test_the_maze_depends_on_seed_loops_and_algorithm(config):
    def drawn(**changes):
        return str(one_maze.maze_of(replace(config, **changes)))

    assert drawn() == drawn() != drawn(maze=2)
    assert drawn(maze=None, run=replace(config.run, seed=1)) == drawn(maze=1)
    assert drawn() != drawn(loops=0.5)
    assert drawn() != drawn(algorithm="prim")


# The table.


def test_value_iteration_gives_powers_of_the_discount():
    """Q*(s, a) = g^(steps - 1) for the shortest path that begins with a."""
    maze = one_maze.maze_of(maze_dqn.Config(maze=4, rows=3, columns=3, loops=0.3))
    best, sweeps = q_table.value_iteration(MazeBatch([maze]), 0.9)
    steps = distances(maze).flatten()
    next_state = next_states(maze.walls.unsqueeze(0)).view(-1, ACTIONS)
    for state in ((steps > 0).nonzero().flatten()).tolist():
        for action in range(ACTIONS):
            assert float(best[state, action]) == pytest.approx(0.9 ** int(steps[next_state[state, action]]))
    assert sweeps > int(steps[steps > 0].max())


def test_q_learning_update_by_hand():
    table = torch.arange(60, dtype=torch.float64).view(15, 4)
    before = table.clone()
    step = Step(
        torch.tensor([6, 9]), torch.tensor([0.5, 1.0]), torch.tensor([False, True]), torch.tensor([True, False])
    )
    states, actions = torch.tensor([5, 8]), torch.tensor([1, 1])
    errors = q_table.update(table, states, actions, step, discount=0.9, learning_rate=0.5)
    assert errors.tolist() == pytest.approx([0.5 + 0.9 * 27 - 21, 1.0 - 33]), (
        "bootstrap after the time limit, not after the exit"
    )
    assert table[5, 1] == pytest.approx(21 + 0.5 * float(errors[0]))
    assert table[8, 1] == pytest.approx(33 + 0.5 * float(errors[1]))
    table[5, 1], table[8, 1] = before[5, 1], before[8, 1]
    assert torch.equal(table, before), "another value was changed"


def test_actions_of_the_table_are_greedy_with_random_ties():
    torch.manual_seed(0)
    table = torch.tensor([[0.0, 1, 1, 0]])
    chosen = q_table.act(table, torch.zeros(4_000, dtype=torch.int64), 0.0).bincount(minlength=4)
    assert chosen[0] == chosen[3] == 0 and abs(int(chosen[1]) - 2_000) < 150
    chosen = q_table.act(table, torch.zeros(4_000, dtype=torch.int64), 1.0).bincount(minlength=4)
    assert int(chosen.min()) > 850
    chosen = q_table.act(torch.tensor([[9.0, 0, 0, 0]]), torch.zeros(4_000, dtype=torch.int64), 0.4)
    assert 0.67 < float((chosen == 0).float().mean()) < 0.73


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("environments", [1, 32])
def test_the_learned_table_is_optimal(options, environments):
    steps = 8_000 if environments == 1 else 60_000
    config = q_table.Config(maze=2, rows=2, columns=3, environments=environments, steps=steps, epsilon=1.0, run=options)
    found = q_table.train(config)
    assert found["solve_rate"] == found["optimal_action_rate"] == 1 and found["path_steps"] == found["shortest_steps"]
    assert found["start_error"] < 1e-9
    assert found["solved_seconds"] <= found["train_seconds"]
    assert q_table.train(config)["solved_steps"] == found["solved_steps"] <= steps
    assert found["episode_return"] == 1 and found["episode_steps"] > found["shortest_steps"], (
        "training episodes include random actions"
    )
    for path in config.run.out.rglob("summary.json"):
        assert json.loads(path.read_text())["metrics"]["planning_sweeps"] > found["shortest_steps"]


# The networks.


def test_q_network_equals_its_formula():
    torch.manual_seed(0)
    model = QNetwork((3, 5)).double()
    row, column = torch.zeros(3, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    row[2], column[1] = 1, 1
    w1, b1, w2, b2, w3, b3 = model.parameters()
    h = (w1 @ torch.cat([row, column]) + b1).clamp(min=0)
    expected = w3 @ (w2 @ h + b2).clamp(min=0) + b3
    torch.testing.assert_close(model(torch.tensor([11]))[0], expected)


def test_dueling_advantages_have_mean_zero_around_the_value():
    torch.manual_seed(0)
    model = QNetwork((3, 5), dueling=True)
    states = torch.arange(15)
    h = model.trunk(model.features[states])
    assert model.value is not None
    torch.testing.assert_close(model(states).mean(1), model.value(h).squeeze(1))
    a = model.advantage(h)
    torch.testing.assert_close(model(states) - model(states).mean(1, keepdim=True), a - a.mean(1, keepdim=True))


# The training step.


def test_epsilon_is_the_fraction_of_random_actions():
    torch.manual_seed(0)
    model = QNetwork((3, 5))
    states = torch.full((8_000,), 7)
    best = int(model(states[:1]).argmax())
    assert maze_dqn.act(model, states, 0.0).eq(best).all()
    for epsilon in (0.5, 1.0):
        share = float((maze_dqn.act(model, states, epsilon) == best).float().mean())
        assert share == pytest.approx(1 - epsilon + epsilon / 4, abs=0.03)


def test_epsilon_decays_linearly_over_the_first_half(config):
    config = replace(config, epsilon=0.2)
    assert [maze_dqn.epsilon_at(config, step) for step in (0, 60, 120, 239)] == pytest.approx([1, 0.6, 0.2, 0.2])


def test_targets_by_hand():
    class Table(torch.nn.Module):
        def __init__(self, values):
            super().__init__()
            self.values = torch.tensor(values)

        def forward(self, states):
            return self.values[states]

    learning, target = Table([[0.0, 5, 0, 0], [7.0, 0, 0, 0]]), Table([[1.0, 2, 3, 4], [10.0, 20, 30, 40]])
    batch = some_batch(3, 2, torch.float32)._replace(
        next_state=torch.tensor([0, 1, 1]),
        n_step_return=torch.tensor([1.0, 1, 1]),
        discount=torch.tensor([0.5, 0.5, 0.0]),
    )
    assert maze_dqn.targets(batch, learning, target, double=False).tolist() == [1 + 2, 1 + 20, 1]
    assert maze_dqn.targets(batch, learning, target, double=True).tolist() == [1 + 1, 1 + 5, 1], (
        "selected by the online network, evaluated by the target network"
    )


@pytest.mark.parametrize("double", [False, True])
def test_training_step_equals_the_gradient_of_the_weighted_loss_and_keeps_the_target_network(double):
    torch.manual_seed(0)
    model, target = QNetwork((3, 5)).double(), QNetwork((3, 5)).double()
    before, still = deepcopy(model), deepcopy(target)
    batch = some_batch()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss, errors = maze_dqn.train_step(model, target, optimizer, batch, double=double)
    y = batch.n_step_return + batch.discount * (
        target(batch.next_state).gather(1, before(batch.next_state).argmax(1, keepdim=True)).squeeze(1)
        if double
        else target(batch.next_state).amax(1)
    )
    q = before(batch.state)[range(32), batch.action]
    e = (y.detach() - q).abs()
    expected = (batch.weight * torch.where(e < 1, 0.5 * e**2, e - 0.5)).mean()
    torch.testing.assert_close(loss, expected.detach())
    torch.testing.assert_close(errors, (y - q).detach())
    for old, new, g in zip(
        before.parameters(), model.parameters(), torch.autograd.grad(expected, list(before.parameters())), strict=True
    ):
        torch.testing.assert_close(new, old - 0.1 * g)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), still.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters()), "the gradients are not reset"


@pytest.mark.parametrize("dueling", [False, True])
def test_one_batch_is_overfitted(dueling):
    torch.manual_seed(0)
    model = QNetwork((3, 5), dueling=dueling)
    batch = some_batch(dtype=torch.float32)
    batch = batch._replace(discount=torch.zeros(32), n_step_return=torch.sin(batch.state * 4.0 + batch.action))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    worst = []
    train_until(
        lambda: worst[-1] < 0.05,
        lambda: worst.append(float(maze_dqn.train_step(model, model, optimizer, batch)[1].abs().max())),
        at_most=3_000,
    )


# Whole runs.


def weights_of(config, restore=maze_dqn.restore):
    found = sorted(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return [restore(path.parent)[0] for path in found]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_dqn_solves_its_maze_is_repeatable_and_restores(config):
    config = replace(config, rows=2, columns=3, epochs=8, steps=80, n_steps=3)
    first, second = maze_dqn.train(config), maze_dqn.train(config)
    assert first["solve_rate"] == 1 and first["path_steps"] == first["shortest_steps"]
    one, two = weights_of(config)
    assert same(one, two)
    maze = one_maze.maze_of(config)
    restored = one_maze.measure(maze_dqn.values_of(one, maze), maze)
    assert restored["optimal_action_rate"] == first["optimal_action_rate"] == second["optimal_action_rate"]
    folder = next(config.run.out.rglob("model.safetensors")).parent
    assert maze_dqn.restore(folder)[1] == config
    for name in ("curves", "values", "path"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    from PIL import Image

    with Image.open(folder / "walk.gif") as animation:
        assert getattr(animation, "n_frames") == first["path_steps"] + 1  # noqa: B009
        assert animation.size == (16 * 7, 16 * 5)
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["data"]["name"] == "mazes" and summary["data"]["embedded"] is True
    assert summary["metrics"]["solved_seconds"] <= summary["metrics"]["train_seconds"] + 1e-2
    gradient_steps = summary["metrics"]["solved_gradient_steps"]
    assert gradient_steps in range(80, 641, 80)
    assert summary["metrics"]["solved_steps"] == 16 * (200 + gradient_steps), "the warm-up steps are included"
    assert 0 < summary["metrics"]["episode_return"] <= 1


def test_settings_reach_the_environment_the_buffer_and_the_network(config):
    maze, cpu = one_maze.maze_of(config), torch.device("cpu")
    environment = maze_dqn.make_environment(replace(config, time_limit=20), maze, cpu)
    assert environment.limit == 20 and len(environment.state) == 16
    uniform = maze_dqn.make_replay_buffer(replace(config, discount=0.9), cpu)
    assert (uniform.discount, uniform.n_steps, uniform.alpha) == (0.9, 2, 0) and uniform.state.shape == (300, 16)
    prioritised = maze_dqn.make_replay_buffer(replace(config, replay="prioritised"), cpu)
    assert prioritised.alpha > 0 and prioritised.state.shape == (300, 16)
    assert maze_dqn.make_replay_buffer(replace(config, replay="newest"), cpu).state.shape == (2, 16)
    assert maze_dqn.make_model(replace(config, dueling=True)).value is not None
    assert maze_dqn.make_model(config).value is None


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("double", [False, True])
def test_settings_reach_every_step_of_the_training(config, monkeypatch, double):
    """Random warm-up, then decaying epsilon; each step samples a batch, trains on it and updates its priorities."""
    calls = {name: [] for name in ("epsilon", "sample", "train", "errors", "priorities")}
    environment_step, train_step = maze_dqn.environment_step, maze_dqn.train_step
    sample, update_priorities = maze_dqn.ReplayBuffer.sample, maze_dqn.ReplayBuffer.update_priorities

    def watch_environment(environment, replay_buffer, model, epsilon):
        calls["epsilon"].append(epsilon)
        return environment_step(environment, replay_buffer, model, epsilon)

    def watch_sample(self, batch_size, *, beta):
        batch = sample(self, batch_size, beta=beta)
        calls["sample"].append((batch, batch_size, beta))
        return batch

    def watch_train(model, target_network, optimizer, batch, *, double):
        loss, errors = train_step(model, target_network, optimizer, batch, double=double)
        calls["train"].append((batch, double))
        calls["errors"].append((batch, errors))
        return loss, errors

    def watch_priorities(self, batch, td_errors):
        calls["priorities"].append((batch, td_errors))
        update_priorities(self, batch, td_errors)

    monkeypatch.setattr(maze_dqn, "environment_step", watch_environment)
    monkeypatch.setattr(maze_dqn, "train_step", watch_train)
    monkeypatch.setattr(maze_dqn.ReplayBuffer, "sample", watch_sample)
    monkeypatch.setattr(maze_dqn.ReplayBuffer, "update_priorities", watch_priorities)
    config = replace(config, epochs=2, steps=5, warm_up=7, epsilon=0.2, replay="prioritised", double=double)
    maze_dqn.train(config)
    assert calls["epsilon"] == [1.0] * 7 + [maze_dqn.epsilon_at(config, step) for step in range(10)]
    assert [size for _, size, _ in calls["sample"]] == [64] * 10
    assert [beta for _, _, beta in calls["sample"]] == pytest.approx([0.7] * 5 + [1.0] * 5)
    for (sampled, _, _), (trained, how) in zip(calls["sample"], calls["train"], strict=True):
        assert sampled is trained and how == double
    for (batch, errors), (updated, given) in zip(calls["errors"], calls["priorities"], strict=True):
        assert batch is updated and errors is given


def test_only_the_exit_is_rewarded(config):
    maze = one_maze.maze_of(config)
    rewards = maze_dqn.make_environment(config, maze, torch.device("cpu")).rewards.view(*maze.walls.shape, ACTIONS)
    assert rewards[~maze.walls].sum() == 1, "one action of one floor tile"


def test_exploring_starts_cover_all_floor_tiles_except_the_exit(config):
    maze = one_maze.maze_of(config)
    tiles = int((~maze.walls).sum()) - 1
    config = replace(config, starts="everywhere", environments=2 * tiles)
    environment = maze_dqn.make_environment(config, maze, torch.device("cpu"))
    assert environment.state.bincount().max() == 2 and len(environment.state.unique()) == tiles
    assert not maze.walls.flatten()[environment.state].any() and not (environment.state == environment.exits).any()
    usual = maze_dqn.make_environment(replace(config, starts="start"), maze, torch.device("cpu"))
    assert usual.state.unique().tolist() == [maze.start[0] * 9 + maze.start[1]]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("program", ["maze_dqn", "maze_actor_critic"])
def test_a_resumed_run_ends_with_the_same_weights(config, monkeypatch, program):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    module = {"maze_dqn": maze_dqn, "maze_actor_critic": maze_actor_critic}[program]
    if module is maze_dqn:
        config = replace(config, epochs=3, steps=20, replay="prioritised", n_steps=2)
    else:
        config = maze_actor_critic.Config(maze=1, rows=2, columns=3, environments=8, epochs=3, steps=20, run=config.run)
    module.train(config)
    step, calls = module.train_step, []

    def stop_in_the_third_epoch(*arguments, **named):
        calls.append(1)
        if len(calls) == 47:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(module, "train_step", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        module.train(config)
    monkeypatch.setattr(module, "train_step", step)
    module.train(replace(config, run=replace(config.run, resume=True)))
    one, two = weights_of(config, module.restore)
    assert same(one, two)


@pytest.mark.usefixtures("no_figures")
def test_the_target_network_is_copied_every_n_steps(config, monkeypatch):
    observations = []
    step = maze_dqn.train_step

    def watch(model, target, *arguments, **named):
        observations.append((model is target, same(model, target)))
        return step(model, target, *arguments, **named)

    monkeypatch.setattr(maze_dqn, "train_step", watch)
    maze_dqn.train(replace(config, epochs=1, steps=12, target_every=5))
    assert [equal for _, equal in observations] == [True, True, *[False] * 4, True, *[False] * 4, True]
    assert not any(one for one, _ in observations)
    observations.clear()
    maze_dqn.train(replace(config, epochs=1, steps=3, target_every=0))
    assert all(one for one, _ in observations)


# The actor-critic.


def test_advantages_equal_the_definition():
    """Sum the TD errors to the end of the episode; bootstrap at the time limit, but not at the exit."""
    torch.manual_seed(0)
    shape, g, gae_lambda = (7, 3), 0.9, 0.8
    value, next_value, reward = (torch.randn(shape, dtype=torch.float64) for _ in range(3))
    terminated, truncated = torch.rand(shape) < 0.2, torch.rand(shape) < 0.2
    empty = torch.zeros(shape, dtype=torch.int64)
    rollout = maze_actor_critic.Rollout(empty, empty, reward, empty, terminated, truncated)
    found = maze_actor_critic.advantages(rollout, value, next_value, discount=g, gae_lambda=gae_lambda)
    for m in range(3):
        for t in range(7):
            expected, factor = 0.0, 1.0
            for k in range(t, 7):
                after = 0.0 if terminated[k, m] else g * float(next_value[k, m])
                expected += factor * (float(reward[k, m]) + after - float(value[k, m]))
                factor *= g * gae_lambda
                if terminated[k, m] or truncated[k, m]:
                    break
            assert float(found[t, m]) == pytest.approx(expected)


def test_sampled_actions_have_the_probabilities_of_the_policy():
    torch.manual_seed(0)
    model = maze_actor_critic.ActorCritic((3, 5))
    model.policy.weight.data.mul_(10)
    chosen = maze_actor_critic.act(model, torch.full((20_000,), 7)).bincount(minlength=4) / 20_000
    expected = model(torch.tensor([7]))[0].softmax(1)[0].detach()
    assert float(expected.max() - expected.min()) > 0.1
    torch.testing.assert_close(chosen, expected, atol=0.015, rtol=0)


def test_training_step_of_the_actor_critic_equals_the_gradient_of_its_loss():
    torch.manual_seed(0)
    config = maze_actor_critic.Config(critic_weight=0.3, entropy_weight=0.07)
    model = maze_actor_critic.ActorCritic((3, 5))
    before = deepcopy(model)
    environment = MazeBatch([CORRIDOR], 6, limit=3)
    rollout = maze_actor_critic.roll_out(model, environment, 9)
    assert rollout.truncated.any() and rollout.state.shape == (9, 6)
    assert torch.equal(rollout.state[1:][~rollout.truncated[:-1]], rollout.next_state[:-1][~rollout.truncated[:-1]])
    optimizer = torch.optim.SGD(model.parameters(), 0.01)
    loss = maze_actor_critic.train_step(model, optimizer, rollout, config)
    logits, value = before(rollout.state)
    next_value = before(rollout.next_state)[1].detach()
    advantage = maze_actor_critic.advantages(rollout, value.detach(), next_value, discount=0.99, gae_lambda=0.95)
    logp = logits.log_softmax(2)
    taken = logp.gather(2, rollout.action.unsqueeze(2)).squeeze(2)
    entropy = -(logp.exp() * logp).sum(2).mean()
    actor = -(advantage * taken).mean()
    expected = actor + 0.3 * (value.detach() + advantage - value).square().mean() - 0.07 * entropy
    torch.testing.assert_close(loss, expected.detach())
    gradients = torch.autograd.grad(expected, list(before.parameters()))
    norm = math.sqrt(sum(float(g.square().sum()) for g in gradients))
    for old, new, g in zip(before.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.01 * g * min(1, 0.5 / (norm + 1e-6)), rtol=1e-4, atol=1e-6)


def test_the_actor_critic_solves_its_maze_and_is_repeatable(options):
    config = maze_actor_critic.Config(maze=1, rows=2, columns=3, environments=64, epochs=4, steps=40, run=options)
    first, second = maze_actor_critic.train(config), maze_actor_critic.train(config)
    assert first["solve_rate"] == 1 and first["path_steps"] == first["shortest_steps"]
    one, two = weights_of(config, maze_actor_critic.restore)
    assert same(one, two) and first["optimal_action_rate"] == second["optimal_action_rate"]
    folder = next(config.run.out.rglob("model.safetensors")).parent
    assert (folder / "values.png").exists() and (folder / "walk.gif").exists()


# Throughput, benchmark, invalid settings.


def test_throughput_metrics_of_every_variant(options):
    config = throughput.Config(mazes=64, rows=2, columns=2, rounds=1, seconds=0.01, run=options)
    found = throughput.train(config)
    for kind in ("random", "stepping", "acting"):
        ours, theirs = (found[f"{environment}_{kind}_steps_per_second"] for environment in ("batched", "gymnasium"))
        assert ours > 0 and theirs > 0
        assert found[f"{kind}_ratio"] == pytest.approx(ours / theirs)


def test_variants_return_the_number_of_environment_steps():
    maze = one_maze.maze_of(maze_dqn.Config(maze=0, rows=2, columns=2))
    environment = MazeBatch([maze, maze, maze])
    calls = []
    step = environment.step
    environment.step = lambda actions: calls.append(len(actions)) or step(actions)
    variants = (
        throughput.batched_stepping,
        throughput.batched_random,
        lambda e: throughput.batched_acting(e, QNetwork((5, 5))),
    )
    for variant in variants:
        calls.clear()
        assert variant(environment)() == sum(calls) > 0


@pytest.mark.parametrize("program", [maze_dqn, maze_actor_critic])
def test_the_benchmark_step_runs(config, program):
    workload = program.workload(program.Config(rows=2, columns=2, environments=8, run=config.run), torch.device("cpu"))
    assert math.isfinite(float(workload.step()))
    assert workload.unit == "steps" and workload.items > 0


@pytest.mark.parametrize(
    ("program", "bad", "message"),
    [
        (maze_dqn, {"rows": 0}, "--rows must be a number above 0"),
        (maze_dqn, {"discount": 1.0}, "--discount must be between 0 and 1, got 1"),
        (maze_dqn, {"discount": 0.0}, "--discount must be between 0 and 1, got 0"),
        (maze_dqn, {"run": RunOptions(precision="bf16")}, r"--precision must be fp32 \(Q-values .*\), got bf16"),
        (maze_dqn, {"epsilon": 1.5}, "--epsilon must be between 0 and 1, got 1.5"),
        (maze_dqn, {"n_steps": 50, "buffer_size": 10}, "--n-steps must not exceed --buffer-size, got 50"),
        (maze_dqn, {"target_every": -1}, "--target-every must not be negative"),
        (maze_dqn, {"warm_up": 7}, "--n-steps must not exceed --warm-up, got 8"),
        (q_table, {"learning_rate": 0.0}, "--learning-rate must be above 0 and at most 1, got 0"),
        (q_table, {"epsilon": -0.1}, "--epsilon must be between 0 and 1"),
        (q_table, {"discount": 0.0}, "--discount must be between 0 and 1"),
        (maze_actor_critic, {"gae_lambda": 1.1}, "--gae-lambda must be between 0 and 1, got 1.1"),
        (maze_actor_critic, {"discount": 1.0}, "--discount must be between 0 and 1"),
        (maze_actor_critic, {"critic_weight": -1.0}, "--critic-weight must not be negative"),
        (maze_actor_critic, {"entropy_weight": -1.0}, "--entropy-weight must not be negative"),
        (throughput, {"mazes": 0}, "--mazes must be a number above 0"),
    ],
)
def test_invalid_settings_are_rejected(program, bad, message):
    with pytest.raises(ValueError, match=message):
        program.Config(**bad)


def test_the_gradient_of_a_large_error_is_bounded():
    """Huber loss: TD errors of 100 and of 1,000 change the output bias equally."""
    changes = []
    for target in (100.0, 1_000.0):
        torch.manual_seed(0)
        model = QNetwork((3, 5)).double()
        before = model.advantage.bias.detach().clone()
        batch = some_batch()
        far = batch._replace(
            discount=torch.zeros(32).double(), n_step_return=torch.full((32,), target).double(),
            weight=torch.ones(32).double(),
        )  # fmt: skip
        maze_dqn.train_step(model, model, torch.optim.SGD(model.parameters(), 1.0), far)
        changes.append(model.advantage.bias.detach() - before)
    torch.testing.assert_close(changes[0], changes[1])
    assert float(changes[0].sum()) == pytest.approx(1.0), "the mean of 32 gradients of 1, each of one action"


def test_learning_curves_of_all_agents(options, config, monkeypatch):
    small = maze_actor_critic.Config(rows=3, columns=4, environments=16, rollout=4, steps=5)
    agents = {
        "dqn": ("DQN", replace(config, maze=None), maze_dqn.train),
        "actor_critic": ("A2C", small, maze_actor_critic.train),
    }
    monkeypatch.setattr(learning_curves, "AGENTS", agents)
    metrics = learning_curves.train(learning_curves.Config(mazes=2, epochs=2, run=options))
    assert set(metrics) >= {f"{name}_{key}" for name in agents for key in learning_curves.MEASURES}
    (figure,) = options.out.glob("*/*/*/learning_curves.png")
    for name in agents:
        for seed in (0, 1):
            assert len(learning_curves.read_history(figure.parent / "agents" / name / str(seed))) == 2
    assert learning_curves.steps_per_epoch(config) == (200 * 16, 60 * 16)
    assert learning_curves.steps_per_epoch(small) == (0, 5 * 4 * 16)
