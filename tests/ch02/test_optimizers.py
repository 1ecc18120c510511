"""Optimizers and schedules: comparison with torch over many steps, and with calculations by hand."""

import copy
import inspect
import math
from functools import partial

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler

from ch02_nn import schedules
from ch02_nn.exercises.checks import ADAMW
from ch02_nn.optimizers import (
    LIBRARY,
    OPTIMIZERS,
    SGD,
    Adadelta,
    Adagrad,
    Adam,
    AdamW,
    GorgoniaRMSProp,
    Momentum,
    Nesterov,
    RMSprop,
)

DECAY = {"weight_decay": 0.05}
PAIRS = [
    (partial(SGD, lr=0.1), partial(torch.optim.SGD, lr=0.1)),
    (partial(SGD, lr=0.1, **DECAY), partial(torch.optim.SGD, lr=0.1, **DECAY)),
    (partial(Momentum, lr=0.03), partial(torch.optim.SGD, lr=0.03, momentum=0.9)),
    (
        partial(Momentum, lr=0.05, momentum=0.7, dampening=0.3, **DECAY),
        partial(torch.optim.SGD, lr=0.05, momentum=0.7, dampening=0.3, **DECAY),
    ),
    (partial(Nesterov, lr=0.03), partial(torch.optim.SGD, lr=0.03, momentum=0.9, nesterov=True)),
    (
        partial(Nesterov, lr=0.05, momentum=0.6, **DECAY),
        partial(torch.optim.SGD, lr=0.05, momentum=0.6, nesterov=True, **DECAY),
    ),
    (partial(Adagrad, lr=0.1), partial(torch.optim.Adagrad, lr=0.1)),
    (partial(Adagrad, lr=0.1, eps=1e-3, **DECAY), partial(torch.optim.Adagrad, lr=0.1, eps=1e-3, **DECAY)),
    (RMSprop, torch.optim.RMSprop),
    (
        partial(RMSprop, alpha=0.9, momentum=0.5, eps=1e-4, **DECAY),
        partial(torch.optim.RMSprop, alpha=0.9, momentum=0.5, eps=1e-4, **DECAY),
    ),
    (
        partial(RMSprop, lr=1e-3, alpha=0.95, centered=True, **DECAY),
        partial(torch.optim.RMSprop, lr=1e-3, alpha=0.95, centered=True, **DECAY),
    ),
    (
        partial(RMSprop, lr=1e-3, alpha=0.95, centered=True, momentum=0.9),
        partial(torch.optim.RMSprop, lr=1e-3, alpha=0.95, centered=True, momentum=0.9),
    ),
    (Adadelta, torch.optim.Adadelta),
    (
        partial(Adadelta, lr=0.5, rho=0.8, eps=1e-4, **DECAY),
        partial(torch.optim.Adadelta, lr=0.5, rho=0.8, eps=1e-4, **DECAY),
    ),
    (partial(Adam, lr=0.01), partial(torch.optim.Adam, lr=0.01)),
    (
        partial(Adam, lr=0.01, betas=(0.8, 0.95), eps=1e-4, **DECAY),
        partial(torch.optim.Adam, lr=0.01, betas=(0.8, 0.95), eps=1e-4, **DECAY),
    ),
    (partial(AdamW, lr=0.01), partial(torch.optim.AdamW, lr=0.01)),
    (
        partial(AdamW, lr=0.01, betas=(0.5, 0.9), weight_decay=0.3),
        partial(torch.optim.AdamW, lr=0.01, betas=(0.5, 0.9), weight_decay=0.3),
    ),
]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def run(model, optimizer, steps, first=0):
    for step in range(first, first + steps):
        generator = torch.Generator().manual_seed(step)
        x, y = torch.randn(6, 5, generator=generator).double(), torch.randn(6, 3, generator=generator).double()
        optimizer.zero_grad()
        (model(x) - y).square().mean().backward()
        optimizer.step()


def described(pair) -> str:
    rule = pair[0] if isinstance(pair[0], partial) else partial(pair[0])
    return "-".join([rule.func.__name__, *rule.keywords])


@pytest.mark.parametrize("pair", PAIRS, ids=described)
def test_a_hundred_steps_match_torch(pair):
    ours, theirs = network(), network()
    start = copy.deepcopy(ours)
    run(ours, pair[0](ours.parameters()), 100)
    run(theirs, pair[1](theirs.parameters()), 100)
    for one, two, before in zip(ours.parameters(), theirs.parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)
        assert float((one - before).detach().abs().max()) > 1e-3, (
            "the weights did not change, so the comparison is void"
        )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_defaults_match_torch(name):
    ours, theirs = network(), network()
    run(ours, OPTIMIZERS[name](ours.parameters()), 20)
    run(theirs, LIBRARY[name](theirs.parameters()), 20)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)


