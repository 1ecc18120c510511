"""word2vec: the planted corpus, windows, both models and objectives, and the program."""

import math
from collections import Counter
from dataclasses import replace
from itertools import combinations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch05_rnn.words import contexts, huffman, network, word2vec
from ch05_rnn.words.contexts import Bags, Examples, examples_of, windows
from ch05_rnn.words.huffman import HierarchicalSoftmax, huffman_paths
from ch05_rnn.words.network import Decisions, NegativeSampling, WordVectors, decision_loss, train_step
from ch05_rnn.words.vectors import Vectors
from ch05_rnn.words.word2vec import Config
from common import cli
from common.data.words import analogies, lines
from common.data.words.vector_files import read_vectors
from conftest import train_until


@pytest.fixture(scope="module")
def planted():
    return lines.load_text("planted", limit=1_500)


@pytest.fixture
def config(options):
    return Config(epochs=2, embedding_size=8, batch_size=64, run=options)


VARIANTS = [(model, objective) for model in ("skipgram", "cbow") for objective in ("negative", "hierarchical")]


# The corpus.


def test_every_form_is_a_word_of_one_concept():
    forms = [f for family in analogies.FAMILIES for n in range(len(family.concepts)) for f in family.forms(n)]
    things = [t for family in analogies.FAMILIES for n in range(len(family.concepts)) for t in family.things(n)]
    assert len(set(forms)) == len(forms)
    assert len(set(things)) == len(things)
    assert not set(forms) & set(things)
    for family in analogies.FAMILIES:
        assert {len(family.forms(n)) for n in range(len(family.concepts))} == {len(family.sentences)}
        assert all(len(family.things(n)) == 3 for n in range(len(family.concepts)))
        assert all(sentence.count("{}") == 2 for form in family.sentences for sentence in form)
    bare = " ".join(s for family in analogies.FAMILIES for form in family.sentences for s in form).split()
    assert not set(bare) & {*forms, *things}, "a sentence would tell the form by another word of it"


def test_company_tells_concept_and_form_and_nothing_else_does():
    drawn = analogies.draw_lines()
    assert len(drawn) == analogies.SENTENCES
    assert drawn == analogies.draw_lines()
    near = {
        word: Counter(w for line in drawn if word in line.split() for w in line.split())
        for word in ("king", "queen", "prince")
    }
    assert near["king"]["his"] > 30 and near["king"]["her"] == 0
    assert near["queen"]["her"] > 30 and near["queen"]["his"] == 0
    family = analogies.FAMILIES[0]
    things = {form: family.things(n) for n in range(len(family.concepts)) for form in family.forms(n)}
    own = [thing in line.split() for line in drawn for word in line.split() if word in things for thing in things[word]]
    assert 3 * sum(own) / len(own) == pytest.approx(1 - analogies.STRAY * 11 / 12, abs=0.025)
    assert near["prince"]["pony"] > 3 * near["king"]["pony"] > 0


def test_questions_are_all_pairs_of_concepts_and_forms():
    asked = analogies.questions()
    assert len(asked) == len(set(asked)) == 2 * 12 * 11 * 2 + 14 * 13 * 6 + 12 * 11 * 6
    words = [(q.a, q.b, q.c, q.answer) for q in asked]
    assert ("man", "king", "woman", "queen") not in words, "these are of two concepts each"
    assert ("man", "woman", "king", "queen") in words
    assert ("italian", "rome", "japanese", "tokyo") in words
    assert all(len(set(row)) == 4 for row in words)


def test_words_of_a_real_text_are_in_lower_case_and_in_lines(tmp_path):
    (tmp_path / "text.txt").write_text("The cat sat .\nA dog ran the .\n" * 200, encoding="utf-8")
    text = lines.load_text("planted", text=str(tmp_path / "text.txt"))
    assert text.card.name == "text.txt"
    words = text.vocabulary.decode(text.train.tokens[:9])
    assert words == ["the", "cat", "sat", ".", "a", "dog", "ran", "the", "."]
    assert text.train.line_numbers[:9].unique_consecutive(return_counts=True)[1].tolist() == [4, 5]
    assert set(text.vocabulary.symbols) == set(words)
    counts = text.train.tokens.bincount()
    assert (counts[:-1] >= counts[1:]).all(), "the most frequent word is the first"
    assert "; 7 lower-case words" in text.card.description


