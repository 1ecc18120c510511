"""The weights of the best epoch are kept, restored, and part of the checkpoint."""

import torch

from common.best_weights import BestWeights


def test_the_best_epoch_is_kept():
    model = torch.nn.Linear(1, 1, bias=False)
    best = BestWeights(model)
    for epoch, loss in ((1, 0.9), (2, 0.7), (3, 0.8)):
        torch.nn.init.constant_(model.weight, float(epoch))
        best.update(loss, epoch)
    assert best.epoch == 2
    assert float(model.state_dict()["weight"]) == 3
    twin = BestWeights(torch.nn.Linear(1, 1, bias=False))
    twin.load_state_dict(best.state_dict())
    for each in (best, twin):
        each.restore()
        assert float(each.model.state_dict()["weight"]) == 2
    twin.update(0.75, 4)
    assert twin.epoch == 2, "the best loss is part of the state"
