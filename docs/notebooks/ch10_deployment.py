# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Deployment: parity, precision and waiting time
#
# A network is exported as a graph that another program executes. Chapter 10 compares each export with the original by
#
# $$\delta = \frac{\max_i |\hat y_i - y_i|}{\max(1, \max_i |y_i|)}$$
#
# and refuses it if $\delta > 10^{-5}$. A server then answers requests one after the other or in batches. With the time
# between requests $1/\lambda$ and the time per request $1/\mu$, the utilisation is $\rho = \lambda / \mu$.
#
# The questions: which differences between two executions are normal, what does a network lose in bfloat16 and in 8
# bits, and why is a server slow long before it is fully used?

# %%
# %matplotlib inline
import copy

import torch

from ch03_autoencoder_rbm.digits.feedforward import FeedForward, measure, predict, scaled, train_step
from ch10_deploy.exporting.export import TOLERANCE, distance, trace
from ch10_deploy.exporting.graphs import Digits, Graph, with_probabilities
from ch10_deploy.loadtest import Tally
from common.data.images.loading import load_images
from common.drawing import plots

data = load_images("digits")
labels = data.valid.labels.long()
torch.manual_seed(0)
model = FeedForward()
optimizer = torch.optim.Adam(model.parameters(), 2e-3)
for _ in range(80):
    index = torch.randint(len(data.train.pixels), (128,))
    train_step(model, optimizer, scaled(data.train.pixels[index]), data.train.labels[index].long())
logits = predict(model, data.valid.pixels)
print(f"accuracy on {len(labels)} validation digits: {measure(logits, labels)['accuracy']:.3f}")

# %% [markdown]
# ## Which differences between two executions are normal?
#
# The cell traces the network with a dynamic batch size and compares the traced program with the network: on all images
# together, and one image at a time. It also compares float32 with float64.
#
# **Before you run the cell:** is any difference exactly 0? Is the result of an image the same if it is alone or in a
# batch?

# %%
graph = Graph(
    module=Digits(model),
    inputs={"pixels": data.valid.pixels.squeeze(1)},
    outputs=("logits", "probabilities"),
    original=lambda pixels: with_probabilities(predict(model, pixels.unsqueeze(1))),
    dynamic={"pixels": {0: "batch"}},
)
program = trace(graph).module()
pixels = graph.inputs["pixels"]
with torch.no_grad():
    traced = program(pixels)[0]
    alone = torch.cat([program(pixels[number : number + 1])[0] for number in range(len(pixels))])
    wide = copy.deepcopy(model).double()(scaled(data.valid.pixels).double())
deltas = {
    "traced program, same batch": distance(traced, logits),
    "traced program, one image at a time": distance(alone, logits),
    "float64": distance(logits, wide),
}
for name, delta in deltas.items():
    print(f"{name:36} {delta:.1e}")
print(f"an export is refused above {TOLERANCE:g}")

# %% [markdown]
# The same operations on the same batch usually give the same bits. For another batch size, the matrix product may add
# its terms in another order, and float32 additions are rounded: differences of about $10^{-7}$ to $10^{-6}$ are normal
# and harmless. A wrong scale of the pixels or a forgotten layer gives differences of $10^{-2}$ and more. The tolerance
# lies between.
#
# ## What does a network lose with fewer bits?
#
# The weights of each layer are rounded to $2^b$ levels: $w \to s \cdot \mathrm{round}(w / s)$ with
# $s = \max |w| / (2^{b-1} - 1)$.
#
# **Before you run the cell:** from which number of bits on does the accuracy suffer: 8, 6, 4 or 2? How large is the
# difference of the logits at 8 bits, compared with the tolerance above?


# %%
def with_fewer_bits(network: FeedForward, bits: int) -> FeedForward:
    """Return a copy of a network whose weights are rounded to 2^bits levels."""
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for weight in rounded.parameters():
            unit = weight.abs().max() / (2 ** (bits - 1) - 1)
            weight.copy_((weight / unit).round() * unit)
    return rounded


bits = [2, 3, 4, 5, 6, 8, 10, 12]
differences, accuracies = [], []
for count in bits:
    found = predict(with_fewer_bits(model, count), data.valid.pixels)
    differences.append(distance(found, logits))
    accuracies.append(measure(found, labels)["accuracy"])
