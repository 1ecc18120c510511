"""Trained vectors: neighbours and analogies, their evaluation, and the commands that use them."""

import math
from dataclasses import replace

import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from ch05_rnn import nearest
from ch05_rnn.words import evaluate_vectors, evaluation, fasttext, glove, word2vec
from ch05_rnn.words.cooccurrence import Counts, factorise, positive_pmi
from ch05_rnn.words.evaluation import analogy_accuracy, answerable, find_form, known_questions, similarity, spearman
from ch05_rnn.words.vectors import Vectors
from common import cli
from common.data.text.vocabulary import UNKNOWN, Vocabulary
from common.data.words import lines, vector_files, word_tests
from common.data.words.analogies import Question
from common.data.words.vector_files import read_vectors, write_vectors
from common.data.words.word_tests import WordPair


def square():
    """Four words at the corners of a parallelogram, and one that is near the third."""
    points = torch.tensor([[1.0, 0, 1], [1, 1, 1], [-1, 0, 1], [-1, 1, 1], [-1.1, -0.1, 1]])
    return Vectors(["man", "woman", "king", "queen", "ruler"], points)


# Neighbours and analogies.


def test_an_analogy_is_3cosadd_without_the_given_words():
    vectors = square()
    (best, cosine), *rest = vectors.analogy("man", "woman", "king", 9)
    a, b, c, d = vectors.directions[:4]
    assert best == "queen" and cosine == pytest.approx(float(F.cosine_similarity(b - a + c, d, dim=0)))
    assert [word for word, _ in rest] == ["ruler"]
    assert [word for word, _ in vectors.nearest("king", 2)] == ["ruler", "queen"]
    assert vectors.nearest("king", 1)[0][1] == pytest.approx(float(c @ vectors.directions[4]))
    question = torch.tensor([0]), torch.tensor([1]), torch.tensor([2])
    analogy, nearest = vectors.answers(*question), vectors.baseline_answers(*question)
    assert (vectors.words[analogy], vectors.words[nearest]) == ("queen", "ruler")
    asked = [Question("gender", "man", "woman", "king", "queen")]
    assert analogy_accuracy(vectors, asked) == {"accuracy": 1, "nearest_accuracy": 0, "gender_accuracy": 1}
    assert analogy_accuracy(vectors, []) == {}


@pytest.mark.parametrize("cosines", [20_000_000, 90])
def test_many_questions_are_answered_as_one_by_one(monkeypatch, cosines):
    monkeypatch.setattr("ch05_rnn.words.vectors.COSINES", cosines)
    torch.manual_seed(0)
    vectors = Vectors([str(n) for n in range(40)], torch.randn(40, 6))
    a, b, c = torch.randint(40, (3, 50))
    analogy, nearest = vectors.answers(a, b, c), vectors.baseline_answers(a, b, c)
    for n in range(50):
        words = [vectors.words[int(its[n])] for its in (a, b, c)]
        assert vectors.words[analogy[n]] == vectors.analogy(*words, count=1)[0][0]
        ranking = [word for word, _ in vectors.nearest(words[2], 39) if word not in words]
        assert vectors.words[nearest[n]] == ranking[0]


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("womann", "no vector for 'womann' among 5 words; did you mean 'woman'?"),
        ("King", "no vector for 'King' among 5 words; did you mean 'king'?"),
        ("xyzzy", "no vector for 'xyzzy' among 5 words"),
    ],
)
def test_an_unknown_word_gets_a_suggestion(word, message):
    for ask in (lambda: square().nearest(word, 3), lambda: square().indices([word])):
        with pytest.raises(ValueError, match="no vector") as error:
            ask()
        assert str(error.value) == message


def test_unknown_words_are_composed_if_that_is_possible():
    points = square()
    composed = {"rulers": points.directions[4] * 3, "?": None}
    vectors = Vectors(points.words, points.directions, composed.get)
    assert [word for word, _ in vectors.nearest("rulers", 2)] == ["ruler", "king"]
    assert vectors.nearest("rulers", 1)[0][1] == pytest.approx(1)
    assert vectors.analogy("man", "woman", "rulers", 1)[0][0] == "queen"
    with pytest.raises(ValueError, match=r"no vector for '\?'"):
        vectors.nearest("?", 1)


# Questions.