def test_rare_words_are_counted_in_lower_case(tmp_path):
    (tmp_path / "text.txt").write_text("Cat cat CAT dog dog .\n" * 40, encoding="utf-8")
    text = lines.load_text("planted", text=str(tmp_path / "text.txt"), minimum_count=100)
    assert text.vocabulary.symbols == ("cat",)
    assert len(text.train) == int(text.train.tokens.numel()) and (text.valid.tokens == 0).all()
    with pytest.raises(ValueError, match="--minimum-count leaves no word of this text, lower it, got 1000"):
        lines.load_text("planted", text=str(tmp_path / "text.txt"), minimum_count=1_000)


@pytest.mark.parametrize("embedded", [True, False])
def test_lines_with_a_word_are_left_out_of_the_training_part(tmp_path, embedded):
    if embedded:
        text = lines.load_text("planted", limit=800, without=["king", "colder"])
        whole = lines.load_text("planted", limit=800)
        removed = [line for line in analogies.draw_lines()[2_000:2_800] if {"king", "colder"} & set(line.split())]
        assert len(whole.train) - len(text.train) == sum(len(line.split()) for line in removed) > 0
    else:
        (tmp_path / "text.txt").write_text("One king .\nTwo men .\n" * 100, encoding="utf-8")
        text = lines.load_text("planted", text=str(tmp_path / "text.txt"), without=["king", "absent"])
        assert set(text.vocabulary.symbols) == {"two", "men", "."}
        assert set(text.vocabulary.decode(text.test.tokens)) == {"two", "men", "."}
    assert "king" not in text.vocabulary


def test_rare_words_get_no_vector():
    text = lines.load_text("planted", limit=300, minimum_count=20)
    counts = Counter(word for line in analogies.draw_lines()[2_000:2_300] for word in line.split())
    assert set(text.vocabulary.symbols) == {word for word, count in counts.items() if count >= 20}
    assert len(text.train) == sum(count for count in counts.values() if count >= 20)


# Windows.


def pairs_by_hand(tokens, rows, reach):
    found = []
    for i, centre in enumerate(tokens):
        for j, context in enumerate(tokens):
            if i != j and rows[i] == rows[j] and abs(i - j) <= reach[i]:
                found.append((centre, context))
    return found


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=0, max_size=30), st.integers(1, 6), st.integers(0, 9)
)
def test_windows_hold_the_words_within_reach_in_the_same_line(content, window, seed):
    tokens = torch.tensor([word for word, _ in content], dtype=torch.int64)
    rows = torch.tensor([new for _, new in content], dtype=torch.int64).cumsum(0)
    centres, bags = windows(tokens, rows, torch.ones(6), window, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    torch.rand(len(tokens), generator=generator, dtype=torch.float64)
    reach = torch.randint(1, window + 1, (len(tokens),), generator=generator)
    expected = pairs_by_hand(tokens.tolist(), rows.tolist(), reach.tolist())
    assert list(zip(centres[bags.owners()].tolist(), bags.elements.tolist(), strict=True)) == expected
    assert (bags.sizes > 0).all()
    assert len(bags) == len(centres)


def test_skipgram_and_cbow_exchange_inputs_and_targets():
    words, bags = torch.tensor([4, 7]), Bags(torch.tensor([1, 2, 3]), torch.tensor([2, 1]))
    skipgram, cbow = examples_of("skipgram", words, bags), examples_of("cbow", words, bags)
    assert skipgram.inputs.elements.tolist() == cbow.targets.elements.tolist() == [4, 7]
    assert skipgram.targets == cbow.inputs == bags
    assert skipgram.inputs.sizes.tolist() == cbow.targets.sizes.tolist() == [1, 1]


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=6), st.data())
def test_bags_are_taken_as_lists_are(content, data):
    bags = Bags(
        torch.tensor([e for bag in content for e in bag], dtype=torch.int64), torch.tensor([*map(len, content)])
    )
    index = data.draw(st.lists(st.integers(0, len(content) - 1), max_size=8))
    taken = bags.take(torch.tensor(index, dtype=torch.int64))
    assert taken.elements.tolist() == [e for n in index for e in content[n]]
    assert taken.sizes.tolist() == [len(content[n]) for n in index]
    assert bags.owners().tolist() == [n for n, bag in enumerate(content) for _ in bag]


