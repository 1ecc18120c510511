"""The network for all mazes: planner, targets, training, metrics; and the player."""

import json
import random
from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from ch07_dqn import play
from ch07_dqn.mazes import maze_actor_critic, maze_dqn, q_table
from ch07_dqn.planning import generalise
from ch07_dqn.planning.planner import Convolutional, Planner, planes_of
from common.data.mazes.batch import ACTIONS, MazeBatch
from common.data.mazes.maze import CARVE, MOVES, carve, distances, draw_mazes, parse_maze
from conftest import train_until

CORRIDOR = "#####\nS   E\n#####"


@pytest.fixture
def config(options):
    return generalise.Config(
        rows=3, columns=4, mazes=60, tests=30, large_tests=12, batch_size=8, horizon=8, epochs=2, run=options
    )


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(generalise, "report", lambda *_: None)


def planner_with_exact_rules(discount=0.9):
    """Return a planner whose weights are set to the exact rules of the environment."""
    model = Planner(channels=6)
    first, _, last = model.read
    assert isinstance(first, torch.nn.Conv2d) and isinstance(last, torch.nn.Conv2d)
    assert last.bias is not None
    for p in model.parameters():
        p.data.zero_()
    for channel, (down, right) in enumerate(MOVES):
        first.weight.data[channel, 0, 1 + down, 1 + right] = 1  # channel a: floor on the tile that action a leads to
        model.moves.data[channel, 3 * (1 + down) + 1 + right] = 40
    first.weight.data[4, 0, 1, 1] = first.weight.data[5, 1, 1, 1] = 1  # channel 4: floor on this tile; channel 5: exit
    last.weight.data[0, 5] = 1
    last.weight.data[1, 4], last.weight.data[1, 5] = 40 + torch.logit(torch.tensor(discount)), -80
    last.bias.data[1] = -40
    for action in range(ACTIONS):
        last.weight.data[2 + action, action] = 80
        last.bias.data[2 + action] = -40
    return model


def image_of(mazes):
    walls = torch.stack([maze.walls for maze in mazes])
    return planes_of(walls, MazeBatch(mazes).exits)


def test_the_image_has_a_floor_and_an_exit_channel():
    image = image_of([parse_maze(CORRIDOR)] * 2)
    assert image.shape == (2, 2, 3, 5)
    assert image[1, 0].tolist() == [[0] * 5, [1] * 5, [0] * 5]
    assert image[1, 1].nonzero().tolist() == [[1, 4]]


def test_a_planner_with_exact_rules_equals_value_iteration():
    """With the exact rules and enough iterations, the Q-values are optimal and all mazes are solved."""
    mazes = draw_mazes(6, 3, 4, seed=0, algorithms=tuple(CARVE), loops=(0.0, 0.3))
    model = planner_with_exact_rules()
    found = model(image_of(mazes), 80).detach()
    for maze, values in zip(mazes, found, strict=True):
        best = q_table.value_iteration(MazeBatch([maze]), 0.9)[0].view(values.shape).float()
        counts = ~maze.walls
        counts[maze.exit] = False
        torch.testing.assert_close(values[counts], best[counts], atol=1e-5, rtol=1e-4)
    assert generalise.measure(model, mazes) == {
        "solve_rate": 1, "shortest_rate": 1, "path_over_shortest": 1,
        "mean_shortest": pytest.approx(sum(int(distances(m)[m.start]) for m in mazes) / 6),
    }  # fmt: skip


def test_each_iteration_extends_the_horizon_by_one_step():
    model = planner_with_exact_rules()
    image = image_of([parse_maze("#########\nS       E\n#########")])
    for iterations in range(1, 8):
        reached = model(image, iterations)[0, 1, :8].detach().amax(1) > 0.05
        assert int(reached.sum()) == iterations


