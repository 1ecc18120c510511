"""What changes during the training of a VAE: the learning rate, and the weight of the KL term."""

WARM_UP = 0.1
"""Share of the training in which the learning rate grows; `common.schedule.one_cycle`."""


def kl_weight(step: int, steps: int, share: float) -> float:
    """Weight of the KL term in step t = 0 ... T - 1: a straight line up to 1 (Sønderby et al. 2016, section 2.3).

    Without it, latent units that carry little information at first are pruned before they have learned to carry more.
    """
    return min(1.0, (step + 1) / (share * steps)) if share > 0 else 1.0
