"""Word vectors: the step's formula, the pairs, the noise, the questions, the text format."""

import math
import re
from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch05_rnn import nearest
from ch05_rnn.words import corpus, skipgram, word2vec
from ch05_rnn.words.analogies import analogy_accuracy, known_questions
from ch05_rnn.words.skipgram import NoiseSampler, SkipGram, skip_grams
from ch05_rnn.words.vectors import Vectors, read_vectors, write_vectors
from ch05_rnn.words.word2vec import Config
from common import cli
from common.data.text import analogies
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from conftest import train_until


@pytest.fixture(scope="module")
def planted():
    return corpus.load_text("planted", limit=1_500)


@pytest.fixture
def config(options):
    return Config(epochs=2, embedding_size=8, run=options)


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


def test_the_questions_of_validation_and_test_are_different_ones():
    vocabulary = Vocabulary((UNKNOWN, "king", "queen", "man", "woman", "France", "paris", "Italy", "rome"))
    valid, test = known_questions(vocabulary)
    assert len(valid) + len(test) == 2 * 2 + 2 * 2
    assert not set(valid) & set(test)
    assert {q.family for q in valid + test} == {"gender", "country"}
    assert any("France" in (q.a, q.b, q.c, q.answer) for q in valid + test), "as the text writes it"
    assert known_questions(Vocabulary((UNKNOWN, "king"))) == ([], [])


# The pairs.


def pairs_by_hand(tokens, rows, reach):
    found = []
    for i, centre in enumerate(tokens):
        for j, context in enumerate(tokens):
            if i != j and rows[i] == rows[j] and abs(i - j) <= reach[i]:
                found.append((centre, context))
    return sorted(found)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=0, max_size=30), st.integers(1, 6), st.integers(0, 9)
)
def test_pairs_are_the_words_within_reach_in_the_same_line(content, window, seed):
    tokens = torch.tensor([word for word, _ in content], dtype=torch.int64)
    rows = torch.tensor([new for _, new in content], dtype=torch.int64).cumsum(0)
    centre, context = skip_grams(tokens, rows, torch.ones(6), window, torch.Generator().manual_seed(seed))
    generator = torch.Generator().manual_seed(seed)
    torch.rand(len(tokens), generator=generator, dtype=torch.float64)
    reach = torch.randint(1, window + 1, (len(tokens),), generator=generator)
    expected = pairs_by_hand(tokens.tolist(), rows.tolist(), reach.tolist())
    assert sorted(zip(centre.tolist(), context.tolist(), strict=True)) == expected


def test_frequent_words_are_left_out_as_often_as_the_paper_says():
    counts = torch.tensor([9_000, 990, 10, 0])
    keep = skipgram.keep_probability(counts, 0.01)
    assert keep.tolist() == pytest.approx([math.sqrt(0.01 / 0.9), math.sqrt(0.01 / 0.099), 1, 1])
    tokens = torch.zeros(20_000, dtype=torch.int64)
    centre, _ = skip_grams(tokens, tokens, keep, 1, torch.Generator().manual_seed(0))
    assert len(centre) == pytest.approx(2 * 20_000 * math.sqrt(0.01 / 0.9), rel=0.05)


def test_words_that_stay_see_over_those_that_do_not():
    tokens, row = torch.tensor([1, 0, 2]), torch.zeros(3, dtype=torch.int64)
    centre, context = skip_grams(tokens, row, torch.tensor([0.0, 1, 1]), 1, torch.Generator())
    assert sorted(zip(centre.tolist(), context.tolist(), strict=True)) == [(1, 2), (2, 1)]


def test_noise_is_drawn_by_counts_to_the_power():
    counts = torch.tensor([0, 16, 1, 0, 81, 0])
    weights = [0, 8, 1, 0, 27, 0]
    assert skipgram.noise_distribution(counts).tolist() == pytest.approx([w / 36 for w in weights])
    drawn = NoiseSampler(counts).draw((300, 100), torch.Generator().manual_seed(0))
    assert drawn.shape == (300, 100)
    share = drawn.flatten().bincount(minlength=6) / drawn.numel()
    assert share.tolist() == pytest.approx([w / 36 for w in weights], abs=0.01)
    assert share[0] == share[3] == share[5] == 0


# The step.


def test_step_is_the_gradient_of_the_loss():
    """Against autograd, with words that occur several times in the batch, on both sides."""
    torch.manual_seed(0)
    model = SkipGram(7, 4).double()
    model.u.normal_()
    model.v.normal_()
    centre, context = torch.tensor([1, 1, 3]), torch.tensor([[2, 2, 1], [3, 0, 2], [1, 1, 1]])
    v, u = (p.detach().clone().requires_grad_() for p in (model.v, model.u))
    scores = torch.einsum("bkd,bd->bk", u[context], v[centre])
    loss = -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1:]).sum(1))
    dv, du = torch.autograd.grad(loss.sum(), (v, u))
    torch.testing.assert_close(model(centre, context), scores.detach())
    torch.testing.assert_close(skipgram.negative_sampling_loss(scores), loss)
    output = skipgram.train_step(model, centre, context, 0.1)
    torch.testing.assert_close(output, loss.mean().detach())
    torch.testing.assert_close(model.v, (v - 0.1 * dv).detach(), check_device=False)
    torch.testing.assert_close(model.u, (u - 0.1 * du).detach())


