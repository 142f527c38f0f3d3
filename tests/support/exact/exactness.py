"""The exactness promise, tried on a strategy: batches in which something of everything happens, the ways to cut them, and
which of the ways changed the gradient. Used by
tests/trainers/seam/test_exactness.py on one process, and on two by support/ranks/exactness.py."""

from __future__ import annotations

import copy
import logging
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass, replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from transformers.utils import logging as transformers_logging

from credit.signals.teacher import ModelTeacher
from credit.strategy import Strategy
from rewards.text.spans import Span
from support.exact.replay import FixedRollouts, flat, replay_gradients
from support.exact.trainer_options import RESERVED, required_options
from support.tiny import tiny_model, tiny_tokenizer

FLOAT32 = 1e-5  # relative to the gradient, or to 1 % of what the tokens push in all, if that is more
EOS, FIRST, LAST = 1, 3, 10
GROUP = 4
STEPS = ("on-policy step", "off-policy step (rho != 1)")
# Every batch: two visits of the same rollouts, and between them the policy moves; truncated rows are masked out.
COMMON = dict(
    num_iterations=2,
    max_steps=2,
    drift=(0.05, 0.015),
    mask_truncated_completions=True,
    reward_weights=[1.0, 0.5, -0.3],
    epsilon=0.1,
)
BATCHES = {"clipped": (0, dict(loss_type="grpo")), "with KL": (1, dict(loss_type="dr_grpo", beta=0.04))}
PATIENCE = 120, 20  # seconds for a launch, and for each strategy in it
KL_DEFAULT = 0.04  # for strategies that want the KL in the reward, where nothing else is asked for


def rich_rollouts(seed: int) -> FixedRollouts:
    """Six prompts with four completions each, and in them: several reward functions, one of which abstains here and there, span
    rewards, tool text in the middle, a truncated row, a row of nothing but tool text, a row of one token, an unscorable row, a
    group in which only one row has a reward, a flat group, and lengths from 1 to 11."""
    rng = random.Random(seed)
    rows = 6 * GROUP
    lengths = [rng.randint(2, 9) for _ in range(rows)]
    lengths[0], lengths[1] = 11, 1  # not a multiple of 8: padding has something to do
    ids = [[rng.randint(FIRST, LAST) for _ in range(n - 1)] + [EOS] for n in lengths]
    ids[13] = [rng.randint(FIRST, LAST) for _ in range(6)]  # cut off: no end of text
    tool = [[1] * len(row) for row in ids]
    for row in (2, 5, 12, 22):
        ids[row] = [rng.randint(FIRST, LAST) for _ in range(7)] + [EOS]
        tool[row] = [1, 1, 0, 0, 0, 1, 1, 1]
    tool[17] = [0] * len(ids[17])
    rewards: list[list[float | None]] = []
    for row in range(rows):
        graded = [rng.choice((0.0, 1.0, round(rng.random(), 2))), round(rng.random(), 2), float(row % 3 == 0)]
        rewards.append([None if rng.random() < 0.2 and k == 1 else value for k, value in enumerate(graded)])
    rewards[GROUP : 2 * GROUP] = [[0.4, 0.5, 1.0]] * GROUP  # flat
    rewards[2 * GROUP : 3 * GROUP - 1] = [[None] * 3] * (GROUP - 1)  # one scorable row
    rewards[21] = [None] * 3
    rewards[0], rewards[13], rewards[17] = [1.0, 0.9, 0.0], [0.7, 0.1, 1.0], [0.3, 0.8, 0.0]
    return FixedRollouts(
        prompt_ids=[[rng.randint(FIRST, LAST) for _ in range(rng.randint(1, 4))] for _ in range(6)],
        completion_ids=ids,
        rewards=rewards,
        tool_mask=tool,
        spans=[_spans(row[0], len(own), rng) for row, own in zip(rewards, ids, strict=True)],
    )


def _spans(score: float | None, length: int, rng: random.Random) -> list[Span]:
    """The reward, earned at two positions. The tiny tokenizer writes a letter and a blank for each token."""
    if score is None or length < 3:
        return []
    places = sorted(rng.sample(range(length - 1), 2))
    return [Span(2 * places[0], 2 * places[0] + 1, score / 4), Span(2 * places[1], 2 * places[1] + 1, 3 * score / 4)]


# ---- gradients


@dataclass
class Found:
    """Gradients of the optimiser steps, and how much the tokens push in all, sum |w A|, in each."""

    gradients: list[Tensor]
    pushes: list[float] = field(default_factory=list)


def options_of(batch: str, strategy: Strategy, given: Mapping[str, object] = {}) -> dict:
    """Trainer options of a batch; `given` has the last word."""
    options = {**COMMON, **BATCHES[batch][1]}
    options |= {**dict(required_options(strategy.requires, options)), **given}
    if strategy.kl_in_reward and not options.get("beta"):
        options["beta"] = KL_DEFAULT
    if strategy.uses_own_ratio:
        options.setdefault("use_bias_correction_kl", False)  # it would read the log-probs that the ratio replaces
    return options


