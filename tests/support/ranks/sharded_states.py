"""Run under torchrun by test_critic_ranks.py: a policy that FSDP2 deals out over two ranks, its states caught by the hook."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from support.tiny import tiny_model
from trainers.critic.hidden_states import PolicyTrunk, decoder_of

if __name__ == "__main__":
    torch.distributed.init_process_group("gloo")
    rank = torch.distributed.get_rank()
    tokens = torch.randint(3, 11, (4, 9), generator=torch.Generator().manual_seed(rank))
    plain, sharded = tiny_model(), tiny_model()
    expected = decoder_of(plain)(tokens).last_hidden_state[:, -6:-1]
    trunk = PolicyTrunk(sharded)  # before sharding, as the trainer does
    mesh = init_device_mesh("cpu", (2,))
    for layer in sharded.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    with trunk.catching(5, lambda states, rows: states) as caught:
        loss = sharded(tokens).logits.square().mean()
    assert torch.allclose(caught[0], expected, atol=1e-6), "states are not whole"
    (loss + caught[0].square().mean()).backward()  # gradients shared with the trunk go through FSDP's own backward
    assert all(hasattr(p, "full_tensor") and p.grad is not None for p in sharded.model.layers.parameters())
    torch.distributed.destroy_process_group()
