"""The thread policy: another busy process slows training by a factor of at most 2.5."""

import os
import statistics
import subprocess
import sys

import pytest

from conftest import ROOT

TRAINING = """
import sys
import common, torch
from ch03_autoencoder_rbm.digits import feedforward
from common import device as devices
from dataclasses import replace
config = feedforward.Config(run=replace(feedforward.Config().run, precision="fp32"))
devices.set_threads(THREADS or config.run.threads)
step = feedforward.workload(config, torch.device("cpu")).step
def seconds():
    with devices.Timer(torch.device("cpu")) as timer:
        for _ in range(150):
            step()
    return timer.seconds
seconds()
for _ in sys.stdin:
    print(*(seconds() for _ in range(3)), flush=True)
"""


@pytest.mark.alone
@pytest.mark.slow
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="one core: a neighbour takes half of it whatever we do")
@pytest.mark.parametrize("threads", [0, 2])
def test_one_busy_neighbour_slows_a_run_at_most_two_and_a_half_times(threads):
    """The program's default threads (0) and two threads, alone and beside a busy process, interleaved."""
    words = [sys.executable, "-c", TRAINING.replace("THREADS", str(threads))]
    with subprocess.Popen(words, cwd=ROOT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as training:
        orders, answers = training.stdin, training.stdout
        assert orders is not None
        assert answers is not None

        def median_seconds() -> float:
            print("measure", file=orders, flush=True)
            return statistics.median(map(float, answers.readline().split()))

        ratios = []
        for _ in range(3):
            alone = median_seconds()
            neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"])
            try:
                ratios.append(median_seconds() / alone)
            finally:
                neighbour.kill()
                neighbour.wait()
        orders.close()
    assert training.returncode == 0
    assert statistics.median(ratios) <= 2.5, ratios