def gradients(
    batch: str, strategy: Strategy, given: Mapping[str, object] = {}, accumulation: int = 1, **changes
) -> Found:
    """Of a fresh copy of the strategy, whose state may grow in training; its critic starts with values other than 0."""
    options = options_of(batch, strategy, given)
    rollouts = changes.pop("rollouts", None) or rich_rollouts(BATCHES[batch][0])
    tokenizer = changes.pop("tokenizer", None) or tiny_tokenizer()
    strategy = changes.pop("wrap", lambda mine: mine)(fresh(strategy))
    steps = changes.get("max_steps", 2)
    pushes = [0.0] * steps

    def observe(trainer, visit):
        pushes[trainer.state.global_step] += float((visit.advantages_BT * visit.weights_BT).abs().sum())

    model = tiny_model()
    if options.get("beta"):
        model.config._name_or_path = reference().name
    with _quiet():
        found = replay_gradients(
            model, tokenizer, rollouts, strategy, accumulation, observe=observe, **(options | changes)
        )
    return Found([flat(each) for each in found], pushes)


@contextmanager
def _quiet():
    """TRL warns of each unscorable row, transformers draws bars: a failure's own words would be lost among them."""
    logger = logging.getLogger("trl.trainer.grpo_trainer")
    level, bars = logger.level, transformers_logging.is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            transformers_logging.enable_progress_bar()


def fresh(strategy: Strategy) -> Strategy:
    strategy = copy.deepcopy(strategy)
    strategy.critic_warmup_steps = 0  # in which the policy stands still
    strategy.requires = {name: wanted for name, wanted in strategy.requires.items() if name not in RESERVED}
    if isinstance(strategy.teacher, ModelTeacher) and strategy.teacher.name is None:
        strategy.teacher.name = teacher().name
    critic = strategy.critic
    if is_dataclass(critic) and "init_std" in {entry.name for entry in fields(critic)}:
        strategy.critic = replace(critic, init_std=0.5)
    return strategy


@cache
def reference() -> tempfile.TemporaryDirectory:
    """A folder with the tiny model: TRL loads the reference policy from there. On several processes: call it before they meet."""
    folder = tempfile.TemporaryDirectory(prefix="exactness")
    with _quiet():
        tiny_model().save_pretrained(folder.name)
    return folder


@cache
def teacher() -> tempfile.TemporaryDirectory:
    """A folder with another tiny model, as `reference`."""
    folder = tempfile.TemporaryDirectory(prefix="teacher")
    with _quiet():
        tiny_model(seed=5).save_pretrained(folder.name)
    return folder


def distance(one: Found, other: Found) -> list[float]:
    """Of each step: the difference, relative to the gradient, or to 1 % of what the tokens push if that is more."""
    result = []
    for a, b, push in zip(one.gradients, other.gradients, one.pushes, strict=True):
        size = max(a.norm().item(), b.norm().item(), 0.01 * push)
        result.append((a - b).norm().item() / size if size else 0.0)
    return result


# ---- ways to cut a batch


@dataclass(frozen=True)
class Way:
    """`run(batch, strategy, given)` -> gradients that must be those of the whole batch. what: for the message; usually: what it
    means when they are not. quick: the batches in which the strategies of this repository are tried (yours in all). first: only
    the first step is comparable."""

    what: str
    usually: str
    run: Callable[[str, Strategy, Mapping], Found]
    quick: Sequence[str] = ("clipped",)
    first: bool = False


def _in_order(batch, strategy, given):
    return gradients(batch, strategy, given, rollouts=rich_rollouts(BATCHES[batch][0]).permuted([2, 5, 0, 3, 1, 4]))


def _padded(batch, strategy, given):
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = tokenizer.unk_token
    return gradients(batch, strategy, given, tokenizer=tokenizer, pad_to_multiple_of=8)


def _in_two_steps(batch, strategy, given):
    """The mean over both steps; the policy stands still in between."""
    found = gradients(batch, strategy, given, 3, steps_per_generation=6, num_iterations=1, drift=(0.05, 0.0))
    return Found([sum(found.gradients) / 2])


def _with_noise(batch, strategy, given):
    return gradients(batch, strategy, given, wrap=_noisy)


def _noisy(strategy: Strategy) -> Strategy:
    """The same strategy, whose members see other numbers at masked positions."""
    call = strategy._call
    provided = {name for _, wanted in strategy.makers() for name in wanted if name.endswith("_BT")}
    arbitrary = {
        "policy_logps_BT",
        "sampler_logps_BT",
        "entropies_BT",
        "values_BT",
        "scoring_values_BT",
    } | (provided - {"span_rewards_BT"})

    def noisy(axis, signals, *rest):
        mask_BT = signals["mask_BT"]
        changed = {
            name: torch.where(mask_BT, signals[name], torch.full_like(signals[name], 7))
            for name in arbitrary
            if name in signals
        }
        return call(axis, {**signals, **changed}, *rest)

    strategy._call = noisy  # type: ignore[method-assign]
    return strategy


