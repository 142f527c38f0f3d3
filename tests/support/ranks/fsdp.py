"""train_grpo.py under FSDP2 on gloo processes, launched by test_sharded_runs.py.

accelerate falls back to DDP on the CPU, without a word. It shards there too once it takes the processes for GPUs and the
device for what it is.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed import fsdp


def main() -> None:
    PartialState._prepare_backend = lambda *_, **__: ("gloo", DistributedType.MULTI_GPU)
    PartialState.set_device = lambda state: setattr(state, "device", torch.device("cpu"))
    shard, sharded = fsdp.fully_shard, []
    fsdp.fully_shard = lambda *given, **more: sharded.append(shard(*given, **more)) or sharded[-1]

    from trainers.command.cli import run_verb

    run_verb("train_grpo", "trainers.run.grpo:run_grpo", "trainers.run.grpo:register_schema")
    assert sharded, "FSDP2 dealt nothing out"


if __name__ == "__main__":
    main()