def test_frequent_words_are_left_out_as_often_as_the_paper_says():
    counts = torch.tensor([9_000, 990, 10, 0])
    keep = contexts.keep_probability(counts, 0.01)
    assert keep.tolist() == pytest.approx([math.sqrt(0.01 / 0.9), math.sqrt(0.01 / 0.099), 1, 1])
    tokens = torch.zeros(20_000, dtype=torch.int64)
    centres, _ = windows(tokens, tokens, keep, 1, torch.Generator().manual_seed(0))
    assert len(centres) == pytest.approx(20_000 * math.sqrt(0.01 / 0.9), rel=0.05)


def test_windows_reach_over_words_that_are_left_out():
    tokens, row = torch.tensor([1, 0, 2]), torch.zeros(3, dtype=torch.int64)
    centres, bags = windows(tokens, row, torch.tensor([0.0, 1, 1]), 1, torch.Generator())
    assert (centres.tolist(), bags.elements.tolist()) == ([1, 2], [2, 1])


# Negative sampling.


def test_noise_is_drawn_by_counts_to_the_power():
    counts = torch.tensor([0, 16, 1, 0, 81, 0])
    weights = [0, 8, 1, 0, 27, 0]
    assert network.noise_distribution(counts).tolist() == pytest.approx([w / 36 for w in weights])
    drawn = NegativeSampling(counts, 2).draw((300, 100), torch.Generator().manual_seed(0))
    assert drawn.shape == (300, 100)
    share = drawn.flatten().bincount(minlength=6) / drawn.numel()
    assert share.tolist() == pytest.approx([w / 36 for w in weights], abs=0.01)
    assert share[0] == share[3] == share[5] == 0


@settings(deadline=None)
@given(st.lists(st.integers(0, 1_000), min_size=1, max_size=40).filter(any))
def test_the_alias_table_has_the_noise_distribution(counts):
    sampler = NegativeSampling(torch.tensor(counts), 1)
    mass = sampler.first.clone().clamp(max=1)  # of a word: its own part of its slot, and its parts of other slots
    mass.index_add_(0, sampler.other, 1 - sampler.first.clamp(max=1))
    expected = network.noise_distribution(torch.tensor(counts))
    torch.testing.assert_close(mass / len(counts), expected, rtol=0, atol=1e-12)


def test_decisions_are_the_target_and_negative_samples():
    sampler = NegativeSampling(torch.tensor([3, 5, 0, 8]), 4)
    decisions = sampler.decisions(torch.tensor([2, 0]), torch.Generator().manual_seed(1))
    assert decisions.outputs.shape == (2, 5)
    assert decisions.outputs[:, 0].tolist() == [2, 0]
    assert (decisions.outputs[:, 1:] != 2).all()
    assert decisions.labels.tolist() == [[1, 0, 0, 0, 0]]


# Hierarchical softmax.


def smallest_total_length(counts):
    """The smallest sum of count times depth over all binary trees, by trying every pair at every step."""
    if len(counts) == 1:
        return 0
    totals = []
    for i, j in combinations(range(len(counts)), 2):
        rest = [count for n, count in enumerate(counts) if n not in (i, j)]
        totals.append(counts[i] + counts[j] + smallest_total_length([*rest, counts[i] + counts[j]]))
    return min(totals)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=6))
def test_no_tree_has_shorter_paths(counts):
    paths = huffman_paths(counts)
    total = sum(count * len(path) for count, path in zip(counts, paths, strict=True))
    assert total == smallest_total_length(counts)


@settings(deadline=None)
@given(st.lists(st.integers(0, 1_000), min_size=2, max_size=60))
def test_paths_are_those_of_a_binary_tree(counts):
    paths = huffman_paths(counts)
    assert sum(2.0 ** -len(path) for path in paths) == 1, "Kraft's inequality holds with equality"
    codes = {tuple(side for _, side in path) for path in paths}
    assert len(codes) == len(counts)
    assert not any(code[:n] in codes for code in codes for n in range(1, len(code))), "no code begins another one"
    prefixes = {}
    for path in paths:
        for depth, (node, _) in enumerate(path):
            prefix = tuple(side for _, side in path[:depth])
            assert prefixes.setdefault(prefix, node) == node, "an inner node has one place in the tree"
    assert sorted(prefixes.values()) == list(range(len(counts) - 1))


def test_the_tree_of_an_example_is_known():
    """Counts 5, 2, 1, 1: the last two are joined first, then the third, then the most frequent word."""
    assert [len(path) for path in huffman_paths([5, 2, 1, 1])] == [1, 2, 3, 3]


