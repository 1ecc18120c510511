"""Convolution, pooling, batch normalisation and dropout by hand: equal to torch's, forward and backward."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from ch06_cnn.convolution import cnn, layers


def assert_equal_forward_and_backward(ours, theirs, *inputs):
    """Compare two functions in float64: their outputs, and all gradients of a random weighted sum of the outputs."""
    results = []
    weight = None
    for function in (ours, theirs):
        leaves = [x.detach().clone().requires_grad_() for x in inputs]
        output = function(*leaves)
        weight = torch.randn_like(output) if weight is None else weight
        results.append((output.detach(), torch.autograd.grad((output * weight).sum(), leaves)))
    (one, gradients), (two, expected) = results
    torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-10)
    for gradient, wanted in zip(gradients, expected, strict=True):
        torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-10)


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


SHAPES = st.fixed_dictionaries(
    {
        "batch": st.integers(1, 3),
        "channels": st.integers(1, 3),
        "filters": st.integers(1, 3),
        "kernel": st.integers(1, 4),
        "stride": st.integers(1, 3),
        "padding": st.integers(0, 2),
        "height": st.integers(4, 9),
        "width": st.integers(4, 9),
    }
)


@settings(max_examples=40, deadline=None)
@given(s=SHAPES, convolve=st.sampled_from([layers.conv2d, layers.conv2d_direct]), has_bias=st.booleans())
def test_convolution_equals_torch(s, convolve, has_bias):
    images = normal(s["batch"], s["channels"], s["height"], s["width"])
    weight = normal(s["filters"], s["channels"], s["kernel"], s["kernel"], seed=1)
    bias = [normal(s["filters"], seed=2)] * has_bias
    options = {"stride": s["stride"], "padding": s["padding"]}
    assert_equal_forward_and_backward(
        lambda *x: convolve(*x, **options), lambda *x: F.conv2d(*x, **options), images, weight, *bias
    )


def test_a_convolution_by_hand():
    image = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]])
    weight = torch.tensor([[[[1.0, 0], [0, -1]]]])  # each pixel minus its lower right neighbour
    for convolve in (layers.conv2d, layers.conv2d_direct):
        assert convolve(image, weight, torch.tensor([10.0])).tolist() == [[[[6, 6], [6, 6]]]]


@settings(max_examples=30, deadline=None)
@given(s=SHAPES)
def test_pooling_equals_torch(s):
    images = normal(s["batch"], s["channels"], s["height"], s["width"])
    for ours, theirs in ((layers.max_pool2d, F.max_pool2d), (layers.avg_pool2d, F.avg_pool2d)):
        assert_equal_forward_and_backward(
            lambda x, f=ours: f(x, s["kernel"], s["stride"]), lambda x, f=theirs: f(x, s["kernel"], s["stride"]), images
        )


def test_default_pooling_stride_is_the_kernel_size_and_the_first_maximum_gets_the_gradient():
    image = torch.tensor([[[[1.0, 1, 0, 5], [1, 1, 2, 0]]]], requires_grad=True)
    pooled = layers.max_pool2d(image, 2)
    assert pooled.tolist() == [[[[1, 5]]]]
    pooled.sum().backward()
    assert image.grad is not None
    assert image.grad.tolist() == [[[[1, 0, 0, 1], [0, 0, 0, 0]]]]
    assert layers.avg_pool2d(image, 2).tolist() == [[[[1, 1.75]]]]


@settings(max_examples=20, deadline=None)
@given(s=SHAPES, stride=st.integers(1, 3))
def test_col2im_is_the_adjoint_of_im2col(s, stride):
    """<im2col(x), y> = <x, col2im(y)> for every x and y."""
    x = normal(s["batch"], s["channels"], s["height"], s["width"])
    columns = layers.im2col(x, s["kernel"], stride)
    y = torch.randn_like(columns)
    back = layers.col2im(y, (s["height"], s["width"]), stride)
    torch.testing.assert_close((columns * y).sum(), (x * back).sum())


def test_batch_norm_equals_torch_in_training_and_evaluation():
    torch.manual_seed(0)
    ours, theirs = layers.BatchNorm2d(3).double(), nn.BatchNorm2d(3).double()
    with torch.no_grad():
        theirs.weight.uniform_(0.5, 2)
        theirs.bias.normal_()
    ours.load_state_dict(theirs.state_dict())
    for seed in range(3):
        x = 3 + 2 * normal(4, 3, 5, 6, seed=seed)
        assert_equal_forward_and_backward(ours, theirs, x)
        weight = normal(4, 3, 5, 6, seed=9)
        for module in (ours, theirs):
            module.zero_grad()
            (module(x) * weight).sum().backward()
        torch.testing.assert_close(ours.weight.grad, theirs.weight.grad)
        torch.testing.assert_close(ours.bias.grad, theirs.bias.grad)
    torch.testing.assert_close(ours.running_mean, theirs.running_mean)
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert_equal_forward_and_backward(ours.eval(), theirs.eval(), x)
    assert theirs.running_mean is not None and theirs.running_var is not None
    torch.testing.assert_close(layers.batch_norm(
        x, theirs.running_mean, theirs.running_var, theirs.weight, theirs.bias, training=False
    ), theirs(x))  # fmt: skip


def test_dropout_rate_and_mean():
    torch.manual_seed(0)
    x = torch.ones(100_000)
    dropped = layers.dropout(x, 0.55, training=True)
    assert dropped.unique().tolist() == pytest.approx([0, 1 / 0.45])
    assert float((dropped == 0).float().mean()) == pytest.approx(0.55, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.02)
    assert layers.dropout(x, 0.55, training=False) is x
    assert layers.Dropout(0.5).eval()(x) is x
    assert float((layers.Dropout(0.2)(x) == 0).float().mean()) == pytest.approx(0.2, abs=0.01)


def test_dropout_applies_the_same_mask_to_the_gradient():
    x = torch.ones(50, dtype=torch.float64, requires_grad=True)
    y = layers.dropout(x, 0.4, training=True)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("batch_norm", [False, True])
def test_network_by_hand_takes_the_same_steps_as_torch(batch_norm):
    """The state of both networks is equal after two SGD steps."""
    torch.manual_seed(0)
    settings = {"batch_norm": batch_norm, "dropout": False}
    theirs = cnn.BookNetwork(**settings).double()
    ours = cnn.BookNetwork(kit=layers, **settings).double()
    ours.load_state_dict(theirs.state_dict())
    pixels, labels = normal(4, 3, 32, 32), torch.arange(4)
    for _ in range(2):
        for model in (ours, theirs):
            optimizer = torch.optim.SGD(model.parameters(), 0.1)
            cnn.train_step(model, optimizer, pixels, labels)
    for (name, one), (_, two) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
        if one.is_floating_point():  # skips num_batches_tracked, which layers.py does not update
            torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-8, msg=name)
