"""The language model: its step, its measures, its schedule, what it leaves, and how it writes."""

import json
import math
from dataclasses import replace
from itertools import islice
from typing import Any, cast

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch05_rnn import generate
from ch05_rnn.language import evaluation as measures
from ch05_rnn.language import language_model, sampling, visualise
from ch05_rnn.language.language_model import Config, LanguageModel
from ch05_rnn.language.network import LockedDropout
from ch05_rnn.language.ngram import KneserNey
from ch05_rnn.words import vectors
from common import device
from common.config import RunOptions
from common.data.text.corpora import Part, load_corpus
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.drawing import plots, text_plots
from conftest import train_until

TEXT = 'the cat (a tabby) sat.\nthe dog said "no" and sat, too.\n'
REPORT = language_model.report


def config_in(folder, options):
    """Write the text to a folder; return a Config of a short training on it."""
    path = folder / "story.txt"
    path.write_text(TEXT * 60)
    return Config(
        text=str(path),
        epochs=3,
        hidden_size=32,
        embedding_size=16,
        batch_size=8,
        steps=16,
        dropout=0.1,
        learning_rate=0.02,
        ngram_orders=(2,),
        run=options,
    )


def train_only(patch):
    """Leave out the figures and the measurement of the speed, which take most of the time of a short training."""
    patch.setattr(language_model, "report", lambda *_: None)
    patch.setattr(language_model, "generation_speed", lambda *_, **__: 1.0)


@pytest.fixture
def config(options, tmp_path, monkeypatch):
    train_only(monkeypatch)
    return config_in(tmp_path, options)


@pytest.fixture
def drawn(config, monkeypatch):
    """The settings of `config`; the figures are drawn and the speed is measured."""
    monkeypatch.setattr(language_model, "report", REPORT)
    monkeypatch.setattr(language_model, "generation_speed", measures.generation_speed)
    return config


def corpus_of(config):
    return load_corpus("auto", text=config.text, level=config.level, limit=config.run.limit)


def small(**options: Any) -> LanguageModel:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 5, "hidden_size": 6}
    return LanguageModel(7, **sizes | options)


def learn_by_heart(goal, bf16=False, **options):
    """Train on one batch through the program's own step until the loss is below the goal."""
    model = small(**options)
    optimizer = torch.optim.AdamW(model.parameters(), 0.03)
    tokens = torch.randint(7, (9, 2), generator=torch.Generator().manual_seed(1))
    losses = []

    def step():
        state = model.initial_state(2)
        losses.append(language_model.train_step(model, optimizer, tokens[:-1], tokens[1:], state, bf16=bf16)[0])

    train_until(lambda: float(losses[-1]) < goal, step, at_most=1_000)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize("by", ["hand", "loop", "library"])
def test_one_batch_is_learned_by_heart(cell, by):
    learn_by_heart(0.1, cell=cell, by=by, layers=2, hidden_size=16)


def test_one_batch_is_learned_by_heart_in_bfloat16():
    learn_by_heart(0.15, by="hand", hidden_size=16, bf16=True)


def test_the_loss_is_the_mean_over_what_the_output_layer_says():
    model = small(layers=2).double()
    tokens = torch.randint(7, (9, 3))
    loss, after = model(tokens[:-1], model.initial_state(3), tokens[1:])
    logits, state = model(tokens[:-1], model.initial_state(3))
    assert logits.shape == (8, 3, 7)
    torch.testing.assert_close(loss, F.cross_entropy(logits.flatten(0, 1), tokens[1:].flatten()))
    assert all(torch.equal(a, b) for one, two in zip(after, state, strict=True) for a, b in zip(one, two, strict=True))


def test_a_tied_output_layer_is_the_embedding():
    model = small(tied=True, layers=2, hidden_size=9)
    assert model.decoder.weight is model.embedding.weight
    assert [size for (size, _) in model.state_sizes] == [9, 5]
    shared, first, second, bias = 7 * 5, 4 * 9 * (5 + 9 + 2), 4 * 5 * (9 + 5 + 2), 7
    assert sum(p.numel() for p in model.parameters()) == shared + first + second + bias


