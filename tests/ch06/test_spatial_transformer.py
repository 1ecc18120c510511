"""The spatial transformer by hand: affine grid, bilinear sampler and regions against torch and by hand."""

import itertools
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from ch06_cnn.spatial import networks, transformer
from ch06_cnn.spatial.networks import (
    CNN,
    SPN,
    Localisation,
    Parameters,
    RecurrentSPN,
    expected_positions,
    sample,
)

B, C, H, W = 3, 2, 5, 7
SIZE = (4, 6)


def random(*shape, spread=1.0):
    return (spread * torch.randn(*shape, generator=torch.Generator().manual_seed(0))).double()


def both_gradients(function, reference, inputs):
    """Compare values and gradients of two functions for the same random gradient of the output."""
    ours, theirs = ([tensor.clone().requires_grad_() for tensor in inputs] for _ in range(2))
    y, expected = function(*ours), reference(*theirs)
    torch.testing.assert_close(y, expected)
    dy = random(*y.shape)
    for got, right in zip(torch.autograd.grad(y, ours, dy), torch.autograd.grad(expected, theirs, dy), strict=True):
        torch.testing.assert_close(got, right)


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_affine_grid_and_its_gradient_equal_torchs(align_corners):
    both_gradients(
        lambda theta: transformer.affine_grid(theta, SIZE, align_corners=align_corners),
        lambda theta: F.affine_grid(theta, [B, C, *SIZE], align_corners=align_corners),
        [random(B, 2, 3)],
    )


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("spread", [0.5, 1.5], ids=["inside", "outside"])
def test_the_sampler_and_its_gradients_equal_torchs(align_corners, spread):
    grid = random(B, *SIZE, 2, spread=spread)
    beyond = grid.abs().amax(3) > 1
    assert beyond.any() and not beyond.all()
    both_gradients(
        lambda images, grid: transformer.grid_sample(images, grid, align_corners=align_corners),
        lambda images, grid: F.grid_sample(images, grid, align_corners=align_corners),
        [random(B, C, H, W), grid],
    )


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_sampler_equals_torchs_at_pixel_centres_edges_and_far_outside(align_corners):
    """On a pixel centre the interpolation has a kink; both take the slope to the right and below."""
    places = [-1e9, -1.5, -1.0, -1 + 1 / W, -0.4, 0.0, 0.4, 1 - 1 / W, 1.0, 1.5, 1e9]
    grid = torch.tensor(list(itertools.product(places, repeat=2)), dtype=torch.float64).view(1, len(places), -1, 2)
    both_gradients(
        lambda images, grid: transformer.grid_sample(images, grid, align_corners=align_corners),
        lambda images, grid: F.grid_sample(images, grid, align_corners=align_corners),
        [random(1, C, H, W), grid],
    )


def test_the_sampler_has_the_gradient_of_finite_differences():
    inputs = [random(2, 2, 3, 4).requires_grad_(), random(2, 2, 3, 2, spread=0.6).requires_grad_()]
    assert torch.autograd.gradcheck(transformer.grid_sample, inputs)


def test_one_sample_by_hand():
    """The point (0.25, 0) of a 2x2 image: pixel column 0.75, row 0.5."""
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    grid = torch.tensor([[[[0.25, 0.0]]]])
    assert float(transformer.grid_sample(image, grid)) == pytest.approx(0.5 * (0.25 + 2 * 0.75) + 0.5 * (0.75 + 3.0))
    edge = torch.tensor([[[[1.0, -0.5]]]])  # the outer edge of the first row: half of its last pixel
    assert float(transformer.grid_sample(image, edge)) == 1.0


@pytest.mark.parametrize("align_corners", [False, True])
def test_the_identity_returns_the_image_and_a_rotation_turns_it(align_corners):
    image = random(1, 1, 6, 6)
    for degrees, expected in ((0, image), (90, image.rot90(1, (2, 3))), (180, image.flip(2, 3))):
        angle = torch.tensor(degrees * torch.pi / 180).double()
        cos, sin, zero = angle.cos(), angle.sin(), torch.zeros(()).double()
        theta = torch.stack([cos, -sin, zero, sin, cos, zero]).view(1, 2, 3)
        grid = transformer.affine_grid(theta, (6, 6), align_corners=align_corners)
        got = transformer.grid_sample(image, grid, align_corners=align_corners)
        torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


def test_two_transformations_in_a_row_are_their_product():
    """The grid of theta_1 applied to the points of theta_2 is the grid of the product of the matrices."""
    first, second = random(1, 2, 3), random(1, 2, 3)
    bottom = torch.tensor([[[0.0, 0.0, 1.0]]]).double()
    product = first @ torch.cat([second, bottom], dim=1)
    points = transformer.affine_grid(second, SIZE)
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=3)
    torch.testing.assert_close(transformer.affine_grid(product, SIZE), homogeneous @ first[0].T)


