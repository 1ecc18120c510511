"""Stops of the tour: its programs, their small settings, and the baselines of their results."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from common.config import RunOptions


def no_settings(_folder: Path) -> dict[str, Any]:
    """Return no further settings."""
    return {}


@dataclass(frozen=True)
class Stop:
    """A program of the tour, and the metric that summarises it."""

    module: str
    metric: str
    against: tuple[str, str | float] | None = None
    """Baseline of the metric: its name, and a metric of the same run or a constant."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings that define this stop."""
    short: dict[str, Any] = field(default_factory=dict)
    """Settings for a short run on embedded data; not used with --full."""
    make: Callable[[Path], dict[str, Any]] = no_settings
    """Function from the tour's folder to further settings, called before the program starts; not used with --full."""
    seconds: float = 3.0
    """Approximate duration on one core; the longest stops start first."""
    needs: str = ""
    """Module whose stop must end first, because this one uses its results."""
    alone: bool = False
    """It measures throughput, so no other stop may run at the same time."""
    posix: bool = False
    """It does not run on Windows."""
    label: str = ""
    """Description of the metric, if its name is not clear."""

    @property
    def chapter(self) -> int:
        """Number of the chapter: 3 for `ch03_autoencoder_rbm.digits.feedforward`."""
        return int(self.module[2:4])

    @property
    def title(self) -> str:
        """Name of the program with its special settings: `autoencoder, noise 0.5`."""
        special = [f"{name.replace('_', ' ')} {value}" for name, value in self.settings.items()]
        return ", ".join([self.module.rpartition(".")[2], *special])

    @property
    def measure(self) -> str:
        """Description of the metric."""
        return self.label or self.metric.replace("_", " ")


def earlier_runs(folder: Path) -> dict[str, Any]:
    """Make chapter 10 export the networks that the tour has trained."""
    return {"runs": folder}


def digit_batches(folder: Path) -> dict[str, Any]:
    """Write digits as batches, and a few as new pictures, for chapter 9: they are learned faster than the shapes."""
    from PIL import Image
    from torch.nn import functional as F

    from common.data.images.cifar import encode_cifar
    from common.data.images.image_set import Split
    from common.data.images.loading import load_images

    data, new = folder / "digits", folder / "new"
    if not data.is_dir():
        digits = load_images("digits")
        data.mkdir()
        half = len(digits.train) // 2
        batches = {"batch-1": digits.train[:half], "batch-2": digits.train[half:], "test-1": digits.test}
        for name, split in batches.items():
            colour = F.pad(split.pixels, (2, 2, 2, 2)).expand(-1, 3, -1, -1)  # 32x32, as CIFAR-10's
            (data / f"{name}.bin").write_bytes(encode_cifar(Split(colour, split.labels)))
        (data / "batches.meta.txt").write_text("\n".join(digits.class_names), encoding="utf-8")
        new.mkdir()
        for number, (pixels, label) in enumerate(
            zip(digits.valid.pixels[:6], digits.valid.labels.tolist(), strict=False)
        ):
            Image.fromarray(F.pad(pixels[0], (2, 2, 2, 2)).numpy()).save(new / f"{number + 1}-{label}.png")
    return {"data": data, "new": new}


def pipeline_data(folder: Path) -> dict[str, Any]:
    """Return the folder of the data that `digit_batches` has written."""
    return {"data": folder / "digits"}


GUESSING = ("guessing", 0.1)
PIXELS_ALONE = ("independent pixels", -178.0)
"""Log-likelihood of the binarised test split of the digits if pixels are independent with their training means."""

THE_MEAN_IMAGE = ("the mean image", 0.0316)
"""Mean squared error of the digits' test split if every reconstruction is the mean of the training split."""
A_LINEAR_NETWORK = ("a linear network", 0.117)
"""Test accuracy on the embedded shapes: `results/ch06/shapes-linear.json`."""