def test_the_questions_of_validation_and_test_are_different_ones():
    vocabulary = Vocabulary((UNKNOWN, "king", "queen", "man", "woman", "France", "paris", "Italy", "rome"))
    valid, test = known_questions(vocabulary)
    assert len(valid) + len(test) == 2 * 2 + 2 * 2
    assert not set(valid) & set(test)
    assert {q.family for q in valid + test} == {"gender", "country"}
    assert any("France" in (q.a, q.b, q.c, q.answer) for q in valid + test), "in the form of the vocabulary"
    assert known_questions(Vocabulary((UNKNOWN, "king"))) == ([], [])


def test_questions_are_answerable_in_the_forms_that_are_known():
    asked = [Question("f", "Athens", "Greece", "Rome", "Italy"), Question("f", "a", "b", "c", "d")]
    assert answerable(asked, {"athens", "greece", "Rome", "italy"}) == [
        Question("f", "athens", "greece", "Rome", "italy")
    ]
    assert find_form("king", {"King"}) == "King"
    assert find_form("King", {"King", "king"}) == "King"
    assert find_form("KING", {"k"}) is None


# Rank correlation.

FEW = st.integers(-3, 3).map(float)


@settings(deadline=None)
@given(st.lists(st.tuples(FEW, FEW), min_size=2, max_size=40))
def test_rank_correlation_is_scipys(pairs):
    """With few different values there are many ties."""
    x, y = (torch.tensor(side, dtype=torch.float64) for side in zip(*pairs, strict=True))
    assert evaluation.ranks(x).tolist() == scipy.stats.rankdata(x.numpy()).tolist()
    if x.unique().numel() == 1 or y.unique().numel() == 1:
        assert spearman(x, y) == 0
    else:
        assert spearman(x, y) == pytest.approx(scipy.stats.spearmanr(x.numpy(), y.numpy())[0], abs=1e-12)


def test_rank_correlation_of_examples():
    x = torch.tensor([1.0, 2, 3, 4])
    assert spearman(x, x.exp()) == pytest.approx(1)
    assert spearman(x, -x) == pytest.approx(-1)
    assert spearman(x, torch.tensor([1.0, 3, 2, 4])) == pytest.approx(1 - 6 * 2 / (4 * 15))


def test_similarity_covers_the_pairs_whose_words_have_vectors(monkeypatch):
    vectors = square()
    monkeypatch.setattr(evaluation, "FEWEST_PAIRS", 3)
    names = [("king", "ruler"), ("King", "queen"), ("man", "queen"), ("man", "pope")]
    rated = [WordPair(*pair, rating) for pair, rating in zip(names, (9.0, 5, 1, 8), strict=True)]
    assert similarity(vectors, rated) == {"coverage": 0.75, "correlation": pytest.approx(1)}
    swapped = [replace(pair, rating=-pair.rating) for pair in rated]
    assert similarity(vectors, swapped)["correlation"] == pytest.approx(-1)
    assert similarity(vectors, rated[2:]) == {"coverage": 0.5}, "too few pairs for a correlation"


def test_similarity_with_composed_words_is_reported_separately(monkeypatch):
    monkeypatch.setattr(evaluation, "FEWEST_PAIRS", 3)
    names = [("king", "ruler"), ("king", "queen"), ("man", "queen"), ("man", "Rulers")]
    rated = [WordPair(*pair, rating) for pair, rating in zip(names, (9.0, 5, 1, 0), strict=True)]
    points = square()
    vectors = Vectors(points.words, points.directions, {"rulers": -points.directions[0]}.get)
    metrics = similarity(vectors, rated)
    assert (metrics["coverage"], metrics["correlation"]) == (0.75, pytest.approx(1))
    assert (metrics["composed_coverage"], metrics["composed_correlation"]) == (1, pytest.approx(1))
    without = similarity(Vectors(points.words, points.directions, lambda word: None), rated)
    assert without["composed_coverage"] == 0.75, "a word without n-grams"


@pytest.fixture
def tests_in_data_dir(tmp_path, monkeypatch):
    """Small versions of the three test sets, about words of the planted corpus."""
    folder = tmp_path / "tests"
    folder.mkdir()
    monkeypatch.setenv("DATA_DIR", str(folder))
    words = ["king", "queen", "man", "woman", "boy", "girl"]
    rows = [f"{a}\t{b}\t{n}" for n, (a, b) in enumerate([(a, b) for a in words for b in words if a < b])]
    for name in ("wordsim353.tsv", "simlex999.txt"):
        (folder / name).write_text("\n".join(rows))
    (folder / "questions-words.txt").write_text(": family\nKing queen man woman\nboy girl brother sister\n")
    return folder


