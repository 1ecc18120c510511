"""Losses, gradient penalty, spectral normalisation, networks, and the training step of the adversarial programs."""

import copy
import math
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from ch08_vae.adversarial import losses, steps
from ch08_vae.adversarial.networks import Discriminator, Generator, Pair, image_pair, point_pair
from ch08_vae.adversarial.spectral import SpectralNorm, normalise_layers
from ch08_vae.adversarial.steps import make_optimizer, train_step

# Losses.


def test_losses_by_hand():
    on_real, on_generated = torch.tensor([0.0, 2.0]).double(), torch.tensor([1.0, -3.0]).double()
    on_real_loss = (math.log(2) + math.log(1 + math.exp(-2))) / 2
    on_generated_loss = (math.log(1 + math.exp(1)) + math.log(1 + math.exp(-3))) / 2
    discriminator = losses.discriminator_loss("non-saturating", on_real, on_generated)
    assert float(discriminator) == pytest.approx(on_real_loss + on_generated_loss, rel=1e-12)
    generator = losses.generator_loss("non-saturating", on_generated)
    expected = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(3))) / 2
    assert float(generator) == pytest.approx(expected, rel=1e-12)
    assert float(losses.discriminator_loss("wasserstein", on_real, on_generated)) == -1 - 1
    assert float(losses.generator_loss("wasserstein", on_generated)) == 1


@pytest.mark.parametrize("loss", ["non-saturating", "wasserstein"])
def test_gradients_have_the_signs_of_the_game(loss):
    """The discriminator raises its outputs for real samples and lowers the others, which the generator raises."""
    on_real, on_generated = torch.randn(2, 5, requires_grad=True).unbind()
    real, generated = torch.autograd.grad(
        losses.discriminator_loss(loss, on_real, on_generated), (on_real, on_generated)
    )
    assert (real < 0).all() and (generated > 0).all()
    (wanted,) = torch.autograd.grad(losses.generator_loss(loss, on_generated), on_generated)
    assert (wanted < 0).all()


# Gradient penalty.


def test_points_lie_on_the_lines_between_pairs():
    torch.manual_seed(0)
    real, generated = torch.randn(500, 3, 2, 2).double(), torch.randn(500, 3, 2, 2).double()
    y = losses.points_between(real, generated)
    u = ((y - generated) / (real - generated)).flatten(1)
    torch.testing.assert_close(u, u[:, :1].expand_as(u), rtol=1e-6, atol=1e-9)
    u = u[:, 0]
    assert (u >= 0).all() and (u <= 1).all()
    assert float(u.min()) < 0.05 and float(u.max()) > 0.95 and float(u.mean()) == pytest.approx(0.5, abs=0.1)
    assert len(u.unique()) == 500, "one number for each pair"


def test_penalty_of_a_linear_critic_by_hand():
    """The gradient of w . y + b is w everywhere: the penalty is (|w| - 1)^2, its gradient 2 (|w| - 1) w / |w|."""
    critic = nn.Linear(2, 1).double()
    critic.weight.data = torch.tensor([[3.0, 4.0]]).double()
    penalty = losses.gradient_penalty(lambda y: critic(y).squeeze(1), torch.randn(7, 2).double())
    assert float(penalty.detach()) == pytest.approx(16)
    penalty.backward()
    torch.testing.assert_close(critic.weight.grad, torch.tensor([[24 / 5, 32 / 5]]).double())
    assert critic.bias.grad is None or float(critic.bias.grad) == 0


def test_penalty_is_the_mean_over_points():
    """D(y) = |y|^2 / 2 has the gradient y, so points at the distances 1 and 3 have the penalties 0 and 4."""
    y = torch.tensor([[0.6, 0.8], [0.0, 3.0]]).double()
    penalty = losses.gradient_penalty(lambda y: y.square().sum(1) / 2, y)
    assert float(penalty.detach()) == pytest.approx(2)


def test_penalty_equals_numerical_gradients_of_first_and_second_order():
    torch.manual_seed(0)
    hidden, out = torch.randn(6, 3).double(), torch.randn(1, 6).double()
    y = torch.randn(4, 3).double()

    def penalty(hidden, out):
        return losses.gradient_penalty(lambda y: (torch.tanh(y @ hidden.mT) @ out.mT).squeeze(1), y)

    weights = hidden.requires_grad_(), out.requires_grad_()
    assert torch.autograd.gradcheck(penalty, weights)
    step, total, fixed = 1e-6, 0.0, (hidden.detach(), out.detach()[0])
    for point in y:  # the gradient in y by central differences
        slopes = []
        for axis in torch.eye(3).double() * step:
            ahead, behind = (float(torch.tanh(fixed[0] @ moved) @ fixed[1]) for moved in (point + axis, point - axis))
            slopes.append((ahead - behind) / (2 * step))
        total += (math.hypot(*slopes) - 1) ** 2 / len(y)
    assert float(penalty(*weights).detach()) == pytest.approx(total, rel=1e-6)