def test_the_beginning_is_word2vecs():
    torch.manual_seed(0)
    model = SkipGram(1_000, 50)
    assert (model.u == 0).all()
    assert float(model.v.abs().max()) <= 0.5 / 50
    assert float(model.v.std()) == pytest.approx(1 / 50 / math.sqrt(12), rel=0.02)


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    model = SkipGram(12, 8)
    centre = torch.arange(6)
    context = torch.stack([centre + 6, (centre + 1) % 6 + 6, (centre + 2) % 6 + 6], dim=1)
    losses = []
    train_until(
        lambda: losses[-1] < 0.1,
        lambda: losses.append(float(skipgram.train_step(model, centre, context, 0.3))),
        at_most=4_000,
    )
    assert (model(centre, context)[:, 0] > 0).all() and (model(centre, context)[:, 1:] < 0).all()


# What is asked.


def square():
    """Four words at the corners of a parallelogram, and one that is near the third."""
    points = torch.tensor([[1.0, 0, 1], [1, 1, 1], [-1, 0, 1], [-1, 1, 1], [-1.1, -0.1, 1]])
    return Vectors(["man", "woman", "king", "queen", "ruler"], points)


def test_an_analogy_is_3cosadd_without_the_given_words():
    vectors = square()
    (best, cosine), *rest = vectors.analogy("man", "woman", "king", 9)
    a, b, c, d = vectors.directions[:4]
    assert best == "queen" and cosine == pytest.approx(float(F.cosine_similarity(b - a + c, d, dim=0)))
    assert [word for word, _ in rest] == ["ruler"]
    assert [word for word, _ in vectors.nearest("king", 2)] == ["ruler", "queen"]
    assert vectors.nearest("king", 1)[0][1] == pytest.approx(float(c @ vectors.directions[4]))
    analogy, nearest = vectors.answers(torch.tensor([0]), torch.tensor([1]), torch.tensor([2]))
    assert (vectors.words[analogy], vectors.words[nearest]) == ("queen", "ruler")
    asked = [analogies.Question("gender", "man", "woman", "king", "queen")]
    measures = analogy_accuracy(vectors, asked)
    assert measures == {"accuracy": 1, "nearest_accuracy": 0, "gender_accuracy": 1}
    assert analogy_accuracy(vectors, []) == {}
    with pytest.raises(ValueError, match="there is no vector for 'pope' among 5 words"):
        vectors.nearest("pope", 3)


def test_many_questions_are_answered_as_one_by_one():
    torch.manual_seed(0)
    vectors = Vectors([str(n) for n in range(40)], torch.randn(40, 6))
    a, b, c = torch.randint(40, (3, 50))
    analogy, nearest = vectors.answers(a, b, c)
    for n in range(50):
        words = [vectors.words[int(its[n])] for its in (a, b, c)]
        assert vectors.words[analogy[n]] == vectors.analogy(*words, count=1)[0][0]
        ranking = [word for word, _ in vectors.nearest(words[2], 39) if word not in words]
        assert vectors.words[nearest[n]] == ranking[0]


WORD = st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=6)


@given(
    st.dictionaries(
        WORD,
        st.lists(st.floats(-9, 9, width=32, allow_subnormal=False), min_size=2, max_size=2),
        min_size=1,
        max_size=9,
    )
)
def test_vectors_are_read_as_they_were_written(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("vectors") / "vectors.txt"
    vectors = torch.tensor(list(content.values()))
    write_vectors(path, list(content), vectors)
    words, read = read_vectors(path)
    assert words == list(content)
    torch.testing.assert_close(read, vectors, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "starts with '': word2vec's text format starts with two numbers"),
        ("king 0.1 0.2\n", "starts with 'king 0.1 0.2'"),
        ("2 2\nking 1 2\n", "announces 2 words and holds 1"),
        ("1 2\nking 1\n", "line 2 has 1 numbers, not 2"),
        ("1 2\nking 1 x\n", "line 2: could not convert string to float: 'x'"),
        ("2 1\nking 1\nking 2\n", "line 3 has 'king' a second time"),
    ],
)
def test_bad_vectors_are_named_with_their_line(tmp_path, text, message):
    (tmp_path / "v.txt").write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'v.txt'} {message}")):
        read_vectors(tmp_path / "v.txt")
    with pytest.raises(FileNotFoundError, match=r"no\.txt does not exist"):
        read_vectors(tmp_path / "no.txt")


# The program.


def test_words_of_a_real_text_stand_in_lines(tmp_path):
    (tmp_path / "text.txt").write_text("The cat sat .\nA dog ran .\n" * 200, encoding="utf-8")
    text = corpus.load_text("planted", text=str(tmp_path / "text.txt"))
    assert text.card.name == "text.txt"
    words = text.vocabulary.decode(text.train.tokens[:8])
    assert words == ["The", "cat", "sat", ".", "A", "dog", "ran", "."]
    assert text.train.line_numbers[:8].unique_consecutive(return_counts=True)[1].tolist() == [4, 4]