def test_the_state_is_carried_but_no_gradient_goes_back_through_it():
    model = small()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    tokens = torch.randint(7, (5, 2))
    _, state = language_model.train_step(model, optimizer, tokens[:-1], tokens[1:], model.initial_state(2))
    assert all(not part.requires_grad and part.any() for layer in state for part in layer)
    fresh, _ = model(tokens[:-1], model.initial_state(2), tokens[1:])
    carried, _ = model(tokens[:-1], state, tokens[1:])
    assert fresh.item() != carried.item()


def test_long_gradients_are_cut_and_forgotten_after_the_step():
    model = small()
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    tokens = torch.randint(7, (5, 2))
    language_model.train_step(model, optimizer, tokens[:-1], tokens[1:], model.initial_state(2), clip=1e-3)
    moved = torch.cat([(p - old).flatten() for p, old in zip(model.parameters(), before, strict=True)])
    assert float(moved.detach().norm()) == pytest.approx(1e-3, rel=1e-2)
    assert all(p.grad is None for p in model.parameters())


def test_locked_dropout_has_one_mask_for_all_steps():
    torch.manual_seed(0)
    x = torch.ones(50, 4, 300)
    locked = LockedDropout(0.25)(x)
    assert locked.unique().tolist() == pytest.approx([0, 4 / 3])
    assert float(locked.mean()) == pytest.approx(1, abs=0.05)
    assert torch.equal(locked, locked[:1].expand_as(locked))
    assert not torch.equal(locked[0, 0], locked[0, 1]), "each stream has a mask of its own"
    assert LockedDropout(0.25).eval()(x) is x
    assert LockedDropout(0.0)(x) is x
    assert isinstance(small(dropout=0.25).dropout, nn.Dropout)
    assert isinstance(small(dropout=0.25, locked=True).dropout, LockedDropout)


def test_what_the_output_layer_sees_is_dropped_too():
    model = small(dropout=0.5, hidden_size=200)
    tokens = torch.randint(7, (5, 3))
    hidden, _ = model.hidden(tokens, model.initial_state(3))
    assert 0.4 < (hidden == 0).float().mean().item() < 0.6
    hidden, _ = model.eval().hidden(tokens, model.initial_state(3))
    assert not (hidden == 0).any()


def test_measures_in_their_units():
    part = Part(torch.zeros(5, dtype=torch.int64), characters_per_token=4.0)
    assert measures.loss_metrics(math.log(8), part, "char")["bits_per_character"] == pytest.approx(3)
    words = measures.loss_metrics(math.log(8), part, "word")
    assert words["perplexity"] == pytest.approx(8)
    assert words["bits_per_character"] == pytest.approx(3 / 4)


def test_evaluation_is_the_loss_of_the_text_read_in_order(config):
    data = corpus_of(config)
    model = language_model.make_model(len(data.vocabulary), config)
    measured = language_model.evaluate(model, data.valid, "char")["loss"]
    assert model.training, "evaluation leaves the model as it was"
    model.eval()
    per_stream = (len(data.valid) - 1) // measures.STREAMS
    total = 0.0
    for number in range(measures.STREAMS):
        tokens = data.valid.tokens[number * per_stream : (number + 1) * per_stream + 1]
        logits, _ = model(tokens[:-1].unsqueeze(1), model.initial_state(1))
        total += float(F.cross_entropy(logits[:, 0], tokens[1:], reduction="sum").detach())
    assert measured == pytest.approx(total / (per_stream * measures.STREAMS), rel=1e-5)


def test_the_loss_over_windows_starts_each_from_an_empty_context(config):
    data = corpus_of(config)
    model = language_model.make_model(len(data.vocabulary), config)
    part = data.held_out
    assert torch.equal(part.tokens, torch.cat([data.valid.tokens, data.test.tokens]))
    assert len(part) > 300
    measured = measures.window_loss(model, part)
    assert model.training, "evaluation leaves the model as it was"
    model.eval()
    losses = []
    for start in range(0, len(part) - 64, 64):
        x, y = part.tokens[start : start + 64], part.tokens[start + 1 : start + 65]
        logits, _ = model(x.unsqueeze(1), model.initial_state(1))
        losses.append(float(F.cross_entropy(logits[:, 0], y).detach()))
    assert measured == pytest.approx(sum(losses) / len(losses), rel=1e-5)