WAYS = {
    "repetition": Way(
        "the same batch once more",
        "state outside of the member's object (a global, a class attribute, a file), or random numbers that trainer.seed does not fix.",
        lambda *a: gradients(*a),
    ),
    "accumulation": Way(
        "the batch at once, and in 8 micro-batches",
        "a live spread or ratio looks at the other rows of its micro-batch: a mean, sum, maximum, count or sort over dimension 0. "
        "Do that at scoring time (a member that asks for no signal of the loss sees every row), or row by row.",
        lambda *a: gradients(*a, 8),
        quick=tuple(BATCHES),
    ),
    "padding": Way(
        "the batch as it is, and padded wider with another token",
        "the width T comes in, or what stands behind a row's tokens: T as a length, a mean over dimension 1, a cumsum, flip or "
        "softmax without the mask. Use mask_BT, lengths_B and max_length.",
        _padded,
    ),
    "masked positions": Way(
        "other numbers at padding and tool text",
        "values at masked positions are read: a sum, mean, maximum or cumsum over dimension 1 without the mask. "
        "Use torch.where(mask_BT, ..., 0) first.",
        _with_noise,
        quick=("with KL",),
    ),
    "order": Way(
        "prompts and completions in another order",
        "the place of a row comes in: arange over rows, view(-1, G) instead of group_B, the first row of a group, "
        "a random draw for each row.",
        _in_order,
    ),
    "steps": Way(
        "the batch in one optimiser step, and dealt out over two",
        "the rows of one optimiser step come in, mostly by what breaks accumulation too.",
        _in_two_steps,
        quick=("with KL",),
        first=True,
    ),
}
RANKS = Way(
    "one process and two",
    "the process comes in: its number, a collective of its own, numbers that each process draws for itself. "
    "Or what breaks accumulation, padding or order, too.",
    gradients,
)


class Whole:
    """Gradients of whole batches, made once for each strategy."""

    def __init__(self):
        self._found: dict[tuple[str, str], Found] = {}

    def __call__(self, label: str, batch: str, strategy: Strategy, given: Mapping[str, object] = {}) -> Found:
        if (label, batch) not in self._found:
            self._found[label, batch] = gradients(batch, strategy, given)
        return self._found[label, batch]


def broken_ways(
    batch: str, strategy: Strategy, whole: Found, given: Mapping[str, object] = {}, quick: bool = False
) -> dict[str, str]:
    """Which ways to cut the batch change the gradient: name -> by how much and where. A strategy that is not even the same twice
    is tried no further."""
    found = {}
    for name, way in WAYS.items():
        if quick and batch not in way.quick:
            continue
        if broken := compared(whole, way.run(batch, strategy, given), batch, way):
            found[name] = broken
            if name == "repetition":
                break
    return found


def compared(whole: Found, cut: Found, batch: str, way: Way) -> str:
    """By how much the gradients part, in words; empty where they agree."""
    if way.first:
        whole = Found(whole.gradients[:1], whole.pushes[:1])
    far = {step: d for step, d in zip(STEPS, distance(whole, cut), strict=False) if not d < FLOAT32}
    return "; ".join(f"{100 * d:.2g} % apart in the {step} of batch '{batch}'" for step, d in far.items())


def message(label: str, broken: Mapping[str, Sequence[str]]) -> str:
    """What a user reads. `broken`: name of a way -> where it broke, batch by batch."""
    lines = [f"{label} breaks the exactness promise (allowed: {100 * FLOAT32:g} %)."]
    for name, places in broken.items():
        way = RANKS if name == "ranks" else WAYS[name]
        lines += [
            f"  {name.upper()}: {way.what}.",
            *(f"      {place}" for place in places),
            f"      Usually: {way.usually}",
        ]
    if len(broken) > 1:
        lines.append("  Start with the first; what it mends often mends the others.")
    return "\n".join(lines)


def nothing(founds: Mapping[str, Found]) -> list[str]:
    """Batches in which the strategy moves nothing: no credit on any token, or no gradient."""
    return [
        batch
        for batch, found in founds.items()
        if all(push == 0 or not g.norm() > 1e-6 * push for push, g in zip(found.pushes, found.gradients, strict=True))
    ]


# ---- two processes


def on_two_ranks(jobs: Sequence[dict], folder: Path) -> dict[str, dict | str]:
    """Results of all jobs (support/ranks/exactness.py) from one launch: label -> gradients by batch, or the error it ended with. A job that
    ends a process ends its launch only: the rest is launched again."""
    from support.runs import RANKS, run_ranks

    script = RANKS / "exactness.py"
    found: dict[str, dict | str] = {}
    left = list(jobs)
    while left:
        torch.save(left, folder / "jobs.pt")
        ended = ""
        try:
            run_ranks(script, folder, timeout=PATIENCE[0] + PATIENCE[1] * len(left))
        except AssertionError as error:
            ended = str(error)
        for job in left:
            began, done, failed = (folder / f"{job['number']}.{kind}" for kind in ("began", "pt", "error"))
            if failed.exists():
                found[job["label"]] = failed.read_text(encoding="utf-8")
            elif done.exists():
                found[job["label"]] = torch.load(done)
            elif began.exists():  # it took the processes with it and left no word
                found[job["label"]] = ended
        before, left = left, [job for job in left if job["label"] not in found]
        assert len(left) < len(before), ended
    return found
