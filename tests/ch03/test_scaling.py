"""Scaling of the recommender: a process for each size, growing sizes, a size that is too large, and Windows."""

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
    """End as a process that the system kills: at once, without a word."""
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
    assert summary["device"].endswith(", fp32"), "it takes no notice of --precision"


def test_a_process_that_is_killed_is_a_lack_of_memory(config, monkeypatch):
    monkeypatch.setattr(scaling, "measure", die)
    with pytest.raises(MemoryError, match=r"^1,000 ratings do not fit in memory: ask for fewer$"):
        scaling.train(config)


def test_a_system_without_getrusage_is_one_clear_error(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "resource", None)
    with pytest.raises(OSError, match=r"^peak memory needs Python's resource module, which Windows lacks: use Linux"):
        scaling.train(config)


def test_the_prior_is_shared_out_over_the_ratings(config, monkeypatch):
    make, counts = scaling.make_optimizer, []
    monkeypatch.setattr(scaling, "make_optimizer", lambda m, c, n: counts.append(n) or make(m, c, n))
    found = scaling.measure(config, 1_000, threads=torch.get_num_threads())
    assert counts == [found["ratings"]]


@pytest.mark.parametrize(
    ("ratings", "message"),
    [
        ((), "--ratings needs at least one number"),
        ((999,), "--ratings must be at least 1000, got 999"),
        ((1_000, 1_000), "--ratings must grow"),
        ((2_000, 1_000), "--ratings must grow"),
        ((1_000, 1_001), "--ratings must grow, each to twice the one before at least"),
    ],
)
def test_bad_sizes_are_refused(ratings, message):
    with pytest.raises(ValueError, match=message):
        Config(ratings=ratings)