def test_the_receptive_field_of_the_convolutional_network_is_its_depth():
    torch.manual_seed(0)
    model = Convolutional(channels=4, layers=3)
    torch.nn.init.normal_(model.last.weight)
    one = torch.zeros(1, 2, 5, 30)
    two = one.clone()
    two[0, 1, 2, 0] = 1
    changed = (model(one, 0) != model(two, 0)).any(3)[0].any(0)
    assert int(changed.nonzero().max()) == 1 + 3 + 1, "one tile per layer, including the first and the last"


def test_targets_by_hand():
    walls = torch.stack([parse_maze(CORRIDOR).walls] * 2)
    transitions = generalise.transitions_of(walls, torch.tensor([9, 15 + 7]))
    assert transitions.mask.sum(dim=(1, 2)).tolist() == [4, 4], "floor tiles except the exit"
    values = torch.arange(2 * 15 * 4).view(2, 3, 5, 4).float()
    y = generalise.targets(transitions, values, 0.5)
    assert y[0, 1, 3].tolist() == [0.5 * 35, 1.0, 0.5 * 35, 0.5 * 31], "reward 1 at the exit, without bootstrapping"
    assert y[0, 1, 0].tolist() == [0.5 * 23, 0.5 * 27, 0.5 * 23, 0.5 * 23], "blocked by a wall or the border"
    assert y[1, 1, 1].tolist() == [0.5 * 87, 1.0, 0.5 * 87, 0.5 * 83], "the second maze has its own exit"
    assert y[1, 1, 3].tolist()[3] == 1.0


def test_half_of_the_exits_in_a_batch_are_random_floor_tiles():
    torch.manual_seed(0)
    mazes = draw_mazes(5, 3, 3, seed=0)
    walls = torch.stack([maze.walls for maze in mazes])
    exits = torch.tensor([r * 7 + c for r, c in (maze.exit for maze in mazes)])
    chosen, exit_states = generalise.sample_batch(walls, exits, 4_000)
    tiles = exit_states % 49
    assert torch.equal(exit_states // 49, torch.arange(4_000))
    assert not chosen.flatten(1)[range(4_000), tiles].any(), "an exit is in a wall"
    assert float((tiles == exits[0]).float().mean()) == pytest.approx(0.5 + 0.5 / 19, abs=0.03)
    elsewhere = tiles[tiles != exits[0]].bincount(minlength=49)
    assert int((elsewhere > 0).sum()) >= 18
    assert all(any(torch.equal(one, w) for w in walls) for one in chosen[:20])


@pytest.mark.parametrize("network", ["planner", "convolutional"])
def test_one_batch_is_overfitted(network):
    torch.manual_seed(1)
    model = generalise.make_model(generalise.Config(network=network))
    target = deepcopy(model)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2 if network == "planner" else 1e-3)
    mazes = draw_mazes(4, 2, 2, seed=0)
    walls = torch.stack([maze.walls for maze in mazes])
    exits = MazeBatch(mazes).exits
    transitions = generalise.transitions_of(walls, exits)
    losses = []

    def step():
        if len(losses) % 10 == 0:
            target.load_state_dict(model.state_dict())
        losses.append(float(generalise.train_step(model, target, optimizer, transitions, horizon=10, discount=0.9)))

    def learned():
        return losses[-1] < 2e-3 and bool(
            (generalise.path_lengths(model(transitions.image, 10).detach(), mazes) > 0).all()
        )

    train_until(learned, step, at_most=3_000)
    assert all(p.grad is None for p in model.parameters())