def tree_probabilities(tree, h, u):
    """p(w | h) of every word, written as the product of equation 3."""
    products = []
    for word in range(len(tree.nodes)):
        p = torch.ones((), dtype=torch.float64)
        for depth in range(int(tree.lengths[word])):
            left = torch.sigmoid(u[tree.nodes[word, depth]] @ h)
            p = p * (left if tree.labels[word, depth] == 1 else 1 - left)
        products.append(p)
    return torch.stack(products)


def test_the_probabilities_of_all_words_sum_to_one():
    torch.manual_seed(0)
    tree = HierarchicalSoftmax(torch.tensor([40, 1, 7, 7, 3, 0, 12]))
    h, u = torch.randn(5, dtype=torch.float64), torch.randn(tree.outputs, 5, dtype=torch.float64)
    p = tree_probabilities(tree, h, u)
    assert float(p.sum()) == pytest.approx(1, abs=1e-12)
    decisions = tree.decisions(torch.arange(7), torch.Generator())
    scores = F.embedding(decisions.outputs, u) @ h
    torch.testing.assert_close(decision_loss(scores, decisions), -p.log())


# The step.


def bag_model(rows, outputs):
    torch.manual_seed(0)
    model = WordVectors(rows, outputs, 4).double()
    model.u.normal_()
    model.v.normal_()
    return model


EXAMPLES = Examples(
    Bags(torch.tensor([1, 1, 3, 5, 0]), torch.tensor([2, 1, 2])),  # bags {1, 1}, {3}, {5, 0}
    Bags(torch.tensor([2, 6, 2, 4]), torch.tensor([2, 1, 1])),  # targets {2, 6}, {2}, {4}
)


def mean_of_bag(v, number):
    return torch.stack([v[row] for row in [[1, 1], [3], [5, 0]][number]]).mean(0)


OWNERS = [0, 0, 1, 2]


def negative_sampling_reference(v, u, decisions):
    """Equation 4 of the paper, target by target."""
    losses = []
    for owner, outputs in zip(OWNERS, decisions.outputs.tolist(), strict=True):
        h = mean_of_bag(v, owner)
        loss = -F.logsigmoid(u[outputs[0]] @ h)
        for negative in outputs[1:]:
            loss = loss - F.logsigmoid(-u[negative] @ h)
        losses.append(loss)
    return torch.stack(losses)


def test_step_of_negative_sampling_is_the_gradient_of_its_formula():
    """Against autograd, with words that occur several times in the batch, as inputs, targets and negative samples."""
    model = bag_model(7, 7)
    outputs = torch.tensor([[2, 2, 1], [6, 0, 2], [2, 1, 1], [4, 5, 5]])
    decisions = Decisions(outputs, torch.tensor([[1.0, 0, 0]]))
    v, u = (p.detach().clone().requires_grad_() for p in (model.v, model.u))
    losses = negative_sampling_reference(v, u, decisions)
    dv, du = torch.autograd.grad(losses.sum(), (v, u))
    torch.testing.assert_close(decision_loss(model(EXAMPLES, decisions), decisions), losses.detach())
    loss = train_step(model, EXAMPLES, decisions, 0.1)
    torch.testing.assert_close(loss, losses.mean().detach())
    torch.testing.assert_close(model.v.detach(), (v - 0.1 * dv).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.u.detach(), (u - 0.1 * du).detach(), rtol=1e-12, atol=1e-12)


def test_step_of_hierarchical_softmax_is_the_gradient_of_its_formula():
    tree = HierarchicalSoftmax(torch.tensor([40, 1, 7, 7, 3, 2, 12]))
    model = bag_model(7, tree.outputs)
    decisions = tree.decisions(EXAMPLES.targets.elements, torch.Generator())
    assert decisions.mask is not None and (decisions.mask == 0).any(), "paths of different lengths"
    v, u = (p.detach().clone().requires_grad_() for p in (model.v, model.u))
    targets = EXAMPLES.targets.elements.tolist()
    p = [tree_probabilities(tree, mean_of_bag(v, owner), u)[t] for owner, t in zip(OWNERS, targets, strict=True)]
    losses = -torch.stack(p).log()
    dv, du = torch.autograd.grad(losses.sum(), (v, u))
    loss = train_step(model, EXAMPLES, decisions, 0.1)
    torch.testing.assert_close(loss, losses.mean().detach())
    torch.testing.assert_close(model.v.detach(), (v - 0.1 * dv).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.u.detach(), (u - 0.1 * du).detach(), rtol=1e-12, atol=1e-12)