def test_the_held_out_loss_is_that_of_validation_and_test_part_as_one_text(config):
    metrics = language_model.train(config)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    model, data = language_model.restore(folder)[0], corpus_of(config)
    assert metrics["held_out_loss"] == pytest.approx(language_model.evaluate(model, data.held_out, "char")["loss"])
    assert metrics["held_out_window_loss"] == pytest.approx(measures.window_loss(model, data.held_out))


def test_training_learns_repeats_and_restores(drawn, monkeypatch):
    first = language_model.train(drawn)
    train_only(monkeypatch)
    second = language_model.train(drawn)
    assert first["test_loss"] == second["test_loss"] < 1.0
    assert first["test_2gram_loss"] > first["test_loss"]
    folder, other = sorted(path.parent for path in drawn.run.out.rglob("model.safetensors"))
    (one, vocabulary, restored), (two, *_) = language_model.restore(folder), language_model.restore(other)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert restored == drawn
    data = corpus_of(drawn)
    assert vocabulary == data.vocabulary
    assert language_model.evaluate(one, data.test, "char")["loss"] == pytest.approx(first["test_loss"])
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert first["valid_loss"] == min(row["valid_loss"] for row in rows)
    for name in ("curves", "predictions", "embeddings"):
        assert (folder / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_curves_show_the_ngram_baselines(drawn, monkeypatch):
    shown = {}
    draw = plots.curves

    def watch(history, panels, **options):
        shown.update(history=history, panels=panels)
        return draw(history, panels, **options)

    monkeypatch.setattr(plots, "curves", watch)
    monkeypatch.setattr(visualise, "report", lambda *_: None)
    metrics = language_model.train(drawn)
    ((title, names),) = shown["panels"].items()
    assert title == "loss, nats per character"
    lines = [f"valid_{order}gram_loss" for order in drawn.ngram_orders]
    assert names == ["train_loss", "valid_loss", *lines]
    assert lines
    for name in lines:
        assert {row[name] for row in shown["history"]} == {metrics[name]}


def test_samples_during_training_are_drawn(drawn, monkeypatch):
    shown = {}
    draw = text_plots.text_lines

    def watch(lines, **options):
        shown.update(lines)
        return draw(lines, **options)

    monkeypatch.setattr(text_plots, "text_lines", watch)
    monkeypatch.setattr(visualise, "report", lambda *_: None)
    language_model.train(replace(drawn, epochs=10))
    assert list(shown) == ["epoch 1", "epoch 3", "epoch 5", "epoch 7", "epoch 9"]
    assert all(shown.values())
    figure = draw({"a": "x $ y", "b": "z"}, title="t")
    assert [text.get_text() for text in figure.axes[0].texts] == ["a", "x \\$ y", "b", "z"]


def test_after_each_epoch_a_sample_is_printed(config, capsys):
    language_model.train(config)
    lines = capsys.readouterr().out.splitlines()
    epochs = [place for place, line in enumerate(lines) if line.startswith("epoch ")]
    assert len(epochs) == 3
    assert all(lines[place + 1].startswith("sample   ") for place in epochs)


def test_a_long_training_leaves_few_lines(config, capsys, monkeypatch):
    monkeypatch.setattr(language_model, "sample_line", lambda *_, seed: f"number {seed}")
    language_model.train(replace(config, epochs=60, hidden_size=4, embedding_size=4, run=replace(config.run, limit=40)))
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("sample ") for line in lines) == sum(line.startswith("epoch ") for line in lines) == 20


