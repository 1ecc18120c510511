"""The hand-written step: equality with autograd, SGD and JAX; allocated memory; resuming."""

import os
from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ch04_cuda import by_hand, jax_epoch
from ch04_cuda.by_hand import Config, HandWritten, operations
from ch04_cuda.networks import mlp, scaled
from conftest import train_until


@pytest.fixture
def config(options):
    return Config(data="digits", batch_size=64, epochs=2, rounds=1, seconds=0.01, run=options)


def make_batch(count, seed=0):
    torch.manual_seed(seed)
    return torch.randint(256, (count, 1, 28, 28), dtype=torch.uint8), torch.randint(10, (count,))


def linears(model):
    return [module for module in model if isinstance(module, torch.nn.Linear)]


def velocities(hand):
    return [tensor for layer in hand.layers for tensor in (layer.velocity, layer.bias_velocity)]


def test_gradients_equal_autograd():
    images, labels = make_batch(20)
    model = mlp()
    loss = F.cross_entropy(model(scaled(images)), labels)
    loss.backward()
    hand = HandWritten(model, batch_size=32, learning_rate=0.0, momentum=0.0)
    torch.testing.assert_close(hand.step(images, labels), loss.detach())
    for parameter, velocity in zip(model.parameters(), velocities(hand), strict=True):
        torch.testing.assert_close(velocity, parameter.grad, rtol=1e-4, atol=1e-7)


def test_steps_equal_sgd_with_momentum():
    torch.manual_seed(1)
    ours, theirs = mlp(), mlp()
    theirs.load_state_dict(ours.state_dict())
    hand = HandWritten(ours, batch_size=16, learning_rate=0.05, momentum=0.9)
    optimizer = torch.optim.SGD(theirs.parameters(), 0.05, momentum=0.9)
    for seed in range(12):
        images, labels = make_batch(16 if seed % 3 else 7, seed)  # a last batch may be smaller
        hand.step(images, labels)
        optimizer.zero_grad()
        F.cross_entropy(theirs(scaled(images)), labels).backward()
        optimizer.step()
    for our, their in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(our.detach(), their.detach(), rtol=1e-3, atol=1e-5)


def test_bfloat16_losses_are_close_to_float32():
    torch.manual_seed(2)
    exact, rounded = mlp(), mlp()
    rounded.load_state_dict(exact.state_dict())
    images, labels = make_batch(64)
    first = HandWritten(exact, 64, 0.05, 0.9)
    second = HandWritten(rounded, 64, 0.05, 0.9, bf16=True)
    losses = [(float(first.step(images, labels)), float(second.step(images, labels))) for _ in range(20)]
    assert losses[-1][0] < 0.5 * losses[0][0]
    for our, their in losses:
        assert our == pytest.approx(their, abs=0.05)
    assert second.layers[0].weight.dtype == torch.float32, "bfloat16 weights would lose small updates"
    torch.testing.assert_close(second.layers[0].weight_used, second.layers[0].weight.bfloat16())


class NewMemory(TorchDispatchMode):
    """Collect the sizes of returned tensors that share no memory with an argument."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {x.untyped_storage().data_ptr() for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)}
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor) and x.untyped_storage().data_ptr() not in given:
                self.sizes.append(x.numel())
        return result


@pytest.mark.parametrize("bf16", [False, True])
def test_a_step_allocates_no_more_than_bias_gradients_and_losses(bf16):
    images, labels = make_batch(32)
    hand = HandWritten(mlp(), 32, 0.1, 0.9, bf16=bf16)
    with NewMemory() as memory:
        hand.step(images, labels)
    assert sorted(memory.sizes)[-3:] == [32, 100, 300], "the losses, and the bias gradients of the hidden layers"
    with NewMemory() as memory:
        F.cross_entropy(mlp()(scaled(images)), labels).backward()
    assert max(memory.sizes) == 784 * 300, "autograd allocates the gradient of a weight"


def test_number_of_operations_equals_torchs_count():
    from torch.utils.flop_counter import FlopCounterMode

    model, (images, labels) = mlp(), make_batch(16)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(model(scaled(images)), labels).backward()
    assert 16 * operations(model) == counter.get_total_flops()


def test_an_interrupted_run_resumes_to_the_same_accuracy(config, digits, monkeypatch):
    config = replace(config, epochs=3)
    monkeypatch.setattr(by_hand, "interleaved", lambda variants, *_: {name: [1.0] for name in variants})
    monkeypatch.setattr(by_hand, "rate", lambda *_: 1.0)
    whole = by_hand.train(config, digits)

    steps, log = 0, by_hand.Run.log

    def stopping(self, **splits):
        nonlocal steps
        steps += 1
        if steps == 3:
            raise KeyboardInterrupt
        log(self, **splits)

    monkeypatch.setattr("common.run.CHECKPOINT_SECONDS", 0)
    monkeypatch.setattr(by_hand.Run, "log", stopping)
    other = replace(config, run=replace(config.run, out=config.run.out / "again"))
    with pytest.raises(KeyboardInterrupt):
        by_hand.train(other, digits)
    resumed = by_hand.train(replace(other, run=replace(other.run, resume=True)), digits)
    assert resumed["test_accuracy"] == whole["test_accuracy"]


def test_the_program_trains_and_compares(config, digits):
    found = by_hand.train(replace(config, epochs=10), digits)
    assert found["test_accuracy"] > 0.9
    assert 0 < found["hand_dataloader_lowest_ratio"] <= found["hand_dataloader_ratio"]
    assert 0 < found["hand_rate"] < 1.5
    assert ("jax_images_per_second" in found) == jax_epoch.is_installed()


@pytest.mark.skipif(not jax_epoch.is_installed(), reason="JAX is not installed")
def test_jax_steps_equal_the_hand_written_steps(config, digits):
    """One batch per epoch, so that the random order of the images does not matter."""
    few = digits.train[:50]
    training = jax_epoch.Training(few, config, threads=1)  # the data set is smaller than a batch
    model = mlp()
    with torch.no_grad():
        for linear, (weight, bias) in zip(linears(model), training.state[0], strict=True):
            linear.weight.copy_(torch.tensor(weight.T.tolist()))
            linear.bias.copy_(torch.tensor(bias.tolist()))
    hand = HandWritten(model, 50, config.learning_rate, config.momentum)
    for _ in range(5):
        assert training() == 50
        (loss,) = training.losses.tolist()
        assert loss == pytest.approx(float(hand.step(few.pixels, few.labels)), rel=1e-4)
    for linear, (weight, _) in zip(linears(model), training.state[0], strict=True):
        torch.testing.assert_close(linear.weight.detach(), torch.tensor(weight.T.tolist()), rtol=1e-3, atol=1e-5)


@pytest.mark.skipif(not jax_epoch.is_installed(), reason="JAX is not installed")
def test_jax_trains_on_whole_batches(config, digits):
    training = jax_epoch.Training(digits.train, config, threads=1)
    assert training() == len(digits.train) // 64 * 64
    first = training.losses.tolist()
    train_until(lambda: sum(training.losses.tolist()) < 0.5 * sum(first), training, at_most=50)
    assert len(first) == len(digits.train) // 64


def test_invalid_settings_are_rejected():
    with pytest.raises(ValueError, match=r"--momentum must be at least 0 and below 1, got 1"):
        Config(momentum=1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system has no sched_setaffinity")
def test_the_processor_affinity_is_restored():
    before = os.sched_getaffinity(0)
    with jax_epoch.processors(1):
        assert len(os.sched_getaffinity(0)) == 1
    assert os.sched_getaffinity(0) == before
