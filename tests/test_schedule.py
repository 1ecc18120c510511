"""Learning-rate schedules over steps and over a time budget."""

import math

import pytest
import torch

from common import distributed, schedule


def test_one_cycle_by_steps():
    rates = [schedule.one_cycle(step, 10, 1.0) for step in range(10)]
    assert rates[:3] == pytest.approx([1 / 3, 2 / 3, 1.0])
    assert rates[3] == pytest.approx(1.0)
    assert rates[6] == pytest.approx((1 + math.cos(math.pi * 3 / 7)) / 2)
    assert 0 < rates[9] < 0.06
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert schedule.one_cycle(0, 1, 0.5) == 0.5


def test_one_cycle_with_a_short_warm_up():
    rates = [schedule.one_cycle(step, 20, 1.0, warm_up=0.1) for step in range(20)]
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[11] == pytest.approx(0.5), "half of the eighteen steps down"
    assert 0 < rates[19] < 0.01


def test_one_cycle_by_progress():
    assert schedule.one_cycle_at(0.0, 1.0) == 0
    assert schedule.one_cycle_at(0.02, 1.0) == pytest.approx(0.5)
    assert schedule.one_cycle_at(0.04, 1.0) == pytest.approx(1.0)
    assert schedule.one_cycle_at(0.52, 2.0) == pytest.approx(1.0)
    assert schedule.one_cycle_at(1.0, 1.0) == schedule.one_cycle_at(1.3, 1.0) == pytest.approx(0, abs=1e-12)


def test_linear_decay_ends_at_zero():
    assert [schedule.linear_at(done, 4.0) for done in (0, 0.25, 1, 1.5)] == [4.0, 3.0, 0.0, 0.0]


def test_a_trapezoid_rises_stays_and_falls():
    rates = [schedule.trapezoid_at(done, 2.0) for done in (0, 0.025, 0.05, 0.4, 0.7, 1, 1.2)]
    assert rates == pytest.approx([0.0, 1.0, 2.0, 2.0, 1.0, 0.0, 0.0])
    assert schedule.trapezoid_at(0.75, 1.0, warm_up=0.1, decay=0.5) == 0.5


def test_progress_by_steps_and_by_the_clock():
    assert schedule.progress(15, 30, seconds=999, budget=20) == 0.5
    assert schedule.progress(15, None, seconds=5, budget=20) == 0.25
    assert not schedule.out_of_time(3, 1e9, budget=20)
    assert schedule.out_of_time(None, 20, budget=20)
    assert not schedule.out_of_time(None, 19.9, budget=20)


def test_the_clock_of_the_main_process_is_used(monkeypatch):
    monkeypatch.setattr(distributed, "from_main", lambda value: 5.0)
    assert schedule.progress(0, None, seconds=0.0, budget=10) == 0.5
    assert schedule.out_of_time(None, 0.0, budget=4)


def test_every_group_gets_the_learning_rate():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in (0.1, 0.2)]
    optimizer = torch.optim.SGD(groups)
    schedule.set_learning_rate(optimizer, 0.5)
    assert [group["lr"] for group in optimizer.param_groups] == [0.5, 0.5]
