"""FizzBuzz as classification: trained on the numbers 101 ... 1023, tested on 1 ... 100.

    python -m ch02_nn.train fizzbuzz
    python -m ch02_nn.train fizzbuzz --hidden-size 256 --weight-decay 0

The input is a number as ten binary digits. The output is one of four classes: the number itself, fizz (divisible by 3),
buzz (by 5), fizzbuzz (by both). Divisibility by 3 and 5 depends on the sum of the digits with weights 2^k mod 15, which
repeat 1, 2, 4, 8. Width and weight decay were chosen on a validation set from 101 ... 1023; the test set 1 ... 100 is
evaluated once after training.

Dimensions: B batch, D binary digits (10), H hidden units, K classes (4).
"""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch02_nn.schedules import one_cycle
from common.benchmark import Workload
from common.config import RunOptions, read_config, require, require_positive
from common.data.source import DataCard, sha256_of
from common.progress import say
from common.run import Run, load_weights
from common.schedule import set_learning_rate

DIGITS = 10
WORDS = ("", "fizz", "buzz", "fizzbuzz")
FIRST_TRAINED, LAST_TRAINED = 101, 1023
HELD_OUT = 92
"""Size of the validation set, a tenth of the numbers 101 ... 1023."""
ROUND = 20
"""Training steps per progress line."""


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the FizzBuzz network."""

    hidden_size: int = 2_048
    """Number H of ReLU units of the hidden layer."""
    steps: int = 400
    """Training steps, a multiple of 20; each step uses all training numbers."""
    learning_rate: float = 1e-2
    """Peak learning rate of AdamW with a one-cycle schedule."""
    weight_decay: float = 0.3
    """Weight decay of AdamW."""
    run: RunOptions = field(default_factory=lambda: RunOptions(precision="fp32", threads=1))

    def __post_init__(self) -> None:
        require_positive(self, "hidden_size", "steps", "learning_rate")
        require(self.steps % ROUND == 0, f"--steps must be a multiple of {ROUND}", self.steps)
        require(0 <= self.weight_decay < 1 / self.learning_rate, "--weight-decay must be at least 0 and below "
                "1 / --learning-rate", self.weight_decay)  # fmt: skip


class FizzBuzz(nn.Module):
    """Multilayer perceptron with one wide hidden layer."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(DIGITS, hidden_size), nn.ReLU(), nn.Linear(hidden_size, len(WORDS)))

    def forward(self, digits: Tensor) -> Tensor:
        """(B, D) digits -> (B, K) logits"""
        return self.layers(digits)


def encode(numbers: Tensor) -> Tensor:
    """(B,) numbers 0 ... 1023 -> (B, D) binary digits as -1 and 1, least significant first; else raises ValueError."""
    if numbers.is_floating_point() or numbers.ndim != 1:
        raise ValueError(f"numbers must be integers of shape (B,), got {numbers.dtype} of shape {tuple(numbers.shape)}")
    outside = numbers[(numbers < 0) | (numbers >= 2**DIGITS)]
    if len(outside):
        raise ValueError(f"number {int(outside[0])} is out of range: it must be between 0 and {2**DIGITS - 1}")
    return ((numbers[:, None] >> torch.arange(DIGITS)) & 1).float() * 2 - 1


def classes(numbers: Tensor) -> Tensor:
    """(B,) numbers -> (B,) classes: 0 number, 1 fizz, 2 buzz, 3 fizzbuzz"""
    return (numbers % 3 == 0).long() + 2 * (numbers % 5 == 0).long()


def to_words(numbers: list[int], labels: list[int]) -> list[str]:
    """Return the word of each class, or the number itself for class 0."""
    return [WORDS[label] or str(number) for number, label in zip(numbers, labels, strict=True)]