def test_a_region_has_the_corners_of_the_output():
    theta = torch.tensor([[0.5, 0.0, 0.25], [0.0, 0.25, -0.5]])
    corners = [[-0.25, -0.75], [0.75, -0.75], [0.75, -0.25], [-0.25, -0.25]]
    assert transformer.region(theta).tolist() == corners
    many = random(2, 3, 2, 3)
    torch.testing.assert_close(transformer.region(many)[1, 2], transformer.region(many[1, 2]))


# The networks.


def network(kind, **settings) -> Any:
    torch.manual_seed(0)
    return (CNN(20, 2) if kind is CNN else kind(20, 12, 2, **settings)).double()


@pytest.mark.parametrize("kind", [SPN, RecurrentSPN])
@pytest.mark.parametrize("form", ["affine", "attention"])
def test_a_new_network_passes_on_the_whole_image(kind, form):
    model, images = network(kind, form=form).eval(), random(3, 1, 20, 20)
    theta = model.attend(images)
    regions = 1 if kind is SPN else 2
    expected = torch.tensor([[1.0, 0, 0], [0, 1, 0]]).double().expand(3, regions, 2, 3)
    torch.testing.assert_close(theta, expected, atol=0, rtol=0)
    grid = F.affine_grid(expected[:, 0], [3, 1, 12, 12], align_corners=False)
    whole = F.grid_sample(images, grid, align_corners=False)
    logits = model.classifier(whole).view(3, -1, 10)
    torch.testing.assert_close(model(images)[:, :1], logits[:, :1])


def test_the_spatial_transformer_network_is_its_equations():
    model: Any = network(SPN).eval()
    torch.nn.init.normal_(model.theta.weight, std=0.1)
    images = random(2, 1, 20, 20)
    linear = model.hidden[0]
    hidden = torch.tanh(model.localisation(images) @ linear.weight.T + linear.bias)
    theta = (hidden @ model.theta.weight.T + model.theta.bias).view(2, 1, 2, 3)
    torch.testing.assert_close(model.attend(images), theta)
    regions = torch.cat(
        [sample(image[None], one[None], model.crop_size) for image, one in zip(images, theta, strict=True)]
    )
    torch.testing.assert_close(model(images), model.classifier(regions))


def test_the_recurrent_network_is_its_equations():
    model, images = network(RecurrentSPN).eval(), random(2, 1, 20, 20)
    torch.nn.init.normal_(model.theta.weight, std=0.1)
    features, h = model.localisation(images), torch.zeros(2, 128).double()
    for t in range(2):
        gx = features @ model.cell.weight_ih.T + model.cell.bias_ih
        gh = h @ model.cell.weight_hh.T + model.cell.bias_hh
        (xr, xz, xn), (hr, hz, hn) = gx.chunk(3, 1), gh.chunk(3, 1)
        r, z = torch.sigmoid(xr + hr), torch.sigmoid(xz + hz)
        h = (1 - z) * torch.tanh(xn + r * hn) + z * h
        theta = (h @ model.theta.weight.T + model.theta.bias).view(2, 2, 3)
        torch.testing.assert_close(model.attend(images)[:, t], theta)
        alone = model.classifier(sample(images, theta.unsqueeze(1), 12))
        torch.testing.assert_close(model(images)[:, t], alone[:, 0])
    assert not torch.allclose(model.attend(images)[:, 0], model.attend(images)[:, 1])


def test_all_regions_of_an_image_are_sampled_at_once():
    images, theta = random(2, 1, 9, 9), random(2, 3, 2, 3)
    got = sample(images, theta, 5)
    for b, r in itertools.product(range(2), range(3)):
        grid = F.affine_grid(theta[b, r : r + 1], [1, 1, 5, 5], align_corners=False)
        torch.testing.assert_close(got[3 * b + r], F.grid_sample(images[b : b + 1], grid, align_corners=False)[0])


@pytest.mark.parametrize("kind", [SPN, RecurrentSPN])
def test_both_samplers_train_the_same_network(kind):
    gradients = []
    for sampler in ("torch", "by-hand"):
        model = network(kind, sampler=sampler)
        torch.nn.init.normal_(model.theta.weight, std=0.1, generator=torch.Generator().manual_seed(1))
        model(random(3, 1, 20, 20)).square().sum().backward()
        gradients.append([p.grad for p in model.parameters()])
        assert all(p.grad is not None for p in model.parameters())
        assert all(
            p.grad.abs().max() > 0 for name, p in model.named_parameters() if name != "localisation.layers.8.bias"
        )
    for got, right in zip(*gradients, strict=True):
        torch.testing.assert_close(got, right)


def test_the_first_region_is_a_square_of_the_initial_scale():
    for form in ("affine", "attention"):
        theta = Parameters(4, form, initial_scale=0.5)(random(5, 4).float())
        assert torch.equal(theta, torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]).expand(5, 2, 3))


