"""Check of exercise 1: find the bug: timing without synchronisation."""

from collections.abc import Callable
from random import Random
from typing import Any

from common.exercises.exercise import Arguments, Case, Exercise


class SimulatedGpu:
    """GPU with a queue: a call takes `call` ms on the CPU, a step `step` ms on the GPU, the first `first` ms more."""

    def __init__(self, call: float, step: float, first: float, queued: float) -> None:
        self.now, self.call, self.duration, self.first = 0.0, call, step, first
        self.busy_until = queued

    def clock(self) -> float:
        """Return the time in milliseconds."""
        return self.now

    def step(self) -> None:
        """Queue a training step."""
        self.now += self.call
        self.busy_until = max(self.busy_until, self.now) + self.duration + self.first
        self.first = 0.0

    def wait(self) -> None:
        """Wait until all queued steps are finished."""
        self.now = max(self.now, self.busy_until)


def steady_time(call: float, step: float, first: float, queued: float, steps: int) -> float:  # noqa: ARG001
    """Expected duration: CPU and GPU work at the same time, and the slower one determines it."""
    return (steps * max(call, step) + min(call, step)) / steps


def with_gpu(function: Callable[..., float], arguments: Arguments) -> float:
    """Call a function with the simulated GPU; the reference gets the numbers."""
    if function is steady_time:
        return steady_time(**arguments)
    numbers = {name: value for name, value in arguments.items() if name != "steps"}
    return function(gpu=SimulatedGpu(**numbers), steps=arguments["steps"])


def wrong_timing(
    *, warm_up: bool = True, before: bool = True, after: bool = True, each: bool = False, mean: bool = True
) -> Callable[[Any, int], float]:
    """Make a wrong function."""

    def wrong(gpu: Any, steps: int) -> float:
        if warm_up:
            gpu.step()
        if before:
            gpu.wait()
        start = gpu.clock()
        for _ in range(steps):
            gpu.step()
            if each:
                gpu.wait()
        if after:
            gpu.wait()
        return (gpu.clock() - start) / (steps if mean else 1)

    return wrong


def gpu(steps: int, *, call: float = 1.0, step: float = 10.0, first: float = 0.0, queued: float = 0.0) -> Arguments:
    """Arguments of the simulation."""
    return {"call": call, "step": step, "first": first, "queued": queued, "steps": steps}


def sample_gpu(generator: Random, size: int) -> Arguments:
    """Random durations."""
    call, step = float(generator.randint(1, 4)), float(generator.randint(1, 20))
    first, queued = float(generator.choice([0, 100])), float(generator.choice([0, 50]))
    return gpu(size, call=call, step=step, first=first, queued=queued)


TIMING = Exercise(
    file="ex1_timing",
    function="time_steps",
    reference=steady_time,
    call=with_gpu,
    cases=(
        Case(gpu(1), "a call returns after 1 ms, but the GPU finishes 10 ms later"),
        Case(gpu(2), "the GPU computes two steps one after the other: 1 + 2 * 10 ms"),
        Case(gpu(2, step=1.0), "the CPU prepares the second step while the GPU computes the first one"),
        Case(gpu(1, first=100.0), "the first call takes 100 ms more: it must not count"),
        Case(gpu(1, queued=50.0), "the GPU is busy for 50 ms with earlier work, which must not count"),
    ),
    sample=sample_gpu,
    hint="At which two places must the function wait for the GPU? What must happen before the first of them?",
    mistakes={
        "a call returns before the GPU has computed: wait before the first and the last reading of the clock": (
            wrong_timing(warm_up=False, before=False, after=False)
        ),
        "wait before the first reading of the clock: earlier work must not count": wrong_timing(before=False),
        "the first step compiles kernels: take one step before the first reading": wrong_timing(warm_up=False),
        "waiting after each step keeps the CPU from preparing the next one": wrong_timing(each=True),
        "this is the time of all steps; return the mean": wrong_timing(mean=False),
    },
)
