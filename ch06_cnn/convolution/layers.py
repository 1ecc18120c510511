"""The layers of a convolutional network by hand: forward with plain tensor operations, backward by their formulas.

The functions compute the same as torch's functions of the same names. Each class is a subclass of torch's with a
different `forward`: parameters and initial values are the same, so `cnn --layers by-hand` trains the same network.

Dimensions: B batch, C channels in, O channels out, H height, W width, K kernel size, L positions (H' W') of a window.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn


def positions(size: int, kernel: int, stride: int, padding: int = 0) -> int:
    """Return the number of positions of a window along an axis."""
    return (size + 2 * padding - kernel) // stride + 1


def pad(images: Tensor, padding: int) -> Tensor:
    """(B, C, H, W) -> (B, C, H + 2 p, W + 2 p) with a border of zeros"""
    count, channels, height, width = images.shape
    bordered = images.new_zeros(count, channels, height + 2 * padding, width + 2 * padding)
    bordered[:, :, padding : padding + height, padding : padding + width] = images
    return bordered


def im2col(images: Tensor, kernel: int, stride: int = 1) -> Tensor:
    """(B, C, H, W) -> (B, C, K, K, H', W'): element (i, j) of every window, for each i and j"""
    _, _, height, width = images.shape
    down, right = positions(height, kernel, stride), positions(width, kernel, stride)
    rows = [
        torch.stack(
            [
                images[:, :, i : i + stride * (down - 1) + 1 : stride, j : j + stride * (right - 1) + 1 : stride]
                for j in range(kernel)
            ],
            dim=2,
        )
        for i in range(kernel)
    ]
    return torch.stack(rows, dim=2)


def col2im(columns: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """(B, C, K, K, H', W') -> (B, C, H, W): add the windows' elements at their positions; adjoint of im2col"""
    count, channels, kernel, _, down, right = columns.shape
    images = columns.new_zeros(count, channels, *size)
    for i in range(kernel):
        for j in range(kernel):
            rows, across = slice(i, i + stride * (down - 1) + 1, stride), slice(j, j + stride * (right - 1) + 1, stride)
            images[:, :, rows, across] += columns[:, :, i, j]
    return images


def conv2d_direct(
    images: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0
) -> Tensor:
    """(B, C, H, W), (O, C, K, K), (O,) -> (B, O, H', W'), from the definition; backward by autograd

    y[b, o, r, s] = bias[o] + sum over c, i, j of weight[o, c, i, j] x[b, c, r stride + i, s stride + j].
    """
    x = pad(images, padding)
    kernel = weight.shape[2]
    down, right = positions(x.shape[2], kernel, stride), positions(x.shape[3], kernel, stride)
    y = x.new_zeros(len(x), len(weight), down, right)
    for i in range(kernel):
        for j in range(kernel):
            patch = x[:, :, i : i + stride * (down - 1) + 1 : stride, j : j + stride * (right - 1) + 1 : stride]
            y = y + torch.einsum("bcrs,oc->bors", patch, weight[:, :, i, j])
    return y if bias is None else y + bias[:, None, None]


class _Conv2d(torch.autograd.Function):
    """A convolution as one matrix product; each window is a column (im2col)."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        columns = im2col(pad(images, padding), weight.shape[2], stride)
        ctx.save_for_backward(columns, weight)
        ctx.stride, ctx.padding, ctx.size = stride, padding, images.shape[2:]
        y = weight.flatten(1) @ columns.flatten(1, 3).flatten(2)  # (O, C K K) (B, C K K, L) -> (B, O, L)
        y = y.unflatten(2, columns.shape[4:])
        return y if bias is None else y + bias[:, None, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None, None]:
        (dy,) = gradients
        columns, weight = ctx.saved_tensors
        dy_columns = dy.flatten(2)  # (B, O, L)
        dweight = torch.einsum("bol,bkl->ok", dy_columns, columns.flatten(1, 3).flatten(2)).view_as(weight)
        dcolumns = (weight.flatten(1).T @ dy_columns).view_as(columns)
        p, (height, width) = ctx.padding, ctx.size
        dx = col2im(dcolumns, (height + 2 * p, width + 2 * p), ctx.stride)[:, :, p : p + height, p : p + width]
        dbias = dy.sum((0, 2, 3)) if ctx.needs_input_grad[2] else None
        return dx, dweight, dbias, None, None


def conv2d(images: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0) -> Tensor:
    """(B, C, H, W), (O, C, K, K), (O,) -> (B, O, H', W'), by im2col; dW = dy columns^T, dx = col2im(W^T dy)"""
    return cast(Tensor, _Conv2d.apply(images, weight, bias, stride, padding))


class _MaxPool2d(torch.autograd.Function):
    """Maximum of each window; only the maximal element (the first of equal ones) receives the gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: int, stride: int) -> Tensor:
        largest, index = im2col(images, kernel, stride).flatten(2, 3).max(dim=2)  # over K K
        ctx.save_for_backward(index)
        ctx.kernel, ctx.stride, ctx.size = kernel, stride, images.shape[2:]
        return largest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (dy,) = gradients
        (index,) = ctx.saved_tensors
        count, channels, down, right = dy.shape
        columns = dy.new_zeros(count, channels, ctx.kernel**2, down, right)
        columns.scatter_(2, index.unsqueeze(2), dy.unsqueeze(2))
        return col2im(columns.unflatten(2, (ctx.kernel, ctx.kernel)), ctx.size, ctx.stride), None, None


