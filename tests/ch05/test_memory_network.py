"""Memory networks: equal to loops over stories, statements and words; nothing read from another story."""

import math
import random
import re
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch05_rnn import ask
from ch05_rnn.memory import bag_of_ngrams, memory_network, restarts, visualise
from ch05_rnn.memory.bag_of_ngrams import Baseline, Reader, ngrams
from ch05_rnn.memory.dynamic_memory import AttentionGRU, DynamicMemory, Gate, Gates
from ch05_rnn.memory.encoding import UNSEEN, StoryEncoder, embed, tokenise
from ch05_rnn.memory.end_to_end import EndToEnd, Sharing, ages, softmax_by_story
from ch05_rnn.memory.memory_network import Config, LinearStart, make_network, predict
from common import cli
from common.data.text import simulated_stories, stories
from common.data.text.simulated_stories import PEOPLE, PLACES
from common.data.text.stories import Question, StorySet, load_stories
from common.data.text.vocabulary import Vocabulary
from conftest import train_until

MILK = ("Mary took the milk.", "John ran.", "Mary went to the big kitchen.")
LIST = ("John ran.", "Mary ran.", "John took milk.", "John took the apple.", "Mary ran.")
QUESTIONS = [
    Question(MILK, "Where is the milk?", "kitchen", (0, 2)),
    Question(("John ran.",), "Who ran?", "John", (0,)),
    Question(LIST, "What?", "apple,milk", (2, 3)),
]


@pytest.fixture(scope="module")
def generated():
    return few_stories(30)


def few_stories(train: int) -> StorySet:
    """Generated stories with that many training questions per task."""
    with pytest.MonkeyPatch.context() as patch:
        for name, count in (("TRAIN", train), ("VALID", 30), ("TEST", 30)):
            patch.setattr(stories, name, count)
        return load_stories()


@pytest.fixture
def config(options, monkeypatch):
    monkeypatch.setattr(bag_of_ngrams, "STEPS", 5)
    monkeypatch.setattr(bag_of_ngrams, "ORDERS", (1,))
    return Config(epochs=2, embedding_size=12, hops=2, batch_size=32, run=options)


@pytest.fixture(params=["position", "bag"])
def encoder(request):
    return StoryEncoder.fit(QUESTIONS, request.param, 4)


def batch_of(encoder, questions):
    return encoder.encode(questions, torch.float64).batch(torch.arange(len(questions)))


def end_to_end(encoder, sharing: Sharing = "layer_wise", hops=3, **named):
    torch.manual_seed(0)
    model = EndToEnd(
        len(encoder.vocabulary),
        encoder.answer_symbols,
        hops=hops,
        embedding_size=6,
        memory_size=encoder.memory_size,
        sharing=sharing,
        **named,
    )
    return model.double()


def dynamic(encoder, hops=3, gates: Gates = "softmax"):
    torch.manual_seed(0)
    model = DynamicMemory(len(encoder.vocabulary), len(encoder.answers), hops=hops, embedding_size=6, gates=gates)
    return model.double()


# References: one story, one statement, one word, one component after the other.


def sentence_vector(text, table, encoder):
    """Sum of the word vectors with the weights l_kj of Sukhbaatar et al. 2015, section 4.1, or all with weight 1."""
    words, size = tokenise(text), table.shape[1]
    parts = []
    for k in range(1, size + 1):
        total = torch.zeros((), dtype=table.dtype)
        for j, word in enumerate(words, start=1):
            l_kj = (1 - j / len(words)) - (k / size) * (1 - 2 * j / len(words))
            total = (
                total + (l_kj if encoder.encoding == "position" else 1) * table[encoder.vocabulary.index[word], k - 1]
            )
        parts.append(total)
    return torch.stack(parts)


def end_to_end_by_loops(model, encoder, question):
    """Logits and attention weights of one question: equations 1 to 4 of Sukhbaatar et al. 2015 and section 2.2."""
    story = question.story[-encoder.memory_size :]
    adjacent = model.sharing == "adjacent"
    u = sentence_vector(question.text, model.words[0 if adjacent else 2], encoder)
    attention = []
    for hop in range(model.hops):
        a, c = (hop, hop + 1) if adjacent else (0, 1)
        scores, outputs = [], []
        for place, text in enumerate(story):
            age = len(story) - place
            m = sentence_vector(text, model.words[a], encoder) + model.time[a, age - 1]
            outputs.append(sentence_vector(text, model.words[c], encoder) + model.time[c, age - 1])
            scores.append(u @ m)
        others = [torch.zeros((), dtype=torch.float64)] * model.empty_memory + scores
        p = scores if model.linear else [s.exp() / sum(other.exp() for other in others) for s in scores]
        o = sum(weight * output for weight, output in zip(p, outputs, strict=True))
        u = (u if adjacent else model.H.weight @ u) + o
        attention.append(torch.stack(p))
    W = model.words[-1][encoder.answer_symbols] if adjacent else model.W.weight
    return W @ u, torch.stack(attention)