def test_gradients_of_one_vector_are_summed_up_to_a_limit():
    table, most = torch.zeros(4, 2, dtype=torch.float64), network.MOST_SUMMED
    few, many = most, 3 * most
    index = torch.tensor([1] * few + [2] * many + [0] * 5)
    rows = torch.randn(len(index), 2, dtype=torch.float64)
    exists = torch.ones(len(index), dtype=torch.float64)
    exists[-5:], rows[-5:] = 0, 0
    network.add_rows_(table, index, rows, exists)
    torch.testing.assert_close(table[1], rows[:few].sum(0))
    torch.testing.assert_close(table[2], most * rows[few : few + many].mean(0))
    assert (table[0] == 0).all() and (table[3] == 0).all()


def test_padding_does_not_count_towards_the_limit():
    """The padding of short paths is inner node 0, which must move as if it were not there."""
    table, most = torch.zeros(1, 2, dtype=torch.float64), network.MOST_SUMMED
    rows = torch.cat([torch.ones(most, 2), torch.zeros(5 * most, 2)]).double()
    exists = rows[:, 0].clone()
    network.add_rows_(table, torch.zeros(len(rows), dtype=torch.int64), rows, exists)
    assert table.tolist() == [[most, most]]


def test_a_step_does_not_count_the_padding_of_short_paths():
    """Thirty paths with padding, which has the number of inner node 0, and one path through this node."""
    tree = HierarchicalSoftmax(torch.tensor([100, 1, 1]))
    model = bag_model(3, tree.outputs)
    examples = Examples(Bags.single(torch.arange(31) % 3), Bags.single(torch.tensor([0] * 30 + [1])))
    decisions = tree.decisions(examples.targets.elements, torch.Generator())
    assert decisions.outputs[-1].tolist() == [1, 0]
    u, h = model.u[0].clone(), model.hidden(examples.inputs)[-1]
    g = torch.sigmoid(u @ h) - decisions.labels[-1, 1]
    train_step(model, examples, decisions, 0.1)
    torch.testing.assert_close(model.u[0].detach(), (u - 0.1 * g * h).detach(), rtol=1e-12, atol=1e-12)


def test_the_initial_vectors_are_word2vecs():
    torch.manual_seed(0)
    model = WordVectors(1_000, 1_000, 50)
    assert (model.u == 0).all()
    assert float(model.v.abs().max()) <= 0.5 / 50
    assert float(model.v.std()) == pytest.approx(1 / 50 / math.sqrt(12), rel=0.02)


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = WordVectors(12, 12, 8)
    centre = torch.arange(6)
    outputs = torch.stack([centre + 6, (centre + 1) % 6 + 6, (centre + 2) % 6 + 6], dim=1)
    examples = Examples(Bags.single(centre), Bags.single(outputs[:, 0]))
    decisions = Decisions(outputs, torch.tensor([[1.0, 0, 0]]))
    losses = []
    train_until(
        lambda: losses[-1] < 0.1,
        lambda: losses.append(float(train_step(model, examples, decisions, 0.3))),
        at_most=4_000,
    )
    scores = model(examples, decisions)
    assert (scores[:, 0] > 0).all() and (scores[:, 1:] < 0).all()


# The program.


def test_a_text_and_the_name_of_another_are_one_too_many(fails):
    words = ["word2vec", "--data", "pydoc", "--text", "a.txt"]
    assert "--text takes the place of --data: give one of them, got pydoc" in fails(cli.main, word2vec, arguments=words)


def test_a_held_out_text_without_pairs_is_named(config, planted):
    alone = lines.Part(planted.valid.tokens[:2], torch.tensor([0, 1]))
    size = len(planted.vocabulary)
    objective = NegativeSampling(planted.train.tokens.bincount(minlength=size), 5)
    with pytest.raises(ValueError, match="the held-out text has no line with two words"):
        word2vec.held_out_loss(WordVectors(size, size, 4), alone, objective, config)


def test_an_epoch_with_fewer_windows_than_steps_is_named(config, planted, monkeypatch):
    draws, draw = [], word2vec.windows

    def less_and_less(*arguments):
        draws.append(draw(*arguments))
        centres, bags = draws[-1]
        return (centres, bags) if len(draws) == 1 else (centres[:1], bags.take(torch.tensor([0])))

    monkeypatch.setattr(word2vec, "windows", less_and_less)
    with pytest.raises(ValueError, match="an epoch draws too few windows: raise --subsample or --batch-size, got 1"):
        word2vec.train(replace(config, batch_size=16), planted)


