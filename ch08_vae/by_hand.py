"""The VAE's training step with its gradient written out, back through the dice and every layer.

Autograd records every operation, and asks for memory and a kernel for each gradient. Written out, the gradient of the
bound is short. With epsilon thrown, and dv for the gradient of one image's -ELBO in v:

    sigma   = exp(logvar / 2)                   z = mu + sigma epsilon
    dl      = sigmoid(l) - x                                        in the logits: the whole likelihood
    dmu     = dz + beta mu                                          what the decoder asks for, and the KL term's share
    dlogvar = dz epsilon sigma / 2 + beta (sigma^2 - 1) / 2

and through a linear layer y = a W' + b whose inputs are a = s(y below), s(y) = y sigmoid(y):

    dW = dy' a        db = sum over the batch of dy        dy below = (dy W) s'(y below)

All weights lie end to end in one row, and their gradients in another: Adam takes one step, and bfloat16 needs one copy
of each.

Dimensions: B batch, P pixels (784), Z latent units, I inputs of a layer, O its outputs.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.networks import VAE, kl_divergence
from common.config import require

silu_backward = torch.ops.aten.silu_backward
"""dy = da s'(y) from da and y, in one pass over memory."""


class Layer(NamedTuple):
    """A linear layer: its pieces of the rows of weights and gradients."""

    weight: Tensor  # W (O, I)
    bias: Tensor  # b (O,)
    dweight: Tensor  # dW (O, I)
    dbias: Tensor  # db (O,)


class Chain:
    """Linear layers with SiLU between them: the encoder with its posterior, or the decoder."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.inputs: list[Tensor] = []
        self.sums: list[Tensor] = []

    def forward(self, a: Tensor) -> Tensor:
        """(B, I) inputs of the first layer -> (B, O) sums y of the last; keep what backward needs"""
        self.inputs, self.sums = [], []
        for layer in self.layers:
            if self.sums:
                a = F.silu(self.sums[-1])
            self.inputs.append(a)
            self.sums.append(torch.addmm(layer.bias, a, layer.weight.mT))
        return self.sums[-1]

    def backward(self, dy: Tensor) -> Tensor:
        """(B, O) dy of the last layer -> (B, O) dy of the first; leave every layer's dW and db in its gradients"""
        for number in reversed(range(len(self.layers))):
            layer = self.layers[number]
            torch.mm(dy.mT, self.inputs[number], out=layer.dweight)
            torch.sum(dy, 0, out=layer.dbias)
            if number > 0:
                dy = silu_backward(dy @ layer.weight, self.sums[number - 1])
        return dy


def cut(row: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """(N,) -> pieces of the row with the shapes of the parameters that lie in it end to end"""
    sizes = [parameter.numel() for parameter in like]
    return [piece.view_as(parameter) for piece, parameter in zip(row.split(sizes), like, strict=True)]


class HandWritten:
    """Trains a VAE of linear layers, in place, without autograd."""

    def __init__(self, model: VAE, learning_rate: float, *, bf16: bool = False) -> None:
        parts = [*model.features.children(), model.posterior, *model.decoder.children()]
        linears = [part for part in parts if isinstance(part, nn.Linear)]
        plain = len(linears) + sum(isinstance(part, nn.SiLU) for part in parts) == len(parts)
        require(plain and not model.conditional, "by hand there are linear layers that are told no class", "others")
        parameters = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]

        self.weights = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self.gradient = self.weights.grad = torch.zeros_like(self.weights)
        row = self.weights.detach()
        for parameter, piece in zip(parameters, cut(row, parameters), strict=True):
            parameter.data = piece  # the model keeps its weights in the row
        # What products take and give: the rows themselves, or copies in bfloat16.
        self.used, self.given = (row.bfloat16(), row.bfloat16()) if bf16 else (row, self.gradient)
        used, given = cut(self.used, parameters), cut(self.given, parameters)
        layers = [Layer(*pieces) for pieces in zip(used[::2], used[1::2], given[::2], given[1::2], strict=True)]
        middle = linears.index(model.posterior) + 1
        self.encoder, self.decoder = Chain(layers[:middle]), Chain(layers[middle:])
        self.optimizer = torch.optim.Adam([self.weights], learning_rate, fused=True)

    @torch.no_grad()
    def step(self, x: Tensor, *, beta: float = 1.0) -> Tensor:
        """(B, P) pixels -> the loss in nats an image, still on the device, after one gradient step"""
        narrow, wide = self.used.dtype, self.weights.dtype
        mu, logvar = self.encoder.forward(x.to(narrow)).to(wide).chunk(2, dim=1)
        sigma, epsilon = (logvar / 2).exp(), torch.randn_like(mu)
        logits = self.decoder.forward((mu + sigma * epsilon).to(narrow)).to(wide)
        share = 1 / len(x)  # the loss is a mean over the batch
        surprise = F.softplus(logits).sum() - torch.dot(x.flatten(), logits.flatten())  # -log p(x | z)
        loss = share * (surprise + beta * kl_divergence(mu, logvar).sum())

        dl = logits.sigmoid_().sub_(x).mul_(share)
        dz = (self.decoder.backward(dl.to(narrow)) @ self.decoder.layers[0].weight).to(wide)
        dmu = dz + share * beta * mu
        dlogvar = (dz * epsilon * sigma + share * beta * (sigma.square() - 1)) / 2
        self.encoder.backward(torch.cat([dmu, dlogvar], dim=1).to(narrow))

        if narrow != wide:
            self.gradient.copy_(self.given)
        self.optimizer.step()
        if narrow != wide:
            self.used.copy_(self.weights)
        return loss
