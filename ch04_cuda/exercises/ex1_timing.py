"""Find the bug: timing without synchronisation (15 minutes)

A call on a GPU only queues the work and returns; the GPU computes it later, one step after the other. `gpu` has

    gpu.clock()    the time in milliseconds
    gpu.step()     queue a training step; its first call takes much longer, because kernels are compiled
    gpu.wait()     wait until all queued steps are finished

The function below returns the mean duration of `steps` training steps. By its result training is ten times as fast as
it is. Work that was queued before and the first step must not count; waiting after each step is wrong as well, because
then the CPU does not prepare the next step while the GPU computes.

The check simulates a GPU. In its messages `call` is the time of a call on the CPU, `step` that of a step on the GPU,
and `first` what the first step takes in addition; `queued` milliseconds of earlier work are waiting at the start.

Check: python -m ch04_cuda.exercises 1
"""

from typing import Any


def time_steps(gpu: Any, steps: int) -> float:
    """Return the mean milliseconds of a step."""
    # Find the bug, then delete this comment.
    start = gpu.clock()
    for _ in range(steps):
        gpu.step()
    return (gpu.clock() - start) / steps
