"""The learned model of the mazes: random walks, predictions, fit, planning with it, and counted environment steps."""

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch07_dqn.planning import generalise, local_model
from ch07_dqn.planning.local_model import Experience, LocalModel, model_errors, random_walks
from ch07_dqn.planning.transitions import transitions_of
from common.data.mazes.maze import draw_mazes, parse_maze
from conftest import train_until

CORRIDOR = "#####\nS   E\n#####"


@pytest.fixture
def config(options):
    return generalise.Config(
        rows=3, columns=4, mazes=60, tests=30, large_tests=3, batch_size=8, horizon=8, epochs=2, run=options
    )


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(generalise, "report", lambda *_: None)
    monkeypatch.setattr(generalise, "STEPS", 6)
    monkeypatch.setattr(local_model, "STEPS", 10)


BINARY = torch.tensor([0.0, 1.0])


def exact_model(_rewards: torch.Tensor = BINARY) -> LocalModel:
    """Return a model with the exact rules: 0 to 3: floor ahead of each action; 4 to 7: the exit ahead."""
    model = LocalModel(BINARY, channels=8)
    for parameter in model.parameters():
        parameter.data.zero_()
    first, _, last = model.read
    assert isinstance(first, torch.nn.Conv2d) and isinstance(last, torch.nn.Conv2d) and last.bias is not None
    for action, (down, right) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
        first.weight.data[action, 0, 1 + down, 1 + right] = first.weight.data[4 + action, 1, 1 + down, 1 + right] = 1
        start = 12 * action
        last.weight.data[start + 3 * (1 + down) + 1 + right, action] = 2  # next tile: ahead if it is floor
        last.bias.data[start + 4] = 1  # otherwise this tile
        for output in (start + 10, start + 11):  # reward 1 instead of 0, and the end
            last.weight.data[output, 4 + action], last.bias.data[output] = 2, -1
    return model


def test_walks_in_a_corridor_by_hand():
    torch.manual_seed(0)
    walk = random_walks([parse_maze(CORRIDOR)] * 50, 2_000)
    assert [len(part) for part in walk] == [2_000] * 5
    assert walk.action.bincount(minlength=4).min() > 400, "actions are uniform"
    vertical = (walk.action == 0) | (walk.action == 2)
    assert (walk.place[vertical] == 4).all(), "walls above and below"
    ahead = walk.patch[torch.arange(2_000), :, 1, 1 + torch.where(walk.action == 1, 1, -1)]  # (T, 2) floor and exit
    moved = ~vertical & (ahead[:, 0] > 0)
    assert torch.equal(walk.place[~vertical], torch.where(moved, torch.where(walk.action == 1, 5, 3), 4)[~vertical])
    exit_ahead = ~vertical & (ahead[:, 1] > 0)
    assert exit_ahead.sum() > 50
    assert torch.equal(walk.reward, exit_ahead.float())
    assert torch.equal(walk.ended, exit_ahead.float())
    assert (walk.patch[:, 0, 1, 1] == 1).all(), "the agent is on a floor tile"
    assert (walk.patch[:, 1, 1, 1] == 0).all(), "a walk that reaches the exit starts again elsewhere"


def test_walks_continue_where_they_were():
    torch.manual_seed(0)
    count = 20
    walk = random_walks(draw_mazes(count, 3, 3, seed=0), 10 * count)
    at = torch.arange(count)
    for step in range(9):
        now, then = (Experience(*(part[count * n + at] for part in walk)) for n in (step, step + 1))
        stayed = (now.place == 4) & (now.ended == 0)
        assert torch.equal(now.patch[stayed], then.patch[stayed])
        right = (now.place == 5) & (now.ended == 0)
        assert torch.equal(now.patch[right][..., 1:], then.patch[right][..., :-1])
        down = (now.place == 7) & (now.ended == 0)
        assert torch.equal(now.patch[down][..., 1:, :], then.patch[down][..., :-1, :])


def test_the_number_of_steps_is_exact_even_if_the_mazes_do_not_divide_it():
    mazes = draw_mazes(7, 2, 2, seed=0)
    assert [len(random_walks(mazes, steps).action) for steps in (1, 3, 7, 16)] == [1, 3, 7, 16]
    moved = [bool((random_walks(mazes * 40, 280).patch[:, 1]).sum() > 0) for _ in range(2)]
    assert all(moved), "exits are moved near the agents"