def test_training_step_equals_the_gradient_of_the_loss_and_keeps_the_target_network():
    torch.manual_seed(0)
    model, target = Planner(), Planner()
    before, still = deepcopy(model), deepcopy(target)
    mazes = draw_mazes(3, 2, 3, seed=0)
    transitions = generalise.transitions_of(torch.stack([maze.walls for maze in mazes]), MazeBatch(mazes).exits)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    loss = generalise.train_step(model, target, optimizer, transitions, horizon=5, discount=0.9)
    y = generalise.targets(transitions, target(transitions.image, 4), 0.9)
    expected = ((before(transitions.image, 5) - y) ** 2)[transitions.mask].mean()
    torch.testing.assert_close(loss, expected.detach())
    gradients = torch.autograd.grad(expected, list(before.parameters()))
    scale = min(1.0, 1 / float(torch.stack([g.norm() for g in gradients]).norm()))
    for old, new, g in zip(before.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.1 * scale * g, rtol=1e-4, atol=1e-6)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), still.parameters(), strict=True))


def test_metrics_of_unsolved_mazes_and_detours(monkeypatch):
    straight = "######\nS    E\n#    #\n######"
    mazes = [parse_maze(straight)] * 3
    values = torch.stack([q_table.value_iteration(MazeBatch(mazes[:1]), 0.9)[0].view(4, 6, 4)] * 3)
    for tile, action in (((1, 1), 2), ((2, 1), 1), ((2, 2), 0)):  # a path two steps longer in the second maze
        values[1][tile] = torch.eye(4)[action].double()
    values[2, 1, 2] = torch.eye(4)[3].double()  # an endless cycle in the third maze
    assert generalise.path_lengths(values, mazes).tolist() == [5, 7, 0]
    monkeypatch.setattr(generalise, "values_of", lambda model, mazes: values)
    found = generalise.measure(torch.nn.Identity(), mazes)
    assert found["solve_rate"] == pytest.approx(2 / 3) and found["shortest_rate"] == pytest.approx(1 / 3)
    assert found["path_over_shortest"] == pytest.approx((1 + 7 / 5) / 2) and found["mean_shortest"] == 5
    monkeypatch.setattr(generalise, "values_of", lambda model, mazes: values[2:])
    none = generalise.measure(torch.nn.Identity(), mazes[2:])
    assert none["solve_rate"] == 0 and "path_over_shortest" not in none, "no maze is solved"


def test_values_do_not_depend_on_the_chunks():
    torch.manual_seed(0)
    mazes = draw_mazes(70, 2, 2, seed=0)
    model = Planner()
    together = generalise.values_of(model, mazes)
    assert together.shape == (70, 5, 5, 4)
    torch.testing.assert_close(together[60], generalise.values_of(model, mazes[60:61])[0])


def test_splits_have_no_common_mazes(config):
    whole = generalise.Config()
    drawn = generalise.draw_split(whole, "train", 300)
    tests = generalise.draw_split(whole, "test", 300)
    assert len(generalise.unseen(tests, drawn)) == 300
    assert len({str(maze) for maze in drawn}) == 300
    assert generalise.draw_split(whole, "large", 2, scale=2)[0].walls.shape == (21, 41)
    assert len(generalise.draw_split(replace(config, run=replace(config.run, limit=7)), "train", 60)) == 7
    assert len(generalise.unseen(drawn[:5], drawn[:3])) == 2
    with pytest.raises(ValueError, match="all mazes of this size are in the training set: increase --rows"):
        generalise.unseen(drawn[:3], drawn)


def weights_of(config):
    found = sorted(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    return [generalise.restore(path.parent)[0] for path in found]


def same(one, two):
    return all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))


