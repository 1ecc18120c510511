"""TextCNN against explicit loops and torch's convolution; max-norm constraint; contributions of words and n-grams."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch05_rnn.sentences.classifiers import BiLSTM, predict
from ch05_rnn.sentences.explanation import leave_one_out, log_odds, winning_ngrams
from ch05_rnn.sentences.padding import PAD
from ch05_rnn.sentences.textcnn import Filters, TextCNN, limit_norms, windows
from common.data.text.vocabulary import UNKNOWN, Vocabulary

SENTENCES = ["fine", "not a fine film", "a film", "not fine at all , a very dull film"]
VOCABULARY = Vocabulary.build((w for text in SENTENCES for w in text.split()), reserved=("<pad>", UNKNOWN))


@pytest.fixture
def model():
    torch.manual_seed(1)
    return TextCNN(len(VOCABULARY), widths=(1, 2, 5), filters=7, embedding_size=4, dropout=0.5).eval()


def maximum_over_time(filters: Filters, vectors: torch.Tensor) -> list[tuple[float, int]]:
    """The formulas of the module, with loops over filters, windows, positions and components."""
    n, size = vectors.shape
    found = []
    for w, b in zip(filters.linear.weight.tolist(), filters.linear.bias.tolist(), strict=True):
        c = []
        for end in range(n + filters.width - 1):
            total = b
            for offset in range(filters.width):
                place = end - filters.width + 1 + offset
                if 0 <= place < n:
                    total += sum(w[offset * size + e] * float(vectors[place, e]) for e in range(size))
            c.append(total)
        found.append((max(c), c.index(max(c))))
    return found


@pytest.mark.parametrize("width", [1, 2, 3, 6])
def test_convolution_and_maximum_over_time_are_those_of_a_loop(width):
    torch.manual_seed(width)
    filters = Filters(width, 3, 4).double()
    lengths = torch.tensor([4, 1, 2])
    vectors = torch.randn(3, 4, 3, dtype=torch.float64)
    for row, length in enumerate(lengths.tolist()):
        vectors[row, length:] = 0
    maxima, places = filters(vectors, lengths)
    for row, length in enumerate(lengths.tolist()):
        expected = maximum_over_time(filters, vectors[row, :length])
        torch.testing.assert_close(maxima[row], torch.tensor([value for value, _ in expected], dtype=torch.float64))
        assert places[row].tolist() == [place for _, place in expected]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_windows_and_a_linear_layer_are_a_convolution(width):
    """Outputs and gradients are those of nn.Conv1d with the same weights and zeros at both ends."""
    torch.manual_seed(0)
    vectors = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    linear = nn.Linear(width * 3, 4, dtype=torch.float64)
    ours = linear(windows(vectors, width))
    kernel = linear.weight.view(4, width, 3).transpose(1, 2)
    theirs = F.conv1d(vectors.transpose(1, 2), kernel, linear.bias, padding=width - 1).transpose(1, 2)
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn_like(ours)
    inputs = [vectors, linear.weight, linear.bias]
    torch.testing.assert_close(
        torch.autograd.grad((ours * weight).sum(), inputs), torch.autograd.grad((theirs * weight).sum(), inputs)
    )


def test_features_are_relu_of_the_maxima_and_ignore_padding(model):
    """A window of padding alone has the value of the bias, which would be the maximum here."""
    for filters in model.filters:
        nn.init.constant_(filters.linear.bias, 0.5)
    nn.init.constant_(model.filters[0].linear.bias[:3], -10)  # these have no value above 0
    model = model.double()
    alone = torch.tensor([[3, 4, 5]])
    words = torch.tensor([[3, 4, 5, PAD, PAD, PAD, PAD, PAD], [2, 3, 4, 5, 6, 7, 8, 2]])
    expected, expected_windows = model.features(alone, torch.tensor([3]))
    p, found = model.features(words, torch.tensor([3, 8]))
    torch.testing.assert_close(p[:1], expected)
    assert torch.equal(found[:1], expected_windows)
    assert (p[0, :3] == 0).all() and (p[0, 3:] > 0).any()
    vectors = model.embedding(alone).detach()
    maxima = [value for filters in model.filters for value, _ in maximum_over_time(filters, vectors[0])]
    torch.testing.assert_close(p[0], torch.tensor(maxima, dtype=torch.float64).relu())
    logits = model.output.weight @ p[0] + model.output.bias
    torch.testing.assert_close(model(words, torch.tensor([3, 8]))[0], logits)


def test_random_vectors_are_small_and_that_of_the_padding_is_zero():
    torch.manual_seed(0)
    weight = TextCNN(2_000, widths=(3,), filters=1, embedding_size=10, dropout=0.0).embedding.weight.detach()
    assert (weight[PAD] == 0).all()
    assert float(weight[PAD + 1 :].std()) == pytest.approx(0.25, rel=0.05)


def test_a_sentence_shorter_than_the_filters_has_features(model):
    p, found = model.features(torch.tensor([[3]]), torch.tensor([1]))
    assert p.isfinite().all()
    assert (found[:, 14:] < 5).all(), "windows of width 5 that contain the only word"


def test_dropout_sets_features_to_zero(model):
    """Only in training, and only features: the word vectors stay as they are."""
    model.train()
    seen = []
    model.output.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    words, lengths = torch.randint(1, 9, (50, 6)), torch.full((50,), 6)
    model(words, lengths)
    p, _ = model.features(words, lengths)
    dropped = (seen[0] == 0) & (p > 0)
    assert 0.3 < float(dropped.sum() / (p > 0).sum()) < 0.7
    torch.testing.assert_close(seen[0][~dropped], 2 * p[~dropped])


def test_max_norm_rescales_long_rows_only():
    weight = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0], [-6.0, 8.0]], dtype=torch.float64)
    expected = weight.renorm(2, 0, 2.0)
    kept = weight.clone()
    limit_norms(weight, 2.0)
    torch.testing.assert_close(weight, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(weight.norm(dim=1), torch.tensor([2.0, 0.5, 0.0, 2.0], dtype=torch.float64))
    assert torch.equal(weight[1], kept[1])
    torch.testing.assert_close(weight[3], kept[3] / 5)


def test_contributions_of_the_winning_ngrams_add_up_to_the_log_odds(model):
    bias = float((model.output.bias[1] - model.output.bias[0]).detach())
    for text in SENTENCES:
        found = winning_ngrams(model, VOCABULARY, text)
        total = bias + sum(ngram.contribution for ngram in found)
        assert total == pytest.approx(float(log_odds(model, VOCABULARY, [text])), abs=1e-5)
        sizes = [abs(ngram.contribution) for ngram in found]
        assert sizes == sorted(sizes, reverse=True)
        p, _ = model.features(VOCABULARY.encode(text.split()).unsqueeze(0), torch.tensor([len(text.split())]))
        assert sum(ngram.filters for ngram in found) == int((p > 0).sum())


def test_the_winning_ngram_is_found():
    """One filter of width 2 that responds to `not fine`, one of width 3 to `fine` at the start of a sentence."""
    model = TextCNN(len(VOCABULARY), widths=(2, 3), filters=1, embedding_size=len(VOCABULARY), dropout=0.0).eval()
    one, fine = VOCABULARY.index["not"], VOCABULARY.index["fine"]
    with torch.no_grad():
        model.embedding.weight.copy_(torch.eye(len(VOCABULARY)))
        for parameter in (*model.filters.parameters(), *model.output.parameters()):
            parameter.zero_()
        pairs, triples = (parameter for name, parameter in model.filters.named_parameters() if "weight" in name)
        pairs.view(2, -1)[[0, 1], [one, fine]] = torch.tensor([1.0, 2.0])
        triples.view(3, -1)[2, fine] = 1.0
        model.output.weight.copy_(torch.tensor([[1.0, 0.0], [0.5, 2.0]]))
    found = winning_ngrams(model, VOCABULARY, "a very not fine film")
    assert [(ngram.text, ngram.contribution, ngram.filters) for ngram in found] == [
        ("very not fine", 2.0, 1),
        ("not fine", -1.5, 1),
    ]
    assert [ngram.text for ngram in winning_ngrams(model, VOCABULARY, "fine film")] == ["fine"]


def test_leave_one_out_is_the_difference_of_log_odds():
    torch.manual_seed(0)
    model = BiLSTM(len(VOCABULARY), embedding_size=4, hidden_size=3, dropout=0.0)
    words = ["not", "a", "fine", "film"]
    logits = predict(model, VOCABULARY, ["not a fine film", "a fine film", "not fine film", "not a film", "not a fine"])
    z = logits[:, 1] - logits[:, 0]
    torch.testing.assert_close(leave_one_out(model, VOCABULARY, words), z[0] - z[1:])
    torch.testing.assert_close(leave_one_out(model, VOCABULARY, ["fine"]), log_odds(model, VOCABULARY, ["fine"]))