def test_a_model_with_the_exact_rules_has_no_errors():
    mazes = draw_mazes(20, 3, 4, seed=0)
    model = exact_model()
    assert model_errors(model, mazes) == {"next_tile_error_rate": 0, "end_error_rate": 0, "reward_mae": 0}
    walls = torch.stack([maze.walls for maze in mazes[:2]])
    exits = torch.tensor([10, 63 + 12])
    true, predicted = transitions_of(walls, exits), model.transitions(walls, exits)
    for name in ("image", "mask"):
        assert torch.equal(getattr(true, name), getattr(predicted, name))
    for name in ("reward", "next_state", "ended"):
        assert torch.equal(getattr(true, name)[true.mask], getattr(predicted, name)[true.mask]), name


def test_each_error_is_measured():
    mazes = draw_mazes(20, 3, 4, seed=0)
    for channel, name in ((4, "next_tile_error_rate"), (10, "reward_mae"), (11, "end_error_rate")):
        model = exact_model()
        last = model.read[2]
        assert isinstance(last, torch.nn.Conv2d) and last.bias is not None
        last.bias.data[channel] += 5  # of action 0
        errors = model_errors(model, mazes)
        assert 0.05 < errors.pop(name) <= 5 / 4
        assert set(errors.values()) == {0}


def test_next_tiles_outside_the_maze_become_the_nearest():
    place = torch.tensor([0, 1, 4, 8]).expand(2, 2, 3, 4)
    found = local_model.move(place)
    assert found[0, 0, 0].tolist() == [0, 0, 0, 4]
    assert found[1, 1, 2].tolist() == [6 + 1, 6 + 2, 6 + 5, 6 + 5]
    assert found[1, 0, 1].tolist() == [6 + 0, 6 + 1, 6 + 1, 6 + 5]


def test_the_step_equals_the_gradient_of_the_three_losses():
    torch.manual_seed(0)
    model = LocalModel(BINARY, channels=5).double()
    before = deepcopy(model)
    walk = random_walks(draw_mazes(30, 2, 2, seed=0), 60)
    walk = walk._replace(patch=walk.patch.double(), reward=walk.reward.double(), ended=walk.ended.double())
    loss = local_model.train_step(model, torch.optim.SGD(model.parameters(), 0.1), walk)
    expected = torch.zeros((), dtype=torch.float64)
    for patch, action, place, reward, ended in zip(*walk, strict=True):
        outputs = before.read(patch[None]).flatten()[12 * action : 12 * action + 12]
        end = outputs[11].sigmoid()
        expected -= outputs[:9].log_softmax(0)[place] + torch.where(ended > 0, end, 1 - end).log()
        expected -= outputs[9:11].log_softmax(0)[int(reward)]
    expected = expected / 60
    torch.testing.assert_close(loss, expected.detach())
    gradients = torch.autograd.grad(expected, list(before.parameters()))
    for old, new, g in zip(before.parameters(), model.parameters(), gradients, strict=True):
        torch.testing.assert_close(new, old - 0.1 * g)
    assert all(p.grad is None for p in model.parameters())


def test_image_and_patches_give_the_same_predictions():
    torch.manual_seed(0)
    model = LocalModel(BINARY, channels=5)
    image = torch.rand(2, 2, 4, 5)
    patches = F.unfold(image, 3, padding=1).mT.reshape(-1, 2, 3, 3)
    for whole, single in zip(model(F.pad(image, (1, 1, 1, 1))), model(patches), strict=True):
        torch.testing.assert_close(whole.flatten(0, 2), single[:, 0, 0])


def test_one_batch_is_learned():
    torch.manual_seed(0)
    model, mazes = LocalModel(BINARY, channels=32), draw_mazes(60, 2, 3, seed=0)
    walk = random_walks(mazes, 400)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)

    @torch.no_grad()
    def learned():
        place, reward, end = (part[:, 0, 0][torch.arange(400), walk.action] for part in model(walk.patch))
        right = (place.argmax(1) == walk.place).all() and ((end > 0) == (walk.ended > 0)).all()
        return bool(right) and bool((reward.argmax(1) == walk.reward).all())

    train_until(learned, lambda: local_model.train_step(model, optimizer, walk), at_most=2_000)


@pytest.mark.usefixtures("quick")
def test_a_run_with_a_learned_model_is_repeatable_and_uses_it(config, monkeypatch):
    config = replace(config, model="learned", environment_steps=100)
    first, second = generalise.train(config), generalise.train(config)
    same = [name for name in first if "second" not in name]
    assert all(first[name] == second[name] for name in same)
    assert first["environment_steps"] == 100
    assert 0 < first["model_next_tile_error_rate"] < 1
    monkeypatch.setattr(generalise, "LocalModel", exact_model)
    monkeypatch.setattr(generalise, "fit", lambda *_: None)
    exact = generalise.train(config)
    assert exact["model_next_tile_error_rate"] == exact["model_end_error_rate"] == exact["model_reward_mae"] == 0
    given = generalise.train(replace(config, model="given", environment_steps=0))
    assert "model_reward_mae" not in given
    assert exact["test_solve_rate"] == given["test_solve_rate"], "exact rules give the same planner"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("model", ["given", "learned"])
