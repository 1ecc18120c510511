"""fastText: hashes, n-grams, vectors of unseen words, and the program; word_throughput, with gensim and without."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from ch05_rnn.words import fasttext, word_throughput
from ch05_rnn.words.contexts import Bags, Examples
from ch05_rnn.words.fasttext import Config, unseen_accuracy
from ch05_rnn.words.network import Decisions, WordVectors, train_step
from ch05_rnn.words.subwords import Subwords, fnv1a, ngrams
from ch05_rnn.words.vectors import Vectors
from common import cli
from common.data.words import lines
from common.data.words.vector_files import read_vectors


@pytest.fixture(scope="module")
def planted():
    return lines.load_text("planted", limit=1_000, without=fasttext.UNSEEN)


@pytest.fixture
def config(options):
    return Config(epochs=2, embedding_size=8, buckets=200, run=options)


# N-grams.


@pytest.mark.parametrize(
    ("data", "hashed"),
    [
        # the published test vectors (Fowler, Noll, Vo & Eastlake, appendix C)
        (b"", 0x811C9DC5),
        (b"a", 0xE40C292C),
        (b"foobar", 0xBF9CF968),
        # a byte above 127 is signed in fastText: (0x811C9DC5 xor 0xFFFFFFC3) * 0x01000193 mod 2^32
        (b"\xc3", (0x811C9DC5 ^ 0xFFFFFFC3) * 0x01000193 % 2**32),
    ],
)
def test_hashes_are_fnv_1a(data, hashed):
    assert fnv1a(data) == hashed


def test_ngrams_of_the_papers_example():
    assert ngrams("where", 3, 3) == ["<wh", "whe", "her", "ere", "re>"]
    assert sorted(ngrams("her", 3, 6)) == sorted(["<he", "her", "er>", "<her", "her>", "<her>"])
    assert ngrams("ö", 3, 6) == ["<ö>"], "characters, not bytes"
    assert ngrams("a", 4, 6) == []
    assert ngrams("ab", 1, 2) == ["<a", "a", "ab", "b", "b>"], "< and > alone are left out"


def test_ngrams_and_hashes_are_gensims():
    inner = pytest.importorskip("gensim.models.fasttext_inner", reason="gensim is not installed")
    for word in ("where", "a", "übermäßig", "日本語", "l'été", "x" * 30):
        for shortest, longest in ((3, 6), (1, 2)):
            hashed = [inner.ft_hash_bytes(ngram) for ngram in inner.compute_ngrams_bytes(word, shortest, longest)]
            assert [fnv1a(ngram.encode()) for ngram in ngrams(word, shortest, longest)] == hashed


def test_a_word_is_its_own_row_and_the_buckets_of_its_ngrams():
    subwords = Subwords(["her", "ab"], 50, 3, 4)
    assert subwords.rows == 52
    bags = subwords.bags
    own = [2 + fnv1a(ngram.encode()) % 50 for ngram in ngrams("her", 3, 4)]
    assert bags.elements[: bags.sizes[0]].tolist() == [0, *own]
    assert bags.elements[bags.sizes[0] :].tolist() == [1, *subwords.rows_of("ab")]
    assert subwords.rows_of("unseen") == [2 + fnv1a(ngram.encode()) % 50 for ngram in ngrams("unseen", 3, 4)]


def test_the_vector_of_a_word_is_the_mean_of_its_rows():
    torch.manual_seed(0)
    subwords = Subwords(["king", "kings", "a"], 40, 3, 6)
    model = WordVectors(subwords.rows, 3, 5).double()
    matrix = fasttext.word_matrix(model, subwords)
    for number, word in enumerate(["king", "kings", "a"]):
        rows = [number, *subwords.rows_of(word)]
        torch.testing.assert_close(matrix[number], model.v[rows].mean(0).detach())
    composed = fasttext.compose(model, subwords, "kingly")
    torch.testing.assert_close(composed, model.v[subwords.rows_of("kingly")].mean(0).detach())
    assert fasttext.compose(model, Subwords(["king"], 40, 6, 6), "a") is None


def test_the_step_is_the_gradient_of_the_formula():
    """Against autograd through an embedding bag, with n-grams that words share."""
    torch.manual_seed(0)
    subwords = Subwords(["king", "kings"], 10, 3, 4)
    model = WordVectors(subwords.rows, 2, 4).double()
    model.u.normal_()
    examples = Examples(subwords.bags, Bags(torch.tensor([1, 0, 0]), torch.tensor([2, 1])))
    decisions = Decisions(torch.tensor([[1, 0], [0, 0], [0, 1]]), torch.tensor([[1.0, 0]]))
    v, u = (p.detach().clone().requires_grad_() for p in (model.v, model.u))
    h = F.embedding_bag(subwords.bags.elements, v, subwords.bags.starts, mode="mean")[[0, 0, 1]]
    scores = torch.einsum("pjd,pd->pj", u[decisions.outputs], h)
    loss = -(F.logsigmoid(scores[:, 0]) + F.logsigmoid(-scores[:, 1])).sum()
    dv, du = torch.autograd.grad(loss, (v, u))
    train_step(model, examples, decisions, 0.1)
    torch.testing.assert_close(model.v.detach(), (v - 0.1 * dv).detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.u.detach(), (u - 0.1 * du).detach(), rtol=1e-12, atol=1e-12)


# The program.


def test_training_repeats_restores_and_writes(config, planted):
    first, second = fasttext.train(config, planted), fasttext.train(config, planted)
    one, two = (path.parent for path in sorted(config.run.out.rglob("model.safetensors")))
    (model, vocabulary, restored), (other, _, _) = fasttext.restore(one), fasttext.restore(two)
    assert torch.equal(model.v, other.v) and torch.equal(model.u, other.u)
    assert first["test_accuracy"] == second["test_accuracy"]
    assert {"test_unseen_accuracy", "test_unseen_nearest_accuracy"} <= first.keys()
    assert restored == config
    found = read_vectors(one / "vectors.txt")
    assert found.words == list(vocabulary.symbols)
    matrix = fasttext.word_matrix(model, fasttext.make_subwords(vocabulary, restored))
    torch.testing.assert_close(found.vectors, matrix, rtol=1e-5, atol=1e-6)


def test_unseen_words_are_not_in_the_text(config, planted):
    assert all(word not in planted.vocabulary for word in fasttext.UNSEEN)
    assert Config(data="pydoc").unseen == Config(text="a.txt").unseen == ()
    assert Config(text="a.txt", unseen=("king",)).unseen == ("king",)
    none = fasttext.train(replace(config, unseen=()), lines.load_text("planted", limit=1_000))
    assert not any("unseen" in name for name in none)


def test_a_question_needs_an_unseen_word():
    words = ["cold", "colder", "hot", "hotter", "tall"]
    points = torch.tensor([[1.0, 0, 0], [1, 1, 0], [0, 0, 1], [0, 1, 1], [9, 9, 9]])
    vectors = Vectors(words, points, lambda word: torch.tensor([9.0, 10, 9]) if word == "taller" else None)
    accuracy = unseen_accuracy(vectors, ("taller", "cold"))
    asked = 2 * 4  # taller with cold and with hot, on each of the four places
    assert accuracy["unseen_accuracy"] * asked == pytest.approx(round(accuracy["unseen_accuracy"] * asked))
    assert unseen_accuracy(vectors, ("cold",)) == {}


def test_an_interrupted_run_ends_with_the_same_weights(config, planted, monkeypatch):
    fasttext.train(config, planted)
    whole = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns).read_bytes()
    steps, step = [], fasttext.train_step

    def interrupted(*arguments):
        steps.append(1)
        if len(steps) == 18:
            raise KeyboardInterrupt
        return step(*arguments)

    monkeypatch.setattr(fasttext, "train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fasttext.train(config, planted)
    assert len(list(config.run.out.rglob("checkpoint.pt"))) == 2, "in the second epoch"
    monkeypatch.setattr(fasttext, "train_step", step)
    fasttext.train(replace(config, run=replace(config.run, resume=True)), planted)
    newest = max(config.run.out.rglob("model.safetensors"), key=lambda path: path.stat().st_mtime_ns)
    assert newest.read_bytes() == whole


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--shortest", "5", "--longest", "4"], "--shortest must be at most --longest, got 5"),
        (["--buckets", "0"], "--buckets must be a number above 0, got 0"),
        (["--data", "pydoc", "--text", "a.txt"], "--text takes the place of --data: give one of them, got pydoc"),
        (["--subsample", "1e-12"], "raise --subsample"),
    ],
)
def test_a_mistake_is_one_line(fails, tmp_path, words, message):
    arguments = ["fasttext", *words, "--limit", "500", "--out", str(tmp_path)]
    assert message in fails(cli.main, fasttext, arguments=arguments)


@pytest.mark.slow
def test_planted_analogies_are_found_with_unseen_words_too(options):
    metrics = fasttext.train(Config(run=options))
    assert metrics["test_accuracy"] > 0.8
    assert metrics["test_unseen_accuracy"] > 0.6
    assert metrics["test_unseen_accuracy"] > metrics["test_unseen_nearest_accuracy"] + 0.3


# The comparison.


@pytest.fixture
def small(options):
    return word_throughput.Config(data="planted", rounds=1, embedding_size=8, buckets=100, run=options)


def test_without_gensim_ours_is_timed_and_one_line_says_so(small, planted, monkeypatch, capsys):
    monkeypatch.setattr(word_throughput, "find_spec", lambda name: None)
    metrics = word_throughput.train(small, planted)
    assert metrics["skipgram_words_per_second"] > 0 and metrics["fasttext_words_per_second"] > 0
    assert not any("gensim" in name or name.endswith("ratio") for name in metrics)
    output = capsys.readouterr().out
    assert output.count("gensim is not installed: pip install '.[vectors]'") == 1


def test_with_gensim_both_are_timed(small, planted):
    pytest.importorskip("gensim", reason="gensim is not installed")
    metrics = word_throughput.train(small, planted)
    assert metrics["skipgram_ratio"] > 0 and metrics["fasttext_ratio"] > 0
    assert -1 <= metrics["gensim_skipgram_wordsim_correlation"] <= 1 or "gensim_skipgram_wordsim_coverage" in metrics


def test_the_lines_for_gensim_are_those_of_the_text(planted):
    sentences = word_throughput.lines_of(planted)
    assert [word for line in sentences for word in line] == planted.vocabulary.decode(planted.train.tokens)
    assert len(sentences) == len(planted.train.line_numbers.unique())


def test_our_variants_train_as_the_programs_do(small, planted, options):
    """An epoch lowers the loss of skip-gram; the vectors of fastText are means of n-grams."""
    from common.run import Run

    with Run.open(word_throughput.__name__, small, planted.card) as run:
        ours = word_throughput.Ours(planted, small, run, subwords=True)
        rates = []
        step = word_throughput.train_step
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_throughput, "train_step", lambda *words: rates.append(words[3]) or step(*words))
            ours.train_epoch(0.0, 0.5)
            ours.train_epoch(0.5, 1.0)
    assert rates[0] == small.fasttext_learning_rate
    half = len(rates) // 2
    assert rates[half] == pytest.approx(small.fasttext_learning_rate / 2, rel=0.1)
    assert rates == sorted(rates, reverse=True)
    expected = ours.model.hidden(Subwords(planted.vocabulary.symbols, 100, 3, 6).bags)
    torch.testing.assert_close(ours.matrix(), expected.detach())


def test_a_round_is_timed(fails, tmp_path):
    arguments = ["word_throughput", "--rounds", "0", "--out", str(tmp_path)]
    assert "--rounds must be a number above 0, got 0" in fails(cli.main, word_throughput, arguments=arguments)
