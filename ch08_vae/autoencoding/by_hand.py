"""The VAE's training step with gradients written by hand, through the reparameterisation and every layer.

With a sample epsilon of N(0, 1), and dv for the gradient of one image's -ELBO with respect to v:

    sigma   = exp(logvar / 2)                   z = mu + sigma epsilon
    dl      = sigmoid(l) - x                                        gradient of the likelihood in the logits
    dmu     = dz + beta mu                                          gradients of the likelihood and of the KL term
    dlogvar = dz epsilon sigma / 2 + beta (sigma^2 - 1) / 2

and through a linear layer y = a W' + b with inputs a = s(u), s(u) = u sigmoid(u), where u is the y of the layer before:

    dW = dy' a        db = sum over the batch of dy        du = (dy W) s'(u)

All weights are views of one vector, and all gradients views of another: Adam updates one tensor, and one copy converts
all weights to bfloat16.

Dimensions: B batch, P pixels (784), Z latent units, I inputs of a layer, O outputs of a layer.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ch08_vae.autoencoding.networks import VAE, kl_divergence
from common.config import require

silu_backward = torch.ops.aten.silu_backward
"""Compute du = da s'(u) from da and u, in one pass over memory."""


class Layer(NamedTuple):
    """Parameters and gradients of a linear layer, as views of the two vectors."""

    weight: Tensor  # W (O, I)
    bias: Tensor  # b (O,)
    dweight: Tensor  # dW (O, I)
    dbias: Tensor  # db (O,)


class Chain:
    """Linear layers with SiLU between them: the encoder with its posterior, or the decoder."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers
        self.inputs: list[Tensor] = []
        self.pre_activations: list[Tensor] = []

    def forward(self, a: Tensor) -> Tensor:
        """(B, I) inputs of the first layer -> (B, O) outputs y of the last; store all inputs and y for backward"""
        self.inputs, self.pre_activations = [], []
        for layer in self.layers:
            if self.pre_activations:
                a = F.silu(self.pre_activations[-1])
            self.inputs.append(a)
            self.pre_activations.append(torch.addmm(layer.bias, a, layer.weight.mT))
        return self.pre_activations[-1]

    def backward(self, dy: Tensor) -> Tensor:
        """(B, O) dy of the last layer -> (B, O) dy of the first layer; write dW and db of every layer"""
        for number in reversed(range(len(self.layers))):
            layer = self.layers[number]
            torch.mm(dy.mT, self.inputs[number], out=layer.dweight)
            torch.sum(dy, 0, out=layer.dbias)
            if number > 0:
                dy = silu_backward(dy @ layer.weight, self.pre_activations[number - 1])
        return dy


def split_like(vector: Tensor, parameters: Sequence[Tensor]) -> list[Tensor]:
    """(N,) -> consecutive views of the vector with the shapes of the parameters"""
    sizes = [parameter.numel() for parameter in parameters]
    return [view.view_as(parameter) for view, parameter in zip(vector.split(sizes), parameters, strict=True)]


class HandWritten:
    """Train a VAE of linear layers in place, without autograd."""

    def __init__(self, model: VAE, learning_rate: float, *, bf16: bool = False) -> None:
        parts = [*model.features.children(), model.posterior, *model.decoder.children()]
        linears = [part for part in parts if isinstance(part, nn.Linear)]
        plain = len(linears) + sum(isinstance(part, nn.SiLU) for part in parts) == len(parts)
        require(
            plain and not model.conditional,
            "gradients by hand support only unconditional networks of linear layers",
            "another network",
        )
        parameters = [parameter for linear in linears for parameter in (linear.weight, linear.bias)]

        self.weights = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
        self.gradient = self.weights.grad = torch.zeros_like(self.weights)
        vector = self.weights.detach()
        for parameter, view in zip(parameters, split_like(vector, parameters), strict=True):
            parameter.data = view  # the model's parameters become views of the vector
        # Operands and results of the matrix products: the vectors themselves, or copies in bfloat16.
        self.compute_weights, self.compute_gradient = vector, self.gradient
        if bf16:
            self.compute_weights, self.compute_gradient = vector.bfloat16(), vector.bfloat16()
        w, dw = split_like(self.compute_weights, parameters), split_like(self.compute_gradient, parameters)
        layers = [Layer(*views) for views in zip(w[::2], w[1::2], dw[::2], dw[1::2], strict=True)]
        middle = linears.index(model.posterior) + 1
        self.encoder, self.decoder = Chain(layers[:middle]), Chain(layers[middle:])
        self.optimizer = torch.optim.Adam([self.weights], learning_rate, fused=True)

    @torch.no_grad()
    def step(self, x: Tensor, *, beta: float = 1.0) -> Tensor:
        """(B, P) pixels -> loss in nats per image, on the device; takes one gradient step"""
        compute, master = self.compute_weights.dtype, self.weights.dtype
        mu, logvar = self.encoder.forward(x.to(compute)).to(master).chunk(2, dim=1)
        sigma, epsilon = (logvar / 2).exp(), torch.randn_like(mu)
        logits = self.decoder.forward((mu + sigma * epsilon).to(compute)).to(master)
        mean = 1 / len(x)  # the loss is a mean over the batch
        nll = F.softplus(logits).sum() - torch.dot(x.flatten(), logits.flatten())  # -log p(x | z)
        loss = mean * (nll + beta * kl_divergence(mu, logvar).sum())

        dl = logits.sigmoid_().sub_(x).mul_(mean)
        dz = (self.decoder.backward(dl.to(compute)) @ self.decoder.layers[0].weight).to(master)
        dmu = dz + mean * beta * mu
        dlogvar = (dz * epsilon * sigma + mean * beta * (sigma.square() - 1)) / 2
        self.encoder.backward(torch.cat([dmu, dlogvar], dim=1).to(compute))

        if compute != master:
            self.gradient.copy_(self.compute_gradient)
        self.optimizer.step()
        if compute != master:
            self.compute_weights.copy_(self.weights)
        return loss
