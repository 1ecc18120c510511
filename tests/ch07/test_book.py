"""The book's deep Q-network: as written it never trains and cannot reach the exit; corrected, it does both."""

from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from ch07_dqn import play
from ch07_dqn.mazes import book, maze_dqn, one_maze
from common.config import RunOptions
from common.data.mazes.batch import ACTIONS, next_states

CPU = torch.device("cpu")


@pytest.fixture
def config(options):
    return book.Config(
        maze=1, rows=3, columns=4, environments=16, warm_up=20, buffer_size=300, batch_size=32, epochs=2, steps=12,
        n_steps=2, target_every=5, run=options,
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    monkeypatch.setattr(book, "report", lambda *_: None)


@pytest.fixture
def parts(monkeypatch):
    """Collect the initial model, the trained model and the replay buffer of every run of `book.train`."""
    made = []
    make_model, make_replay_buffer = book.make_model, book.make_replay_buffer

    def model_of(config):
        model = make_model(config)
        made.append({"initial": deepcopy(model), "model": model})
        return model

    def buffer_of(config, device):
        buffers.append(make_replay_buffer(config, device))
        return buffers[-1]

    buffers = []
    monkeypatch.setattr(book, "make_model", model_of)
    monkeypatch.setattr(book, "make_replay_buffer", buffer_of)
    return made, buffers


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def saved(config):
    found = sorted(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return [path.parent for path in found]


# The network.


def test_the_network_input_is_x_y_dx_dy():
    torch.manual_seed(0)
    model = book.BookNetwork((11, 21)).double()
    values = model(torch.tensor([3 * 21 + 7]))
    for action, (dx, dy) in enumerate([(0, -1), (1, 0), (0, 1), (-1, 0)]):
        inputs = torch.tensor([[7, 3, dx, dy]], dtype=torch.float64)
        torch.testing.assert_close(values[0, action], model.layers(inputs)[0, 0])
    assert [tuple(p.shape) for p in model.parameters()] == [(128, 4), (128,), (128, 128), (128,), (1, 128), (1,)]


# As written.


def test_as_written_replay_is_never_called(config, parts, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the book's program does not train")

    monkeypatch.setattr(book, "train_step", refuse)
    monkeypatch.setattr(book.ReplayBuffer, "sample", refuse)
    book.train(config)
    ((made,), (buffer,)) = parts
    assert same(made["model"], made["initial"])
    assert same(book.restore(saved(config)[0])[0], made["initial"])
    assert buffer.added == 20 + 2 * 12, "the transitions are stored"


def test_as_written_the_exit_cannot_be_reached(config, parts):
    maze = one_maze.maze_of(config)
    environment = book.make_environment(config, maze, CPU)
    assert environment.rewards.max() <= 0
    leads_to_exit = (environment.table == environment.exits[0]).view(-1, ACTIONS).any(1).nonzero().flatten()
    assert leads_to_exit.tolist() == [int(environment.exits[0])], "only the exit itself, now a wall"
    assert not maze.walls[maze.exit], "the maze was modified"
    metrics = book.train(replace(config, time_limit=10_000, warm_up=2_000, buffer_size=2_100))
    (buffer,) = parts[1]
    assert not buffer.terminated.any() and not (buffer.next_state == environment.exits[0]).any()
    assert metrics["shortest_steps"] == one_maze.distances(maze)[maze.start], (
        "the metrics do not refer to the maze with its exit"
    )


# Corrected (--corrected).


def test_corrected_trains_after_every_step_and_reaches_the_exit(config, parts, monkeypatch):
    calls = []
    step = book.train_step
    monkeypatch.setattr(book, "train_step", lambda *a, **n: calls.append(1) or step(*a, **n))
    book.train(replace(config, corrected=True, warm_up=2_000, buffer_size=2_100))
    ((made,), (buffer,)) = parts
    assert len(calls) == 2 * 12
    assert not any(
        torch.equal(a, b) for a, b in zip(made["model"].parameters(), made["initial"].parameters(), strict=True)
    )
    assert buffer.terminated.any() and buffer.reward[buffer.terminated].eq(100).all()


def test_corrected_rewards_only_the_exit_with_a_hundred(config):
    maze = one_maze.maze_of(config)
    environment = book.make_environment(replace(config, corrected=True), maze, CPU)
    rewards = environment.rewards.view(*maze.walls.shape, ACTIONS)
    next_state = next_states(maze.walls.unsqueeze(0))[0]
    here = torch.arange(maze.walls.numel()).view(*maze.walls.shape, 1)
    floor = ~maze.walls
    floor[maze.exit] = floor[maze.start] = False
    start, exit_state = (row * maze.walls.shape[1] + column for row, column in (maze.start, maze.exit))
    blocked, to_start, to_exit = next_state == here, next_state == start, next_state == exit_state
    assert rewards[floor & to_exit.any(2)][to_exit[floor & to_exit.any(2)]].tolist() == [100]
    assert rewards[floor][blocked[floor]].eq(-100).all() and rewards[floor][to_start[floor]].eq(-100).all()
    others = rewards[floor][~(blocked | to_start | to_exit)[floor]]
    assert set(others.tolist()) == {0.0, -1.0}


def test_corrected_uses_a_target_network_and_decays_the_learning_rate(config, monkeypatch):
    observations, rates = [], []
    step = book.train_step

    def watch(model, target_network, optimizer, batch, **named):
        observations.append(same(model, target_network))
        rates.append(optimizer.param_groups[0]["lr"])
        return step(model, target_network, optimizer, batch, **named)

    monkeypatch.setattr(book, "train_step", watch)
    book.train(replace(config, corrected=True))
    updated = {step + 1 for step in range(24) if step % 5 == 0} | {0}
    assert observations == [step in updated for step in range(24)]
    assert rates == pytest.approx([2e-3 * (1 - step / 24) for step in range(24)])


# Both.


@pytest.mark.parametrize("corrected", [False, True])
def test_epsilon_decays_exponentially_to_its_minimum(config, monkeypatch, corrected):
    assert [book.epsilon_at(config, step) for step in (0, 1, 100, 918, 919, 5_000)] == pytest.approx(
        [1, 0.995, 0.995**100, 0.995**918, 0.01, 0.01]
    )
    epsilons = []
    step = book.environment_step
    monkeypatch.setattr(
        book, "environment_step", lambda e, b, m, epsilon: epsilons.append(epsilon) or step(e, b, m, epsilon)
    )
    book.train(replace(config, corrected=corrected))
    assert epsilons == pytest.approx([1.0] * 20 + [0.995**t for t in range(24)]), "epsilon restarts in an epoch"


@pytest.mark.parametrize("corrected", [False, True])
def test_the_discount_is_that_of_the_book(config, corrected):
    buffer = book.make_replay_buffer(replace(book.Config(), corrected=corrected), CPU)
    assert buffer.discount == 0.95 and buffer.n_steps == 8 and buffer.alpha == 0


@pytest.mark.parametrize("corrected", [False, True])
def test_a_run_is_repeatable_and_restores(config, corrected):
    config = replace(config, corrected=corrected)
    first, second = book.train(config), book.train(config)
    assert first["optimal_action_rate"] == second["optimal_action_rate"]
    one, two = (book.restore(folder) for folder in saved(config))
    assert same(one[0], two[0]) and one[1] == config
    maze = one_maze.maze_of(config)
    assert (
        one_maze.measure(maze_dqn.values_of(one[0], maze), maze)["optimal_action_rate"] == first["optimal_action_rate"]
    )


@pytest.mark.parametrize("corrected", [False, True])
def test_a_resumed_run_ends_with_the_same_weights_and_buffer(config, parts, monkeypatch, corrected):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    config = replace(config, corrected=corrected)
    book.train(config)
    step, calls = book.environment_step, []

    def stop_in_the_second_epoch(*arguments, **named):
        calls.append(1)
        if len(calls) == 20 + 12 + 7:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(book, "environment_step", stop_in_the_second_epoch)
    with pytest.raises(KeyboardInterrupt):
        book.train(config)
    monkeypatch.setattr(book, "environment_step", step)
    book.train(replace(config, run=replace(config.run, resume=True)))
    models, buffers = parts
    assert same(models[0]["model"], models[-1]["model"]) and buffers[0].added == buffers[-1].added
    assert torch.equal(buffers[0].state, buffers[-1].state)


def test_the_figures_are_written(config, monkeypatch):
    monkeypatch.setattr(book, "report", maze_dqn.report)
    book.train(replace(config, rows=2, columns=2, epochs=1))
    (folder,) = saved(config)
    for name in ("curves.png", "values.png", "path.png", "walk.gif"):
        assert (folder / name).stat().st_size > 0


def test_play_shows_the_books_agent_in_its_maze(config, capsys, fails, tmp_path):
    book.train(config)
    (folder,) = saved(config)
    capsys.readouterr()
    play.main(["--folder", str(folder)])
    output = capsys.readouterr().out
    assert "agent    book, from" in output and "7x9 tiles" in output
    (tmp_path / "m.txt").write_text("#####\nS   E\n#####")
    error = fails(play.main, ["--folder", str(folder), "--file", str(tmp_path / "m.txt")])
    assert "was trained in one maze only" in error


def test_the_benchmark_step_runs(config):
    workload = book.workload(config, CPU)
    loss = workload.step()
    assert isinstance(loss, torch.Tensor) and float(loss) > 0
    assert workload.unit == "steps" and workload.items == 16


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"rows": 0}, "--rows must be a number above 0"),
        ({"target_every": 0}, "--target-every must be a number above 0"),
        ({"discount": 1.0}, "--discount must be between 0 and 1, got 1"),
        ({"epsilon_decay": 1.1}, "--epsilon-decay must be above 0 and at most 1, got 1.1"),
        ({"min_epsilon": -0.1}, "--min-epsilon must be between 0 and 1, got -0.1"),
        ({"n_steps": 50, "buffer_size": 10}, "--n-steps must not exceed --buffer-size, got 50"),
        ({"warm_up": 7}, "--n-steps must not exceed --warm-up, got 8"),
        ({"run": RunOptions(precision="bf16")}, r"--precision must be fp32 \(rewards .*\), got bf16"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        book.Config(**bad)
