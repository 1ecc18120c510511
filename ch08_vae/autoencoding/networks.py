"""The variational autoencoder: encoder, decoder, reparameterisation, likelihood and KL divergence.

    q(z | x) = N(mu(x), diag sigma(x)^2)      encoder: (mu, log sigma^2)
    p(x | z) = prod_i Bernoulli(sigmoid(l_i(z)))      decoder: logits l

Sources: Kingma & Welling (2014), Auto-Encoding Variational Bayes; Rezende, Mohamed & Wierstra (2014). The conditional
model, in which encoder and decoder also receive the class, is that of Kingma et al. (2014) and Sohn, Lee & Yan (2015).

Dimensions: B batch, P pixels (784), F features, Z latent units, K classes (10).
"""

from itertools import pairwise

import torch
from torch import Tensor, nn

from ch08_vae.preprocessing import CLASSES


def mlp_encoder(hidden: tuple[int, ...]) -> tuple[nn.Module, int]:
    """Make the linear layers from pixels to features; return them and the number of features."""
    layers = [part for sizes in pairwise((784, *hidden)) for part in (nn.Linear(*sizes), nn.SiLU())]
    return nn.Sequential(*layers), hidden[-1]


def mlp_decoder(inputs: int, hidden: tuple[int, ...]) -> nn.Sequential:
    """Make the linear layers from latent units to logits: those of the encoder in reverse order."""
    sizes = (inputs, *reversed(hidden))
    layers = [part for pair in pairwise(sizes) for part in (nn.Linear(*pair), nn.SiLU())]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], 784))


def conv_encoder() -> tuple[nn.Module, int]:
    """Make two strided convolutions and a linear layer; return them and the number of features."""
    layers = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 32, kernel_size=4, stride=2, padding=1),  # 14x14
        nn.SiLU(),
        nn.Conv2d(32, 64, kernel_size=4, stride=2, padding=1),  # 7x7
        nn.SiLU(),
        nn.Flatten(),
        nn.Linear(64 * 7 * 7, 256),
        nn.SiLU(),
    )
    return layers, 256


def conv_decoder(inputs: int) -> nn.Sequential:
    """Make two linear layers and two transposed convolutions from latent units to logits."""
    return nn.Sequential(
        nn.Linear(inputs, 256),
        nn.SiLU(),
        nn.Linear(256, 64 * 7 * 7),
        nn.SiLU(),
        nn.Unflatten(1, (64, 7, 7)),
        nn.ConvTranspose2d(64, 32, kernel_size=4, stride=2, padding=1),
        nn.SiLU(),
        nn.ConvTranspose2d(32, 1, kernel_size=4, stride=2, padding=1),
        nn.Flatten(),
    )


class VAE(nn.Module):
    """Encoder, Gaussian posterior and decoder; if `conditional`, encoder and decoder also receive the class."""

    def __init__(
        self,
        latent_size: int,
        *,
        hidden: tuple[int, ...] = (256, 128),
        architecture: str = "mlp",
        conditional: bool = False,
    ) -> None:
        super().__init__()
        self.latent_size, self.conditional = latent_size, conditional
        condition = CLASSES if conditional else 0
        self.features, width = mlp_encoder(hidden) if architecture == "mlp" else conv_encoder()
        self.posterior = nn.Linear(width + condition, 2 * latent_size)
        inputs = latent_size + condition
        self.decoder = mlp_decoder(inputs, hidden) if architecture == "mlp" else conv_decoder(inputs)

    def _with_classes(self, inputs: Tensor, classes: Tensor | None) -> Tensor:
        """Append the one-hot classes if the model is conditional."""
        if not self.conditional:
            return inputs
        assert classes is not None, "a conditional model needs the classes"
        return torch.cat([inputs, classes.to(inputs.dtype)], dim=1)

    def encode(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, P) pixels, (B, K) one-hot -> (B, Z) mu, (B, Z) log sigma^2"""
        both = self.posterior(self._with_classes(self.features(x), classes))
        mu, logvar = both.to(self.posterior.weight.dtype).chunk(2, dim=1)  # bfloat16 ends here
        return mu, logvar

    def decode(self, z: Tensor, classes: Tensor | None = None) -> Tensor:
        """(B, Z), (B, K) one-hot -> (B, P) logits"""
        return self.decoder(self._with_classes(z, classes)).to(z.dtype)

    def forward(self, x: Tensor, classes: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(B, P) pixels -> (B, P) logits of one sample of the posterior, and its (B, Z) mu and log sigma^2"""
        mu, logvar = self.encode(x, classes)
        return self.decode(sample(mu, logvar), classes), mu, logvar


def sample(mu: Tensor, logvar: Tensor) -> Tensor:
    """Sample z ~ N(mu, sigma^2) by reparameterisation (Kingma & Welling, section 2.4).

    z = mu + sigma epsilon with epsilon ~ N(0, 1): epsilon does not depend on the weights, so gradients reach mu, sigma.
    """
    return mu + (logvar / 2).exp() * torch.randn_like(mu)


def log_bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """(..., P) logits and pixels -> (...) log p(x | z) = sum_i x_i l_i - log(1 + exp(l_i)), in nats"""
    return (x * logits - nn.functional.softplus(logits)).sum(-1)


def kl_divergence(mu: Tensor, logvar: Tensor) -> Tensor:
    """(B, Z) -> (B, Z) KL(N(mu, sigma^2) || N(0, 1)) of each unit in nats (Kingma & Welling, appendix B)"""
    return (mu.square() + logvar.exp() - 1 - logvar) / 2


def log_odds(pixels: Tensor) -> Tensor:
    """(N, 1, 28, 28) uint8 -> (P,) log-odds of the mean of each pixel; an added image of value 1/2 keeps them finite"""
    on = pixels.flatten(1).float().div(255).sum(0).add(0.5).div(len(pixels) + 1)
    return on.logit()


def initialise_output_bias(model: VAE, pixels: Tensor) -> None:
    """Set the decoder's last bias to the log-odds of (N, 1, 28, 28) pixels, so that its first output is the mean image.

    A convolution has one bias for all positions and is left unchanged.
    """
    last = model.decoder[-1]
    if isinstance(last, nn.Linear):
        last.bias.data.copy_(log_odds(pixels))