def test_the_best_epoch_is_kept(config):
    data = corpus_of(config)
    model = language_model.make_model(len(data.vocabulary), config)
    best = language_model.BestWeights(model)
    best.update(1.0, 1)
    good = model.decoder.weight.detach().clone()
    model.decoder.weight.data.add_(1)
    best.update(2.0, 2)
    restored = language_model.BestWeights(model)
    restored.load_state_dict(best.state_dict())
    restored.restore()
    assert torch.equal(model.decoder.weight, good)
    assert restored.epoch == 1


def pretend(monkeypatch, *losses: float | type[BaseException]):
    """Let evaluation say these losses, one after the other; gives the output weights that it was asked about."""
    said, seen = iter(losses), []

    def evaluate(model, *arguments, **named):
        loss = next(said)
        if isinstance(loss, type) and issubclass(loss, BaseException):
            raise loss
        seen.append(model.decoder.weight.detach().clone())
        return {"loss": loss}

    monkeypatch.setattr(language_model, "evaluate", evaluate)
    return seen


def test_the_run_ends_with_the_weights_of_its_best_epoch(config, monkeypatch):
    seen = pretend(monkeypatch, 1.0, 2.0, 3.0, 1.0, 1.0, 1.0)
    assert language_model.train(config)["best_epoch"] == 1
    first, second, _, *final = seen
    assert len(final) == 3 and all(torch.equal(first, its) for its in final) and not torch.equal(first, second)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    assert torch.equal(language_model.restore(folder)[0].decoder.weight, first)


def test_a_resumed_run_remembers_its_best_epoch(config, monkeypatch):
    pretend(monkeypatch, 1.0, KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        language_model.train(config)
    pretend(monkeypatch, 2.0, 3.0, 1.0, 1.0, 1.0)
    resumed = language_model.train(replace(config, run=replace(config.run, resume=True)))
    assert resumed["best_epoch"] == 1


def test_each_batch_goes_on_with_the_state_that_the_last_one_left(config, monkeypatch):
    usual, batches = language_model.train_step, []

    def step(model, optimizer, inputs, targets, state, **named):
        loss, after = usual(model, optimizer, inputs, targets, state, **named)
        batches.append((inputs, targets, state, after))
        return loss, after

    monkeypatch.setattr(language_model, "train_step", step)
    language_model.train(config)
    per_epoch = len(batches) // config.epochs
    for number, (inputs, _, state, _) in enumerate(batches):
        if number % per_epoch == 0:
            assert not any(part.any() for part in state[0]), "a text begins without a past"
        else:
            _, targets, _, after = batches[number - 1]
            assert torch.equal(inputs[0], targets[-1])
            assert all(a is b for a, b in zip(state[0], after[0], strict=True))
    firsts = {tuple(batches[number][0][0].tolist()) for number in range(0, len(batches), per_epoch)}
    assert len(firsts) > 1, "each pass begins elsewhere"


def test_choices_are_made_without_the_test_part(config):
    data = corpus_of(config)
    nonsense = replace(data, test=Part(data.test.tokens.flip(0), 1.0))
    for corpus in (data, nonsense):
        language_model.train(config, corpus)
    one, two = (language_model.restore(p.parent)[0] for p in sorted(config.run.out.rglob("model.safetensors")))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))


