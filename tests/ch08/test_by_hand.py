"""The VAE's training step with gradients written by hand, compared with autograd."""

import copy

import pytest
import torch

from ch08_vae import preprocessing as pixels
from ch08_vae.autoencoding import vae
from ch08_vae.autoencoding.by_hand import HandWritten
from ch08_vae.autoencoding.networks import VAE
from conftest import train_until


def twins(*, bf16: bool = False, dtype: torch.dtype = torch.float32, hidden=(32, 16)):
    """Make two equal networks with optimizers: one trained with autograd, one with gradients by hand."""
    torch.manual_seed(0)
    model = VAE(5, hidden=hidden).to(dtype)
    twin = copy.deepcopy(model)
    return model, vae.make_optimizer(model, 1e-2), twin, HandWritten(twin, 1e-2, bf16=bf16)


def binary_images(count: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.bernoulli(torch.full((count, 784), 0.3, dtype=dtype))


@pytest.mark.parametrize("hidden", [(32, 16), (24,), (16, 12, 8)])
@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_steps_by_hand_equal_autograd(hidden, beta):
    model, optimizer, twin, hand = twins(dtype=torch.float64, hidden=hidden)
    start = copy.deepcopy(twin.state_dict())
    for seed, count in enumerate((8, 8, 3)):  # the last batch of an epoch is smaller
        x = binary_images(count, torch.float64)
        torch.manual_seed(seed)
        expected = vae.train_step(model, optimizer, x, beta=beta)
        torch.manual_seed(seed)
        torch.testing.assert_close(hand.step(x, beta=beta), expected)
    for (name, ours), theirs in zip(twin.named_parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
        assert not torch.equal(ours, start[name]), name


def test_gradients_by_hand_equal_autograd():
    model, _, _, hand = twins(dtype=torch.float64)
    x = binary_images(8, torch.float64)
    torch.manual_seed(1)
    logits, mu, logvar = model(x)
    (0.5 * vae.kl_divergence(mu, logvar).sum(1) - vae.log_bernoulli(logits, x)).mean().backward()
    torch.manual_seed(1)
    hand.step(x, beta=0.5)
    gradients = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
    torch.testing.assert_close(hand.gradient, torch.cat(gradients), rtol=1e-9, atol=1e-12)


def test_step_by_hand_on_grey_levels_equals_autograd():
    model, optimizer, _, hand = twins(dtype=torch.float64)
    x = torch.rand(8, 784, dtype=torch.float64)
    torch.manual_seed(1)
    expected = vae.train_step(model, optimizer, x)
    torch.manual_seed(1)
    torch.testing.assert_close(hand.step(x), expected)


def test_bfloat16_by_hand_is_close_to_autograd():
    model, optimizer, twin, hand = twins(bf16=True)
    x = binary_images(64)
    for seed in range(20):
        torch.manual_seed(seed)
        expected = vae.train_step(model, optimizer, x, bf16=True)
        torch.manual_seed(seed)
        torch.testing.assert_close(hand.step(x), expected, rtol=0.01, atol=0)
    assert all(p.dtype == torch.float32 for p in twin.parameters())
    assert torch.equal(hand.compute_weights, hand.weights.bfloat16())


@pytest.mark.parametrize("bf16", [False, True])
def test_gradients_by_hand_overfit_one_batch(digits, bf16):
    torch.manual_seed(0)
    model = VAE(20, hidden=(64,))
    hand = HandWritten(model, 3e-3, bf16=bf16)
    x = pixels.fixed(digits.train.pixels[:16], "dynamic")
    assert float(hand.step(x)) > 500

    def learned():  # evaluates the network, not the hand-written step
        return bool(-vae.log_bernoulli(model.decode(model(x)[1]), x).mean() < 150)

    train_until(learned, lambda: hand.step(x), at_most=1_500)


@pytest.mark.parametrize("settings", [{"architecture": "conv"}, {"conditional": True}])
def test_unsupported_networks_are_rejected(settings):
    with pytest.raises(ValueError, match="gradients by hand support only unconditional networks of linear layers"):
        HandWritten(VAE(5, **settings), 1e-3)
