"""Replay buffer: sampling, importance-sampling weights, n-step returns."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ch07_dqn.mazes.replay import ReplayBuffer
from common.data.mazes.batch import Step


def fill(buffer, rows, environments, generator, *, ends=0.3):
    """Add random transitions to a replay buffer; return them as a list of rows."""
    transitions = []
    for row in range(rows):
        state = torch.arange(environments) + 100 * row
        action = torch.randint(4, (environments,), generator=generator)
        u = torch.rand(environments, generator=generator)
        terminated, truncated = u < ends / 2, (u > ends / 2 - 0.02) & (u < ends)
        step = Step(state + 50, torch.randn(environments, generator=generator), terminated, truncated)
        buffer.add(state, action, step)
        transitions.append((state, action, step))
    return transitions


def by_hand(transitions, row, column, n, g):
    """Compute the n-step return, the next state and its discount in a loop."""
    total, factor = 0.0, 1.0
    for k in range(n):
        _, _, step = transitions[row + k]
        total += factor * float(step.reward[column])
        factor *= g
        next_state = int(step.next_state[column])
        if step.terminated[column]:
            return total, next_state, 0.0
        if step.truncated[column]:
            break
    return total, next_state, factor


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 4),
    capacity=st.integers(4, 9),
    rows=st.integers(4, 25),
    environments=st.integers(1, 3),
    alpha=st.sampled_from([0.0, 0.6]),
    seed=st.integers(0, 1000),
)
def test_n_step_returns_equal_the_definition(n, capacity, rows, environments, alpha, seed):
    """The exit ends a return without bootstrapping; the time limit ends it with the value of the last state."""
    torch.manual_seed(seed)
    buffer = ReplayBuffer(capacity, environments, discount=0.9, n_steps=n, alpha=alpha)
    transitions = fill(buffer, rows, environments, torch.Generator().manual_seed(seed))
    assert len(buffer) == min(rows, capacity) - n + 1
    batch = buffer.sample(64)
    for i in range(64):
        row, column = divmod(int(batch.state[i]), 100)
        assert rows - min(rows, capacity) <= row <= rows - n, "overwritten, or the return is incomplete"
        total, next_state, factor = by_hand(transitions, row, column, n, 0.9)
        assert float(batch.n_step_return[i]) == pytest.approx(total, rel=1e-5, abs=1e-6)
        assert int(batch.next_state[i]) == next_state
        assert float(batch.discount[i]) == pytest.approx(factor)
        assert int(batch.action[i]) == int(transitions[row][1][column])


def test_the_exit_is_terminal_and_the_time_limit_is_not():
    buffer = ReplayBuffer(4, 2, discount=0.5)
    states = torch.tensor([1, 2])
    step = Step(states + 1, torch.ones(2), torch.tensor([True, False]), torch.tensor([True, True]))
    buffer.add(states, torch.zeros(2, dtype=torch.int64), step)
    torch.manual_seed(0)
    batch = buffer.sample(50)
    assert batch.discount[batch.state == 1].eq(0).all(), "the exit, reached at the time limit"
    assert batch.discount[batch.state == 2].eq(0.5).all(), "the time limit"
    assert set(batch.state.tolist()) == {1, 2}


def test_uniform_sampling_is_uniform():
    torch.manual_seed(0)
    buffer = ReplayBuffer(5, 2, discount=0.9)
    fill(buffer, 8, 2, torch.Generator().manual_seed(0))
    batch = buffer.sample(20_000)
    counts = batch.index.bincount(minlength=10).double()
    assert float(((counts - 2_000) ** 2 / 2_000).sum()) < 27.9, "chi-squared test with 9 degrees of freedom, p < 0.001"
    assert batch.weight.eq(1).all()


def test_prioritised_sampling_and_its_weights():
    """P = p^alpha / sum p^alpha, w = (N P)^-beta / max w."""
    torch.manual_seed(0)
    buffer = ReplayBuffer(5, 2, discount=0.9, alpha=0.7)
    fill(buffer, 5, 2, torch.Generator().manual_seed(0))
    everything = buffer.sample(500)
    errors = -(everything.index + 1.0)  # the sign has no effect
    buffer.update_priorities(everything, errors)
    assert len(everything.index.unique()) == 10
    p = (torch.arange(10) + 1.0 + ReplayBuffer.MIN_PRIORITY).double() ** 0.7
    expected = p / p.sum()
    batch = buffer.sample(20_000, beta=0.5)
    counts = batch.index.bincount(minlength=10).double()
    assert float(((counts - 20_000 * expected) ** 2 / (20_000 * expected)).sum()) < 27.9
    w = (10 * expected) ** -0.5
    torch.testing.assert_close(batch.weight.double(), (w / w.max())[batch.index], rtol=1e-5, atol=1e-6)
    assert buffer.sample(100, beta=0.0).weight.eq(1).all()


def test_new_transitions_have_the_largest_priority_and_overwritten_ones_none():
    torch.manual_seed(0)
    buffer = ReplayBuffer(4, 1, discount=0.9, alpha=1.0, n_steps=2)
    generator = torch.Generator().manual_seed(0)
    fill(buffer, 4, 1, generator)
    assert buffer.priority.flatten().tolist() == [1, 1, 1, 0], "the newest transition has no complete 2-step return yet"
    batch = buffer.sample(64)
    buffer.update_priorities(batch, torch.full((64,), 7.0))
    assert float(buffer.max_priority) == pytest.approx(7.0)
    no = torch.tensor([False])
    buffer.add(torch.tensor([900]), torch.tensor([0]), Step(torch.tensor([901]), torch.zeros(1), no, no))
    seven = pytest.approx(7.0)
    assert buffer.priority.flatten().tolist() == [0, seven, seven, seven], (
        "row 0 is new; the return of row 3 is now complete"
    )
    assert 0 not in buffer.sample(200).index


def test_transitions_without_td_error_keep_a_positive_priority():
    buffer = ReplayBuffer(3, 1, discount=0.9, alpha=1.0)
    fill(buffer, 3, 1, torch.Generator().manual_seed(0))
    buffer.update_priorities(buffer.sample(100), torch.zeros(100))
    assert buffer.priority.gt(0).all()


@pytest.mark.parametrize("alpha", [0.0, 0.6])
def test_the_buffer_resumes_from_its_state(alpha):
    def new():
        return ReplayBuffer(5, 2, discount=0.9, n_steps=2, alpha=alpha)

    buffer, other = new(), new()
    fill(buffer, 7, 2, torch.Generator().manual_seed(0))
    buffer.update_priorities(buffer.sample(10), torch.randn(10))
    other.load_state_dict({k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in buffer.state_dict().items()})
    for one in (buffer, other):
        fill(one, 2, 2, torch.Generator().manual_seed(1))
    torch.manual_seed(3)
    first = buffer.sample(30)
    torch.manual_seed(3)
    assert all(torch.equal(a, b) for a, b in zip(first, other.sample(30), strict=True))


def test_a_buffer_with_too_few_rows_is_rejected():
    with pytest.raises(ValueError, match="must hold at least n steps, got 2 rows, n=3"):
        ReplayBuffer(2, 1, discount=0.9, n_steps=3)
