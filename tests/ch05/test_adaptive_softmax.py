"""The adaptive softmax, against torch's."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from ch05_rnn.language.adaptive_softmax import AdaptiveSoftmax
from ch05_rnn.language.language_model import Config
from ch05_rnn.language.network import LanguageModel

HIDDEN, VOCABULARY, CUTOFFS = 16, 30, [5, 12]


@pytest.fixture
def pair():
    """This chapter's and torch's, with the same weights, in double precision."""
    torch.manual_seed(0)
    ours = AdaptiveSoftmax(HIDDEN, VOCABULARY, CUTOFFS).double()
    torchs = nn.AdaptiveLogSoftmaxWithLoss(HIDDEN, VOCABULARY, CUTOFFS, div_value=4.0).double()
    for copy, weight in zip(torchs.parameters(), ours.parameters(), strict=True):
        copy.data.copy_(weight.detach())
    return ours, torchs


@pytest.mark.parametrize("targets", [[0, 4, 5, 11, 12, 29, 3, 7], [1, 2, 1, 0, 4, 3, 2, 1], [20] * 8])
def test_loss_and_gradients_are_torchs(pair, targets):
    ours, torchs = pair
    h = torch.randn(8, HIDDEN, dtype=torch.float64, requires_grad=True)
    loss, expected = ours.loss(h, torch.tensor(targets)), torchs(h, torch.tensor(targets)).loss
    torch.testing.assert_close(loss, expected)
    ours_gradients = torch.autograd.grad(loss, [h, *ours.parameters()], materialize_grads=True)
    their_gradients = torch.autograd.grad(
        expected, [h, *torchs.parameters()], allow_unused=True, materialize_grads=True
    )
    for one, other in zip(ours_gradients, their_gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_log_probabilities_are_torchs_and_give_the_loss(pair):
    ours, torchs = pair
    h, targets = torch.randn(6, HIDDEN, dtype=torch.float64), torch.arange(0, 30, 5)
    log_p = ours(h)
    torch.testing.assert_close(log_p, torchs.log_prob(h))
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(F.nll_loss(log_p, targets), ours.loss(h, targets))


def test_a_language_model_with_it_has_the_same_loss_from_both():
    torch.manual_seed(0)
    model = LanguageModel(30, embedding_size=5, hidden_size=16, cutoffs=(5, 12))
    tokens = torch.randint(30, (9, 3))
    loss, _ = model(tokens[:-1], model.initial_state(3), tokens[1:])
    log_p, _ = model(tokens[:-1], model.initial_state(3))
    torch.testing.assert_close(loss, F.nll_loss(log_p.flatten(0, 1), tokens[1:].flatten()))


def test_cutoffs_must_rise_within_the_vocabulary_and_nothing_is_tied():
    with pytest.raises(ValueError, match="--cutoffs must be above 0 and in rising order"):
        Config(cutoffs=(5, 5))
    with pytest.raises(ValueError, match="--cutoffs cannot be combined with --tied"):
        replace(Config(cutoffs=(5,)), tied=True)