def test_vectors_are_evaluated_on_what_is_there(tests_in_data_dir, capsys):
    torch.manual_seed(0)
    words = ["king", "queen", "man", "woman", "boy", "girl"]
    vectors = Vectors(words, torch.randn(6, 5))
    metrics = evaluation.word_tests_of(vectors)
    assert metrics.keys() == {
        *("wordsim_coverage", "wordsim_correlation", "simlex_coverage", "simlex_correlation"),
        *("google_coverage", "google_accuracy"),
    }
    assert metrics["google_coverage"] == 0.5
    (tests_in_data_dir / "simlex999.txt").unlink()
    if word_tests.find_spec("gensim") is None:
        assert "simlex_coverage" not in evaluation.word_tests_of(vectors)
        assert "skipped  simlex-999 not found" in capsys.readouterr().out


def test_a_word_map_links_two_forms_of_each_concept():
    words = ["king", "queen", "man", "woman", "boy", "girl", "france", "paris", "french"]
    maps = evaluation.word_maps(Vectors(words, torch.randn(len(words), 5)))
    ((name, (points, shown, links)),) = maps.items()
    assert name == "gender", "a family with fewer than three known concepts is left out"
    assert points.shape == (6, 2)
    assert [(shown[a], shown[b]) for a, b in links] == [("king", "queen"), ("man", "woman"), ("boy", "girl")]


# The counting baseline.


def test_mutual_information_is_that_of_its_formula():
    torch.manual_seed(0)
    x = torch.tensor([[0, 3.0, 1], [3, 2, 0], [1, 0, 4]], dtype=torch.float64)
    rows, columns = x.nonzero(as_tuple=True)
    found = positive_pmi(Counts(rows, columns, x[rows, columns]), 3)
    total = x.sum(1)
    for i in range(3):
        for j in range(3):
            p_i, p_j = total[i] / total.sum(), total[j] ** 0.75 / (total**0.75).sum()
            pmi = math.log(x[i, j] / x.sum() / p_i / p_j) if x[i, j] else 0
            cell = found.values[(found.rows == i) & (found.columns == j)]
            assert cell.tolist() == ([pytest.approx(pmi)] if pmi > 0 else [])


def test_the_factors_reproduce_the_matrix_and_both_decompositions_agree(monkeypatch):
    torch.manual_seed(0)
    low_rank = torch.randn(40, 5, dtype=torch.float64)
    dense = low_rank @ low_rank.T
    rows, columns = dense.nonzero(as_tuple=True)
    matrix = Counts(rows, columns, dense[rows, columns])
    exact = factorise(matrix, 40, 5)
    torch.testing.assert_close(exact @ exact.T, dense.float(), rtol=1e-4, atol=1e-4)
    monkeypatch.setattr("ch05_rnn.words.cooccurrence.SMALL", 10)
    randomised = factorise(matrix, 40, 5)
    torch.testing.assert_close(randomised @ randomised.T, exact @ exact.T, rtol=1e-4, atol=1e-4)
    assert factorise(Counts(rows[:1], columns[:1], dense[:1, 0]), 3, 5).shape == (3, 5)


def test_the_baseline_finds_planted_analogies(options):
    metrics = evaluate_vectors.train(evaluate_vectors.Config(run=options))
    assert metrics["test_accuracy"] > 0.9 < metrics["valid_accuracy"]
    (path,) = options.out.rglob("vectors.txt")
    assert read_vectors(path).vectors.shape[1] == 128


def test_a_file_and_pretrained_vectors_are_evaluated(options, tests_in_data_dir, capsys):
    torch.manual_seed(0)
    words = ["king", "queen", "man", "woman", "boy", "girl"]
    write_vectors(tests_in_data_dir / "mine.txt", words, torch.randn(6, 4))
    config = evaluate_vectors.Config(vectors="file", load=tests_in_data_dir / "mine.txt", run=options)
    metrics = evaluate_vectors.train(config)
    assert metrics["test_wordsim_coverage"] == 1 and -1 <= metrics["test_wordsim_correlation"] <= 1
    assert "data     mine.txt: 6 words, vectors of size 4, from " in capsys.readouterr().out
    write_vectors(tests_in_data_dir / "glove.6B.50d.txt", words, torch.randn(6, 50), "glove")
    evaluate_vectors.train(evaluate_vectors.Config(vectors="glove-6b-50d", run=options))
    assert "data     glove-6b-50d (partial: 6 of 400,000 words): 6 words" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--vectors", "file"], "use --load together with --vectors file"),
        (["--load", "v.txt"], "use --load together with --vectors file"),
        (["--vectors", "file", "--load", "no.txt"], "no.txt does not exist"),
        (["--vectors", "glove-6b-50d"], "glove-6b-50d not found"),
    ],
)
def test_vectors_that_cannot_be_loaded_are_one_line(fails, monkeypatch, tmp_path, words, message):
    monkeypatch.setattr(vector_files, "find_spec", lambda name: None)
    monkeypatch.setattr(word_tests, "find_spec", lambda name: None)
    arguments = ["evaluate_vectors", *words, "--out", str(tmp_path)]
    assert message in fails(cli.main, evaluate_vectors, arguments=arguments)


