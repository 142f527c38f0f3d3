"""The biases of bias.py a second time: plain loops over every group of conversations, which share no code with what they check.

The rules of a world are played out by hand (`World.observe`, `World.allowed`), conversations are lists of turns, each credit is
its formula over Python numbers, and the mean update is a sum over every group with its chance. Only the logits that the policy
begins with are the lab's. Every turn of these worlds is one token.

Shapes, of the lab: N texts, T tokens, A actions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations_with_replacement, groupby, pairwise
from typing import NamedTuple

from lab.exact.quantities import exact
from lab.exact.world import World
from lab.exact.worlds import world


class Turn(NamedTuple):
    """One decision: the prefix it was taken at, what was shown before it, the action, and what was earned until the next."""

    state: tuple[str, ...]
    shown: tuple[str, ...]
    action: str
    earned: float


class Talk(NamedTuple):
    """A whole conversation and the chance that it comes about."""

    turns: tuple[Turn, ...]
    chance: float

    def to_go(self, k: int, gamma: float = 1.0) -> float:
        """What turn k and those after it earned, discounted by turn."""
        return sum(gamma**d * turn.earned for d, turn in enumerate(self.turns[k:]))

    @property
    def total(self) -> float:
        """The reward."""
        return self.to_go(0)


Policy = dict[tuple[str, ...], dict[str, float]]
Credit = Callable[[Sequence[Talk], int, int], float]
"""(group, row, turn) -> A, times the row's weight but for a constant."""


def talks_of(rules: World, prompt: str, policy: Policy) -> list[Talk]:
    """Every conversation on a prompt."""
    return [_talk(rules, prompt, text, chance) for text, chance in _played(rules, prompt, policy, (), 1.0)]


def _played(rules: World, prompt: str, policy: Policy, text: tuple, chance: float) -> Iterator[tuple[tuple, float]]:
    outcomes = rules.observe(prompt, text)
    if outcomes is None and rules.is_complete(text):
        yield text, chance
        return
    for token, probability in (policy[(prompt, *text)] if outcomes is None else outcomes).items():
        yield from _played(rules, prompt, policy, (*text, token), chance * probability)


def _talk(rules: World, prompt: str, text: tuple[str, ...], chance: float) -> Talk:
    begun = [i for i in range(len(text)) if rules.observe(prompt, text[:i]) is None]
    assert rules.span_rewards is not None and all(b - a > 1 for a, b in pairwise(begun))
    earned, turns = rules.span_rewards(prompt, text), []
    for k, i in enumerate(begun):
        since = begun[k - 1] + 1 if k else 0
        until = begun[k + 1] if k + 1 < len(begun) else len(text)
        own = sum(earned[i:until]) + (sum(earned[:i]) if k == 0 else 0.0)
        turns.append(Turn((prompt, *text[:i]), text[since:i], text[i], own))
    return Talk(tuple(turns), chance)


def start_of(name: str) -> Policy:
    """prompt and prefix -> chance of each action, of the tabular policy as the lab begins."""
    learner = exact(world(name))
    tree, words = learner.tree, learner.tree.world.vocabulary
    policy: Policy = {}
    for n, prompt in enumerate(tree.prompt_N.tolist()):
        text = [words[token] for token in tree.token_ids_NT[n].tolist()]
        for t in tree.mask_NT[n].nonzero().flatten().tolist():
            logps = learner.action_logps_NTA[n, t].exp().tolist()
            policy[(tree.world.prompts[prompt], *text[:t])] = dict(zip(tree.world.actions, logps, strict=True))
    return policy


def _less_mean(value: float, values: Sequence[float]) -> float:
    return value - sum(values) / len(values)


def _z(value: float, values: Sequence[float], eps: float = 1e-4) -> float:
    mean = sum(values) / len(values)
    return (value - mean) / (math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1)) + eps)


def _rloo(group, b, k):
    return _less_mean(group[b].total, [other.total for j, other in enumerate(group) if j != b])


def _dr_grpo(group, b, k):
    return _less_mean(group[b].total, [each.total for each in group])