STOPS = [
    Stop("ch01_graphs.expressions", "affine_0", ("the book", 12.4), seconds=2, label="affine expression"),
    Stop(
        "ch01_graphs.numerics",
        "rewritten_non_finite_values",
        ("as written", "as_written_non_finite_values"),
        seconds=1,
        label="infinite or NaN values, rewritten",
    ),
    Stop(
        "ch01_graphs.regression",
        "compiled_steps_per_second",
        ("eager", "eager_steps_per_second"),
        alone=True,
        label="steps per second, compiled",
    ),
    Stop("ch02_nn.simple", "prediction_4", ("the book", 0.9888), label="prediction"),
    Stop(
        "ch02_nn.regression",
        "cubic_gradient_descent_r2",
        ("unscaled", "cubic_unscaled_gradient_descent_r2"),
        seconds=2,
        label="R² of a cubic, scaled",
    ),
    Stop(
        "ch02_nn.activations",
        "distance_gelu",
        ("float64's rounding", 2.22e-16),
        seconds=1,
        label="GELU, distance from PyTorch",
    ),
    Stop(
        "ch02_nn.initialisation",
        "he_normal_activation",
        ("N(0, 1)", "unit_normal_activation"),
        label="activation after 20 layers, He",
    ),
    Stop("ch02_nn.classifier", "test_accuracy", GUESSING, short={"data": "digits", "epochs": 40}),
    Stop(
        "ch02_nn.fitting",
        "chosen_degree_rmse",
        ("degree 15", "degree_15_rmse"),
        short={"steps": 60},
        label="RMSE of the chosen degree",
    ),
    Stop("ch02_nn.fizzbuzz", "test_accuracy", ("always the number", 0.53)),
    Stop(
        "ch03_autoencoder_rbm.digits.feedforward",
        "test_accuracy",
        GUESSING,
        short={"data": "digits", "epochs": 60},
        seconds=4,
    ),
    Stop(
        "ch03_autoencoder_rbm.digits.autoencoder",
        "test_mse",
        THE_MEAN_IMAGE,
        short={"data": "digits", "epochs": 60},
        seconds=5,
    ),
    Stop(
        "ch03_autoencoder_rbm.digits.autoencoder",
        "test_mse",
        ("the noisy input", "test_input_mse"),
        {"noise": 0.5},
        {"data": "digits", "epochs": 60},
        seconds=6,
    ),
    Stop(
        "ch03_autoencoder_rbm.boltzmann.rbm",
        "test_log_likelihood",
        PIXELS_ALONE,
        short={"data": "digits", "epochs": 35, "hidden_size": 200, "temperatures": 250, "annealed_chains": 200},
        seconds=6,
    ),
    Stop(
        "ch03_autoencoder_rbm.boltzmann.anomalies",
        "test_autoencoder_auroc",
        ("PCA", "test_pca_auroc"),
        short={"data": "digits", "classes": (3, 5)},
        label="AUROC, digits held out",
        seconds=6,
    ),
    Stop(
        "ch03_autoencoder_rbm.films.recommender",
        "test_rmse",
        ("biases", "bias_rmse"),
        short={"data": "planted", "epochs": 15},
    ),
    Stop(
        "ch04_cuda.input_pipeline",
        "resident_images_per_second",
        ("DataLoader", "dataloader_images_per_second"),
        short={"data": "digits", "rounds": 1, "seconds": 0.2, "workers": 0},
        alone=True,
        label="images per second, resident",
    ),
    Stop(
        "ch04_cuda.by_hand",
        "hand_images_per_second",
        ("DataLoader and autograd", "dataloader_images_per_second"),
        short={"data": "digits", "rounds": 1, "seconds": 0.2, "epochs": 2},
        alone=True,
        label="images per second, by hand",
    ),
    Stop(
        "ch05_rnn.language.language_model",
        "test_perplexity",
        ("4-gram", "test_4gram_perplexity"),
        short={
            "data": "pydoc",
            "level": "word",
            "epochs": 4,
            "hidden_size": 128,
            "embedding_size": 128,
            "tied": True,
            "batch_size": 16,
            "learning_rate": 1e-2,
            "dropout": 0.2,
            "run": RunOptions(precision="fp32"),
        },
        seconds=15,
    ),
    Stop(
        "ch05_rnn.language.language_model",
        "test_perplexity",
        ("2-gram", "test_2gram_perplexity"),
        {"network": "transformer"},
        {
            "data": "pydoc",
            "level": "word",
            "epochs": 2,
            "embedding_size": 64,
            "hidden_size": 256,
            "layers": 2,
            "steps": 64,
            "batch_size": 8,
            "dropout": 0.2,
            "run": RunOptions(precision="fp32"),
        },
        seconds=13,
    ),
    Stop(
        "ch05_rnn.words.word2vec",
        "test_accuracy",
        ("the nearest neighbour", "test_nearest_accuracy"),
        short={"epochs": 8},
        label="analogy accuracy",
        seconds=4,
    ),
    Stop(
        "ch05_rnn.sentences.sentiment",
        "test_accuracy",
        ("the best bag of words", "test_any_bag_accuracy"),
        short={"data": "grammar", "epochs": 9},
        label="test accuracy",
        seconds=5,
    ),
    Stop(
        "ch05_rnn.sentences.seq2seq",
        "test_accuracy",
        ("a random day", 1 / 73_049),
        short={
            "epochs": 1,
            "hidden_size": 64,
            "batch_size": 24,
            "learning_rate": 8e-3,
            "run": RunOptions(threads=1, precision="fp32", limit=21_000),
        },
        seconds=15,
    ),
    Stop(
        "ch05_rnn.series.forecast",
        "test_lstm_one_step_rmse",
        ("linear", "test_autoregression_one_step_rmse"),
        short={"epochs": 9, "batch_size": 32, "hidden_size": 32},
        label="test rmse, next value",
        seconds=6,
    ),
    Stop(
        "ch05_rnn.memory.memory_network",
        "test_error_rate",
        ("n-grams", "test_ngrams_error_rate"),
        short={
            "epochs": 5,
            "batch_size": 64,
            "embedding_size": 64,
            "run": RunOptions(threads=1, precision="fp32", limit=10_500),
        },
        label="error rate of answers",
        seconds=11,
    ),
    Stop(
        "ch05_rnn.captions.captioning",
        "test_bleu",
        ("the most similar image's caption", "test_nearest_bleu"),
        short={
            "epochs": 5,
            "batch_size": 16,
            "feature_size": 48,
            "embedding_size": 32,
            "hidden_size": 64,
            "attention_size": 8,
            "run": RunOptions(threads=1, precision="fp32", limit=800),
        },
        label="BLEU of captions",
        seconds=10,
    ),
    Stop(
        "ch06_cnn.speedrun.speedrun",
        "test_accuracy",
        A_LINEAR_NETWORK,
        short={
            "data": "shapes",
            "epochs": 2,
            "batch_size": 256,
            "widths": (16, 32, 64),
            "run": RunOptions(limit=4_000),
        },
        seconds=9,
    ),
    Stop("ch07_dqn.mazes.q_table", "path_steps", ("shortest", "shortest_steps"), seconds=2),
    Stop(
        "ch07_dqn.mazes.maze_dqn",
        "path_steps",
        ("shortest", "shortest_steps"),
        short={"epochs": 8, "warm_up": 1_000},
        seconds=6,
    ),
    Stop(
        "ch07_dqn.agents.ppo",
        "test_return",
        ("the maximum", 500.0),
        short={"environment_steps": 40_000, "epochs": 8},
        label="return in CartPole",
        seconds=8,
    ),
    Stop(
        "ch07_dqn.planning.generalise",
        "test_solve_rate",
        ("at twice the width and height", "large_solve_rate"),
        short={
            "epochs": 12,
            "mazes": 2_000,
            "rows": 3,
            "columns": 5,
            "horizon": 4,
            "discount": 0.95,
            "learning_rate": 2e-2,
            "batch_size": 16,
            "tests": 200,
            "large_tests": 50,
        },
        label="unseen mazes solved",
        seconds=7,
    ),
    Stop(
        "ch08_vae.autoencoding.vae",
        "test_log_likelihood",
        PIXELS_ALONE,
        short={"data": "digits", "epochs": 50, "importance_samples": 200, "likelihood_images": 100},
        seconds=7,
    ),
    Stop(
        "ch08_vae.adversarial.gan",
        "sample_classes",
        ("real digits", 10.0),
        short={"data": "digits", "epochs": 12, "width": 12},
        label="classes among samples",
        seconds=8,
    ),
    Stop(
        "ch09_pipeline.pipeline",
        "test_accuracy",
        GUESSING,
        short={"variants": ("nodropout",), "epochs": 2, "batch_size": 32, "jobs": 1},
        make=digit_batches,
        seconds=19,
        posix=True,
    ),
    Stop(
        "ch09_pipeline.graph",
        "due",
        ("of all", "jobs"),
        label="jobs due in a second run",
        make=pipeline_data,
        needs="ch09_pipeline.pipeline",
        posix=True,
    ),
    Stop(
        "ch10_deploy.exporting.export",
        "digits_parity",
        ("tolerance", 1e-5),
        label="ONNX, distance from PyTorch",
        short={"data": "embedded", "models": ("digits",)},
        make=earlier_runs,
        seconds=2,
        needs="ch03_autoencoder_rbm.digits.feedforward",
    ),
]
