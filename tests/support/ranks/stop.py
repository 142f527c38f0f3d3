"""Run under torchrun by test_stops.py: a live spread that returns NaN on the second rank only, a live weight that is negative there,
a baseline that remembers something else on each; what is logged of an auxiliary, and what a reward model learns."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[3]), str(Path(__file__).parents[2])]
os.environ["ACCELERATE_USE_CPU"] = "true"
os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"

import torch

from configs.compose import compose_strategy
from credit import Strategy, weight
from credit.methods.auxiliary import LikelihoodOfSuccesses
from support.exact.fixed import made_rollouts
from support.exact.replay import replay_trainer
from support.remembering import RunningMean
from support.tiny import tiny_model, tiny_tokenizer

RANK = int(os.environ.get("RANK", 0))


def lopsided(advantages_B, entropies_BT):
    return advantages_B[:, None] * entropies_BT / (1 - RANK)


def sunken(entropies_BT):
    return entropies_BT - 1e3 * RANK


class OfItsProcess(RunningMean):
    """Remembers the process, too."""

    def __call__(self, rewards_B):
        return super().__call__(rewards_B + RANK)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    cases = {"nan": {"spread": lopsided}, "negative": {"live_weight": sunken}, "memory": {"baseline": OfItsProcess()}}
    found = {name: stopped(Strategy(weight.constant, **members, name="mine")) for name, members in cases.items()}
    found["auxiliary"] = logged_auxiliary()
    found["reward model"] = reward_model_learned()
    (folder / f"rank{RANK}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


def stopped(strategy: Strategy) -> dict:
    """What was said, and after how many steps."""
    with tempfile.TemporaryDirectory() as output:
        trainer = replay_trainer(tiny_model(), tiny_tokenizer(), made_rollouts(0), strategy, output, learning_rate=0.1)
        try:
            trainer.train()
        except ValueError as error:
            return {"message": str(error), "steps": trainer.state.global_step}
    return {"message": "nothing stopped it"}


def logged_auxiliary(accumulation: int = 2) -> list[float]:
    """For each micro-batch of two steps, while the policy learns."""
    strategy = Strategy(weight.constant, auxiliary=LikelihoodOfSuccesses(0.2, 0.3))
    with tempfile.TemporaryDirectory() as output:
        arguments = (tiny_model(), tiny_tokenizer(), made_rollouts(0), strategy, output, accumulation)
        trainer, kept = replay_trainer(*arguments, learning_rate=0.01, max_steps=2), []
        trainer.credit_observers.append(lambda *_: kept.append(trainer._metrics["train"]["credit/auxiliary"]))
        trainer.train()
    return kept[0]


def reward_model_learned(accumulation: int = 2) -> list[float]:
    """Some weights of PRIME's reward model after two batches; on several ranks its state is compared to the bit after each."""
    words = "prime credit/signals=reward_model credit.signals.reward_model.learning_rate=0.01"
    strategy = compose_strategy(f"credit={words}".split())
    with tempfile.TemporaryDirectory() as output:
        arguments = (tiny_model(), tiny_tokenizer(), made_rollouts(0), strategy, output, accumulation)
        replay_trainer(*arguments, learning_rate=0.01, max_steps=2).train()
    (provider,) = strategy.signals
    return provider.state_dict()["weights"]["model.layers.0.self_attn.q_proj.weight"].flatten()[:20].tolist()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
