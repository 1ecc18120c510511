"""Two techniques of the speed run: whitening and Muon, compared with their formulas and with torch."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ch06_cnn.speedrun.muon import COEFFICIENTS, Muon, orthogonalise
from ch06_cnn.speedrun.whitening import whitening_filters


def test_whitened_patches_are_uncorrelated_with_mean_square_one():
    torch.manual_seed(0)
    mixed = F.conv2d(torch.randn(200, 3, 9, 9, dtype=torch.float64), torch.randn(3, 3, 2, 2, dtype=torch.float64))
    filters = whitening_filters(mixed, damping=0)
    assert filters.shape == (24, 3, 2, 2)
    responses = F.conv2d(mixed, filters[:12]).movedim(1, 0).flatten(1)
    torch.testing.assert_close(responses @ responses.T / responses.shape[1], torch.eye(12, dtype=torch.float64))
    assert torch.equal(filters[12:], -filters[:12])


def test_damping_bounds_the_filters_and_the_largest_variance_comes_first():
    flat = torch.ones(1, 3, 4, 4) * torch.tensor([1.0, 2.0, 3.0]).view(1, 3, 1, 1)
    filters = whitening_filters(flat, damping=0.25)
    norms = filters[:12].flatten(1).norm(dim=1)
    assert float(norms[0]) == pytest.approx((4 * 14 + 0.25) ** -0.5, rel=1e-4), (
        "second moment of the only direction: 4 (1 + 4 + 9)"
    )
    assert norms[1:].tolist() == pytest.approx([2.0] * 11, rel=1e-3)


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 9), columns=st.integers(1, 9), seed=st.integers(0, 50))
def test_orthogonalise_applies_the_polynomial_to_the_singular_values_only(rows, columns, seed):
    matrix = torch.randn(rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    u, s, v = torch.linalg.svd(matrix / (matrix.norm() + 1e-7), full_matrices=False)
    a, b, c = COEFFICIENTS
    for _ in range(3):
        s = a * s + b * s**3 + c * s**5
    torch.testing.assert_close(orthogonalise(matrix), u @ s.diag() @ v)


def matrix_with_spectrum(singular_values):
    """Return a square matrix with the given singular values and random singular vectors."""
    generator = torch.Generator().manual_seed(0)
    size = len(singular_values)
    u, v = (torch.linalg.qr(torch.randn(size, size, dtype=torch.float64, generator=generator))[0] for _ in range(2))
    return u @ singular_values.diag() @ v


def muon_update(gradient, **settings):
    """Return Muon's first update, (R, Q), for a gradient."""
    weight = nn.Parameter(torch.eye(len(gradient), dtype=gradient.dtype))  # its norm is already sqrt(R)
    before = weight.detach().clone()
    weight.grad = gradient
    Muon([weight], lr=1.0, momentum=0.0, **settings).step()
    return before - weight.detach()


def test_updates_of_well_conditioned_gradients_are_nearly_orthogonal():
    s = torch.linalg.svdvals(muon_update(matrix_with_spectrum(torch.tensor([1, 0.8, 0.5, 0.3, 0.2, 0.1]).double())))
    assert 0.7 < float(s.min()) < float(s.max()) < 1.3


def test_small_singular_values_need_more_than_the_default_iterations():
    """Singular values proportional to k^-1.5: the median of 64 is 0.005 of the norm, and 0.2 after three iterations."""
    gradient = matrix_with_spectrum(torch.arange(1, 65).double() ** -1.5)
    medians = [float(torch.linalg.svdvals(muon_update(gradient, **n)).median()) for n in ({}, {"iterations": 5})]
    assert medians == pytest.approx([0.20, 0.95], abs=0.01)