def test_a_run_by_epochs_is_repeatable_and_restores(config):
    first, second = generalise.train(config), generalise.train(config)
    one, two = weights_of(config)
    assert same(one, two) and first["test_solve_rate"] == second["test_solve_rate"]
    drawn = generalise.draw_split(config, "train", 60)
    tests = generalise.unseen(generalise.draw_split(config, "test", 30), drawn)
    assert generalise.measure(one, tests)["solve_rate"] == first["test_solve_rate"]
    folder = next(config.run.out.rglob("model.safetensors")).parent
    for name in ("curves", "values", "path"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads((folder / "summary.json").read_text())["data"]["embedded"] is True


@pytest.mark.usefixtures("no_figures")
def test_the_budget_ends_the_run_within_an_epoch(config, monkeypatch):
    ticks = iter(range(10_000))
    monkeypatch.setattr(generalise.Run, "elapsed", lambda run: float(next(ticks)))
    calls = []
    step = generalise.train_step
    monkeypatch.setattr(generalise, "train_step", lambda *a, **n: calls.append(1) or step(*a, **n))
    generalise.train(replace(config, epochs=None, budget=9.0))
    assert len(calls) == 5, "two calls of the clock per step"


@pytest.mark.usefixtures("no_figures")
def test_a_resumed_run_ends_with_the_same_weights(config, monkeypatch):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(generalise, "STEPS", 12)
    config = replace(config, epochs=3, target_every=5)
    generalise.train(config)
    step, calls = generalise.train_step, []

    def stop_in_the_third_epoch(*arguments, **named):
        calls.append(1)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return step(*arguments, **named)

    monkeypatch.setattr(generalise, "train_step", stop_in_the_third_epoch)
    with pytest.raises(KeyboardInterrupt):
        generalise.train(config)
    monkeypatch.setattr(generalise, "train_step", step)
    generalise.train(replace(config, run=replace(config.run, resume=True)))
    one, two = weights_of(config)
    assert same(one, two)


@pytest.mark.parametrize("network", ["planner", "convolutional"])
def test_the_benchmark_step_runs(config, network):
    settings = generalise.Config(network=network, rows=3, columns=4, batch_size=8, horizon=3, run=config.run)
    workload = generalise.workload(settings, torch.device("cpu"))
    loss = workload.step()
    assert isinstance(loss, torch.Tensor) and float(loss) > 0
    assert workload.unit == "mazes" and workload.items == 8


def test_defaults_depend_on_the_network():
    planner, convolutional = generalise.Config(), generalise.Config(network="convolutional")
    assert (planner.target_every, planner.learning_rate) == (0, 1e-2)
    assert (convolutional.target_every, convolutional.learning_rate) == (50, 1e-3)
    given = generalise.Config(network="convolutional", target_every=0, learning_rate=0.5)
    assert (given.target_every, given.learning_rate) == (0, 0.5)


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("target_every", [0, 5])
def test_the_target_network_is_copied_every_n_steps(config, monkeypatch, target_every):
    monkeypatch.setattr(generalise, "STEPS", 12)
    observations = []
    step = generalise.train_step

    def watch(model, target_network, optimizer, transitions, **named):
        observations.append((model is target_network, same(model, target_network)))
        return step(model, target_network, optimizer, transitions, **named)

    monkeypatch.setattr(generalise, "train_step", watch)
    generalise.train(replace(config, epochs=1, target_every=target_every))
    assert all(one == (target_every == 0) for one, _ in observations)
    if target_every:
        assert [equal for _, equal in observations] == [step in (0, 1, 6, 11) for step in range(12)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"horizon": 0}, "--horizon must be a number above 0, got 0"),
        ({"discount": 1.0}, "--discount must be between 0 and 1"),
        ({"budget": 0.0}, "--budget must be a number above 0"),
        ({"mazes": 0}, "--mazes must be a number above 0"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        generalise.Config(**bad)


# The player.


@pytest.fixture
def trained(config, monkeypatch):
    """Folder with a finished run whose planner has the exact rules."""
    monkeypatch.setattr(generalise, "make_model", lambda config: planner_with_exact_rules())
    monkeypatch.setattr(generalise, "train_step", lambda *a, **n: torch.zeros(()))
    generalise.train(replace(config, epochs=1))
    return config.run.out


def test_play_shows_generated_mazes_and_mazes_from_files(trained, tmp_path, capsys):
    play.main(["--maze", "7", "--rows", "3", "--columns", "5", "--out", str(trained), "--gif", str(tmp_path / "w.gif")])
    output = capsys.readouterr().out
    maze = carve(3, 5, random.Random(7))
    steps = int(distances(maze)[maze.start])
    assert f"reached the exit in {steps} steps; the shortest path has {steps}" in output
    walls = [line.replace(".", " ") for line in output.splitlines() if line.startswith(("#", "S"))]
    assert walls == str(maze).replace("E", "@").splitlines()
    assert sum(line.count(".") for line in output.splitlines() if line.startswith(("#", "S"))) == steps - 1
    assert (tmp_path / "w.gif").read_bytes()[:3] == b"GIF"
    (tmp_path / "m.txt").write_text(CORRIDOR)
    play.main(["--file", str(tmp_path / "m.txt"), "--out", str(trained)])
    output = capsys.readouterr().out
    assert "S...@" in output and "3x5 tiles, shortest path 4 steps" in output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("#####\n    E\n#####", "has no start: add one 'S'"),
        ("#####\nS    \n#####", "has no exit: add one 'E'"),
        ("#####\nS # E\n#####", "the exit cannot be reached from the start"),
    ],
)
def test_play_reports_an_invalid_maze_in_one_line(trained, tmp_path, fails, capsys, text, message):
    (tmp_path / "m.txt").write_text(text)
    capsys.readouterr()
    error = fails(play.main, ["--file", str(tmp_path / "m.txt"), "--out", str(trained)])
    assert message in error and "m.txt" in error


