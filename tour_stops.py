"""The stops of the tour: which programs it visits, how briefly, and what their results are compared with."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Stop:
    """A program of the tour, and the measure that sums it up."""

    module: str
    metric: str
    against: tuple[str, str | float] | None = None
    """What the measure is compared with: in words, and a measure of the same run or a figure that needs no run."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What makes the program this stop."""
    short: dict[str, Any] = field(default_factory=dict)
    """What makes it short and keeps it to embedded data; --full goes without."""

    @property
    def chapter(self) -> int:
        """The number in `ch03_autoencoder_rbm.digits.feedforward`."""
        return int(self.module[2:4])

    @property
    def title(self) -> str:
        """Name the program and what is special about it: `autoencoder, noise 0.5`."""
        special = [f"{name.replace('_', ' ')} {value}" for name, value in self.settings.items()]
        return ", ".join([self.module.rpartition(".")[2], *special])


GUESSING = ("guessing", 0.1)
THE_NUMBER = ("always the number", 0.53)

STOPS = [
    Stop("ch01_graphs.expressions", "affine_0", ("the book", 12.4)),
    Stop("ch01_graphs.numerics", "rewritten_lost_values", ("as written", "lost_values")),
    Stop("ch01_graphs.regression", "compiled_steps_per_second", ("eager", "eager_steps_per_second")),
    Stop("ch02_nn.simple", "prediction_4", ("the book", 0.9888)),
    Stop("ch02_nn.regression", "cubic_gradient_descent_r2", ("unscaled", "cubic_unscaled_gradient_descent_r2")),
    Stop("ch02_nn.activations", "distance_gelu"),
    Stop("ch02_nn.initial", "he_normal_activation", ("N(0, 1)", "unit_normal_activation")),
    Stop("ch02_nn.classifier", "test_accuracy", GUESSING, short={"data": "digits"}),
    Stop("ch02_nn.fitting", "chosen_degree_rmse", ("degree 15", "degree_15_rmse")),
    Stop("ch02_nn.fizzbuzz", "test_accuracy", THE_NUMBER),
    Stop("ch03_autoencoder_rbm.digits.feedforward", "test_accuracy", GUESSING, short={"data": "digits"}),
    Stop("ch03_autoencoder_rbm.digits.feedforward", "test_accuracy", GUESSING, {"loss": "book"}, {"data": "digits"}),
    Stop("ch03_autoencoder_rbm.digits.autoencoder", "test_mse", short={"data": "digits"}),
    Stop(
        "ch03_autoencoder_rbm.digits.autoencoder",
        "test_mse",
        ("as it came", "test_input_mse"),
        {"noise": 0.5},
        {"data": "digits"},
    ),
    Stop(
        "ch03_autoencoder_rbm.boltzmann.rbm",
        "test_log_likelihood",
        short={"data": "digits", "epochs": 60, "hidden_size": 200},
    ),
    Stop(
        "ch03_autoencoder_rbm.films.recommender",
        "test_rmse",
        ("biases", "bias_rmse"),
        short={"data": "planted", "epochs": 20},
    ),
    Stop(
        "ch04_cuda.input_pipeline",
        "resident_images_per_second",
        ("DataLoader", "dataloader_images_per_second"),
        short={"data": "digits", "rounds": 1, "seconds": 0.2},
    ),
    Stop(
        "ch04_cuda.by_hand",
        "hand_images_per_second",
        ("autograd", "autograd_images_per_second"),
        short={"data": "digits", "rounds": 1, "seconds": 0.2},
    ),
    Stop(
        "ch05_rnn.language.language_model",
        "test_loss",
        ("5-gram", "test_5gram_loss"),
        short={"data": "pydoc", "budget": 8.0},
    ),
    Stop("ch05_rnn.series.forecast", "test_lstm_one_step_rmse", ("linear", "test_autoregression_one_step_rmse")),
    Stop(
        "ch06_cnn.convolution.cnn",
        "test_accuracy",
        GUESSING,
        {"network": "linear"},
        {"data": "shapes", "epochs": 2},
    ),
    Stop("ch06_cnn.speedrun.speedrun", "test_accuracy", GUESSING, short={"data": "shapes", "budget": 6.0}),
    Stop("ch07_dqn.q_table", "path_steps", ("shortest", "shortest_steps")),
    Stop("ch07_dqn.dqn", "path_steps", ("shortest", "shortest_steps")),
    Stop(
        "ch07_dqn.generalise",
        "test_solve_rate",
        short={"budget": 36.0, "tests": 200, "large_tests": 50},
    ),
    Stop(
        "ch08_vae.vae",
        "test_log_likelihood",
        short={"data": "digits", "epochs": 150, "importance_samples": 500},
    ),
    Stop("ch08_vae.gan", "sample_classes", ("real digits", 10.0), short={"data": "digits", "epochs": 20, "width": 16}),
    Stop(
        "ch09_pipeline.pipeline",
        "test_accuracy",
        GUESSING,
        short={"variants": ("nodropout",), "epochs": 6},
    ),
    Stop("ch09_pipeline.graph", "due", ("jobs", "jobs")),
    Stop(
        "ch10_deploy.exporting.export",
        "digits_parity",
        ("tolerance", 1e-5),
        short={"data": "embedded", "models": ("digits", "decoder")},
    ),
]
