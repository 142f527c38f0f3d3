"""Every text of a world, written down once, whatever the policy: tokens, masks, rewards, states, chances.

Shapes: N texts of all prompts (one after the other), T tokens, K reward functions, S states at which the policy acts.
Padded positions hold token 0, mask False, state -1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lab.exact.world import END, Text, World

MAX_TEXTS = 600_000


@dataclass
class Tree:
    """The enumeration of a world.

    Attributes:
        prompt_N: int64 index of the prompt; token_ids_NT: int64; mask_NT: bool, tokens the policy wrote.
        lengths_N: int64, learning tokens; written_NT: bool, all tokens, the environment's too.
        chance_N: probability of the environment's tokens given the policy's.
        rewards_N, rewards_NK: float64. span_rewards_NT: float64, see `World`; else the whole reward on the last
            learning token. deciding_NT: bool.
        shown_NT: int64 key of what the policy was shown when the token's turn began, -1 where the mask is False.
        finished_N: bool, the text ended by itself.
        answer_N: int64 index of the action that is the text's right answer, -1 in worlds without.
        state_NT: int64 index of the prefix before the token, -1 where the policy does not act.
        node_NT: int64 index of the prefix *after* the token in a numbering of all prefixes; root_N: the prompt's own.
        tilt_SA: the world's tilt of each state's logits. allowed_SA: bool, actions open to the policy.
        actions_NT: int64 index of the action taken, 0 elsewhere.
    """

    world: World
    prompt_N: Tensor
    token_ids_NT: Tensor
    mask_NT: Tensor
    written_NT: Tensor
    chance_N: Tensor
    rewards_N: Tensor
    rewards_NK: Tensor
    span_rewards_NT: Tensor
    deciding_NT: Tensor
    shown_NT: Tensor
    finished_N: Tensor
    answer_N: Tensor
    state_NT: Tensor
    node_NT: Tensor
    root_N: Tensor
    tilt_SA: Tensor
    allowed_SA: Tensor
    nodes: int

    @property
    def lengths_N(self) -> Tensor:
        return self.mask_NT.sum(dim=1)

    @property
    def actions_NT(self) -> Tensor:
        return self.token_ids_NT.masked_fill(~self.mask_NT, 0)

    def only_allowed(self, logits_NTA: Tensor) -> Tensor:
        """The logits with -inf for actions that are not open."""
        return logits_NTA.masked_fill(~self.allowed_SA[self.state_NT.clamp(min=0)], -torch.inf)

    @property
    def before_NT(self) -> Tensor:
        """Node index of the prefix before each token."""
        return torch.cat([self.root_N[:, None], self.node_NT[:, :-1]], dim=1)


def grow(world: World) -> Tree:
    """Enumerates a world.

    Raises:
        ValueError: more than MAX_TEXTS texts; shrink the vocabulary or the length.
    """
    ids = {token: i for i, token in enumerate(world.vocabulary)}
    nodes: dict[tuple[int, Text], int] = {}
    states: dict[tuple[int, Text], int] = {}
    tilts: list[list[float]] = []
    allowed: list[list[bool]] = []
    texts: list[tuple[int, Text, list[bool], float]] = []

    def visit(prompt: int, text: Text, mask: list[bool], chance: float) -> None:
        nodes[prompt, text] = len(nodes)
        name = world.prompts[prompt]
        outcomes = world.observe(name, text)
        if outcomes is not None:
            for token, probability in outcomes.items():
                visit(prompt, (*text, token), [*mask, False], chance * probability)
        elif world.is_complete(text):
            if len(texts) >= MAX_TEXTS:
                raise ValueError(
                    f"World {world.name!r} has more than {MAX_TEXTS} texts; use fewer tokens or shorter texts."
                )
            texts.append((prompt, text, mask, chance))
        else:
            states[prompt, text] = len(states)
            tilt = world.tilt(name, text)
            tilts.append([tilt.get(action, 0.0) for action in world.actions])
            open_actions = world.allowed(text)
            allowed.append([action in open_actions for action in world.actions])
            for action in open_actions:
                visit(prompt, (*text, action), [*mask, True], chance)

    for prompt in range(len(world.prompts)):
        visit(prompt, (), [], 1.0)

    width = max(len(text) for _, text, _, _ in texts)
    rewards, spans, deciding = [], [], []
    for prompt, text, mask, _ in texts:
        name = world.prompts[prompt]
        reward = world.reward(name, text)
        reward = reward if isinstance(reward, tuple) else (reward,)
        rewards.append(reward)
        last = max(i for i, learns in enumerate(mask) if learns)
        at_last = [sum(reward) if i == last else 0.0 for i in range(len(text))]
        spans.append(world.span_rewards(name, text) if world.span_rewards else at_last)
        chosen = world.deciding(name, text)
        deciding.append([i in chosen and mask[i] for i in range(len(text))])

    def table(rows, fill, dtype) -> Tensor:
        return torch.tensor([[*row, *[fill] * (width - len(row))] for row in rows], dtype=dtype)

    def prefixes(lookup, shift: int) -> Tensor:
        rows = [[lookup.get((p, text[: i + shift]), -1) for i in range(len(text))] for p, text, _, _ in texts]
        return table(rows, -1, torch.long)

    mask_NT = table([mask for _, _, mask, _ in texts], False, torch.bool)
    keys: dict[object, int] = {}
    shown = [_shown(world, world.prompts[prompt], text, mask, keys) for prompt, text, mask, _ in texts]
    rewards_NK = torch.tensor(rewards, dtype=torch.float64)
    return Tree(
        world=world,
        prompt_N=torch.tensor([prompt for prompt, _, _, _ in texts]),
        token_ids_NT=table([[ids[token] for token in text] for _, text, _, _ in texts], 0, torch.long),
        mask_NT=mask_NT,
        written_NT=table([[True] * len(text) for _, text, _, _ in texts], False, torch.bool),
        chance_N=torch.tensor([chance for _, _, _, chance in texts], dtype=torch.float64),
        rewards_N=rewards_NK.sum(dim=1),
        rewards_NK=rewards_NK,
        span_rewards_NT=table(spans, 0.0, torch.float64),
        deciding_NT=table(deciding, False, torch.bool),
        shown_NT=table(shown, -1, torch.long),
        finished_N=torch.tensor([END in text or END not in world.vocabulary for _, text, _, _ in texts]),
        answer_N=torch.tensor(
            [ids[world.answer(world.prompts[p], text)] if world.answer else -1 for p, text, _, _ in texts]
        ),
        state_NT=prefixes(states, 0).masked_fill(~mask_NT, -1),
        node_NT=prefixes(nodes, 1),
        root_N=torch.tensor([nodes[prompt, ()] for prompt, _, _, _ in texts]),
        tilt_SA=torch.tensor(tilts, dtype=torch.float64),
        allowed_SA=torch.tensor(allowed),
        nodes=len(nodes),
    )


def _shown(world: World, prompt: str, text: Text, mask: list[bool], keys: dict[object, int]) -> list[int]:
    """For each learning token a number for what the policy was shown when its turn began, -1 elsewhere."""
    found, current = [], -1
    for i, learns in enumerate(mask):
        if learns and (i == 0 or not mask[i - 1]):
            since = next((j for j in range(i, 0, -1) if mask[j - 1]), 0)
            key = world.state_key(prompt, text[:i]) if world.state_key else text[since:i]
            current = keys.setdefault(key, len(keys))
        found.append(current if learns else -1)
    return found
