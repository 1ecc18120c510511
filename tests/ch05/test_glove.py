"""GloVe: co-occurrence counts, the weighted least-squares step, AdaGrad, and the program."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch05_rnn.words import glove
from ch05_rnn.words.cooccurrence import count_pairs
from ch05_rnn.words.glove import AdaGrad, Config, GloVe, train_step, weight
from common import cli
from common.data.words import lines
from common.data.words.vector_files import read_vectors


@pytest.fixture(scope="module")
def planted():
    return lines.load_text("planted", limit=1_000)


@pytest.fixture
def config(options):
    return Config(epochs=2, embedding_size=8, run=options)


# Counts.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=25), st.integers(1, 6))
def test_pairs_count_one_over_their_distance(content, window):
    tokens = torch.tensor([word for word, _ in content], dtype=torch.int64)
    rows = torch.tensor([new for _, new in content], dtype=torch.int64).cumsum(0)
    expected = torch.zeros(5, 5, dtype=torch.float64)
    for i in range(len(content)):
        for j in range(len(content)):
            if i != j and rows[i] == rows[j] and abs(i - j) <= window:
                expected[tokens[i], tokens[j]] += 1 / abs(i - j)
    counts = count_pairs(tokens, rows, 5, window)
    found = torch.zeros(5, 5, dtype=torch.float64)
    found[counts.rows, counts.columns] = counts.values
    torch.testing.assert_close(found, expected)
    assert len(counts) == int((expected > 0).sum()), "only cells that are not zero"
    assert torch.equal(found, found.T)


# The step.


def test_weight_rises_to_one():
    x = torch.tensor([0.0, 16, 256, 300], dtype=torch.float64)
    torch.testing.assert_close(weight(x, 256), torch.tensor([0, 0.125, 1, 1], dtype=torch.float64))


def formula(parameters, i, j, x, x_max):
    """Equation 8, cell by cell."""
    w, w_context, b, b_context = (parameters[name] for name in ("w", "w_context", "b", "b_context"))
    total = torch.zeros((), dtype=torch.float64)
    for row, column, count in zip(i.tolist(), j.tolist(), x.tolist(), strict=True):
        f = (count / x_max) ** 0.75 if count < x_max else 1.0
        difference = w[row] @ w_context[column] + b[row] + b_context[column] - torch.tensor(count).double().log()
        total = total + f * difference**2
    return total


def test_steps_are_those_of_torchs_adagrad_on_the_formula():
    """Three steps, with words that occur several times in a batch and words that do not occur."""
    torch.manual_seed(0)
    model = GloVe(6, 3).double()
    for parameter in model.parameters():
        parameter.normal_()
    reference = {name: p.detach().clone().requires_grad_() for name, p in model.named_parameters()}
    ours = AdaGrad(model, 0.1)
    theirs = torch.optim.Adagrad(reference.values(), 0.1, initial_accumulator_value=1.0, eps=1e-10)
    batches = [
        (torch.tensor([0, 0, 3, 5]), torch.tensor([1, 1, 3, 0]), torch.tensor([0.5, 12, 3, 1])),
        (torch.tensor([2, 0, 2]), torch.tensor([2, 2, 1]), torch.tensor([2.0, 1.5, 40])),
        (torch.tensor([3]), torch.tensor([1]), torch.tensor([0.25])),
    ]
    for i, j, x in batches:
        x = x.double()
        theirs.zero_grad()
        loss = formula(reference, i, j, x, 10.0)
        loss.backward()
        theirs.step()
        torch.testing.assert_close(train_step(model, ours, i, j, x, 10.0), loss.detach() / len(x))
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(parameter.detach(), reference[name].detach(), rtol=1e-12, atol=1e-12)


def test_the_model_is_its_formula():
    torch.manual_seed(0)
    model = GloVe(5, 3).double()
    i, j = torch.tensor([0, 4]), torch.tensor([2, 2])
    expected = [model.w[a] @ model.w_context[c] + model.b[a] + model.b_context[c] for a, c in ((0, 2), (4, 2))]
    torch.testing.assert_close(model(i, j), torch.stack(expected))
    torch.testing.assert_close(model.vectors(), model.w + model.w_context)
    assert all(float(p.abs().max()) <= 0.5 / 3 for p in model.parameters())


def test_counts_are_fitted():
    """A matrix of rank one has logarithms that the biases alone can fit."""
    torch.manual_seed(0)
    a = torch.rand(6) + 0.5
    x = (a[:, None] * a[None, :]).flatten() * 20
    i, j = torch.meshgrid(torch.arange(6), torch.arange(6), indexing="ij")
    model = GloVe(6, 2)
    optimizer = AdaGrad(model, 0.5)
    for _ in range(1_000):
        loss = train_step(model, optimizer, i.flatten(), j.flatten(), x, 100.0)
    assert loss < 1e-4
    torch.testing.assert_close(model(i.flatten(), j.flatten()), x.log(), rtol=0, atol=0.1)


# The program.


def test_training_repeats_restores_and_writes(config, planted):
    first, second = glove.train(config, planted), glove.train(config, planted)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, vocabulary, restored), (other, _, _) = glove.restore(one), glove.restore(two)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    assert first["test_accuracy"] == second["test_accuracy"]
    assert restored == config
    found = read_vectors(one / "vectors.txt")
    assert found.words == list(vocabulary.symbols)
    torch.testing.assert_close(found.vectors, (model.w + model.w_context).detach(), rtol=1e-5, atol=1e-6)


def test_an_interrupted_run_ends_with_the_same_weights(config, planted, monkeypatch):
    glove.train(config, planted)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], glove.train_step

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 30:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(glove, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        glove.train(config, planted)
    assert len(list(config.run.out.rglob("checkpoint.pt"))) == 2, "in the second epoch"
    monkeypatch.setattr(glove, "train_step", step)
    glove.train(replace(config, run=replace(config.run, resume=True)), planted)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_a_text_without_pairs_is_named(config, planted):
    alone = lines.Part(planted.train.tokens[:3], torch.arange(3))
    with pytest.raises(ValueError, match="the text has no line with two words: use a longer text; pairs, got 0"):
        glove.train(config, replace(planted, train=alone))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--x-max", "0"], "--x-max must be a number above 0, got 0"),
        (["--data", "pydoc", "--text", "a.txt"], "--text takes the place of --data: give one of them, got pydoc"),
        (["--precision", "bf16"], "word vectors are computed in fp32"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, glove, arguments=["glove", *words, "--out", str(tmp_path)])


def test_the_planted_analogies_are_found(options):
    metrics = glove.train(Config(run=options))
    assert metrics["test_accuracy"] > 0.75
    assert metrics["test_accuracy"] > metrics["test_nearest_accuracy"] + 0.1