# The command.


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of each program."""
    from common.config import RunOptions

    text = lines.load_text("planted", limit=800, without=fasttext.UNSEEN)
    run = RunOptions(device="cpu", precision="fp32", threads=1, out=tmp_path_factory.mktemp("runs"))
    word2vec.train(word2vec.Config(epochs=1, embedding_size=8, run=run), text)
    glove.train(glove.Config(epochs=1, embedding_size=8, run=run), text)
    fasttext.train(fasttext.Config(epochs=1, embedding_size=8, buckets=100, run=run), text)
    return run.out


@pytest.mark.parametrize("model", ["word2vec", "glove", "fasttext"])
def test_neighbours_are_those_of_the_newest_run(runs, capsys, model):
    nearest.main(["--near", "king", "--top", "3", "--model", model, "--out", str(runs)])
    output = capsys.readouterr().out
    (path,) = runs.glob(f"ch05_rnn/{model}/*/vectors.txt")
    found = read_vectors(path)
    best = Vectors(found.words, found.vectors).nearest("king", 3)
    assert all(word in output for word, _ in best)


def test_fasttext_has_neighbours_of_unseen_words(runs, capsys, fails):
    nearest.main(["--near", "coldest", "--top", "3", "--model", "fasttext", "--out", str(runs)])
    assert "query    coldest" in capsys.readouterr().out
    error = fails(nearest.main, ["--near", "coldest", "--out", str(runs)])
    assert "no vector for 'coldest'" in error and "did you mean" in error


@pytest.mark.parametrize("form", ["word2vec", "glove"])
def test_vectors_are_exported_and_loaded_again(runs, tmp_path, capsys, form):
    path = tmp_path / "v.txt"
    nearest.main(["--save", str(path), "--format", form, "--model", "glove", "--out", str(runs)])
    assert f"vectors of size 8, {form} format" in capsys.readouterr().out
    (original,) = runs.glob("ch05_rnn/glove/*/vectors.txt")
    torch.testing.assert_close(read_vectors(path).vectors, read_vectors(original).vectors)
    nearest.main(["--analogy", "man", "king", "woman", "--load", str(path), "--limit", "350"])
    assert "man is to king as woman is to ?" in capsys.readouterr().out
    nearest.main(["--save", str(path), "--format", form, "--model", "glove", "--limit", "5", "--out", str(runs)])
    assert read_vectors(path).words == read_vectors(original, limit=5).words


def test_ignored_lines_are_counted(tmp_path, capsys):
    (tmp_path / "v.txt").write_text("a 1 0\nb 1 1\na 2 2\n")
    nearest.main(["--near", "a", "--load", str(tmp_path / "v.txt")])
    assert "note     1 lines ignored, because earlier lines have the same words" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --near and --analogy, or only --save, got none"),
        (["--near", "a", "--analogy", "a", "b", "c"], "give one of --near and --analogy, or only --save, got both"),
        (["--near", "king"], "word2vec has no finished run: train one with python -m ch05_rnn.train word2vec"),
        (
            ["--near", "king", "--model", "glove"],
            "glove has no finished run: train one with python -m ch05_rnn.train glove",
        ),
        (["--near", "king", "--model", "fasttext"], "train one with python -m ch05_rnn.train fasttext"),
        (["--near", "king", "--model", "glove-6b-50d"], "glove-6b-50d not found"),
        (["--analogy", "a", "b"], "error: --analogy: expected STR STR STR, got a b; try python -m ch05_rnn.nearest"),
        (["--near", "king", "--load", "no.txt"], "no.txt does not exist"),
        (["--near", "king", "--limit", "0"], "--limit must be at least 1, got 0"),
        (["--near", "king", "--top", "0"], "--top must be at least 1, got 0"),
    ],
)
def test_a_mistaken_question_is_one_line(fails, monkeypatch, tmp_path, words, message):
    monkeypatch.setattr(vector_files, "find_spec", lambda name: None)
    assert message in fails(nearest.main, [*words, "--out", str(tmp_path)])
