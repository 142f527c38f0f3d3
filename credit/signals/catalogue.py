"""Every signal by name, and who makes it. A provider of this package is one file here and one line in `BUILT_IN`."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from credit.checks import member_name
from credit.signals.answers import answers
from credit.signals.contract import Signal, provided_by
from credit.signals.given import span_rewards_of_rows, token_ids
from credit.signals.offline import offline_values
from credit.signals.prompt import prompt_keys
from credit.signals.reference import reference
from credit.signals.reward_model import policy_as_reward_model
from credit.signals.statistics import token_statistics
from credit.signals.teacher import no_teacher
from credit.signals.turns import rows_finished, turn_numbers, turn_rewards, turn_states, visible_tokens

# Asked before scoring, each only if a member asks for what it makes.
BUILT_IN: tuple[Any, ...] = (
    token_ids,
    span_rewards_of_rows,
    *(turn_numbers, turn_rewards, turn_states, rows_finished, visible_tokens),
    token_statistics,
    reference,
    policy_as_reward_model,
    prompt_keys,
    no_teacher,
    offline_values,
    answers,
)

# What there is without a provider: facts of the batch, what the strategy itself makes of them, and what comes of a critic, of
# the KL penalty and of the live forward pass.
_OF_BATCH: dict[str, Signal] = {
    "rewards_B": Signal(
        "(B,)",
        "both",
        "weighted sum over reward functions; NaN where every function abstained; plus the row's kl_rewards_BT if KL is reward and "
        "no member takes it by token",
    ),
    "rewards_BK": Signal("(B, K)", "scoring", "raw value of each reward function; NaN where it abstained"),
    "reward_weights_K": Signal("(K,)", "scoring", "weight of each reward function (TRL's `reward_weights`)"),
    "group_B": Signal("(B,) int64", "scoring", "prompt group of each row; rows of one group need not be adjacent"),
    "advantages_B": Signal("(B,)", "both", "what the baseline made of the rewards; 0 for unscorable rows"),
    "mask_BT": Signal("(B, T) bool", "both", "tokens the policy wrote and that may learn (no padding, no tool text)"),
    "lengths_B": Signal("(B,) int64", "both", "mask_BT.sum(1)"),
    "max_length": Signal("int", "both", "L_max, the longest completion the run allows (`max_completion_length`)"),
}
_OF_PASSES: dict[str, Signal] = {
    "token_rewards_BT": Signal(
        "(B, T)",
        "both",
        "the outcome by token: advantages_B at the last learning token, plus kl_rewards_BT if KL is reward",
    ),
    "kl_rewards_BT": Signal("(B, T)", "both", "-beta (sampler_logps - ref_logps), collected under kl_in_reward"),
    "scoring_values_BT": Signal(
        "(B, T)", "scoring", "critic's V(s_t) before any update; costs a forward pass unless TRL makes its own"
    ),
    "policy_logps_BT": Signal("(B, T)", "loss", "log-prob of each token under the live policy, detached"),
    "sampler_logps_BT": Signal("(B, T)", "loss", "log-prob of each token under the policy that sampled it"),
    "entropies_BT": Signal("(B, T)", "loss", "entropy (nats) of the live policy before each token, detached"),
    "values_BT": Signal("(B, T)", "loss", "critic's V(s_t) before each token, detached"),
}
FACTS: dict[str, Signal] = _OF_BATCH | _OF_PASSES
SIGNALS: dict[str, Signal] = (
    _OF_BATCH | {name: one for made in BUILT_IN for name, one in provided_by(made).items()} | _OF_PASSES
)


def catalogue_of(providers: Iterable[Any]) -> dict[str, Signal]:
    """All signals where these providers are named beside the built-in ones.

    Raises:
        ValueError: one is no provider, makes what is a fact of the batch, or what another one makes.
    """
    found, makers = dict(SIGNALS), {}
    for provider in providers:
        for name, one in provided_by(provider).items():
            if name in FACTS:
                raise ValueError(
                    f"The provider {member_name(provider)} makes {name}, which every run has. Give it another name."
                )
            if name in makers:
                raise ValueError(
                    f"The providers {makers[name]} and {member_name(provider)} both make {name}. Take one of them out."
                )
            found[name], makers[name] = one, member_name(provider)
    return found


def makers_of(wanted: frozenset[str], providers: Sequence[Any]) -> list[tuple[Any, frozenset[str]]]:
    """(provider, what it is to make) of each that makes something wanted. A provider that a strategy names takes the place of the
    built-in one; the order is the same on every rank.

    Raises:
        ValueError: nobody makes what is wanted.
    """
    found, left = [], set(wanted)
    for provider in (*providers, *BUILT_IN):
        mine = frozenset(provided_by(provider)) & left
        if mine and (refusal := getattr(provider, "refusal", "")):
            raise ValueError(f"{', '.join(sorted(mine))} is asked for, {refusal}.")
        if mine:
            found.append((provider, mine))
            left -= mine
    return found


def statistics_of(makers: Iterable[tuple[Any, frozenset[str]]]) -> frozenset[str]:
    """What they will ask `rows.policy_pass` for, as far as they say."""
    found: set[Any] = set()
    for provider, wanted in makers:
        announced: Any = getattr(provider, "statistics", ())
        found |= {*announced(wanted)} if callable(announced) else {*announced}  # type: ignore[misc]
    return frozenset(found)


def signal_hint(name: str, known: Mapping[str, Signal]) -> str:
    """A hint for a name that is no signal; empty if nothing is near."""
    near = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else "."