def _seq_norm(group, b, k):
    return _z(group[b].total, [each.total for each in group]) / len(group[b].turns)


def _turns(group, b, k):
    held = [each.to_go(min(k, len(each.turns) - 1)) for j, each in enumerate(group) if j != b]
    return _less_mean(group[b].to_go(k), held)


def _turn_discount(group, b, k, gamma=0.7):
    shared = sum(
        turn.earned * gamma ** (m - k) / sum(gamma**d for d in range(m + 1))
        for m, turn in enumerate(group[b].turns)
        if m >= k
    )
    return _dr_grpo(group, b, k) + len(group[b].turns) * shared - group[b].total


def _mt_aae(group, b, k):
    value = _z(group[b].turns[-1].earned, [each.turns[-1].earned for each in group])
    if k + 1 < len(group[b].turns):
        value += _z(group[b].turns[k].earned, [each.turns[k].earned for each in group if len(each.turns) > k])
    return value


def _mt_cae(group, b, k):
    return _z(group[b].to_go(k), [each.to_go(k) for each in group if len(each.turns) > k])


def _mt_to_go(group, b, k):
    return sum(
        _less_mean(turn.earned, [each.turns[m].earned for each in group if len(each.turns) > m])
        for m, turn in enumerate(group[b].turns)
        if m >= k
    )


def _gigpo(group, b, k, by_turns=True, gamma=0.95):
    times = [len(each.turns) if by_turns else 1 for each in group]
    mean = sum(n * each.total for n, each in zip(times, group, strict=True)) / sum(times)
    shown = group[b].turns[k].shown
    alike = [each.to_go(m, gamma) for each in group for m, turn in enumerate(each.turns) if turn.shown == shown]
    return group[b].total - mean + _less_mean(group[b].to_go(k, gamma), alike)


CREDITS: dict[str, Credit] = {
    "rloo": _rloo,
    "turns": _turns,
    "turn_discount": _turn_discount,
    "gigpo, as coded": _gigpo,
    "gigpo, one count a row": lambda *place: _gigpo(*place, by_turns=False),
    "mt_grpo aae": _mt_aae,
    "mt_grpo cae": _mt_cae,
    "mt_grpo to_go": _mt_to_go,
    "dr_grpo": _dr_grpo,
    "seq_norm": _seq_norm,
}


def recounted(name: str, size: int, labels: Sequence[str] = tuple(CREDITS)) -> dict[str, float]:
    """label -> relative bias of the mean update in a world, over all groups of `size` conversations on each prompt."""
    rules, policy = world(name), start_of(name)
    truth: Counter = Counter()
    means: dict[str, Counter] = {label: Counter() for label in labels}
    for prompt in rules.prompts:
        talks = talks_of(rules, prompt, policy)
        for talk in talks:
            _push(truth, policy, talk, [talk.chance * talk.total] * len(talk.turns))
        for group in combinations_with_replacement(talks, size):
            orders = math.factorial(size)
            for _, same in groupby(group, key=id):
                orders //= math.factorial(len(list(same)))
            chance = orders * math.prod(talk.chance for talk in group)
            for label, mean in means.items():
                for b, talk in enumerate(group):
                    credits = [chance * CREDITS[label](group, b, k) for k in range(len(talk.turns))]
                    _push(mean, policy, talk, credits)
    return {label: _relative_bias(mean, truth) for label, mean in means.items()}


def _push(total: Counter, policy: Policy, talk: Talk, credits: Sequence[float]) -> None:
    """Adds credit times the gradient of log pi in the logits: 1 at the action taken, less the chance of each."""
    for turn, credit in zip(talk.turns, credits, strict=True):
        for action, chance in policy[turn.state].items():
            total[turn.state, action] += credit * ((action == turn.action) - chance)


def _relative_bias(mean: Counter, truth: Counter) -> float:
    scale = sum(mean[place] * truth[place] for place in truth) / sum(value**2 for value in truth.values())
    off = sum((mean[place] / scale - truth[place]) ** 2 for place in truth)
    return math.sqrt(off / sum(value**2 for value in truth.values()))
