"""Mini-batches: every sample once per pass, in an order that depends only on the seed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common import distributed
from common.data.batches import Batches


@given(size=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.integers(0, 9))
def test_a_pass_yields_each_sample_once_and_keeps_pairs_together(size, batch_size, seed):
    values = torch.arange(size)
    batches = Batches(values, values * 10, batch_size=batch_size, generator=torch.Generator().manual_seed(seed))
    seen = list(batches)
    assert len(seen) == len(batches)
    assert all(len(a) == batch_size for a, _ in seen[:-1])
    assert sorted(torch.cat([a for a, _ in seen]).tolist()) == list(range(size))
    assert all(torch.equal(a * 10, b) for a, b in seen)


def test_order_depends_on_the_seed_and_changes_each_pass():
    def passes(seed):
        batches = Batches(torch.arange(50), batch_size=50, generator=torch.Generator().manual_seed(seed))
        return [next(iter(batches))[0].tolist() for _ in range(2)]

    assert passes(1) == passes(1)
    assert passes(1) != passes(2)
    assert passes(1)[0] != passes(1)[1]


def test_without_generator_the_order_is_the_stored_one():
    (batch,) = next(iter(Batches(torch.arange(9), batch_size=4)))
    assert batch.tolist() == [0, 1, 2, 3]


def test_batch_size_zero():
    with pytest.raises(ValueError, match="--batch-size must be at least 1, got 0"):
        Batches(torch.arange(3), batch_size=0)


@given(size=st.integers(1, 50), batch_size=st.integers(1, 20), world=st.integers(1, 4))
def test_processes_share_each_batch_equally(size, batch_size, world):
    def share(rank):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(distributed, "world_size", lambda: world)
            patch.setattr(distributed, "rank", lambda: rank)
            if min(batch_size, size) < world:
                with pytest.raises(ValueError, match=f"at least {world}"):
                    Batches(torch.arange(size), batch_size=batch_size)
                return []
            batches = Batches(torch.arange(size), batch_size=batch_size, generator=torch.Generator().manual_seed(0))
            shares = [batch.tolist() for (batch,) in batches]
            assert len(shares) == len(batches)
            return shares

    shares = [share(rank) for rank in range(world)]
    for parts in zip(*shares, strict=True):
        assert len({len(part) for part in parts}) == 1
        assert len(parts[0]) > 0
        assert len({sample for part in parts for sample in part}) == world * len(parts[0])
    if min(batch_size, size) >= world:
        lost = size - sum(len(part) for rank in shares for part in rank)
        assert 0 <= lost <= (world - 1) * -(-size // batch_size)


@pytest.mark.gpu
def test_tensors_move_to_the_gpu_once_in_the_order_of_the_cpu():
    tensor = torch.arange(100)
    order = [
        Batches(tensor, batch_size=100, device=d, generator=torch.Generator().manual_seed(3)) for d in ("cpu", "cuda")
    ]
    (cpu,), (gpu,) = (next(iter(batches)) for batches in order)
    assert gpu.device.type == "cuda"
    assert torch.equal(cpu, gpu.cpu())
