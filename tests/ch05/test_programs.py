"""What is measured: gradients through time, recall, and tokens a second."""

from dataclasses import replace

import pytest
import torch

from ch05_rnn.recurrence import gradients, throughput
from ch05_rnn.recurrence.gradients import CASES, SYMBOLS, Recall


@pytest.fixture
def config(options):
    return gradients.Config(hidden_size=16, batch_size=16, lags=(3, 12), training_steps=2, run=options)


def test_the_gradient_of_a_linear_walk_is_known():
    """Where h stays so small that tanh is the identity, k steps back the gradient is W'^k times the direction."""
    torch.manual_seed(0)
    model = Recall("rnn_large", 8, 5)
    model.recurrent.cell.weight_ih.data.mul_(1e-6)
    norms = gradients.gradient_norms(model, torch.randint(2 * SYMBOLS, (6, 3)))
    torch.testing.assert_close(norms, 2.0 ** torch.arange(6), rtol=1e-4, atol=0)


def test_sequences_begin_with_what_is_to_be_remembered():
    symbols = gradients.draw_sequences(5, 400, torch.Generator().manual_seed(0), torch.device("cpu"))
    assert symbols.shape == (6, 400)
    assert set(symbols[0].tolist()) == set(range(SYMBOLS))
    assert set(symbols[1:].flatten().tolist()) == set(range(SYMBOLS, 2 * SYMBOLS))


@pytest.mark.parametrize("case", CASES)
def test_one_batch_is_recalled(case):
    torch.manual_seed(0)
    model = Recall(case, 32, 4)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    symbols = gradients.draw_sequences(3, 16, torch.Generator().manual_seed(0), torch.device("cpu"))
    for _ in range(150):
        gradients.train_step(model, optimizer, symbols)
    assert torch.equal(model(symbols).argmax(1), symbols[0])


def test_plain_networks_forget_and_gated_ones_need_not(config):
    """The order that the theory predicts, before any training."""
    measures = gradients.train(replace(config, lags=(60,), training_steps=0, hidden_size=32))
    factor = {case: measures[f"{case}_factor_a_step"] for case in CASES}
    assert factor["rnn"] < 0.75 < factor["rnn_orthogonal"] < 1
    assert factor["lstm"] < factor["lstm_forget"] < factor["lstm_chrono"]
    assert 0.9 < factor["lstm_chrono"] < 1.05
    assert not any("recall" in name for name in measures)


def test_the_chrono_initialisation_does_not_know_the_lag(config, monkeypatch):
    asked = []
    monkeypatch.setattr(gradients, "chrono_", lambda layer, max_steps: asked.append(max_steps))
    gradients.train(config)
    assert asked == [200] * 2 * 3, "for a GRU and an LSTM: before training, and for each of two lags"


def test_the_measurement_repeats_and_draws(config):
    first, second = gradients.train(config), gradients.train(config)
    assert first == second
    assert len(first) == 3 * len(CASES)
    assert all(0 <= first[f"{case}_recall_12_accuracy"] <= 1 for case in CASES)
    assert len(list(config.run.out.rglob("gradients.png"))) == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lags": ()}, "--lags must name at least one"),
        ({"lags": (3, 0)}, "--lags must be a number above 0"),
        ({"training_steps": -1}, "--training-steps must not be negative"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        gradients.Config(**settings)


def test_an_lstm_typed_as_its_equations_is_torchs():
    torch.manual_seed(0)
    typed, theirs = throughput.Textbook(5, 4).double(), torch.nn.LSTM(5, 4).double()
    for number, gate in enumerate("ifgo"):
        rows = slice(4 * number, 4 * number + 4)
        for part, kind in (("x", "ih"), ("h", "hh")):
            layer = getattr(typed, f"{part}_{gate}")
            layer.weight.data.copy_(getattr(theirs, f"weight_{kind}_l0").data[rows])
            layer.bias.data.copy_(getattr(theirs, f"bias_{kind}_l0").data[rows])
    x, h, c = (torch.randn(6, 3, 5), torch.randn(3, 4), torch.randn(3, 4))
    mine, (_, last) = typed(x.double(), (h.double(), c.double()))
    expected, (_, other) = theirs(x.double(), (h.double().unsqueeze(0), c.double().unsqueeze(0)))
    torch.testing.assert_close(mine, expected)
    torch.testing.assert_close(last, other[0])


def test_both_output_layers_are_the_same_loss():
    torch.manual_seed(0)
    ours = throughput.LanguageModel(50, embedding_size=6, hidden_size=6)
    usual = throughput.StandardOutput(50, embedding_size=6, hidden_size=6)
    usual.load_state_dict(ours.state_dict())
    tokens = torch.randint(50, (5, 3))
    for model in (ours, usual):
        model(tokens[:-1], model.initial_state(3), tokens[1:])[0].backward()
    for mine, other in zip(ours.parameters(), usual.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.bf16)])
def test_every_way_takes_its_turn_and_is_compared(options, monkeypatch, bf16):
    monkeypatch.setattr(throughput, "has_bf16_kernels", lambda device: bf16)
    config = throughput.Config(hidden_size=8, batch_size=2, steps=3, words=30, rounds=1, seconds=0.01, run=options)
    measures = throughput.train(config)
    ways = ["textbook", "loop", "hand", "library", "usual", "chunked"]
    if bf16:
        ways += ["hand_bf16", "library_bf16", "usual_bf16", "chunked_bf16"]
    kinds = ("tokens_per_second", "ratio", "lowest_ratio", "highest_ratio")
    assert set(measures) == {f"{way}_{kind}" for way in ways for kind in kinds}
    assert measures["library_ratio"] == measures["usual_ratio"] == 1
    assert measures["hand_ratio"] == pytest.approx(
        measures["hand_tokens_per_second"] / measures["library_tokens_per_second"]
    )
    (folder,) = options.out.glob("*/throughput/*")
    assert (folder / "cells.png").exists() and (folder / "output.png").exists()