def test_environment_steps_are_counted_also_across_a_resume(config, monkeypatch, model):
    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    config = replace(config, model=model, environment_steps=0 if model == "given" else 90, epochs=3)
    counted, step = [], generalise.train_step

    def count(network, target, optimizer, transitions, **named):
        counted.append(4 * int(transitions.mask.sum()))
        return step(network, target, optimizer, transitions, **named)

    monkeypatch.setattr(generalise, "train_step", count)
    whole = generalise.train(config)
    assert len(counted) == 18
    assert whole["environment_steps"] == (sum(counted) if model == "given" else 90)
    log = next(config.run.out.rglob("metrics.jsonl"))
    logged = [json.loads(line)["environment_steps"] for line in log.read_text().splitlines()]
    expected = [sum(counted[: 6 * epoch]) for epoch in (1, 2, 3)]
    assert logged == (expected if model == "given" else [90] * 3)

    def stop(*arguments, **named):
        if len(counted) == 18 + 14:
            raise KeyboardInterrupt
        return count(*arguments, **named)

    monkeypatch.setattr(generalise, "train_step", stop)
    with pytest.raises(KeyboardInterrupt):
        generalise.train(config)
    monkeypatch.setattr(generalise, "train_step", step)
    resumed = generalise.train(replace(config, run=replace(config.run, resume=True)))
    assert resumed["environment_steps"] == whole["environment_steps"]
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two


@pytest.mark.usefixtures("quick")
def test_the_given_simulator_can_be_limited(config, monkeypatch):
    walls = torch.stack([maze.walls for maze in generalise.draw_split(config, "train", 60)])
    states = float((~walls).flatten(1).sum(1).double().mean()) - 1
    assert generalise.steps_per_gradient(walls, 8) == pytest.approx(8 * 4 * states)
    for allowed, steps in ((8.4 * 8 * 4 * states, 8), (1, 1)):
        limited = replace(config, epochs=None, environment_steps=int(allowed))
        assert generalise.gradient_steps(limited, walls) == steps
    assert generalise.gradient_steps(config, walls) == 12
    assert generalise.gradient_steps(replace(config, epochs=None), walls) is None
    rates = []
    monkeypatch.setattr(generalise, "set_learning_rate", lambda _, rate: rates.append(rate))
    found = generalise.train(replace(config, epochs=None, environment_steps=int(8.4 * 8 * 4 * states)))
    assert rates == pytest.approx([1e-2 * (1 - step / 8) for step in range(8)]), "an epoch has six steps here"
    assert found["environment_steps"] == pytest.approx(8 * 8 * 4 * states, rel=0.03)


def test_sample_efficiency_is_that_of_the_first_epoch_that_reaches_the_rate():
    rates = (0.5, 0.9, 0.8, 0.985, 0.99)
    history = [
        {"epoch": n, "steps": 7, "seconds": 2.0, "valid_solve_rate": rate, "environment_steps": 100 * n}
        for n, rate in enumerate(rates, start=1)
    ]
    expected = {"solve_90_environment_steps": 200, "solve_90_gradient_steps": 14, "solve_90_seconds": 4.0}
    assert generalise.sample_efficiency(history[:4]) == expected
    assert generalise.sample_efficiency(history)["solve_99_gradient_steps"] == 35
    assert generalise.sample_efficiency(history[:1]) == {}


def test_the_benchmark_step_runs_with_a_learned_model(config):
    loss = generalise.workload(replace(config, model="learned", environment_steps=None), torch.device("cpu")).step()
    assert isinstance(loss, torch.Tensor) and torch.isfinite(loss)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"environment_steps": -1}, "--environment-steps must not be negative, got -1"),
        ({"model": "learned", "environment_steps": 0}, "--model learned needs --environment-steps above 0"),
        ({"epochs": 3, "environment_steps": 10}, "--epochs and --environment-steps cannot be used together"),
    ],
)
def test_invalid_settings_are_rejected(bad, message):
    with pytest.raises(ValueError, match=message):
        generalise.Config(**bad)
    assert generalise.Config(model="learned").environment_steps == 20_000
