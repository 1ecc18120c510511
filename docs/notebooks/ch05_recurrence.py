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
# # Gradients through time
#
# A recurrent network has a state $h_t = f(h_{t-1}, x_t)$. The gradient of a loss at time $T$ with respect to the state
# at time $t$ is a product of Jacobians,
#
# $$\frac{\partial L}{\partial h_t} = \Bigl(\frac{\partial h_T}{\partial h_{T-1}} \cdots
# \frac{\partial h_{t+1}}{\partial h_t}\Bigr)^{\!\top} \frac{\partial L}{\partial h_T} .$$
#
# For the simple cell $h_t = \tanh(W_h h_{t-1} + W_x x_t + b)$, each Jacobian is $\mathrm{diag}(1 - h_t^2) W_h$. If its
# singular values are mostly below 1, the product vanishes; above 1, it explodes. The LSTM has a second state with an
# additive update,
#
# $$c_t = f_t \odot c_{t-1} + i_t \odot g_t, \qquad h_t = o_t \odot \tanh c_t ,$$
#
# whose Jacobian along the direct path is $\mathrm{diag}(f_t)$, with the forget gate $f_t \in (0, 1)$.
#
# The questions: which cells and initialisations keep a gradient over many steps, what does the bias of the forget gate
# do, and does a large gradient mean that a network learns?

# %%
# %matplotlib inline
import torch

from ch05_rnn.recurrence.cells import CELLS, Recurrent, open_forget_gates_, orthogonal_, weights_of
from ch05_rnn.recurrence.gradients import CASES, SYMBOLS, Recall, draw_sequences, gradient_norms, train_step
from common.drawing import plots

CPU = torch.device("cpu")
HIDDEN = 32

# %% [markdown]
# ## Which cells keep a gradient over 60 steps?
#
# The network reads a symbol and then 60 random distractors; at the end it must name the first symbol. The cell measures
# the norm of the gradient of the last hidden state with respect to the state $k$ steps earlier, before training.
#
# **Before you run the cell:** the simple cell is initialised in two ways: uniform in $\pm 1/\sqrt{H}$ (the default),
# and with an orthogonal $W_h$, whose singular values are 1. Which lines rise, which fall, and which are flat?

# %%
LAG = 60
symbols = draw_sequences(LAG, 32, torch.Generator().manual_seed(0), CPU)
shown = {
    "rnn": "RNN, default",
    "rnn_orthogonal": "RNN, orthogonal",
    "rnn_large": "RNN, orthogonal × 2",
    "lstm": "LSTM, default",
}
norms = {}
for case, label in shown.items():
    torch.manual_seed(0)
    norms[label] = gradient_norms(Recall(case, HIDDEN, LAG), symbols)
print(
    "norm of the gradient 60 steps back:", {label: f"{float(norm[-1] / norm[0]):.1e}" for label, norm in norms.items()}
)
plots.line_panels(
    {
        "gradient of the last state": {
            label: (range(len(norm)), (norm / norm[0]).clamp(min=1e-30)) for label, norm in norms.items()
        }
    },
    columns=1,
    xlabel="steps back",
    ylabel="relative norm",
    log_y=True,
    size=1.6,
)

# %% [markdown]
# With the default initialisation, most singular values of $W_h$ are well below 1, and the gradient vanishes. With an
# orthogonal $W_h$, only $1 - h_t^2 < 1$ reduces it. Twice as large weights make it explode, but by much less than a
# factor of 2 per step: the units saturate, and $1 - h_t^2$ becomes small. The gradient of the default LSTM vanishes as
# fast as that of the default RNN: its forget gates start near $\sigma(0) = 0.5$.
#
# ## What does the bias of the forget gate do?
#
# The next cell sets the bias $b_f$ of all forget gates and measures the factor per step by which the gradient changes.
#
# **Before you run the cell:** along the path of $c$, the factor is about $\sigma(b_f)$. Which $b_f$ is needed to keep
# half of the gradient over 100 steps?