def test_penalty_leaves_no_gradient_in_the_points():
    generated = torch.randn(4, 2, requires_grad=True)
    critic = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1), nn.Flatten(0))
    losses.gradient_penalty(critic, generated).backward()
    assert generated.grad is None


# Spectral normalisation.


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(3, 4, 3)], ids=["linear", "convolution"])
def test_the_largest_singular_value_is_one_after_convergence(layer):
    torch.manual_seed(0)
    network: Any = nn.Sequential(copy.deepcopy(layer)).double()
    weight = network[0].weight.detach().clone() * 3
    network[0].weight.data = weight
    normalise_layers(network)
    for _ in range(300):
        normalised = network[0].weight.detach()
    assert float(torch.linalg.matrix_norm(normalised.flatten(1), ord=2)) == pytest.approx(1, abs=1e-9)
    torch.testing.assert_close(normalised, weight / torch.linalg.matrix_norm(weight.flatten(1), ord=2))


def test_power_iteration_by_hand():
    """For W = diag(3, 1) and v = (0.6, 0.8): u ~ (1.8, 0.8), v ~ (5.4, 0.8)."""
    weight = torch.diag(torch.tensor([3.0, 1.0])).double()
    norm = SpectralNorm(weight)
    norm.v.copy_(torch.tensor([0.6, 0.8]))
    normalised = norm(weight).detach()
    u = torch.tensor([1.8, 0.8]).double() / math.hypot(1.8, 0.8)
    v = torch.tensor([5.4, 0.8]).double() / math.hypot(5.4, 0.8)
    torch.testing.assert_close(norm.v, v)
    torch.testing.assert_close(norm.u, u)
    torch.testing.assert_close(normalised, weight / (3 * u[0] * v[0] + u[1] * v[1]))


@pytest.mark.parametrize("layer", [nn.Linear(5, 7), nn.Conv2d(3, 4, 3)], ids=["linear", "convolution"])
def test_spectral_normalisation_equals_pytorch(layer):
    """Outputs, gradients and vectors over several updates, in training and in evaluation mode."""
    torch.manual_seed(0)
    ours: Any = nn.Sequential(copy.deepcopy(layer)).double()
    theirs: Any = parametrizations.spectral_norm(copy.deepcopy(layer).double(), n_power_iterations=1)
    normalise_layers(ours)
    mine, reference = ours[0].parametrizations.weight[0], theirs.parametrizations.weight[0]
    reference._u.copy_(mine.u)
    reference._v.copy_(mine.v)
    x = torch.randn(6, 5).double() if isinstance(layer, nn.Linear) else torch.randn(6, 3, 5, 5).double()
    optimizers = [torch.optim.SGD(network.parameters(), 0.1) for network in (ours, theirs)]
    for mode in (True, True, True, False):
        found = []
        for network, optimizer in zip((ours, theirs), optimizers, strict=True):
            network.train(mode)
            output = network(x)
            (output.square().mean() + network(2 * x).sum()).backward()
            optimizer.step()
            optimizer.zero_grad()
            found.append(output.detach())
        torch.testing.assert_close(*found)
        torch.testing.assert_close(mine.u, reference._u)
        torch.testing.assert_close(mine.v, reference._v)
        torch.testing.assert_close(
            ours[0].parametrizations.weight.original, theirs.parametrizations.weight.original, rtol=1e-9, atol=1e-12
        )


def test_the_initial_vectors_are_nearly_converged_and_evaluation_keeps_them():
    torch.manual_seed(0)
    weight = torch.diag(torch.tensor([2.0, 1.0, 0.5])).double()
    norm = SpectralNorm(weight).eval()
    u = norm.u.clone()
    assert float(norm(weight)[0, 0]) == pytest.approx(1, abs=1e-4)
    assert float(norm.u.norm()) == pytest.approx(1)
    assert torch.equal(norm.u, u)