def train_step(
    model: nn.Module, optimizer: torch.optim.Optimizer, digits: Tensor, labels: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one training step; return the loss on the device."""
    with torch.autocast(digits.device.type, torch.bfloat16, enabled=bf16):
        logits = model(digits)
    loss = F.cross_entropy(logits.float(), labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


def make_optimizer(model: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Build a fused AdamW optimizer (Loshchilov & Hutter 2019)."""
    return torch.optim.AdamW(model.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=True)


@torch.inference_mode()
def predict(model: nn.Module, numbers: Tensor) -> Tensor:
    """(N,) numbers -> (N, K) logits on the CPU"""
    return model(encode(numbers).to(next(model.parameters()).device)).cpu()


def measure(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Compute accuracy and cross-entropy in nats per number."""
    accuracy = (logits.argmax(1) == labels).float().mean()
    return {"accuracy": float(accuracy), "loss": float(F.cross_entropy(logits, labels))}


def split(seed: int, limit: int | None) -> tuple[Tensor, Tensor]:
    """Split 101 ... 1023 at random into a training and a validation set."""
    numbers = torch.arange(FIRST_TRAINED, LAST_TRAINED + 1)
    order = numbers[torch.randperm(len(numbers), generator=torch.Generator().manual_seed(seed))]
    return order[HELD_OUT:][:limit], order[:HELD_OUT][:limit]


def train(config: Config) -> dict[str, float]:
    """Train on 101 ... 1023; return the metrics on the validation set and on 1 ... 100."""
    numbers, valid = split(config.run.seed, config.run.limit)
    test = torch.arange(1, 101)
    sizes = f"{len(numbers)} train and {len(valid)} valid of 101 ... 1023, test 1 ... 100"
    with Run.open(__name__, config, DataCard("fizzbuzz", True, sha256_of(numbers, valid, test), sizes)) as run:
        digits, labels = encode(numbers).to(run.device), classes(numbers).to(run.device)
        model = FizzBuzz(config.hidden_size).to(run.device)
        optimizer = make_optimizer(model, config)
        for epoch in run.epochs(config.steps // ROUND, ROUND, model=model, optimizer=optimizer):
            for step in range((epoch - 1) * ROUND, epoch * ROUND):
                set_learning_rate(optimizer, one_cycle(step, config.steps, config.learning_rate))
                loss = train_step(model, optimizer, digits, labels, bf16=run.bf16)
                run.step(loss, numbers=len(digits))
            run.log(valid=measure(predict(model, valid), classes(valid)))
        run.save(model)
        logits = predict(model, test)
        answers = to_words(test.tolist(), logits.argmax(1).tolist())
        correct = to_words(test.tolist(), classes(test).tolist())
        for row in range(0, 100, 10):
            say("answers" if row == 0 else "", " ".join(answers[row : row + 10]))
        wrong = [f"{n} is {t}, not {a}" for n, t, a in zip(test.tolist(), correct, answers, strict=True) if a != t]
        say("wrong", "; ".join(wrong) or "none")
        report(run)
        return run.finish(valid=measure(predict(model, valid), classes(valid)), test=measure(logits, classes(test)))


def report(run: Run) -> None:
    """Draw the learning curves."""
    from common.drawing import plots

    panels = {"loss": ["train_loss", "valid_loss"], "accuracy": ["valid_accuracy"]}
    run.figure("curves", plots.curves(run.history, panels))


def restore(folder: Path) -> tuple[FizzBuzz, Config]:
    """Load the network and the Config of a run folder."""
    config = read_config(folder, Config)
    model = FizzBuzz(config.hidden_size)
    load_weights(model, folder)
    return model.eval(), config


def workload(config: Config, device: torch.device) -> Workload:
    """Return the training step on all training numbers for the device benchmark."""
    numbers, _ = split(config.run.seed, config.run.limit)
    digits, labels = encode(numbers).to(device), classes(numbers).to(device)
    model = FizzBuzz(config.hidden_size).to(device)
    optimizer = make_optimizer(model, config)
    bf16 = config.run.precision == "bf16"
    return Workload(lambda: train_step(model, optimizer, digits, labels, bf16=bf16), items=len(numbers), unit="numbers")