def dynamic_by_loops(model, encoder, question):
    """Logits and gates of one question: section 3 of Xiong et al. 2016."""
    story = question.story[-encoder.memory_size :]
    sentences = torch.stack([sentence_vector(text, model.words[0], encoder) for text in story])
    states = model.input(sentences)[0]
    facts = states[:, :6] + states[:, 6:]
    q = m = sentence_vector(question.text, model.words[0], encoder)
    first, _, last = model.gate.layers
    all_gates = []
    for update in model.updates:
        scores = []
        for c in facts:
            z = torch.cat([c * q, c * m, (c - q).abs(), (c - m).abs()])
            scores.append(last(torch.tanh(first(z)))[0])
        total = sum(score.exp() for score in scores)
        sigmoid = model.gate.gates == "sigmoid"
        gates = [1 / (1 + (-score).exp()) if sigmoid else score.exp() / total for score in scores]
        h = torch.zeros(6, dtype=torch.float64)
        for c, g in zip(facts, gates, strict=True):
            h = gated_step(model.episode, c, h, g)
        m = (update.weight @ torch.cat([m, h, q]) + update.bias).clamp(min=0)
        all_gates.append(torch.stack(gates))
    return model.output(torch.cat([m, q])), torch.stack(all_gates)


def gated_step(cell, x, h, g):
    """g n + (1 - g) h, with n from torch's GRU cell: its h' = (1 - z) n + z h with z = sigmoid(-1000) = 0"""
    weights = []
    for weight, between in ((cell.weight_ih, 0), (cell.weight_hh, 0), (cell.bias_ih, -1_000), (cell.bias_hh, 0)):
        r, n = weight.chunk(2)
        weights.append(torch.cat([r, torch.full_like(r, between), n]))
    n = torch.gru_cell(x.unsqueeze(0), h.unsqueeze(0), *weights)[0]
    return g * n + (1 - g) * h


