"""Scaling of the recommender: one process per size, and errors."""

import json
import os
import sys
from dataclasses import replace

import pytest
import torch

from ch03_autoencoder_rbm.films import scaling
from ch03_autoencoder_rbm.films.scaling import Config


@pytest.fixture
def config(options):
    return Config(ratings=(1_000, 2_000), epochs=1, hidden_size=4, run=options)


def die(*_):
    """End this process as if the system had killed it."""
    os._exit(9)


@pytest.mark.slow
def test_each_size_is_measured_in_its_own_process(config):
    assert Config().run.device == "cpu"
    found = scaling.train(replace(config, run=replace(config.run, precision="bf16")))
    assert found["epoch_seconds_1k"] > 0
    assert found["peak_mb_2k"] > 50
    assert "growth_exponent" in found
    summary = json.loads(next(config.run.out.rglob("summary.json")).read_text())
    assert next(config.run.out.rglob("scaling.png")).stat().st_size > 0
    assert summary["device"].endswith(", fp32"), "--precision must be ignored"


def test_a_killed_process_is_reported_as_out_of_memory(config, monkeypatch):
    monkeypatch.setattr(scaling, "measure", die)
    with pytest.raises(MemoryError, match=r"^1,000 ratings do not fit in memory: reduce --ratings$"):
        scaling.train(config)


def test_a_system_without_getrusage_raises_an_error(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(OSError, match=r"^peak memory cannot be measured on Windows: use Linux or macOS$"):
        scaling.train(config)


def test_weight_decay_is_divided_by_the_number_of_ratings(config, monkeypatch):
    make, counts = scaling.make_optimizer, []
    monkeypatch.setattr(scaling, "make_optimizer", lambda m, c, n: counts.append(n) or make(m, c, n))
    found = scaling.measure(config, 1_000, threads=torch.get_num_threads())
    assert counts == [found["ratings"]]


def test_streamed_parts_are_the_same_in_every_epoch_and_differ_from_each_other():
    stream = scaling.Stream(4_500, in_memory=1_000, seed=3)
    assert stream.parts == 5 and stream.sizes == [9] * 5
    parts = [stream.draw(part) for part in range(5)]
    for part, cases in enumerate(parts):
        again = stream.draw(part)
        assert torch.equal(again.units, cases.units) and torch.equal(again.values, cases.values)
    assert len({tuple(cases.units.tolist()) for cases in parts}) == 5
    seen = [len(cases.units) for cases in stream.shuffled(torch.Generator().manual_seed(0))]
    assert sorted(seen) == sorted(len(cases.units) for cases in parts)
    assert stream.kept is None, "a part is kept in memory"


@pytest.mark.parametrize(
    ("ratings", "in_memory", "sizes"),
    [(1_000, 1_000, [10]), (1_001, 1_000, [5, 6]), (2_500, 1_000, [8, 8, 9]), (150, 10_000, [2])],
)
def test_users_are_divided_into_parts(ratings, in_memory, sizes):
    assert scaling.Stream(ratings, in_memory, seed=0).sizes == sizes


def test_ratings_that_fit_are_drawn_once():
    stream = scaling.Stream(1_000, in_memory=1_000, seed=0)
    first = stream.draw(0)
    assert next(stream.shuffled(torch.Generator())) is first


def test_all_ratings_of_a_stream_are_trained(config, monkeypatch):
    step, ratings = scaling.train_step, []
    monkeypatch.setattr(
        scaling, "train_step", lambda m, o, batch, k: ratings.append(len(batch.units)) or step(m, o, batch, k=k)
    )
    found = scaling.measure(replace(config, in_memory=1_000, epochs=2), 4_000, threads=torch.get_num_threads())
    stream = scaling.Stream(4_000, in_memory=1_000, seed=config.run.seed)
    assert found["ratings"] == sum(len(stream.draw(part).units) for part in range(4))
    assert sum(ratings[1:]) == 2 * found["ratings"], "without the warm-up"


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ((), "--ratings needs at least one number"),
        ((999,), "--ratings must be at least 1000, got 999"),
        ((1_000, 1_000), "--ratings must increase"),
        ((2_000, 1_000), "--ratings must increase"),
        ((1_000, 1_001), "--ratings must increase, each to at least twice the previous number"),
    ],
)
def test_invalid_sizes_are_rejected(ratings, message):
    with pytest.raises(ValueError, match=message):
        Config(ratings=ratings)