def test_an_interrupted_run_ends_with_the_same_weights(config, monkeypatch):
    whole = language_model.train(config)
    usual, calls = language_model.evaluate, []

    def interrupted(*arguments, **named):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return usual(*arguments, **named)

    monkeypatch.setattr(language_model, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        language_model.train(config)
    monkeypatch.setattr(language_model, "evaluate", usual)
    resumed = language_model.train(replace(config, run=replace(config.run, resume=True)))
    assert resumed["test_loss"] == whole["test_loss"]
    assert resumed["best_epoch"] == whole["best_epoch"]


def test_the_clock_ends_the_training(config, monkeypatch):
    sizes = []
    monkeypatch.setattr(language_model, "set_learning_rate", lambda optimizer, size: sizes.append(size))
    metrics = language_model.train(replace(config, epochs=None, budget=0.5))
    assert metrics["train_seconds"] == pytest.approx(0.5, abs=0.4)
    assert max(sizes) > 0.015 and sizes[-1] < 0.002


@pytest.mark.parametrize(
    "settings",
    [
        {"level": "word", "tied": True, "locked": True, "layers": 2},
        {"cell": "gru", "initial": "chrono"},
        {"level": "word", "cutoffs": (4, 9)},
        {"cell": "rnn", "initial": "orthogonal", "by": "hand"},
    ],
)
def test_every_kind_of_model_trains_and_restores(drawn, settings):
    config = replace(drawn, epochs=8, **settings)
    metrics = language_model.train(config)
    test, symbols = corpus_of(config).test.tokens, len(corpus_of(config).vocabulary)
    shares = test.bincount() / len(test)
    entropy = float(torch.special.entr(shares).sum())  # the loss of the best model without a context
    assert 0 < metrics["test_loss"] < 0.8 * entropy < math.log(symbols)
    (folder,) = (path.parent for path in config.run.out.rglob("model.safetensors"))
    model, vocabulary, _ = language_model.restore(folder)
    logits, _ = model(torch.zeros(1, 1, dtype=torch.int64), model.initial_state(1))
    assert logits.shape == (1, 1, len(vocabulary))


def test_defaults_follow_the_level():
    char, word = Config(), Config(level="word")
    assert (char.embedding_size, char.hidden_size, char.dropout) == (128, 512, 0.1)
    assert (word.embedding_size, word.hidden_size, word.dropout) == (256, 256, 0.5)
    assert (char.batch_size, char.steps, char.ngram_orders) == (64, 32, (5,))
    assert (word.batch_size, word.steps, word.ngram_orders) == (32, 35, (2, 4))
    assert char.learning_rate == word.learning_rate == 4e-3
    assert (Config(level="word", dropout=0.0).dropout, Config(ngram_orders=()).ngram_orders) == (0, ())


def test_cutoffs_beyond_the_vocabulary_are_refused(config):
    with pytest.raises(ValueError, match=r"--cutoffs must be below 21, the size of the vocabulary, got \(30,\)"):
        language_model.train(replace(config, cutoffs=(30,)))


@pytest.mark.parametrize("limit", [3, 40])
def test_a_handful_of_characters_is_enough(drawn, limit):
    config = replace(drawn, run=replace(drawn.run, limit=limit), epochs=1)
    assert language_model.train(config)["test_loss"] > 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dropout": 1.0}, "--dropout must be at least 0 and below 1, got 1.0"),
        ({"clip": 0.0}, "--clip must be a number above 0"),
        ({"ngram_orders": (2, 9)}, "--ngram-orders must be 1 to 8"),
        ({"cell": "rnn", "initial": "chrono"}, "--initial chrono needs a cell with gates"),
        ({"text": "a.txt", "data": "pydoc"}, "--text takes the place of --data"),
    ],
)
def test_nonsense_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Config(**settings)


# The n-gram baseline.


def test_kneser_ney_by_hand():
    """Tokens 0 1 0 1 0 2: bigrams 01 twice, 10 twice, 02 once."""
    model = KneserNey([0, 1, 0, 1, 0, 2], vocabulary_size=4, order=2)
    d2 = 1 / (1 + 2 * 2)  # one bigram once, two of them twice
    d1 = 3 / (3 + 2 * 0)  # as the second of a bigram 0, 1 and 2 come once each: after 1, 0 and 0
    low = {token: (max(1 - d1, 0) + d1 * 3 / 4) / 3 for token in (0, 1, 2)} | {3: d1 * 3 / 4 / 3}
    assert model.probability(1, (0,)) == pytest.approx((2 - d2 + d2 * 2 * low[1]) / 3)
    assert model.probability(2, (0,)) == pytest.approx((1 - d2 + d2 * 2 * low[2]) / 3)
    assert model.probability(3, (0,)) == pytest.approx(d2 * 2 * low[3] / 3)
    assert model.probability(0, (3,)) == pytest.approx(low[0]), "an unseen context says nothing"


