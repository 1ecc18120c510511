"""Schedules of the training: learning rate and weight of the KL term."""

WARM_UP = 0.1
"""Fraction of training during which the learning rate increases; see `common.schedule.one_cycle`."""


def kl_weight(step: int, steps: int, share: float) -> float:
    """Return the weight of the KL term in step 0 ... steps - 1: linear from 0 to 1 (Sønderby et al. 2016, section 2.3).

    The weight reaches 1 after the given share of the steps. It lets latent units that carry little information at the
    start of training become useful before the KL term penalises them fully.
    """
    return min(1.0, (step + 1) / (share * steps)) if share > 0 else 1.0
