"""What a strategy costs beside TRL's own loop, as its card says it."""

from __future__ import annotations

from credit.checks import member_name
from credit.strategy import Strategy

COSTS = {
    "values_BT": "a critic: a value head on the policy's own forward pass, or a model of its own",
    "entropies_BT": "entropies: TRL's forward pass has them",
    "policy_logps_BT": "log-probs of the live policy: the forward pass has them",
    "sampler_logps_BT": "log-probs of the sampler: TRL stores them when batches are reused",
    "scoring_values_BT": "a critic's values before any update: a forward pass, unless TRL makes its own",
    "token_ids_BT": "token ids of all ranks, gathered at scoring time",
    "span_rewards_BT": "rewards that say where they were earned",
    "teacher_logps_BT": "a teacher's log-probs: a forward pass over what it is told and the completion; its own memory, unless it is the "
    "policy",
    "ref_logps_BT": "log-probs of the policy that the run started from: a forward pass without gradient, and a frozen copy of it, "
    "unless it has an adapter or TRL keeps a reference",
    "prompt_B": "a key and two numbers of each prompt seen, in every checkpoint; measured after 64 earlier batches of the policy",
    **dict.fromkeys(
        ("scoring_logps_BT", "scoring_entropies_BT", "scoring_sum_sq_BT", "reward_model_logps_BT"),
        "statistics of all tokens before any update: one forward pass without gradient, shared, unless TRL makes its own",
    ),
}


def costs_of(strategy: Strategy) -> list[str]:
    """Lines of Markdown: when its members run, forward passes, models, memory."""
    lines = []
    where = "in the loss, row by row" if strategy.is_live else "once for each generation batch, at scoring time"
    lines.append(f"- baseline and weight run once for each generation batch, at scoring time; the spread {where}")
    lines += (
        [] if strategy.live_weight is None else ["- the live weight multiplies the weights in the loss, row by row"]
    )
    if strategy.auxiliary is not None:
        lines.append("- the auxiliary's measure is made at scoring time, its term in the loss, row by row")
    needed = list(dict.fromkeys(meaning for name, meaning in COSTS.items() if name in _needs_on_policy(strategy)))
    if strategy.signals:
        needed.append(f"providers of its own: {', '.join(map(member_name, strategy.signals))}")
    lines += [f"- {meaning}" for meaning in needed] or ["- no extra forward pass, no model, no rollouts"]
    lines.append("- memory: two float tensors of (B, T), credit and weight, for the rows of a rank")
    return lines


def _needs_on_policy(strategy: Strategy) -> set[str]:
    """What the strategy reads besides what the token ratio, which TRL computes anyway, reads."""
    reads = strategy.uses_own_ratio or strategy.is_live
    reads |= strategy.live_weight is not None or strategy.auxiliary is not None
    return set(strategy.needs) - (set() if reads else {"policy_logps_BT", "sampler_logps_BT"})