def max_pool2d(images: Tensor, kernel: int, stride: int | None = None) -> Tensor:
    """(B, C, H, W) -> (B, C, H', W'), the maximum of each window; the default stride is the kernel size"""
    return cast(Tensor, _MaxPool2d.apply(images, kernel, stride or kernel))


class _AvgPool2d(torch.autograd.Function):
    """Mean of each window; its elements receive equal shares of the gradient."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.kernel, ctx.stride, ctx.size = kernel, stride, images.shape[2:]
        return im2col(images, kernel, stride).mean((2, 3))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (dy,) = gradients
        k = ctx.kernel
        columns = (dy / k**2)[:, :, None, None].expand(-1, -1, k, k, -1, -1)
        return col2im(columns, ctx.size, ctx.stride), None, None


def avg_pool2d(images: Tensor, kernel: int, stride: int | None = None) -> Tensor:
    """(B, C, H, W) -> (B, C, H', W'), the mean of each window; the default stride is the kernel size"""
    return cast(Tensor, _AvgPool2d.apply(images, kernel, stride or kernel))


class _BatchNorm(torch.autograd.Function):
    """Normalise with mean and variance of the batch (Ioffe & Szegedy 2015, algorithm 1) and differentiate both."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gamma: Tensor, beta: Tensor, eps: float) -> Tensor:
        mean = x.mean((0, 2, 3), keepdim=True)
        inverse_sd = ((x - mean).square().mean((0, 2, 3), keepdim=True) + eps).rsqrt()
        x_hat = (x - mean) * inverse_sd
        ctx.save_for_backward(x_hat, inverse_sd, gamma)
        return gamma[:, None, None] * x_hat + beta[:, None, None]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        (dy,) = gradients
        x_hat, inverse_sd, gamma = ctx.saved_tensors
        dgamma, dbeta = (dy * x_hat).sum((0, 2, 3)), dy.sum((0, 2, 3))
        # mean(dy) comes from the gradient of the batch mean, x_hat mean(dy x_hat) from that of the variance
        shared = dy.mean((0, 2, 3), keepdim=True) + x_hat * (dy * x_hat).mean((0, 2, 3), keepdim=True)
        return gamma[:, None, None] * inverse_sd * (dy - shared), dgamma, dbeta, None


def batch_norm(
    x: Tensor,
    running_mean: Tensor,
    running_var: Tensor,
    gamma: Tensor,
    beta: Tensor,
    *,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W), with the statistics of the batch in training, else with their running means"""
    if not training:
        x_hat = (x - running_mean[:, None, None]) * (running_var[:, None, None] + eps).rsqrt()
        return gamma[:, None, None] * x_hat + beta[:, None, None]
    with torch.no_grad():
        running_mean.lerp_(x.mean((0, 2, 3)).to(running_mean.dtype), momentum)
        running_var.lerp_(x.var((0, 2, 3)).to(running_var.dtype), momentum)  # unbiased (n - 1), unlike in forward
    return cast(Tensor, _BatchNorm.apply(x, gamma, beta, eps))


def dropout(x: Tensor, p: float, *, training: bool) -> Tensor:
    """Set each element to zero with probability p and scale the others by 1 / (1 - p); in evaluation, do nothing

    The scaling keeps the expected value in training. The book's program applies dropout at test time too.
    """
    if not training or p == 0:
        return x
    return x * (torch.rand_like(x) >= p) / (1 - p)


# torch's layers, computed by the functions above.


class Conv2d(nn.Conv2d):
    """`nn.Conv2d` by im2col."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, O, H', W')"""
        with torch.autocast(input.device.type, enabled=False):  # autocast does not support custom gradients
            padding = cast(tuple[int, int], self.padding)[0]
            return conv2d(input.to(self.weight.dtype), self.weight, self.bias, self.stride[0], padding)


class MaxPool2d(nn.MaxPool2d):
    """`nn.MaxPool2d` by hand."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, C, H', W')"""
        return max_pool2d(input, cast(int, self.kernel_size), cast(int, self.stride))


class BatchNorm2d(nn.BatchNorm2d):
    """`nn.BatchNorm2d` by hand."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """(B, C, H, W) -> (B, C, H, W)"""
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        return batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.momentum,
            eps=self.eps,
        )


class Dropout(nn.Dropout):
    """`nn.Dropout` by hand."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Apply dropout in training, do nothing in evaluation"""
        return dropout(input, self.p, training=self.training)