# %%
biases = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
factors = []
for bias in biases:
    torch.manual_seed(0)
    layer = Recurrent(CELLS["lstm"](4, HIDDEN))
    orthogonal_(layer, 0.1)
    open_forget_gates_(layer, bias)
    x = torch.randn(50, 8, 4)
    c = torch.zeros(8, HIDDEN, requires_grad=True)
    _, (_, last) = layer(x, (torch.zeros(8, HIDDEN), c))
    (gradient,) = torch.autograd.grad(last.sum(), c)
    factors.append(float(gradient.mean().abs() ** (1 / 50)))
needed = torch.tensor(0.5 ** (1 / 100)).logit()
print(f"half of the gradient after 100 steps needs a factor of {0.5 ** (1 / 100):.4f}, a bias of {float(needed):.1f}")
plots.line_panels(
    {
        "factor per step of the gradient of c": {
            "measured": (biases, factors),
            "sigmoid(bias)": (biases, torch.tensor(biases).sigmoid()),
        }
    },
    columns=1,
    xlabel="bias of the forget gates",
    marked=("measured",),
    size=1.5,
)

# %% [markdown]
# The measured factor follows $\sigma(b_f)$. A bias of 1, as often recommended, keeps 73 % per step: about two steps
# until half of the gradient is left. For 100 steps the bias must be about 5. The chrono initialisation draws biases so
# that the gates have time scales up to the longest lag.
#
# ## Does a gradient that arrives mean that the network learns?
#
# The cell trains three networks on the task with a lag of 20, for 120 steps.
#
# **Before you run the cell:** order the default RNN, the default LSTM and the LSTM with the chrono initialisation by
# the loss at the end. Guessing has a loss of $\log 8 \approx 2.08$ nats.

# %%
curves = {}
for case, label in (("rnn", "RNN, default"), ("lstm", "LSTM, default"), ("lstm_chrono", "LSTM, chrono")):
    assert case in CASES
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    model = Recall(case, HIDDEN, 40)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    losses = [float(train_step(model, optimizer, draw_sequences(20, 64, generator, CPU))) for _ in range(120)]
    curves[label] = torch.tensor(losses).unfold(0, 10, 1).mean(1)
print(
    f"loss of a guess {torch.tensor(float(SYMBOLS)).log():.2f};", {k: f"{float(v[-1]):.2f}" for k, v in curves.items()}
)
plots.line_panels(
    {"loss, mean of 10 steps": {label: (range(10, 121), losses) for label, losses in curves.items()}},
    columns=1,
    xlabel="step",
    ylabel="nats",
    size=1.5,
)

# %% [markdown]
# The default LSTM stays at the loss of a guess. With gates that are open for about 20 steps, the same cell learns the
# task: the initialisation does not change what the cell can represent, only what gradient descent finds. The default
# RNN learns a part of the task; how much depends on the random seed. Its gradient is below $10^{-4}$ after 20 steps,
# but Adam divides each gradient by its size, so a small gradient alone does not prevent learning.
#
# ## Is backpropagation through time exact?
#
# `bptt.py` computes the gradient by hand. It must agree with autograd.
#
# **Before you run the cell:** does the gradient of $W_h$ contain one term per sequence, or one per sequence and time
# step?

# %%
torch.manual_seed(0)
x, h0 = torch.randn(12, 3, 4, dtype=torch.float64), torch.zeros(3, 5, dtype=torch.float64)
found = []
for by_hand in (True, False):
    torch.manual_seed(1)
    layer = Recurrent(CELLS["gru"](4, 5).double(), by_hand=by_hand)
    states, _ = layer(x, (h0,))
    states.square().sum().backward()
    found.append(weights_of(layer)[1].grad)
difference = float((found[0] - found[1]).abs().max())
print(f"largest difference between the gradients of W_h by hand and by autograd: {difference:.1e}")

# %% [markdown]
# One per sequence and time step: $W_h$ is used $T$ times, and its gradient is the sum over these uses.
#
# ## Continue
#
# - Replace "rnn_large" by "lstm_chrono" in the first experiment.
# - Chapter 5's [page](../../ch05_rnn/README.md) derives the equations; `python -m ch05_rnn.exercises 3` asks for them.