@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_kneser_ney_is_a_distribution(order):
    tokens = torch.randint(5, (300,), generator=torch.Generator().manual_seed(0)).tolist()
    model = KneserNey(tokens, vocabulary_size=8, order=order)
    for context in [(0, 1, 2), (4, 4, 4), (7, 7, 7), (1,), ()]:
        assert sum(model.probability(token, context) for token in range(8)) == pytest.approx(1)


def test_continuation_counts_beat_frequency():
    """`Francisco` is frequent, yet follows one word only: after an unseen word it is less probable than a rarer one."""
    tokens = [0, 1] * 50 + [2, 3, 4, 3, 5, 3, 6, 3]
    model = KneserNey(tokens, vocabulary_size=9, order=2)
    assert model.probability(3, (8,)) > model.probability(1, (8,))


def test_an_ngram_loss_is_the_mean_over_every_token_but_the_first():
    model = KneserNey([0, 1, 0, 2, 0, 1], vocabulary_size=3, order=3)
    text = [0, 1, 2, 0]
    expected = [model.probability(1, (0,)), model.probability(2, (0, 1)), model.probability(0, (1, 2))]
    assert model.loss(text) == pytest.approx(-sum(map(math.log, expected)) / 3)


# Sampling and generating.


def test_sharpening_by_hand():
    logits = torch.tensor([0.5, 0.125, 0.25, 0.125]).log()
    assert sampling.sampling_probabilities(logits).tolist() == pytest.approx([0.5, 0.125, 0.25, 0.125])
    assert sampling.sampling_probabilities(logits, temperature=0.5).tolist() == pytest.approx(
        [16 / 22, 1 / 22, 4 / 22, 1 / 22]
    )
    assert sampling.sampling_probabilities(logits, temperature=0).tolist() == [1, 0, 0, 0]
    assert sampling.sampling_probabilities(logits, top_k=2).tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])
    assert sampling.sampling_probabilities(logits, top_p=0.75).tolist() == pytest.approx([2 / 3, 0, 1 / 3, 0])
    assert sampling.sampling_probabilities(logits, top_p=0.76).count_nonzero() == 3
    assert sampling.sampling_probabilities(logits, top_p=0.01).tolist() == [1, 0, 0, 0]


def test_what_is_drawn_follows_the_probabilities():
    generator = torch.Generator().manual_seed(0)
    p = torch.tensor([0.7, 0.0, 0.3], dtype=torch.float64)
    counts = torch.tensor([sampling.sample_token(p, generator) for _ in range(2_000)]).bincount(minlength=3) / 2_000
    assert counts.tolist() == pytest.approx(p.tolist(), abs=0.04)


def test_a_continuation_is_what_the_whole_text_would_get():
    """One token at a time with the state carried is the same as reading all of it at once."""
    model, vocabulary = small(layers=2).eval(), Vocabulary((UNKNOWN, *"abcdef"))
    numbers = list(islice(sampling.generate_tokens(model, vocabulary, [1, 2, 3], temperature=0), 8))
    text = torch.tensor([1, 2, 3, *numbers])
    logits, _ = model(text.unsqueeze(1), model.initial_state(1))
    logits[..., 0] = -torch.inf
    assert logits[2:-1, 0].argmax(1).tolist() == numbers
    assert sampling.next_logits(model, vocabulary, [1, 2, 3]).argmax() == numbers[0]