def test_expected_positions_are_those_of_the_maximum_and_of_the_mean():
    maps = torch.zeros(1, 3, 5, 7).double()
    maps[0, 0, 1, 2] = 1e4  # row 1 of 5, column 2 of 7
    maps[0, 1, 0, :] = 1e4
    x, y = 2 * (2 + 0.5) / 7 - 1, 2 * (1 + 0.5) / 5 - 1
    positions = expected_positions(maps).view(3, 2)
    torch.testing.assert_close(positions, torch.tensor([[x, y], [0, -0.8], [0, 0]]).double())
    random_maps = random(2, 3, 5, 7)
    weights = random_maps.flatten(2).softmax(2).view(2, 3, 5, 7)
    columns, rows = 2 * (torch.arange(7) + 0.5) / 7 - 1, 2 * (torch.arange(5) + 0.5) / 5 - 1
    mean = torch.stack([(weights.sum(2) * columns).sum(2), (weights.sum(3) * rows).sum(2)], dim=2)
    torch.testing.assert_close(expected_positions(random_maps), mean.flatten(1))


def test_the_features_move_with_the_image():
    """A spot that is moved by 12 of 60 pixels moves the expected positions by 0.4."""
    torch.manual_seed(0)
    localisation: Any = Localisation(60).double().eval()
    localisation.layers[-1].weight.data.fill_(200)  # nearly the maximum
    image = torch.zeros(2, 1, 60, 60).double()
    image[0, 0, 20:26, 20:26] = image[1, 0, 20:26, 32:38] = 1
    first, second = localisation(image).view(2, 32, 2)
    found = (first.abs() < 0.9).all(1) & (second - first).abs().gt(0.01).any(1)
    assert found.sum() >= 5
    error = (second - first - torch.tensor([0.4, 0.0])).abs().amax(1)[found]
    assert error.lt(0.05).double().mean() > 0.8, "near the border, a few maps are largest elsewhere"


@pytest.mark.parametrize(("size", "reduced"), [(42, 21), (60, 30), (100, 25)])
@pytest.mark.parametrize("features", ["positions", "flat"])
def test_the_localisation_reads_a_reduced_image(size, reduced, features):
    localisation = Localisation(size, features)
    read = []
    localisation.layers.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    images = random(2, 1, size, size).float()
    assert localisation(images).shape == (2, localisation.outputs)
    torch.testing.assert_close(read[0], F.interpolate(images, (reduced, reduced), mode="area"))


def test_new_maps_have_a_clear_maximum_if_positions_are_read():
    """The last layer is a batch norm, whose weights are the standard deviations of the maps."""
    torch.manual_seed(0)
    images = random(20, 1, 60, 60).float()
    settings: list[Any] = [("positions", networks.SHARPNESS), ("flat", 1.0)]
    for features, deviation in settings:
        maps = Localisation(60, features).layers(F.avg_pool2d(images, 2))
        torch.testing.assert_close(maps.std((0, 2, 3)), torch.full((32,), deviation), rtol=1e-2, atol=0)


@pytest.mark.parametrize("kind", [SPN, RecurrentSPN])
def test_flat_features_are_the_maps(kind):
    model = network(kind, features="flat").eval()
    images = random(2, 1, 20, 20)
    maps = model.localisation.layers(F.avg_pool2d(images, 2)).relu()
    torch.testing.assert_close(model.localisation(images), F.max_pool2d(maps, 2).flatten(1))
    assert model(images).shape == (2, 2, 10)


def test_attention_is_an_upright_square():
    head = Parameters(4, "attention")
    torch.nn.init.normal_(head.weight)
    theta = head(random(5, 4).float())
    assert (theta[:, 0, 1] == 0).all() and (theta[:, 1, 0] == 0).all()
    assert torch.equal(theta[:, 0, 0], theta[:, 1, 1])
    assert theta.requires_grad and theta[:, :, 2].std() > 0
    scale, x, y = F.linear(random(5, 4).float(), head.weight, head.bias).unbind(1)
    torch.testing.assert_close(theta[:, :, 2], torch.stack([x, y], dim=1))
    torch.testing.assert_close(theta[:, 0, 0], scale)


def test_positions_are_float32_under_autocast():
    model = SPN(20, 12)
    torch.nn.init.normal_(model.theta.weight, std=0.1)
    images = random(2, 1, 20, 20).float()
    with torch.autocast("cpu", torch.bfloat16):
        assert model.attend(images).dtype == torch.float32
        passed = sample(images, model.attend(images), 12)
    assert passed.dtype == torch.float32


@pytest.mark.parametrize(("size", "digits"), [(42, 1), (60, 1), (100, 3)])
def test_the_cnn_has_at_least_as_many_parameters_as_the_transformer(size, digits):
    kind = SPN if digits == 1 else RecurrentSPN
    ours, cnn = (sum(p.numel() for p in model.parameters()) for model in (kind(size, 28, digits), CNN(size, digits)))
    assert cnn >= ours


def test_a_cnn_has_no_regions():
    images = random(2, 1, 20, 20)
    model = network(CNN).eval()
    assert model.attend(images).shape == (2, 0, 2, 3)
    assert model(images).shape == (2, 2, networks.CLASSES)
