"""Answering questions about stories with a memory network, compared with logistic regression on n-grams.

    python -m ch05_rnn.train memory_network                             # generated stories, seven tasks
    python -m ch05_rnn.train memory_network --network dynamic           # dynamic memory network
    python -m ch05_rnn.train memory_network --network dynamic --gates sigmoid
    python -m ch05_rnn.train memory_network --data babi                 # all twenty bAbI tasks jointly
    python -m ch05_rnn.ask --story "Mary took the milk. Mary went to the garden." "Where is the milk?"

One network learns all tasks from questions and answers alone; the supporting facts are not used in training.

Dimensions: N questions, B batch, C answer classes, K hops.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch05_rnn.memory.bag_of_ngrams import Baseline
from ch05_rnn.memory.dynamic_memory import DynamicMemory, Gates
from ch05_rnn.memory.encoding import UNSEEN, Batch, Encoded, Encoding, StoryEncoder
from ch05_rnn.memory.end_to_end import EndToEnd, Sharing
from ch05_rnn.memory.visualise import report
from common import distributed
from common.benchmark import Workload
from common.best_weights import BestWeights
from common.config import RunOptions, default_by, fill_defaults, read_config, require, require_positive
from common.data.text.stories import Question, StoriesName, StorySet, load_stories
from common.data.text.vocabulary import Vocabulary
from common.progress import say
from common.run import Run, load_weights
from common.schedule import one_cycle_at, set_learning_rate

CLIP = 1.25
"""Maximum gradient norm of the mean loss: 40 for the sum over a batch of 32 (Sukhbaatar et al. 2015, section 4.2)."""
FAILED = 0.05
"""A task with a larger error rate counts as failed (Weston et al. 2015)."""

Network = EndToEnd | DynamicMemory


@dataclass(frozen=True)
class Config:
    """Hyperparameters of the memory network."""

    data: StoriesName = "stories"
    """Data set: generated stories, or the bAbI tasks in DATA_DIR/babi."""
    network: Literal["end_to_end", "dynamic"] = "end_to_end"
    """End-to-end memory network (attention over statements), or dynamic memory network (gated GRU over statements)."""
    gates: Gates = "softmax"
    """Gates of the dynamic memory network: softmax over the statements of a story, or the sigmoid of each score."""
    hops: int = 3
    """Number of times that the network reads the story."""
    embedding_size: int = default_by("network", end_to_end=100, dynamic=80)
    """Embedding size, and hidden size of the dynamic memory network. Default: 100, 80 for the dynamic network."""
    sharing: Sharing = "layer_wise"
    """Weight sharing of the end-to-end network: the same tables in all hops, or each hop's output table as the next
    hop's input table."""
    empty_memory: bool = True
    """Add an empty memory with score 0 to the attention of the end-to-end network, so that a hop can read nothing."""
    equal_tables: bool = True
    """With layer-wise sharing, start with equal tables A, B and C: a statement that is read then matches others with
    the same words."""
    encoding: Encoding = "position"
    """Weights of the words of a sentence: by position, or all equal (bag of words)."""
    noise: float = 0.1
    """Random noise of the temporal encoding in training: maximum number of empty memories, relative to the number of
    statements."""
    memory_size: int = 50
    """Maximum number of statements per question; the newest are kept."""
    linear_start: bool = False
    """Train without the softmax of the attention until the validation loss stops decreasing."""
    optimizer: Literal["adam", "sgd"] = "adam"
    """Adam with a one-cycle schedule, or SGD with a learning rate that is halved after each quarter of the epochs."""
    learning_rate: float = default_by(
        "optimizer",
        adam=default_by("data", stories=default_by("network", end_to_end=6e-3, dynamic=4e-3), babi=4e-3),
        sgd=0.3,
    )
    """Peak learning rate."""
    epochs: int = default_by("data", stories=default_by("network", end_to_end=12, dynamic=6), babi=100)
    """Number of epochs."""
    batch_size: int = default_by("data", stories=128, babi=64)
    """Batch size in questions, over all processes."""
    dropout: float = default_by("data", stories=0.0, babi=0.1)
    """Dropout probability of the memories and of the final state."""
    run: RunOptions = field(default_factory=lambda: RunOptions(threads=1, precision="fp32"))

    def __post_init__(self) -> None:
        fill_defaults(self)
        require_positive(self, "hops", "embedding_size", "memory_size", "learning_rate", "epochs", "batch_size")
        require(0 <= self.noise <= 1, "--noise must be between 0 and 1", self.noise)
        require(0 <= self.dropout < 1, "--dropout must be at least 0 and below 1", self.dropout)
        end_to_end = self.network == "end_to_end"
        require(end_to_end or not self.linear_start, "--linear-start needs --network end_to_end", self.network)
        require(not end_to_end or self.gates == "softmax", "--gates needs --network dynamic", self.network)