def test_spectrum_equals_the_orthogonalised_momentum_and_changes_no_state():
    gradient = matrix_with_spectrum(torch.arange(1, 9).double() ** -1.5)
    weight = nn.Parameter(torch.eye(8, dtype=torch.float64))
    optimizer = Muon([weight], lr=0.1, momentum=0.6)
    weight.grad = gradient.clone()
    optimizer.step()
    for iterations in (3, 5):
        expected = torch.linalg.svdvals(orthogonalise(gradient, iterations)).float()
        torch.testing.assert_close(optimizer.spectrum(iterations), expected, rtol=1e-4, atol=1e-5)
    assert torch.equal(optimizer.state[weight]["momentum"], gradient)


def test_two_steps_of_muon_equal_the_formula():
    weight = nn.Parameter(torch.randn(4, 3, 2, 2, dtype=torch.float64))
    optimizer = Muon([weight], lr=0.1, momentum=0.6)
    w, m = weight.detach().clone(), torch.zeros(4, 3, 2, 2, dtype=torch.float64)
    for seed in range(2):
        g = torch.randn(4, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        weight.grad = g.clone()
        optimizer.step()
        m = 0.6 * m + g
        step = orthogonalise((g + 0.6 * m).flatten(1)).view_as(w)
        w = 4**0.5 * w / w.norm() - 0.1 * step
        torch.testing.assert_close(weight.detach(), w)
        assert torch.equal(weight.grad, g), "the gradient was modified"


def both_muons(shape: tuple[int, ...], dtype: torch.dtype, steps: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    """Take the same steps with our Muon and with torch.optim.Muon; return both weights, (R, Q).

    These differences are removed by torch's arguments and by one line of this function:
    - torch takes matrices only: filters are flattened to (R, Q);
    - torch multiplies the learning rate by sqrt(max(1, R / Q)) (adjust_lr_fn="original"), ours does not: its lr is
      divided by that factor;
    - torch's defaults are 5 iterations, momentum 0.95 and weight decay 0.1, ours 3, 0.6 and none;
    - ours rescales each filter bank to the norm sqrt(R) before the step.
    Two differences remain: ours divides by |G| + eps, torch by max(|G|, eps); torch always iterates in bfloat16.
    """
    generator = torch.Generator().manual_seed(0)
    ours = nn.Parameter(torch.randn(shape, dtype=dtype, generator=generator))
    theirs = nn.Parameter(ours.detach().flatten(1).clone())
    rows, columns = theirs.shape
    by_hand = Muon([ours], lr=0.1, momentum=0.6)
    library = torch.optim.Muon(
        [theirs],
        lr=0.1 / max(1, rows / columns) ** 0.5,
        momentum=0.6,
        nesterov=True,
        weight_decay=0,
        ns_coefficients=COEFFICIENTS,
        ns_steps=3,
        eps=1e-7,
        adjust_lr_fn="original",
    )
    for _ in range(steps):
        gradient = torch.randn(shape, dtype=dtype, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.flatten(1).clone()
        theirs.data.mul_(rows**0.5 / theirs.data.norm())
        by_hand.step()
        library.step()
    return ours.detach().flatten(1), theirs.detach()


SHAPES = ((6, 4), (4, 6), (5, 5), (40, 3, 3, 3), (8, 3, 3, 3))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-6), (torch.float32, 1e-5)])
def test_muon_equals_torch(shape, dtype, tolerance, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)  # torch iterates in the gradient's precision
    ours, theirs = both_muons(shape, dtype)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("shape", SHAPES)
def test_muon_equals_torch_up_to_bfloat16_rounding(shape):
    ours, theirs = both_muons(shape, torch.float32)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0.02)  # five steps, each at most 0.1 x 1.2
    assert not torch.equal(ours, theirs)


def test_muon_resumes_from_its_state():
    def step(weight, optimizer, seed):
        weight.grad = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(seed))
        optimizer.step()

    one = nn.Parameter(torch.ones(4, 3, 2, 2))
    first = Muon([one], lr=0.1)
    step(one, first, 0)
    two = nn.Parameter(one.detach().clone())
    second = Muon([two], lr=0.1)
    second.load_state_dict(deepcopy(first.state_dict()))
    step(one, first, 1)
    step(two, second, 1)
    assert torch.equal(one, two)