def test_play_shows_single_maze_agents_in_their_maze(options, capsys, fails, tmp_path):
    small = {"maze": 1, "rows": 2, "columns": 2, "environments": 4, "epochs": 1, "steps": 5, "run": options}
    maze_dqn.train(maze_dqn.Config(**small, warm_up=1, n_steps=1))
    maze_actor_critic.train(maze_actor_critic.Config(**small))
    q_table.train(q_table.Config(rows=2, columns=2, steps=100, environments=4, run=options))
    (tmp_path / "m.txt").write_text(CORRIDOR)
    capsys.readouterr()
    for program in ("maze_dqn", "maze_actor_critic"):
        folder = next(options.out.glob(f"ch07_dqn/{program}/*"))
        play.main(["--folder", str(folder)])
        output = capsys.readouterr().out
        assert f"agent    {program}, from" in output and "5x5 tiles" in output
        assert "was trained in one maze only" in fails(
            play.main, ["--folder", str(folder), "--file", str(tmp_path / "m.txt")]
        )
    folder = next(options.out.glob("ch07_dqn/q_table/*"))
    assert "is a run of q_table, which has no agent to play" in fails(play.main, ["--folder", str(folder)])
    assert "is not a run folder" in fails(play.main, ["--folder", str(tmp_path)])


def test_play_without_a_run_names_the_training_command(fails, tmp_path):
    assert "gone.txt does not exist" in fails(play.main, ["--out", str(tmp_path), "--file", "gone.txt"])
    error = fails(play.main, ["--out", str(tmp_path)])
    assert "train one with python -m ch07_dqn.train generalise" in error
    assert "--gif must name a file that ends with .gif" in fails(play.main, ["--gif", "x.png"])
    assert "did you mean --maze?" in fails(play.main, ["--maz", "3"])


def test_play_reports_a_path_that_does_not_reach_the_exit(trained, monkeypatch, capsys):
    monkeypatch.setattr(generalise, "values_of", lambda model, mazes: torch.zeros(1, *mazes[0].walls.shape, 4))
    play.main(["--out", str(trained)])
    assert "the path repeats after 0 steps and does not reach the exit" in capsys.readouterr().out


def test_wide_text_has_two_columns_per_tile():
    maze = parse_maze(CORRIDOR)
    rows = play.render(maze, [(1, 0), (1, 1), (1, 2)], wide=True).splitlines()
    assert rows == ["██" * 5, "S · @   E ", "██" * 5]