def test_the_unknown_symbol_is_never_written():
    model, vocabulary = small(), Vocabulary((UNKNOWN, *"abcdef"))
    model.decoder.bias.data[0] = 100.0
    written = list(islice(sampling.generate_tokens(model, vocabulary, [1], temperature=2.0), 200))
    assert 0 not in written
    assert model.training, "writing leaves the model as it was"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run that `generate` finds."""
    folder = tmp_path_factory.mktemp("trained")
    options = RunOptions(device="cpu", precision="fp32", threads=1, out=folder / "runs")
    with pytest.MonkeyPatch.context() as patch:
        train_only(patch)
        language_model.train(config_in(folder, options))
    return options.out


def test_a_loss_beyond_all_bounds_has_an_infinite_perplexity():
    assert measures.perplexity(math.log(10)) == pytest.approx(10)
    assert measures.perplexity(3e9) == math.inf, "the run then names what to lower; math.exp would raise"


def test_generate_writes_on_from_the_newest_run(trained, capsys):
    capsys.readouterr()

    def text(*words):
        generate.main(["--out", str(trained), "--prompt", "the c", "--length", "40", "--temperature", "1.5", *words])
        said = capsys.readouterr().out.splitlines()
        assert "40 chars in" in said[-1]
        return "\n".join(said[1:-1])

    first = text("--seed", "3")
    assert first.startswith("the c") and len(first) == len("the c") + 40
    assert text("--seed", "3") == first != text("--seed", "4")


def test_generate_says_what_it_does_not_know(trained, capsys):
    generate.main(["--out", str(trained), "--prompt", "the Äß", "--length", "5"])
    said = capsys.readouterr().out
    assert "characters outside the vocabulary, read as <unknown>: 'Ä' 'ß'" in said
    assert "\nthe Äß" in said, "the prompt is shown as it was given"


def test_next_lists_the_likeliest(trained, capsys):
    capsys.readouterr()
    generate.main(["--out", str(trained), "--prompt", "the ca", "--next", "3"])
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if line.strip().endswith("%")]
    assert len(rows) == 3
    assert rows[0][0] == "t"
    shares = [float(row[1].rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--prompt", "ÄÖÜ"], "none of the characters of --prompt 'ÄÖÜ' is in the model's vocabulary"),
        (["--temperature", "-1"], "--temperature must not be negative"),
        (["--top-p", "0"], "--top-p must be above 0 and at most 1"),
        (["--length", "0"], "--length must be a number above 0"),
        (["--promt", "a"], "did you mean --prompt?"),
    ],
)
def test_mistakes_are_one_line(trained, fails, words, message):
    assert message in fails(generate.main, ["--out", str(trained), *words])


def test_without_a_run_it_says_how_to_make_one(fails, tmp_path):
    error = fails(generate.main, ["--out", str(tmp_path)])
    assert "train one with python -m ch05_rnn.train language_model" in error


# Pictures.


def test_units_that_follow_something_are_found():
    torch.manual_seed(0)
    tokens = list('a "bc" (d)\n' * 40)
    known = visualise.text_features(tokens)
    assert known["quotes"][:11].tolist() == [0, 0, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert known["brackets"][:11].tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0]
    assert known["position in the line"][:12].tolist() == [*range(1, 11), 0, 1]
    hidden = torch.randn(len(tokens), 6)
    hidden[:, 4] = 0.1 * hidden[:, 4] - known["quotes"]
    found = visualise.correlated_units(hidden, known)
    unit, correlation = found["quotes"]
    half = len(tokens) // 2
    expected = torch.corrcoef(torch.stack([hidden[half:, 4], known["quotes"][half:]]))[0, 1]
    assert unit == 4 and correlation == pytest.approx(float(expected), abs=1e-5)
    assert correlation < -0.9
    assert "upper case" not in found, "there are none in this text"


def test_principal_components_are_the_directions_of_most_variance():
    torch.manual_seed(0)
    places = torch.randn(100, 2, dtype=torch.float64) * torch.tensor([5.0, 2.0])
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    found = vectors.principal_components(places @ basis[:2] + 3)
    expected = places - places.mean(0)
    _, eigenvectors = torch.linalg.eigh(expected.T @ expected)  # ascending
    torch.testing.assert_close(found.abs(), (expected @ eigenvectors.flip(1)).abs())
    assert torch.equal(found, vectors.principal_components(places @ basis[:2] + 3)), "the signs are deterministic"
    flat = vectors.principal_components(torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(flat.abs(), torch.tensor([[1.0, 0.0], [1.0, 0.0]]))


def test_workload_is_the_training_step(config):
    work = language_model.workload(config, device.resolve_device("cpu"))
    assert work.items == 8 * 16
    loss, _ = cast(tuple[Any, Any], work.step())
    assert float(loss) > 0