half = predict(copy.deepcopy(model).bfloat16().float(), data.valid.pixels)  # weights rounded to bfloat16
print(f"8 bits: difference {differences[bits.index(8)]:.1e}; weights in bfloat16: {distance(half, logits):.1e}")
plots.line_panels(
    {
        "accuracy": {"rounded weights": (bits, accuracies)},
        "log10 of the difference of the logits": {
            "rounded weights": (bits, torch.tensor(differences).log10()),
            "tolerance of an export": (bits, [-5.0] * len(bits)),
        },
    },
    columns=2,
    xlabel="bits per weight",
    marked=("rounded weights",),
    size=1.2,
)

# %% [markdown]
# Each bit halves the difference. With 8 bits the logits differ by some tenths of a percent, hundreds of times the
# tolerance of an export, and the accuracy is nearly the same: decisions are more robust than numbers. A quantised
# network must therefore be tested by its accuracy on data, a float32 export by its numbers.
#
# ## Why is a server slow long before it is fully used?
#
# Requests arrive at random times; each needs 10 ms on average (exponentially distributed), one after the other. In
# theory the mean latency is $\frac{1/\mu}{1 - \rho}$.
#
# **Before you run the cell:** at which utilisation $\rho$ is the mean latency twice the service time? How much larger
# is the 99th percentile than the median?

# %%
SERVICE = 10.0  # milliseconds


def latencies_of(utilisation: float, requests: int = 20_000) -> list[float]:
    """Simulate requests to a server that answers one at a time; return the latency of each in milliseconds."""
    generator = torch.Generator().manual_seed(0)
    gaps, services = torch.empty(2, requests).exponential_(generator=generator)
    waiting, latencies = 0.0, []
    for gap, service in zip((gaps * SERVICE / utilisation).tolist(), (services * SERVICE).tolist(), strict=True):
        waiting = max(0.0, waiting - gap)
        latencies.append(waiting + service)
        waiting += service
    return latencies


utilisations = [0.1, 0.3, 0.5, 0.7, 0.8, 0.9]
measured: dict[str, list[float]] = {"median": [], "mean": [], "99th percentile": []}
for utilisation in utilisations:
    tally = Tally(seconds=1.0, milliseconds=latencies_of(utilisation))
    metrics = tally.metrics()
    measured["median"].append(metrics["p50_ms"])
    measured["99th percentile"].append(metrics["p99_ms"])
    measured["mean"].append(sum(tally.milliseconds) / len(tally.milliseconds))
theory = [SERVICE / (1 - utilisation) for utilisation in utilisations]
for utilisation, mean, expected in zip(utilisations, measured["mean"], theory, strict=True):
    print(f"utilisation {utilisation:.1f}: mean latency {mean:6.1f} ms, theory {expected:6.1f} ms")
plots.line_panels(
    {"latency": {name: (utilisations, values) for name, values in measured.items()}},
    columns=1,
    xlabel="utilisation",
    ylabel="milliseconds",
    log_y=True,
    marked=tuple(measured),
    size=1.5,
)

# %% [markdown]
# At a utilisation of 0.5 a request takes twice the service time on average, at 0.9 ten times. The 99th percentile is
# several times the median at every load. A load test with a fixed number of clients that wait for their answers does
# not show this: its clients send less when the server is slow.
#
# ## Do batches help?
#
# A batch of $n$ requests takes $a + b n$ milliseconds: the overhead $a$ is paid once.
#
# **Before you run the cell:** with $a = 8$ and $b = 2$, how many requests per second are possible with batches of 1, 4
# and 32? What do the requests pay?

# %%
counts = [1, 2, 4, 8, 16, 32, 64]
throughput = [1_000 * n / (8 + 2 * n) for n in counts]
duration = [8.0 + 2 * n for n in counts]
print({n: f"{rate:.0f} per second, {time:.0f} ms" for n, rate, time in zip(counts, throughput, duration, strict=True)})

# %% [markdown]
# The throughput goes to $1000 / b = 500$ requests per second, five times that of single requests. The price is latency:
# the first request of a batch waits for the others, and the computation takes longer. Batches are worthwhile if the
# overhead $a$ is large compared with $b$, as on a GPU; exercise 7 of chapter 10 is about such a collector.
#
# ## Continue
#
# - Chapter 10's [page](../../ch10_deploy/README.md) exports the networks to ONNX and measures a real server; exercises
#   1, 2 and 6 (`python -m ch10_deploy.exercises 1`) ask for parity, quantisation and percentiles.