@pytest.mark.parametrize(("linear", "empty_memory"), [(False, True), (False, False), (True, True)])
@pytest.mark.parametrize("sharing", ["layer_wise", "adjacent"])
def test_the_end_to_end_network_is_its_equations(encoder, sharing, linear, empty_memory):
    """Forward pass, attention weights and gradients, in float64."""
    model = end_to_end(encoder, sharing, empty_memory=empty_memory)
    for parameter in model.parameters():
        parameter.data.mul_(4)  # weights that differ clearly from one memory to the next
    model.linear = linear
    logits, attention = model.answer(batch_of(encoder, QUESTIONS))
    parts = [end_to_end_by_loops(model, encoder, question) for question in QUESTIONS]
    expected = torch.stack([its for its, _ in parts])
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(attention, torch.cat([weights for _, weights in parts], dim=1))
    labels = encoder.encode(QUESTIONS).answers
    parameters = list(model.parameters())
    ours = torch.autograd.grad(F.cross_entropy(logits, labels), parameters)
    theirs = torch.autograd.grad(F.cross_entropy(expected, labels), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("gates", ["softmax", "sigmoid"])
def test_the_dynamic_network_is_its_equations(encoder, gates):
    """Forward pass, gates and gradients, in float64."""
    model = dynamic(encoder, gates=gates)
    logits, found = model.answer(batch_of(encoder, QUESTIONS))
    parts = [dynamic_by_loops(model, encoder, question) for question in QUESTIONS]
    expected = torch.stack([its for its, _ in parts])
    torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(found, torch.cat([its for _, its in parts], dim=1))
    labels, parameters = encoder.encode(QUESTIONS).answers, list(model.parameters())
    ours = torch.autograd.grad(F.cross_entropy(logits, labels), parameters)
    theirs = torch.autograd.grad(F.cross_entropy(expected, labels), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other)


def test_the_attention_gru_is_a_loop_of_library_cells():
    torch.manual_seed(0)
    cell = AttentionGRU(4).double()
    facts, gates = torch.randn(3, 7, 4).double().requires_grad_(), torch.rand(3, 7).double()
    rows = []
    for story in range(3):
        h = torch.zeros(4, dtype=torch.float64)
        for t in range(7):
            h = gated_step(cell, facts[story, t], h, gates[story, t])
        rows.append(h)
    ours, expected = cell(facts, gates), torch.stack(rows)
    torch.testing.assert_close(ours, expected)
    (one,), (other,) = (torch.autograd.grad(end.square().sum(), facts) for end in (ours, expected))
    torch.testing.assert_close(one, other)


def test_gates_of_zero_skip_a_fact_and_a_gate_of_one_keeps_nothing_of_the_gate_before():
    torch.manual_seed(0)
    cell, facts, gates = AttentionGRU(4).double(), torch.randn(2, 6, 4).double(), torch.rand(2, 6).double()
    gates[:, [0, 3, 5]] = 0
    torch.testing.assert_close(cell(facts, gates), cell(facts[:, [1, 2, 4]], gates[:, [1, 2, 4]]))
    assert torch.equal(cell(facts, torch.zeros_like(gates)), torch.zeros(2, 4, dtype=torch.float64))
    cell.weight_hh.data.zero_()  # the candidate state then depends on the fact alone
    gates[:, 4] = 1
    torch.testing.assert_close(cell(facts, gates), cell(facts[:, 4:5], gates[:, 4:5]))


@pytest.mark.parametrize("gates", ["softmax", "sigmoid"])
def test_gates_at_padding_are_zero_and_change_nothing(gates):
    torch.manual_seed(0)
    gate = Gate(4, gates).double()
    c, m, q = torch.randn(2, 5, 4).double(), torch.randn(2, 4).double(), torch.randn(2, 4).double()
    mask = torch.arange(5) < torch.tensor([[5], [3]])
    g = gate(c, m, q, mask)
    assert torch.equal(g[1, 3:], torch.zeros(2, dtype=torch.float64))
    assert (g[mask] > 0).all()
    torch.testing.assert_close(g[1:, :3], gate(c[1:, :3], m[1:], q[1:], mask[1:, :3]))
    if gates == "softmax":
        torch.testing.assert_close(g.sum(1), torch.ones(2, dtype=torch.float64))


@pytest.mark.parametrize(("gates", "expected"), [("softmax", 0.9**9), ("sigmoid", 0.5**9)])
def test_how_much_of_the_oldest_of_ten_facts_is_kept_by_equal_gates(gates, expected):
    """With equal scores, the state keeps (9/10)^9 of what a softmax gate took of the first fact; a sigmoid, 1/512."""
    gate = Gate(4, gates).double()
    for parameter in gate.parameters():
        parameter.data.zero_()
    facts = torch.randn(1, 10, 4).double()
    g = gate(facts, facts[:, 0], facts[:, 1], torch.ones(1, 10, dtype=torch.bool))[0].detach()
    assert float((1 - g[1:]).prod()) == pytest.approx(expected)


@pytest.mark.parametrize("make", [end_to_end, dynamic])
def test_a_question_reads_its_own_story_alone(make):
    encoder = StoryEncoder.fit(QUESTIONS, "position", 9)
    model = make(encoder)
    together, attention = model.answer(batch_of(encoder, QUESTIONS))
    for number, question in enumerate(QUESTIONS):
        alone, weights = model.answer(batch_of(encoder, [question]))
        torch.testing.assert_close(alone[0], together[number])
        start = sum(len(q.story) for q in QUESTIONS[:number])
        torch.testing.assert_close(weights, attention[:, start : start + len(question.story)])
    changed = replace(QUESTIONS[2], story=QUESTIONS[2].story[::-1])
    other = model(batch_of(encoder, [*QUESTIONS[:2], changed]))
    torch.testing.assert_close(other[:2], together[:2])
    assert not torch.allclose(other[2], together[2]), "the order of the statements makes no difference"


# Stories as tensors.


def test_a_batch_holds_the_statements_of_its_questions_in_order():
    encoder = StoryEncoder.fit(QUESTIONS, "position", 4)
    encoded = encoder.encode(QUESTIONS)
    assert len(encoded.features) == len({text for q in QUESTIONS for text in (*q.story[-4:], q.text)})
    batch = encoded.batch(torch.tensor([2, 0]))
    assert batch.lengths.tolist() == [4, 3], "the newest four of five statements"
    assert batch.owner.tolist() == [0, 0, 0, 0, 1, 1, 1]
    expected = [encoder.features(text) for text in (*QUESTIONS[2].story[-4:], *QUESTIONS[0].story)]
    assert torch.equal(batch.memories, torch.stack(expected).float())
    assert torch.equal(batch.questions, torch.stack([encoder.features(QUESTIONS[n].text) for n in (2, 0)]).float())


def test_answers_of_several_words_are_one_class_and_unseen_ones_are_none():
    encoder = StoryEncoder.fit(QUESTIONS, "bag", 4)
    assert set(encoder.answers.symbols) == {"kitchen", "john", "apple,milk"}
    assert encoder.vocabulary.decode(encoder.answer_symbols) == list(encoder.answers.symbols)
    unseen = replace(QUESTIONS[0], answer="park", text="Where is the zebra?")
    encoded = encoder.encode([unseen, QUESTIONS[2]])
    assert encoded.answers.tolist() == [UNSEEN, encoder.answers.index["apple,milk"]]
    assert encoder.features("zebra")[encoder.vocabulary.unknown] == 1


def test_position_encoding_depends_on_the_order_of_the_words_and_a_bag_does_not():
    table = torch.randn(1, 20, 6)
    for encoding in ("position", "bag"):
        encoder = StoryEncoder(Vocabulary((*"abcdefghi", "<unknown>")), Vocabulary(("a",)), encoding, 4)
        one, other = (
            embed(encoder.features(text).float().unsqueeze(0), table[:, : len(encoder.vocabulary)])
            for text in ("a b c", "c b a")
        )
        assert torch.allclose(one, other, atol=1e-6) == (encoding == "bag")


def test_ages_count_from_the_newest_statement():
    assert ages(torch.tensor([3, 1, 2]), 0.0).tolist() == [3, 2, 1, 1, 2, 1]


@pytest.mark.parametrize("noise", [0.1, 0.5, 1.0])
def test_empty_memories_leave_a_random_subset_of_the_ages_in_order(noise):
    torch.manual_seed(0)
    lengths = torch.tensor([1, 4, 10] * 2_000)
    split = ages(lengths, noise).split(lengths.tolist())
    for length in (1, 4, 10):
        its = torch.stack([row for row in split if len(row) == length])
        most = math.ceil(noise * length)
        assert int(its.min()) == 1 and int(its.max()) == length + most
        assert (its[:, :-1] > its[:, 1:]).all()
        # The number of empty memories is uniform in 0 ... most; then the oldest of `length` of `slots` places has the
        # expected age length (slots + 1) / (length + 1), and the newest (slots + 1) / (length + 1).
        slots = length + most / 2
        for place, rank in ((0, length), (-1, 1)):
            expected = rank * (slots + 1) / (length + 1)
            assert float(its[:, place].double().mean()) == pytest.approx(expected, abs=0.12)


def test_the_softmax_is_that_of_each_story():
    scores, owner = torch.tensor([1.0, 2.0, 800.0, 801.0, -900.0]), torch.tensor([0, 0, 1, 1, 2])
    expected = torch.cat([part.softmax(0) for part in scores.split([2, 2, 1])])
    torch.testing.assert_close(softmax_by_story(scores, owner, 3), expected)
    with_zero = [torch.cat([part, torch.zeros(1)]).softmax(0)[:-1] for part in scores.split([2, 2, 1])]
    torch.testing.assert_close(softmax_by_story(scores, owner, 3, empty_memory=True), torch.cat(with_zero))
    scores = torch.randn(5, dtype=torch.float64, requires_grad=True)
    for empty in (False, True):
        assert torch.autograd.gradcheck(lambda s: softmax_by_story(s, owner, 3, empty_memory=empty), scores)  # noqa: B023


def test_layer_wise_training_starts_with_equal_tables():
    """A state that is a statement which was read then finds others with the same words."""
    encoder = StoryEncoder.fit(QUESTIONS, "position", 9)
    model = end_to_end(encoder)
    assert all(torch.equal(table, model.words[0]) for table in model.words)
    assert torch.equal(model.time[0], model.time[1])
    independent = end_to_end(encoder, equal_tables=False)
    assert not any(torch.equal(table, independent.words[0]) for table in independent.words[1:])
    adjacent = end_to_end(encoder, "adjacent")
    assert not any(torch.equal(table, adjacent.words[0]) for table in adjacent.words[1:])


def test_noise_is_for_training_only():
    encoder = StoryEncoder.fit(QUESTIONS, "position", 9)
    model, batch = end_to_end(encoder, noise=1.0), batch_of(encoder, QUESTIONS)
    model.eval()
    assert torch.equal(model(batch), model(batch))
    model.train()
    assert not torch.equal(model(batch), model(batch))


# The baseline.


def test_ngrams_by_hand():
    assert ngrams(["a", "b", "c"], 2) == ["a", "b", "c", "a b", "b c"]
    assert ngrams(["a"], 3) == ["a"]


def test_the_baseline_reads_statements_that_share_a_rare_word_with_the_question():
    story = ("Mary is in the park.", "John is in the park.", "Mary has the milk.")
    question = Question(story, "Where is the milk?", "park", ())
    reader = Reader(1, "matching", frozenset({"is", "the"}), {})
    assert reader.names(question) == [
        *(f"question: {word}" for word in ("where", "is", "the", "milk")),
        *(f"story: {word}" for word in ("mary", "has", "the", "milk")),
    ]
    assert "story: john" in replace(reader, selection="all").names(question)
    assert "story: the milk" in replace(reader, order=2).names(question)
    fitted = Reader.fit([question] * 2, 1, "matching")
    assert fitted.frequent == {"mary", "is", "in", "the", "park"}, "words of more than half of the statements"
    other = replace(question, text="Where is Zoe?")
    rows = fitted.encode([question, other])
    assert rows[0].tolist() == [*range(len(fitted.features))]
    present = [fitted.features[f"question: {word}"] for word in ("where", "is")]
    assert bag_of_ngrams.indicators(rows, len(fitted.features)).nonzero().tolist() == [
        *([0, number] for number in range(len(fitted.features))),
        *([1, number] for number in present),
    ]


def test_the_baseline_is_a_sum_of_weights_and_is_selected_on_the_validation_set(monkeypatch):
    """Only one statement is about the person of the question."""
    monkeypatch.setattr(bag_of_ngrams, "ORDERS", (1,))
    monkeypatch.setattr(bag_of_ngrams, "STEPS", 200)
    rng, its = random.Random(0), []
    for _ in range(600):
        people, places = rng.sample(PEOPLE, 3), rng.choices(PLACES, k=3)
        story = tuple(f"{person} is in the {place}." for person, place in zip(people, places, strict=True))
        its.append(Question(story, f"Where is {people[1]}?", places[1], (1,)))
    train, valid = its[:400], its[400:]
    encoder = StoryEncoder.fit(its, "bag", 9)
    answers = encoder.encode(train).answers, encoder.encode(valid).answers
    accuracies = {}
    for selection in bag_of_ngrams.SELECTIONS:
        reader = Reader.fit(train, 1, selection)
        model = bag_of_ngrams.fit(reader, train, answers[0], seed=0)
        baseline = Baseline(reader, model)
        accuracies[selection] = float((baseline.predict(valid) == answers[1]).float().mean())
        row = [reader.features[name] for name in reader.names(valid[0]) if name in reader.features]
        by_hand = model.bias + model.weight[:, row].sum(1)
        assert int(by_hand.argmax()) == int(baseline.predict(valid[:1]))
    assert accuracies["all"] < 0.7 < accuracies["matching"] == 1
    selected = Baseline.select(train, valid, answers, seed=0)
    assert selected.description == "n-grams of one word, matching statements"


# Training.


@pytest.mark.parametrize("name", ["end_to_end", "dynamic"])
def test_step_is_the_clipped_gradient_of_cross_entropy(config, generated, name):
    config = replace(config, network=name, dropout=0.0, noise=0.0)
    encoder = StoryEncoder.fit(generated.train, "position", 20)
    torch.manual_seed(0)
    network = make_network(encoder, config)
    encoded = encoder.encode(generated.train[:8])
    batch, answers = encoded.batch(torch.arange(8)), encoded.answers
    expected = torch.autograd.grad(F.cross_entropy(network(batch), answers), list(network.parameters()))
    norm = float(torch.stack([g.norm() for g in expected]).norm())
    before = [p.detach().clone() for p in network.parameters()]
    memory_network.train_step(network, torch.optim.SGD(network.parameters(), lr=0.5), batch, answers)
    for old, new, g in zip(before, network.parameters(), expected, strict=True):
        clipped = g * min(1, memory_network.CLIP / norm)
        torch.testing.assert_close(new.detach(), old - 0.5 * clipped, rtol=1e-4, atol=1e-6)
    assert all(p.grad is None for p in network.parameters())


@pytest.mark.parametrize("bf16", [False, pytest.param(True, marks=pytest.mark.bf16)])
@pytest.mark.parametrize(
    "named", [{}, {"sharing": "adjacent"}, {"network": "dynamic"}], ids=["layer_wise", "adjacent", "dynamic"]
)
def test_one_batch_is_learned_by_heart(config, generated, named, bf16):
    config = replace(config, embedding_size=32, dropout=0.0, noise=0.0, learning_rate=0.01, **named)
    encoder = StoryEncoder.fit(generated.train, "position", 20)
    torch.manual_seed(0)
    network = make_network(encoder, config)
    optimizer = memory_network.make_optimizer(network, config)
    encoded = encoder.encode(generated.train[:24])
    batch = encoded.batch(torch.arange(24))
    train_until(
        lambda: torch.equal(predict(network, encoded).argmax(1), encoded.answers),
        lambda: memory_network.train_step(network, optimizer, batch, encoded.answers, bf16=bf16),
        at_most=600,
        every=20,
    )
    assert network.training, "a prediction left the network in another mode"


def test_linear_start_ends_when_the_validation_loss_stops_decreasing(config):
    encoder = StoryEncoder.fit(QUESTIONS, "bag", 4)
    network = make_network(encoder, config)
    assert isinstance(network, EndToEnd)
    start = LinearStart(network, active=True, epochs=20)
    for epoch, loss in enumerate((3.0, 2.0, 1.5), start=1):
        start.update(loss, epoch)
        assert network.linear and start.ended == epoch
    state = start.state_dict()
    start.update(1.6, 4)
    assert not network.linear and start.ended == 4
    start.update(0.1, 5)
    assert not network.linear and start.ended == 4, "it does not begin again"
    start.load_state_dict(state)
    assert network.linear and start.ended == 3
    start = LinearStart(network, active=True, epochs=4)
    start.update(3.0, 1)
    start.update(2.0, 2)
    assert not network.linear, "half of the epochs are over"
    assert not LinearStart(network, active=False, epochs=4).active


def test_learning_rates_by_hand(config):
    sgd = replace(config, optimizer="sgd", learning_rate=0.4)
    rates = [memory_network.learning_rate_at(progress, sgd) for progress in (0.0, 0.24, 0.25, 0.5, 0.99)]
    assert rates == pytest.approx([0.4, 0.4, 0.2, 0.1, 0.05])
    adam = replace(config, learning_rate=0.01)
    assert memory_network.learning_rate_at(0.04, adam) == pytest.approx(0.01)
    assert memory_network.learning_rate_at(1.0, adam) == pytest.approx(0.0, abs=1e-9)
    assert (Config().learning_rate, Config(data="babi").learning_rate) == (6e-3, 4e-3)
    assert Config(optimizer="sgd").learning_rate == 0.3
    assert (Config().batch_size, Config(data="babi").batch_size) == (128, 64)


def test_measures_by_hand():
    questions = [replace(QUESTIONS[0], task=task) for task in "aabbb"]
    measures = memory_network.measure(torch.tensor([True, False, True, True, True]), questions)
    assert measures == {"error_rate": 0.2, "a_error_rate": 0.5, "b_error_rate": 0.0, "failed_tasks": 1}


def test_chance_is_that_of_the_tasks_in_the_test_set(generated):
    chances = memory_network.chance(generated)
    assert chances["yes_no_error_rate"] == 0.5
    rates = [1 - accuracy for accuracy in generated.chance.values()]
    assert chances["error_rate"] == pytest.approx(sum(rates) / 7, abs=0.02)


def strip_rates(metrics):
    return {name: value for name, value in metrics.items() if not name.endswith(("seconds", "per_second"))}


def newest(out, program="memory_network"):
    return max(out.rglob(f"{program}/*/summary.json"), key=lambda path: path.stat().st_mtime_ns).parent


def test_training_repeats_restores_and_shows(config, generated):
    first, second = memory_network.train(config, generated), memory_network.train(config, generated)
    assert strip_rates(first) == strip_rates(second)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (network, encoder, restored), (other, _, _) = memory_network.restore(one), memory_network.restore(two)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    assert restored == config
    predicted = predict(network, encoder.encode(generated.test)).argmax(1)
    correct = predicted == encoder.encode(generated.test).answers
    assert memory_network.measure(correct, generated.test)["error_rate"] == first["test_error_rate"]
    header, *lines = (one / "answers.tsv").read_text().splitlines()
    assert header.split("\t") == ["task", "verdict", "story", "question", "answer", "target"]
    assert [line.split("\t")[1] == "right" for line in lines] == correct.tolist()
    for name in ("attention", "tasks", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize("named", [{"linear_start": True}, {"network": "dynamic"}], ids=["linear_start", "dynamic"])
def test_an_interrupted_run_ends_with_the_same_weights(config, generated, monkeypatch, named):
    monkeypatch.setattr(memory_network, "report", lambda *_: None)
    config = replace(config, epochs=4, **named)
    memory_network.train(config, generated)
    whole = (newest(config.run.out) / "model.safetensors").read_bytes()
    steps, step = [], memory_network.train_step

    def interrupted(*arguments, **options):
        steps.append(1)
        if len(steps) == 10:  # of seven an epoch
            raise KeyboardInterrupt
        return step(*arguments, **options)

    monkeypatch.setattr(memory_network, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        memory_network.train(config, generated)
    monkeypatch.setattr(memory_network, "train_step", step)
    memory_network.train(replace(config, run=replace(config.run, resume=True)), generated)
    assert (newest(config.run.out) / "model.safetensors").read_bytes() == whole


def test_what_is_learned_does_not_depend_on_the_test_set(config, generated, monkeypatch):
    monkeypatch.setattr(memory_network, "report", lambda *_: None)
    other = replace(generated, test=[replace(q, answer="kitchen") for q in generated.test])
    for data in (generated, other):
        memory_network.train(replace(config, epochs=1), data)
    one, two = (path.read_bytes() for path in config.run.out.rglob("model.safetensors"))
    assert one == two


# Questions on the command line.


@pytest.fixture(scope="module")
def trained(tmp_path_factory, generated):
    """A run that has learned the questions of one task well enough to answer them."""
    out = tmp_path_factory.mktemp("runs")
    run = replace(Config().run, device="cpu", out=out)
    its = replace(generated, train=place_questions(2_000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bag_of_ngrams, "STEPS", 1)
        patch.setattr(memory_network, "report", lambda *_: None)
        memory_network.train(Config(epochs=8, embedding_size=20, hops=2, batch_size=32, run=run), its)
    return out


def test_a_question_on_the_command_line_is_answered(trained, capsys):
    story = "Mary went to the kitchen. John took the milk. John went to the garden."
    ask.main(["--story", story, "Where is Mary?", "--out", str(trained)])
    output = capsys.readouterr().out
    network, encoder, _ = memory_network.restore(newest(trained))
    question = Question(tuple(ask.split_sentences(story)), "Where is Mary?", "", ())
    reading = visualise.read(network, encoder, [question])[0]
    assert reading.predicted(encoder) == "kitchen"
    assert f"answer   kitchen, probability {float(reading.p.max()):.3f}" in output
    rows = [line for line in output.splitlines() if re.match(r"\s*(Mary|John) ", line)]
    assert len(rows) == 3
    for row, weights in zip(rows, reading.attention, strict=True):
        assert row.split()[-2:] == [f"{100 * float(weight):.1f}" for weight in weights]
    (nothing,) = (line for line in output.splitlines() if line.strip().startswith("(empty memory)"))
    assert nothing.split()[-2:] == [f"{100 * max(0.0, 1 - total):.1f}" for total in reading.attention.sum(0).tolist()]


def test_only_the_newest_statements_fit_in_the_memory(trained, capsys):
    story = "Mary went to the kitchen. " * 50 + "Mary went to the garden. John went to the office."
    ask.main(["--story", story, "Where is Mary?", "--out", str(trained)])
    output = capsys.readouterr().out
    assert "dropped  the 2 oldest statements: the network was trained with --memory-size 50" in output
    assert output.count("kitchen.") == 48


@pytest.mark.parametrize(
    ("story", "question", "message"),
    [
        ("Mary went to the kichen.", "Where is Mary?", "without the words 'kichen' (did you mean 'kitchen'?)"),
        ("Mary went to the kitchen.", "Where is Qqq?", "the network was trained on stories without the words 'qqq'"),
        (" . ", "Where is Mary?", "--story must have at least one statement, got ' . '"),
        ("Mary went to the kitchen.", "?", "give a question in quotes, got '?'"),
    ],
)
def test_what_cannot_be_answered_is_said(fails, trained, story, question, message):
    assert message in fails(ask.main, ["--story", story, question, "--out", str(trained)])


def test_without_a_trained_network_a_question_says_how_to_train_one(fails, tmp_path):
    message = fails(ask.main, ["--story", "Mary ran.", "Who ran?", "--out", str(tmp_path)])
    assert "train one with python -m ch05_rnn.train memory_network" in message
    assert "is not a run folder" in fails(ask.main, ["--story", "A b.", "Who?", "--folder", str(tmp_path)])
    assert "story" in fails(ask.main, ["Who ran?"])


def test_sentences_end_at_marks_and_lines():
    assert ask.split_sentences("Mary ran.John ran!  \nSandra ran\nWho?") == [
        "Mary ran.",
        "John ran!",
        "Sandra ran",
        "Who?",
    ]


# Several networks.


def test_probabilities_are_averaged(config, generated, monkeypatch):
    monkeypatch.setattr(memory_network, "report", lambda *_: None)
    averaged = restarts.Config(restarts=2, epochs=1, run=config.run)
    metrics = restarts.train(averaged, generated)
    folders = sorted((newest(config.run.out, "restarts") / "networks").glob("*/*/*/*/"))
    assert [folder.name[-2:] for folder in folders] == ["s0", "s1"]
    p, errors, valid_errors = [], [], []
    for folder in folders:
        network, encoder, _ = memory_network.restore(folder)
        encoded, valid = encoder.encode(generated.test), encoder.encode(generated.valid)
        p.append(predict(network, encoded).softmax(1))
        errors.append(float((p[-1].argmax(1) != encoded.answers).double().mean()))
        valid_errors.append(float((predict(network, valid).argmax(1) != valid.answers).double().mean()))
    assert errors[0] != errors[1]
    assert metrics["test_mean_error_rate"] == pytest.approx(sum(errors) / 2)
    assert metrics["test_best_error_rate"] == pytest.approx(errors[valid_errors.index(min(valid_errors))])
    average = ((p[0] + p[1]).argmax(1) != encoded.answers).double().mean()
    assert metrics["test_error_rate"] == pytest.approx(float(average))
    again = restarts.train(replace(averaged, folders=tuple(folders)), generated)
    assert {name: value for name, value in again.items() if "error_rate" in name} == {
        name: value for name, value in metrics.items() if "error_rate" in name
    }
    other = replace(generated, train=[q for q in generated.train if q.task == "place"])
    memory_network.train(replace(config, epochs=1), other)
    with pytest.raises(ValueError, match="was trained on questions with other answers"):
        restarts.train(replace(averaged, folders=(folders[0], newest(config.run.out))), generated)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["memory_network", "--data", "babi"], "or take the generated stories: --data stories"),
        (["memory_network", "--noise", "2"], "--noise must be between 0 and 1, got 2.0"),
        (["memory_network", "--hops", "0"], "--hops must be a number above 0, got 0"),
        (["memory_network", "--network", "dynamic", "--linear-start"], "--linear-start needs --network end_to_end"),
        (["memory_network", "--gates", "sigmoid"], "--gates needs --network dynamic, got end_to_end"),
        (["memory_network", "--dropout", "1"], "--dropout must be at least 0 and below 1, got 1.0"),
        (["restarts", "--restarts", "1"], "an average needs at least 2 networks, got 1"),
        (["restarts", "--folders", "nowhere"], "an average needs at least 2 networks, got 1"),
        (["restarts", "--folders", "here", "there"], "here is not a run folder: it has no config.json"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(cli.main, memory_network, restarts, arguments=[*words, "--out", str(tmp_path)])


def test_the_figure_shows_the_supporting_statements_and_wrong_answers():
    encoder = StoryEncoder.fit(QUESTIONS, "position", 4)
    model = end_to_end(encoder, hops=2).float().eval()
    readings = visualise.read(model, encoder, QUESTIONS)
    figure = visualise.draw_reading(readings, encoder)
    axes = figure.axes
    labels = [panel.get_yticklabels() for panel in axes[:3]]
    assert [tick.get_text() for tick in labels[2]] == list(QUESTIONS[2].story[-4:])
    marked = [[n for n, tick in enumerate(ticks) if tick.get_color() == visualise.SUPPORTING] for ticks in labels]
    assert marked == [[0, 2], [0], [1, 2]], "statements 2 and 3 of five are the second and third of the newest four"
    for panel, reading in zip(axes, readings, strict=False):
        ours, target = reading.predicted(encoder), reading.question.answer
        assert (f"(right: {target})" in panel.get_title(loc="right")) == (ours != target.lower())


def test_the_figure_has_a_question_of_each_task(generated):
    chosen = visualise.examples(generated)
    assert [q.task for q in chosen] == list(generated.tasks)
    assert all(len(q.story) <= visualise.LONGEST for q in chosen)
    test = [replace(q, task=str(number)) for number, q in enumerate(generated.test)]
    many = replace(generated, tasks={str(number): "" for number in range(len(test))}, test=test)
    assert len(visualise.examples(many)) == visualise.SHOWN


def place_questions(count: int) -> list[Question]:
    rng = random.Random(0)
    drawn = [simulated_stories.draw("place", rng) for _ in range(count)]
    return [Question(story, q.text, q.answer, q.supporting, "place") for story, q in drawn]


def test_a_dynamic_network_learns_to_find_the_last_statement_about_a_person():
    """On new stories; n-grams answer three questions in ten wrong, and guesses five in six."""
    questions = place_questions(2_000)
    config = Config(network="dynamic", embedding_size=32, hops=2)
    encoder = StoryEncoder.fit(questions, "position", 20)
    train, valid = encoder.encode(questions[:1_700]), encoder.encode(questions[1_700:])
    torch.manual_seed(0)
    network = make_network(encoder, config)
    optimizer = memory_network.make_optimizer(network, config)

    def step():
        index = torch.randint(len(train), (32,))
        memory_network.train_step(network, optimizer, train.batch(index), train.answers[index])

    error_rate = lambda: float((predict(network, valid).argmax(1) != valid.answers).float().mean())  # noqa: E731
    train_until(lambda: error_rate() < 0.1, step, at_most=3_000, every=50)


@pytest.mark.slow
def test_a_network_answers_what_ngrams_cannot(options, monkeypatch):
    """The order of the statements matters, and an object is where the person who carries it went."""
    monkeypatch.setattr(memory_network, "report", lambda *_: None)
    monkeypatch.setattr(bag_of_ngrams, "STEPS", 200)
    tasks = ("place", "object", "before")
    data = few_stories(1_000)
    picked = {split: [q for q in getattr(data, split) if q.task in tasks] for split in ("train", "valid", "test")}
    config = Config(epochs=10, embedding_size=32, batch_size=32, run=options)
    metrics = memory_network.train(config, replace(data, **picked))
    assert metrics["test_error_rate"] < metrics["test_ngrams_error_rate"] < metrics["test_chance_error_rate"]
    assert metrics["test_place_error_rate"] < 0.2
