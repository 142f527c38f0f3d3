"""The settings of `python -m lab.audit`, as those of the other commands stand in commands.py."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class AuditSettings:
    """python -m lab.audit"""

    run: str | None = None
    """A run's folder: its finished model, else its last checkpoint; or one of its checkpoints. Under the run's task, rewards, trainer
    settings and strategy, so far as the command does not say otherwise; null: what model=, task= and the rest say."""
    checkpoints: str | int | list[int] | None = None
    """Several models of the run, an audit of each, then all side by side: steps that it has kept (0,20,40; 0 is its start), or all;
    null: the one model that run= stands for."""
    batches: int | None = None
    """Generation batches of the policy, which does not move. With more of them the same command goes on. null: 32, or all that
    completions= fills."""
    completions: str | None = None
    """Completions that are there already, in the place of sampled ones: a table of prompts and completions, or a run's records (its
    folder: the newest of them)."""
    completion_column: str | None = None
    """Of that table, where the completions are, or lists of them; dots lead inside; null: completion, text or completions."""
    recorded_rewards: bool = False
    """Take the rewards that the table has (reward, reward/NAME, or an object of them: rewards, scores) and ask no function."""
    shares: int = 8
    """In how many of them is looked where the update comes from (position, length, turn, reward function); 0: in none."""
    warmup: int = 16
    """Batches that a critic or a member with a memory learns from before, where a strategy has one; then it stands still."""
    parameters: str = "all"
    """Whose gradient: all that is trained, adapter, or a regular expression that is found in the names of parameters."""
    sketch: int | None = 65536
    """Numbers that are kept of a gradient; one with no more than that is kept whole, and null keeps any whole."""
    rows: int | None = None
    """Completions that are put through the model at once; null: trainer.per_device_train_batch_size. With 1, strategies that give all
    tokens of a text the same share one backward pass."""
    tools: list[str] = field(default_factory=list)
    """Functions that the policy may call, as in train_grpo.py."""
    seed: int = 0
    """Of everything that is drawn."""
    audits: str = "audits"
    """Where audits go; the folder below it follows from what is audited."""
    out: str | None = None
    """Or name the folder yourself."""
    overwrite: bool = False
    """Measure again what is there already."""
    processes: int | None = None
    """Stop unless exactly this many processes run; null: do not ask."""
