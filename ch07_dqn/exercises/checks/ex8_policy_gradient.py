"""Check of exercise 8: gradient of the actor's loss."""

import torch
from torch import Tensor

from common.exercises.arguments import integers, vector
from common.exercises.exercise import Arguments, Case, Exercise


def actor_gradient(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """Gradient of the loss by autograd."""
    z = z.clone().requires_grad_()
    policy = torch.distributions.Categorical(logits=z)
    loss = -advantage * policy.log_prob(torch.tensor(action)) - h * policy.entropy()
    (gradient,) = torch.autograd.grad(loss, z)
    return gradient


def entropy_without_mean(z: Tensor, action: int, advantage: float, h: float) -> Tensor:
    """Typical mistake: the derivative of the entropy without that of the softmax."""
    log_p = torch.log_softmax(z, 0)
    return actor_gradient(z, action, advantage, 0.0) + h * log_p.exp() * (log_p + 1)


def actor_arguments(z: list[float], action: int, advantage: float = 1.0, h: float = 0.0) -> Arguments:
    """Arguments of the gradient."""
    return {"z": vector(*z), "action": action, "advantage": advantage, "h": h}


POLICY_GRADIENT = Exercise(
    file="ex8_policy_gradient",
    function="policy_gradient",
    reference=actor_gradient,
    cases=(
        Case(actor_arguments([0, 0], 0), "a good action: its logit grows, so the gradient is negative there"),
        Case(actor_arguments([0, 0], 1, advantage=-2.0), "a bad action: its logit falls"),
        Case(actor_arguments([0, 0], 0, advantage=0.0, h=1.0), "the entropy is largest for equal logits: no gradient"),
        Case(actor_arguments([1, 0], 0, advantage=0.0, h=1.0), "the entropy bonus makes the logits more equal"),
        Case(actor_arguments([1, 0, -1], 2, advantage=1.0, h=0.5), "both terms"),
        Case(actor_arguments([1000, 0], 0), "e^1000 overflows: use log_softmax"),
    ),
    sample=lambda generator, size: {
        "z": integers(generator, size + 1),
        "action": generator.randrange(size + 1),
        "advantage": float(generator.randint(-2, 2)),
        "h": generator.choice([0.0, 0.5, 1.0]),
    },
    hint=(
        "d log p_a / dz = y - p with one-hot y. For the entropy, first differentiate with respect to p, then apply the "
        "rule of the softmax: p (g - sum_k p_k g_k)."
    ),
    mistakes={
        "the sign is wrong: the loss must fall if the probability of a good action grows": (
            lambda z, action, advantage, h: -actor_gradient(z, action, advantage, -h)
        ),
        "the entropy bonus is subtracted from the loss: its gradient has the other sign": (
            lambda z, action, advantage, h: actor_gradient(z, action, advantage, -h)
        ),
        "the gradient of the entropy is missing": lambda z, action, advantage, h: (  # noqa: ARG005
            actor_gradient(z, action, advantage, 0.0)
        ),
        "dH/dp must be multiplied by the Jacobian of the softmax": entropy_without_mean,
    },
)