def test_adamw_without_weight_decay_is_adam():
    """The results of `compare_optimizers` for both therefore differ only because of the weight decay."""
    ours, theirs = network(), network()
    run(ours, AdamW(ours.parameters(), lr=0.01, weight_decay=0), 50)
    run(theirs, Adam(theirs.parameters(), lr=0.01), 50)
    for one, two in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, two)
    assert inspect.signature(AdamW).parameters["weight_decay"].default == 0.01
    assert inspect.signature(Adam).parameters["weight_decay"].default == 0


def test_gorgonia_rmsprop_by_hand():
    p = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = GorgoniaRMSProp([p], weight_decay=0.01)
    weight, c = 1.0, 0.0
    for g in (0.5, -2.0, 1e-6):
        p.grad = torch.tensor([g], dtype=torch.float64)
        optimizer.step()
        c = 0.999 * c + 0.001 * g * g
        weight = weight - 0.001 * g / math.sqrt(c + 1e-8) - 0.01 * weight
        assert p.item() == pytest.approx(weight, rel=1e-14)


def test_first_step_of_gorgonia_rmsprop_is_32_learning_rates_and_of_rmsprop_10():
    steps = []
    for rule in (GorgoniaRMSProp, RMSprop):
        p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
        p.grad = torch.tensor([3.0], dtype=torch.float64)
        rule([p], lr=1.0).step()
        steps.append(-p.item())
    assert steps == pytest.approx([math.sqrt(1_000), 10], rel=1e-6)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_after_loading_a_saved_state_are_the_same(name):
    uninterrupted, resumed = network(), network()
    run(uninterrupted, OPTIMIZERS[name](uninterrupted.parameters()), 20)
    first = OPTIMIZERS[name](resumed.parameters())
    run(resumed, first, 10)
    second = OPTIMIZERS[name](resumed.parameters())
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    run(resumed, second, 10, first=10)
    assert all(torch.equal(a, b) for a, b in zip(uninterrupted.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_several_learning_rates_at_once_match_separate_runs(name):
    rates = [0.01, 0.1]
    gradients = torch.randn(5, 1, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    together = nn.Parameter(torch.ones(2, 3, dtype=torch.float64))
    optimizer = OPTIMIZERS[name]([together], lr=torch.tensor(rates, dtype=torch.float64)[:, None])
    for g in gradients:
        together.grad = g.repeat(2, 1)
        optimizer.step()
    for row, rate in enumerate(rates):
        alone = nn.Parameter(torch.ones(1, 3, dtype=torch.float64))
        optimizer = OPTIMIZERS[name]([alone], lr=rate)
        for g in gradients:
            alone.grad = g.clone()
            optimizer.step()
        torch.testing.assert_close(together[row], alone[0], rtol=1e-12, atol=1e-14)


def test_step_runs_the_closure_and_skips_parameters_without_gradient():
    updated, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    optimizer = SGD([updated, unused], lr=0.5)

    def closure():
        loss = updated.square().sum()
        loss.backward()
        return loss

    assert optimizer.step(closure).item() == 2
    assert updated.tolist() == [0, 0]
    assert unused.tolist() == [1, 1]


def test_step_does_not_change_gradients():
    p = nn.Parameter(torch.ones(2))
    p.grad = torch.ones(2)
    SGD([p], lr=0.1, weight_decay=0.5).step()
    assert p.grad.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        (SGD, {"lr": -1.0}, "SGD: lr must be a finite number of at least 0, got -1.0"),
        (Adam, {"lr": float("nan")}, "Adam: lr must be a finite number"),
        (Momentum, {"momentum": 1.0}, "Momentum: momentum must be at least 0 and below 1, got 1.0"),
        (Momentum, {"dampening": -0.1}, "dampening must be at least 0 and below 1"),
        (RMSprop, {"alpha": 1.5}, "RMSprop: alpha must be"),
        (GorgoniaRMSProp, {"decay": -0.1}, "GorgoniaRMSProp: decay must be"),
        (Adadelta, {"rho": 2}, "Adadelta: rho must be"),
        (Adam, {"betas": (0.9, 1.0)}, r"Adam: betas must be at least 0 and below 1, got \(0.9, 1.0\)"),
        (AdamW, {"weight_decay": -1}, "AdamW: weight_decay must be a finite number"),
        (Adagrad, {"eps": float("inf")}, "Adagrad: eps must be a finite number"),
    ],
)
def test_errors_of_hyperparameters_out_of_range(rule, settings, message):
    with pytest.raises(ValueError, match=message):
        rule([nn.Parameter(torch.ones(1))], **settings)


def test_sparse_gradients_are_rejected():
    p = nn.Parameter(torch.ones(3))
    with torch.sparse.check_sparse_tensor_invariants():  # a decision for or against, without which torch 2.11 warns
        p.grad = torch.sparse_coo_tensor(torch.tensor([[0]]), torch.tensor([1.0]), (3,))
    with pytest.raises(ValueError, match="SGD needs dense gradients"):
        SGD([p]).step()


def test_rules_are_short():
    """Each update rule has at most ten lines."""
    for rule in set(OPTIMIZERS.values()):
        assert len(inspect.getsource(rule._update).splitlines()) <= 10


def torch_schedule(make, steps):
    """Return the learning rates of a scheduler of torch."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.7)
    scheduler = make(optimizer)
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return found


def test_schedules_match_torch():
    steps = 50
    expected = {
        "step": torch_schedule(lambda o: lr_scheduler.StepLR(o, 7, 0.3), steps),
        "cosine": torch_schedule(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, 0.05), steps),
        "warm-up": torch_schedule(lambda o: lr_scheduler.LinearLR(o, 1 / 10, 1, total_iters=9), steps),
        "one-cycle": torch_schedule(lambda o: lr_scheduler.OneCycleLR(o, 0.7, steps, cycle_momentum=False), steps),
    }
    ours = {
        "step": [schedules.step_decay(t, 0.7, every=7, factor=0.3) for t in range(steps)],
        "cosine": [schedules.cosine(t, steps, 0.7, floor=0.05) for t in range(steps)],
        "warm-up": [schedules.warm_up(t, 0.7, steps=10) for t in range(steps)],
        "one-cycle": [schedules.one_cycle(t, steps, 0.7) for t in range(steps)],
    }
    for name, values in expected.items():
        assert ours[name] == pytest.approx(values, rel=1e-10), name


@pytest.mark.parametrize("warm", [0.1, 0.25, 0.5])
def test_one_cycle_matches_torch_for_any_warm_up(warm):
    expected = torch_schedule(lambda o: lr_scheduler.OneCycleLR(o, 2.0, 40, pct_start=warm, cycle_momentum=False), 40)
    assert [schedules.one_cycle(t, 40, 2.0, warm=warm) for t in range(40)] == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("name", schedules.SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
def test_schedules_support_few_steps(name, steps):
    values = [schedules.SCHEDULES[name](step, steps, 0.5) for step in range(steps)]
    assert all(0 <= value <= 0.5 for value in values)
    assert max(values) > 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: schedules.one_cycle(10, 10, 1.0), "the step of a one-cycle schedule must be between 0 and 9, got 10"),
        (
            lambda: schedules.one_cycle(0, 10, 1.0, warm=1.0),
            "the fraction of warm-up steps must be between 0 and 1, got 1.0",
        ),
        (lambda: schedules.cosine(11, 10, 1.0), "must be between 0 and 10, got 11"),
        (lambda: schedules.step_decay(1, 1.0, every=0), "`every` must be at least 1, got 0"),
        (lambda: schedules.warm_up(1, 1.0, steps=0), "at least 1 step, got 0"),
    ],
)
def test_errors_of_schedules(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_the_reference_of_the_exercise_is_adamw_of_torch():
    before = {"theta": torch.tensor([1.0, -2.0]), "m": torch.tensor([0.5, 0.1]), "v": torch.tensor([0.3, 2.0])}
    before = {name: value.double() for name, value in before.items()}
    g = torch.tensor([0.7, -3.0], dtype=torch.float64)
    parameter = torch.nn.Parameter(before["theta"].clone())
    optimizer = torch.optim.AdamW([parameter], lr=0.1, weight_decay=0.5)
    state = {"step": torch.tensor(2.0), "exp_avg": before["m"].clone(), "exp_avg_sq": before["v"].clone()}
    optimizer.state[parameter] = state
    parameter.grad = g
    optimizer.step()
    found = ADAMW.reference(**before, g=g, t=3, lr=0.1, weight_decay=0.5)
    for one, other in zip(found, (parameter.detach(), state["exp_avg"], state["exp_avg_sq"]), strict=True):
        torch.testing.assert_close(one, other)