@pytest.mark.parametrize(("model", "objective"), [("skipgram", "negative"), ("cbow", "hierarchical")])
def test_training_repeats_restores_and_writes(config, planted, model, objective):
    config = replace(config, model=model, objective=objective)
    first, second = word2vec.train(config, planted), word2vec.train(config, planted)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (network, vocabulary, restored), (other, _, _) = word2vec.restore(one), word2vec.restore(two)
    assert torch.equal(network.v, other.v) and torch.equal(network.u, other.u)
    untrained = 6 * math.log(2) if objective == "negative" else math.log(len(vocabulary)) + 1
    assert first["test_loss"] == second["test_loss"] < untrained
    assert restored == config
    found = read_vectors(one / "vectors.txt")
    assert found.words == list(vocabulary.symbols)
    torch.testing.assert_close(found.vectors, network.v.detach(), rtol=1e-5, atol=1e-6)
    for name in ("analogies", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


def test_the_loss_of_hierarchical_softmax_is_that_of_the_paths(config, planted):
    """Untrained, every branch has probability 1/2, so the loss is log 2 times the mean path length."""
    counts = planted.train.tokens.bincount(minlength=len(planted.vocabulary))
    tree = HierarchicalSoftmax(counts)
    model = WordVectors(len(counts), tree.outputs, 4)
    cbow = replace(config, model="cbow", window=1)
    loss = word2vec.held_out_loss(model, planted.valid, tree, cbow)
    centres, _ = windows(
        planted.valid.tokens, planted.valid.line_numbers, torch.ones(len(counts)), 1, torch.Generator()
    )
    assert loss == pytest.approx(math.log(2) * float(tree.lengths[centres].double().mean()), rel=1e-5)


def test_an_interrupted_run_ends_with_the_same_weights(config, planted, monkeypatch):
    steps, step = [], word2vec.train_step

    def counted(*arguments):
        steps.append(1)
        return step(*arguments)

    monkeypatch.setattr(word2vec, "train_step", counted)
    word2vec.train(config, planted)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    total = len(steps)

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == total + 3 * total // 4:  # in the second of two epochs
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(word2vec, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        word2vec.train(config, planted)
    monkeypatch.setattr(word2vec, "train_step", step)
    word2vec.train(replace(config, run=replace(config.run, resume=True)), planted)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


def test_the_learning_rate_falls_along_a_line(config, planted, monkeypatch):
    rates = []
    monkeypatch.setattr(
        word2vec, "train_step", lambda model, examples, decisions, rate: rates.append(rate) or torch.zeros(())
    )
    word2vec.train(config, planted)
    assert rates == pytest.approx([config.learning_rate * (1 - n / len(rates)) for n in range(len(rates))])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "bf16"], "word vectors are computed in fp32: --precision must be auto or fp32, got bf16"),
        (["--text", "no.txt"], "no.txt"),
        (["--data", "wikitext-2"], "wikitext-2 is not in"),
        (["--subsample", "0"], "--subsample must be a number above 0, got 0"),
        (["--subsample", "1e-12"], "raise --subsample"),
        (["--model", "glove"], "--model"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(
        cli.main, word2vec, arguments=["word2vec", *words, "--limit", "500", "--out", str(tmp_path)]
    )


def test_the_planted_analogies_are_found(options):
    metrics = word2vec.train(Config(run=options))
    assert metrics["test_accuracy"] > 0.9
    assert metrics["test_accuracy"] > metrics["test_nearest_accuracy"] + 0.3


@pytest.mark.slow
@pytest.mark.parametrize(("model", "objective"), VARIANTS[1:])
def test_the_other_variants_find_most_of_the_planted_analogies(options, model, objective):
    metrics = word2vec.train(Config(model=model, objective=objective, run=options))
    assert metrics["test_accuracy"] > 0.7
    assert metrics["test_accuracy"] > metrics["test_nearest_accuracy"] + 0.3


def test_vectors_are_those_of_the_inputs(planted):
    model = WordVectors(len(planted.vocabulary), 3, 4)
    vectors = word2vec.trained_vectors(model, planted.vocabulary)
    assert isinstance(vectors, Vectors) and vectors.words == planted.vocabulary.symbols
    torch.testing.assert_close(vectors.directions, F.normalize(model.v.detach(), dim=1))
    assert huffman.HierarchicalSoftmax(torch.tensor([1, 1])).outputs == 1