def make_network(encoder: StoryEncoder, config: Config) -> Network:
    """Build the network for these vocabularies."""
    if config.network == "dynamic":
        return DynamicMemory(
            len(encoder.vocabulary),
            len(encoder.answers),
            hops=config.hops,
            embedding_size=config.embedding_size,
            gates=config.gates,
            dropout=config.dropout,
        )
    return EndToEnd(
        len(encoder.vocabulary),
        encoder.answer_symbols,
        hops=config.hops,
        embedding_size=config.embedding_size,
        memory_size=config.memory_size,
        sharing=config.sharing,
        empty_memory=config.empty_memory,
        equal_tables=config.equal_tables,
        noise=config.noise,
        dropout=config.dropout,
    )


class LinearStart:
    """Train with linear attention until the validation loss stops decreasing, at most for half of the epochs.

    Sukhbaatar et al. 2015, section 4.2. Part of the checkpoint.
    """

    def __init__(self, network: Network, *, active: bool, epochs: int) -> None:
        self.network, self.epochs = network, epochs
        self.loss = float("inf")
        self.ended = 0
        """Number of epochs with linear attention"""
        if isinstance(network, EndToEnd):
            network.linear = active

    @property
    def active(self) -> bool:
        """Whether the attention is linear."""
        return isinstance(self.network, EndToEnd) and self.network.linear

    def update(self, valid_loss: float, epoch: int) -> None:
        """Put the softmax back if the validation loss did not decrease in this epoch."""
        if isinstance(self.network, EndToEnd) and self.network.linear:
            self.ended = epoch
            self.network.linear = valid_loss < self.loss and epoch < self.epochs // 2
            self.loss = valid_loss

    def state_dict(self) -> dict[str, Any]:
        """Return the state for the checkpoint."""
        return {"loss": self.loss, "ended": self.ended, "active": self.active}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of a checkpoint."""
        self.loss, self.ended = state["loss"], state["ended"]
        if isinstance(self.network, EndToEnd):
            self.network.linear = state["active"]


def make_optimizer(network: nn.Module, config: Config) -> torch.optim.Optimizer:
    """Adam (Kingma & Ba 2015), all parameters in one fused step, or SGD without momentum."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(network.parameters(), config.learning_rate)
    return torch.optim.Adam(network.parameters(), config.learning_rate, fused=True)


def learning_rate_at(progress: float, config: Config) -> float:
    """Learning rate at a share of the training with softmax, 0 to 1."""
    if config.optimizer == "sgd":
        return config.learning_rate * 0.5 ** int(4 * progress)
    return one_cycle_at(progress, config.learning_rate)


def train_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, answers: Tensor, *, bf16: bool = False
) -> Tensor:
    """Take one gradient step; return the cross-entropy in nats per question, still on the device."""
    with torch.autocast(answers.device.type, torch.bfloat16, enabled=bf16):
        logits = network(batch)
    loss = F.cross_entropy(logits.float(), answers)
    loss.backward()
    nn.utils.clip_grad_norm_(network.parameters(), CLIP)
    optimizer.step()
    optimizer.zero_grad()
    return loss.detach()


@torch.inference_mode()
def predict(network: Network, encoded: Encoded) -> Tensor:
    """N questions -> (N, C) logits on the CPU"""
    was_training = network.training
    network.eval()
    device = next(network.parameters()).device
    index = torch.arange(len(encoded), device=encoded.answers.device)
    batches = [encoded.batch(part) for part in index.split(1_000)]
    logits = [network(Batch(*(tensor.to(device) for tensor in batch))).float().cpu() for batch in batches]
    network.train(was_training)
    return torch.cat(logits)


def by_task(questions: Sequence[Question]) -> dict[str, list[int]]:
    """Return the numbers of the questions of each task."""
    tasks: dict[str, list[int]] = {}
    for number, question in enumerate(questions):
        tasks.setdefault(question.task, []).append(number)
    return tasks


def measure(correct: Tensor, questions: Sequence[Question]) -> dict[str, float]:
    """(N,) whether each answer is correct -> error rate of all questions and of each task, number of failed tasks"""
    wrong = (~correct).double()
    rates = {task: float(wrong[numbers].mean()) for task, numbers in sorted(by_task(questions).items())}
    failed = sum(rate > FAILED for rate in rates.values())
    return {
        "error_rate": float(wrong.mean()),
        **{f"{t}_error_rate": r for t, r in rates.items()},
        "failed_tasks": failed,
    }


