"""Baselines that see the labelled images only: the same network, logistic regression, and nearest neighbours.

The settings of the last two, and the number of steps of the network, are chosen on the validation set.

Dimensions: B batch, N images, P pixels (784), K classes (10).
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor, nn

from ch08_vae.few_labels.labelled import labelled_batch
from ch08_vae.few_labels.losses import class_loss
from ch08_vae.preprocessing import flat
from common.data.images.image_set import ImageSet, Split
from common.progress import track
from common.schedule import linear_at, set_learning_rate

STEPS, BATCH, LEARNING_RATE = 300, 50, 3e-3
"""Training of the network without unlabelled images."""

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0)
"""Inverse strengths of the L2 penalty of the logistic regression."""

NEIGHBOURS = (1, 2, 3, 5, 7)
"""Numbers of neighbours, of which those up to the number of labelled images are compared."""


@torch.inference_mode()
def predict(logits: Callable[[Tensor], Tensor], split: Split, device: torch.device) -> Tensor:
    """Predict the classes (N,) of the images of a split with a function (B, P) pixels -> (B, K) logits."""
    return torch.cat([logits(flat(part.to(device))).argmax(1).cpu() for part in split.pixels.split(2_000)])


def accuracy(logits: Callable[[Tensor], Tensor], split: Split, device: torch.device) -> float:
    """Return the share of images of a split whose predicted class is right."""
    return float((predict(logits, split, device) == split.labels).float().mean())


def fit_network(
    network: nn.Module, logits: Callable[[Tensor], Tensor], labelled: Split, pixels: Callable[[Tensor], Tensor]
) -> None:
    """Train a network on the labelled images; `pixels` converts (B, 1, 28, 28) uint8 images to its inputs.

    The batches do not depend on the random state of the run.
    """
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights, LEARNING_RATE, fused=True)
    generator = torch.Generator().manual_seed(0)
    network.train()
    for step in track(range(STEPS), "steps of the baseline"):
        set_learning_rate(optimizer, linear_at(step / STEPS, LEARNING_RATE))
        images, labels = labelled_batch(labelled, BATCH, generator)
        class_loss(logits(pixels(images)), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
    network.eval()


def fit_scikit_learn(labelled: Split, data: ImageSet) -> dict[str, float]:
    """Return the test accuracy of scikit-learn's logistic regression and nearest neighbours, tuned on `data.valid`."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neighbors import KNeighborsClassifier

    x, labels = flat(labelled.pixels.cpu()).numpy(), labelled.labels.cpu().numpy()
    valid, test = (flat(split.pixels).numpy() for split in (data.valid, data.test))
    candidates = {
        "logistic_accuracy": [LogisticRegression(C=penalty, max_iter=300) for penalty in PENALTIES],
        "neighbours_accuracy": [KNeighborsClassifier(count) for count in NEIGHBOURS if count <= len(labels)],
    }
    found = {}
    for name, models in candidates.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # a weak penalty converges slowly
            models = [model.fit(x, labels) for model in models]
        best = max(models, key=lambda model: model.score(valid, data.valid.labels.numpy()))
        found[name] = float(best.score(test, data.test.labels.numpy()))
    return found
