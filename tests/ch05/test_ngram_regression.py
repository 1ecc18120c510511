"""Logistic regression on n-grams against scikit-learn, and the selection of its penalty."""

import pytest
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from ch05_rnn.sentences import ngram_regression
from ch05_rnn.sentences.classifiers import selection_error
from ch05_rnn.sentences.ngram_regression import NgramRegression, ngrams_up_to
from common.data.text.sentences import load_sentences


@pytest.fixture(scope="module")
def grammar():
    return load_sentences("grammar", limit=150)


@pytest.mark.parametrize("penalty", [0.3, 5.0])
def test_fit_is_that_of_scikit_learn(grammar, penalty):
    texts, labels = grammar.train.texts, grammar.train.labels
    ours = NgramRegression.fit(texts, labels, penalty=penalty)
    vectorizer = CountVectorizer(ngram_range=(1, 2), token_pattern=r"\S+", binary=True, lowercase=False)
    theirs = LogisticRegression(C=1 / penalty, tol=1e-10, max_iter=10_000).fit(vectorizer.fit_transform(texts), labels)
    names = vectorizer.get_feature_names_out()
    assert set(names) == ours.index.keys()
    weights = ours.weights[[ours.index[name] for name in names]]
    torch.testing.assert_close(weights, torch.from_numpy(theirs.coef_[0]), rtol=1e-3, atol=1e-4)
    assert ours.bias == pytest.approx(float(theirs.intercept_[0]), abs=1e-4)
    p = torch.from_numpy(theirs.predict_proba(vectorizer.transform(grammar.test.texts)))
    torch.testing.assert_close(ours.predict(grammar.test.texts).softmax(1).double(), p, rtol=1e-3, atol=1e-4)


def test_each_ngram_counts_once_and_unknown_ones_are_left_out():
    assert ngrams_up_to(3, "so so good") == {"so", "good", "so so", "so good", "so so good"}
    assert ngrams_up_to(2, "good") == {"good"}
    model = NgramRegression({"good": 0, "so good": 1}, torch.tensor([2.0, -0.5], dtype=torch.float64), 1.0, 1.0, 2)
    logits = model.predict(["good good", "so good", "unseen", "so so good"])
    torch.testing.assert_close(logits[:, 1], torch.tensor([3.0, 2.5, 1.0, 2.5]))
    assert (logits[:, 0] == 0).all()


def test_the_penalty_with_the_fewest_validation_errors_is_selected(grammar, monkeypatch):
    penalties = (0.01, 1.0, 100.0)
    monkeypatch.setattr(ngram_regression, "PENALTIES", penalties)
    train, valid = ((split.texts, split.labels) for split in (grammar.train, grammar.valid))
    labels = torch.tensor(grammar.valid.labels)
    errors = [
        selection_error(NgramRegression.fit(*train, penalty=penalty).predict(valid[0]), labels) for penalty in penalties
    ]
    assert NgramRegression.select(train, valid).penalty == penalties[errors.index(min(errors))]
    assert len(set(errors)) == 3
