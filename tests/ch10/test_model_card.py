"""Model cards in the layout of the Hugging Face Hub, read by huggingface_hub."""

import copy
import re
from typing import Any

import pytest
from huggingface_hub import ModelCard

from ch10_deploy.exporting.model_card import TASKS, metrics_of_test, model_card
from ch10_deploy.exporting.sources import SOURCES
from ch10_deploy.inference.models import NAMES

CARD: dict[str, Any] = {
    "name": "digits",
    "chapter": "ch03_autoencoder_rbm",
    "program": "feedforward",
    "data": {"name": "mnist", "embedded": False, "sha256": None},
    "metrics": {"test_accuracy": 0.9873, "test_worst": float("nan"), "train_seconds": 3.0, "valid_loss": 0.1},
    "inputs": {"pixels": {"type": "uint8", "shape": ["batch", 28, 28]}},
    "outputs": {"probabilities": {"type": "float", "shape": ["batch", 10]}},
    "parity": {"tolerance": 1e-5, "onnx": 1.23e-6, "program": 0.0, "examples": 32},
}


def read(text: str) -> Any:
    return ModelCard(text)


def test_the_hub_reads_metadata_and_metrics():
    card = read(model_card(CARD, SOURCES["digits"].program))
    assert card.data.license == "mit" and card.data.library_name == "onnx"
    assert card.data.pipeline_tag == "image-classification" and card.data.datasets == ["mnist"]
    assert "chapter-3" in card.data.tags and card.data.model_name == "digits"
    (result,) = card.data.eval_results
    assert (result.metric_type, result.metric_value) == ("accuracy", 0.9873)
    assert (result.dataset_name, result.dataset_split) == ("mnist", "test")


def test_the_text_says_what_the_network_is_and_how_it_is_used():
    text = read(model_card(CARD, SOURCES["digits"].program)).text
    assert (SOURCES["digits"].program.__doc__ or "").splitlines()[0] in text
    assert "python -m ch03_autoencoder_rbm.train feedforward` on mnist.\n" in text
    assert "| `pixels` | uint8 | [batch, 28, 28] |" in text and "| `probabilities` | float | [batch, 10] |" in text
    assert "- accuracy: 0.9873\n" in text and "at\nmost 1.2e-06," in text and "On 32 examples" in text
    assert 'session.run(None, {"pixels": pixels})' in text
    assert "nan" not in text and "seconds" not in text


def test_embedded_data_are_named_as_such():
    card = copy.deepcopy(CARD)
    card["data"] = {"name": "digits", "embedded": True, "sha256": None}
    assert "on digits (embedded: generated, or shipped with a package)." in model_card(card, SOURCES["digits"].program)


def test_a_card_without_test_metrics():
    card = CARD | {"metrics": {"solve_rate": 1.0}}
    text = model_card(card, SOURCES["digits"].program)
    assert read(text).data.eval_results is None
    assert "The run has no test metrics." in text and metrics_of_test(card) == {}


@pytest.mark.parametrize("name", NAMES)
def test_every_network_has_a_task_of_the_hub(name):
    card = CARD | {"name": name}
    assert re.fullmatch(r"[a-z-]+", TASKS[name])
    assert read(model_card(card, SOURCES[name].program)).data.pipeline_tag == TASKS[name]