def train(config: Config, data: StorySet | None = None) -> dict[str, float]:
    """Train the network, select the baseline, and return the test metrics of both."""
    data = data or load_stories(config.data, limit=config.run.limit)
    encoder = StoryEncoder.fit(data.train, config.encoding, config.memory_size)
    encoded, valid, test = (encoder.encode(split) for split in (data.train, data.valid, data.test))
    with Run.open(__name__, config, data.card) as run:
        baseline = Baseline.select(data.train, data.valid, (encoded.answers, valid.answers), seed=config.run.seed)
        say("baseline", f"{baseline.description}, selected on the validation set")
        encoded = encoded.to(run.device)
        network = make_network(encoder, config).to(run.device)
        parallel = distributed.wrap(network)
        optimizer = make_optimizer(network, config)
        start = LinearStart(network, active=config.linear_start, epochs=config.epochs)
        best = BestWeights(network)
        steps = batch_count(len(encoded), config.batch_size)
        parts = {"network": network, "optimizer": optimizer, "linear_start": start, "best": best}
        for epoch in run.epochs(config.epochs, steps, **parts):
            order = torch.randperm(len(encoded), generator=run.generator).to(run.device)
            for step, index in enumerate(order.split(config.batch_size)[:steps], start=(epoch - 1) * steps):
                progress = (step / steps - start.ended) / (config.epochs - start.ended)
                rate = config.learning_rate / 2 if start.active else learning_rate_at(progress, config)
                set_learning_rate(optimizer, rate)
                index = distributed.shard(index)
                loss = train_step(parallel, optimizer, encoded.batch(index), encoded.answers[index], bf16=run.bf16)
                run.step(loss, questions=len(index))
            logits = predict(network, valid)
            valid_loss = float(F.cross_entropy(logits, valid.answers, ignore_index=UNSEEN))
            error_rate = float((logits.argmax(1) != valid.answers).float().mean())
            run.log(valid={"error_rate": error_rate, "loss": valid_loss})
            if not start.active:
                best.update(error_rate, epoch)
            start.update(valid_loss, epoch)
        best.restore()
        predicted = predict(network, test).argmax(1)
        measures = {"test": measure(predicted == test.answers, data.test)}
        measures["test_ngrams"] = measure(baseline.predict(data.test) == test.answers, data.test)
        if data.chance:
            measures["test_chance"] = chance(data)
        run.save(network)
        if run.is_main:
            encoder.save(run)
            report(run, data, network, encoder, predicted, measures)
        return run.finish(**measures)


def batch_count(questions: int, batch_size: int) -> int:
    """Return the number of batches per epoch, without a last batch with fewer questions than processes."""
    full, remainder = divmod(questions, batch_size)
    return full + (remainder >= distributed.world_size())


def chance(data: StorySet) -> dict[str, float]:
    """Return the expected error rates of the best answers without the stories."""
    rates = {task: 1 - accuracy for task, accuracy in data.chance.items() if task in by_task(data.test)}
    counts = {task: len(numbers) for task, numbers in by_task(data.test).items()}
    mean = sum(rates[task] * counts[task] for task in rates) / sum(counts.values())
    return {"error_rate": mean, **{f"{task}_error_rate": rate for task, rate in rates.items()}}


def restore(folder: Path) -> tuple[Network, StoryEncoder, Config]:
    """Load a trained network, its encoder and its Config from a run folder."""
    config = read_config(folder, Config)
    encoder = StoryEncoder.load(folder, config.encoding, config.memory_size)
    network = make_network(encoder, config)
    load_weights(network, folder)
    return network.eval(), encoder, config


def workload(config: Config, device: torch.device) -> Workload:
    """Training step on random stories of 8 statements, for the device benchmark."""
    words, answers, statements = tuple(f"word {n}" for n in range(150)), tuple(f"answer {n}" for n in range(50)), 8
    encoder = StoryEncoder(Vocabulary((*words, *answers)), Vocabulary(answers), config.encoding, config.memory_size)
    network = make_network(encoder, config).to(device)
    optimizer = make_optimizer(network, config)
    lengths = torch.full((config.batch_size,), statements, device=device)
    memories, questions = (
        torch.rand(count, 2 * len(encoder.vocabulary), device=device)
        for count in (statements * config.batch_size, config.batch_size)
    )
    batch = Batch(memories, torch.repeat_interleave(lengths), lengths, questions)
    labels = torch.randint(len(answers), (config.batch_size,), device=device)
    step = partial(train_step, network, optimizer, batch, labels, bf16=config.run.precision == "bf16")
    return Workload(step, items=config.batch_size, unit="questions")