def test_a_normalised_discriminator_does_not_increase_distances():
    torch.manual_seed(0)
    pair = point_pair(2, 16, spectral_norm=True)
    layers: list[Any] = [module for module in pair.discriminator.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        layer.parametrizations.weight.original.data *= 10
    for _ in range(100):
        pair.discriminator(torch.zeros(1, 2))  # power iterations
    a, b = torch.randn(2, 200, 2)
    moved = (pair.discriminator(a) - pair.discriminator(b)).abs().detach()
    assert (moved <= (a - b).norm(dim=1) * 1.001).all()


# Networks.


@pytest.mark.parametrize("network", ["small", "dcgan"])
@pytest.mark.parametrize(("batch_norm", "spectral_norm"), [(True, False), (False, False), (True, True)])
def test_networks_for_images(network, batch_norm, spectral_norm):
    torch.manual_seed(0)
    pair = image_pair(network, 16, 8, batch_norm=batch_norm, spectral_norm=spectral_norm)
    generated = pair.generator(torch.randn(3, 16))
    assert generated.shape == (3, 1, 28, 28) and generated.abs().max() <= 1
    assert pair.discriminator(generated).shape == (3,)
    kinds = [type(module) for module in pair.discriminator.modules()]
    assert (nn.BatchNorm2d in kinds) == (batch_norm and not spectral_norm)
    layers: list[Any] = [module for module in pair.discriminator.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert all(hasattr(layer, "parametrizations") == spectral_norm for layer in layers)
    assert not any(hasattr(module, "parametrizations") for module in pair.generator.modules())
    originals = [layer.parametrizations.weight.original if spectral_norm else layer.weight for layer in layers]
    spread = torch.cat([weight.detach().flatten() for weight in originals]).std()
    assert float(spread) == pytest.approx(0.02, rel=0.1)
    if network == "dcgan":
        assert not any(isinstance(module, nn.Linear) for module in pair.modules()), "a DCGAN has no linear layers"


# The training step.


def linear_pair() -> tuple[Pair, steps.Optimizers]:
    torch.manual_seed(0)
    pair = Pair(Generator(2, nn.Linear(2, 2)), Discriminator(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1)))
    optimizers = (
        torch.optim.SGD(pair.generator.parameters(), 0.1),
        torch.optim.SGD(pair.discriminator.parameters(), 0.1),
    )
    return pair, optimizers


def test_a_wasserstein_step_by_autograd():
    """Both updates of a step with gradient penalty by the formulas; the generator is updated against the new critic."""
    pair, optimizers = linear_pair()
    reference, _ = linear_pair()
    real = torch.randn(16, 2)
    torch.manual_seed(3)
    loss, generator_loss = train_step(pair, optimizers, real, loss="wasserstein", gradient_penalty=10.0)
    torch.manual_seed(3)
    z, u = torch.randn(16, 2), torch.rand(16, 1)
    generated = reference.generator(z)
    y = (u * real + (1 - u) * generated).detach().requires_grad_()
    (slope,) = torch.autograd.grad(reference.discriminator(y).sum(), y, create_graph=True)
    expected = reference.discriminator(generated.detach()).mean() - reference.discriminator(real).mean()
    expected = expected + 10 * ((slope.square().sum(1).sqrt() - 1) ** 2).mean()
    assert float(loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    compare_step(reference.discriminator, pair.discriminator, expected)
    expected = -pair.discriminator(generated).mean()
    assert generator_loss is not None and float(generator_loss) == pytest.approx(float(expected.detach()), rel=1e-5)
    compare_step(reference.generator, pair.generator, expected)
    assert all(p.grad is None for p in pair.parameters())


def compare_step(before: nn.Module, after: nn.Module, loss: torch.Tensor) -> None:
    gradients = torch.autograd.grad(loss, list(before.parameters()), allow_unused=True)
    for old, new, gradient in zip(before.parameters(), after.parameters(), gradients, strict=True):
        moved = old.detach() - 0.1 * (0 if gradient is None else gradient)
        torch.testing.assert_close(new.detach(), moved, rtol=1e-4, atol=1e-6)


def test_a_step_without_the_generator_changes_only_the_discriminator():
    pair, optimizers = linear_pair()
    before = copy.deepcopy(pair)
    loss, generator_loss = train_step(pair, optimizers, torch.randn(16, 2), train_generator=False)
    assert generator_loss is None and loss.isfinite()
    same = [torch.equal(a, b) for a, b in zip(before.generator.parameters(), pair.generator.parameters(), strict=True)]
    assert all(same)
    moved = zip(before.discriminator.parameters(), pair.discriminator.parameters(), strict=True)
    assert not any(torch.equal(a, b) for a, b in moved)
    assert all(p.grad is None for p in pair.parameters())


def test_adam_has_the_settings_of_the_dcgan():
    (group,) = make_optimizer(nn.Linear(1, 1), 2e-3).param_groups
    assert group["lr"] == 2e-3 and group["betas"] == (0.5, 0.999)


@pytest.mark.bf16
def test_a_bf16_step_with_gradient_penalty_is_close_to_float32():
    torch.manual_seed(0)
    pair = image_pair("small", 8, 4, batch_norm=False, spectral_norm=False)
    found = []
    for bf16 in (False, True):
        copied = copy.deepcopy(pair)
        optimizers = (make_optimizer(copied.generator, 1e-3), make_optimizer(copied.discriminator, 1e-3))
        torch.manual_seed(1)
        loss, _ = train_step(
            copied, optimizers, torch.ones(8, 1, 28, 28), loss="wasserstein", gradient_penalty=10.0, bf16=bf16
        )
        found.append(float(loss))
    assert found[1] == pytest.approx(found[0], rel=0.05)