def test_a_text_and_the_name_of_another_are_one_too_many(fails):
    words = ["word2vec", "--data", "pydoc", "--text", "a.txt"]
    assert "--text takes the place of --data: give one of them, got pydoc" in fails(cli.main, word2vec, arguments=words)


def test_a_held_out_text_without_pairs_is_named(config, planted):
    alone = corpus.Part(planted.valid.tokens[:2], torch.tensor([0, 1]))
    noise = skipgram.NoiseSampler(planted.train.tokens.bincount(minlength=len(planted.vocabulary)))
    model = skipgram.SkipGram(len(planted.vocabulary), 4)
    with pytest.raises(ValueError, match="no two words in a line"):
        word2vec.held_out_loss(model, alone, noise, config)


def test_an_epoch_with_fewer_pairs_than_steps_is_named(config, planted, monkeypatch):
    draws, draw = [], word2vec.skip_grams

    def less_and_less(*arguments):
        draws.append(draw(*arguments))
        return draws[0] if len(draws) == 1 else (draws[-1][0][:1], draws[-1][1][:1])

    monkeypatch.setattr(word2vec, "skip_grams", less_and_less)
    with pytest.raises(ValueError, match="an epoch draws too few pairs: raise --subsample or --batch-size, got 1"):
        word2vec.train(replace(config, batch_size=16), planted)


def test_rare_words_get_no_vector():
    text = corpus.load_text("planted", limit=300, minimum_count=20)
    counts = Counter(word for line in analogies.draw_lines()[2_000:2_300] for word in line.split())
    assert set(text.vocabulary.symbols) == {word for word, count in counts.items() if count >= 20}
    assert len(text.train) == sum(count for count in counts.values() if count >= 20)


def test_training_repeats_restores_and_writes(config, planted, capsys):
    first, second = word2vec.train(config, planted), word2vec.train(config, planted)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, vocabulary, restored), (other, _, _) = word2vec.restore(one), word2vec.restore(two)
    assert torch.equal(model.v, other.v) and torch.equal(model.u, other.u)
    assert first["test_loss"] == second["test_loss"] < 6 * math.log(2), "of vectors that know nothing"
    assert restored == config
    words, vectors = read_vectors(one / "vectors.txt")
    assert set(words) == set(vocabulary.symbols)
    torch.testing.assert_close(vectors, model.v[vocabulary.encode(words)], rtol=1e-5, atol=1e-6)
    for name in ("analogies", "curves"):
        assert (one / f"{name}.png").read_bytes()[:4] == b"\x89PNG"
    capsys.readouterr()
    nearest.main(["--near", "king", "--top", "3", "--out", str(config.run.out)])
    output = capsys.readouterr().out
    best = Vectors(words, vectors).nearest("king", 3)
    assert all(word in output for word, _ in best)


def test_a_word_map_links_two_forms_of_each_concept():
    words = ["king", "queen", "man", "woman", "boy", "girl", "france", "paris", "french"]
    maps = word2vec.word_maps(Vectors(words, torch.randn(len(words), 5)))
    ((name, (points, shown, links)),) = maps.items()
    assert name == "gender", "a family with fewer than three known concepts is left out"
    assert points.shape == (6, 2)
    assert [(shown[a], shown[b]) for a, b in links] == [("king", "queen"), ("man", "woman"), ("boy", "girl")]


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


def test_the_step_size_falls_along_a_line(config, planted, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        word2vec, "train_step", lambda model, centre, context, size: sizes.append(size) or torch.zeros(())
    )
    word2vec.train(config, planted)
    assert sizes == pytest.approx([config.learning_rate * (1 - n / len(sizes)) for n in range(len(sizes))])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--precision", "bf16"], "word vectors are computed in fp32: --precision must be auto or fp32, got bf16"),
        (["--text", "no.txt"], "no.txt"),
        (["--data", "wikitext-2"], "wikitext-2 is not in"),
        (["--subsample", "0"], "--subsample must be a number above 0, got 0"),
        (["--subsample", "1e-12"], "raise --subsample"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    assert message in fails(
        cli.main, word2vec, arguments=["word2vec", *words, "--limit", "500", "--out", str(tmp_path)]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give either --near or --analogy, got both or none"),
        (["--near", "king"], "word2vec has no finished run: train one with python -m ch05_rnn.train word2vec"),
        (["--analogy", "a", "b"], "--analogy"),
        (["--near", "king", "--vectors", "no.txt"], "no.txt does not exist"),
    ],
)
def test_a_mistaken_question_is_one_line(fails, tmp_path, words, message):
    assert message in fails(nearest.main, [*words, "--out", str(tmp_path)])


def test_the_planted_analogies_are_found(options):
    metrics = word2vec.train(Config(run=options))
    assert metrics["test_accuracy"] > 0.9
    assert metrics["test_accuracy"] > metrics["test_nearest_accuracy"] + 0.3
