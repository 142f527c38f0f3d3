"""A game that a real language model can play and enumeration can follow: texts of at most three tokens, `a`, `b` or the end.

Shapes: N texts, T tokens, I items (texts that count as one).
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from credit.critic import HeadSpec
from credit.critic.head import ValueHead
from credit.signals.keys import hashed_ids
from credit.strategy import Strategy
from lab.exact.of_model import OfModel
from lab.exact.quantities import Exact
from lab.exact.tree import grow
from lab.exact.world import END, Text, World
from lab.measure.batches import count_groups, every_batch, every_group, every_row, itemise
from lab.measure.critics import CRITICS
from lab.measure.metrics import direction
from lab.measure.moments import moments
from lab.measure.scoring import Scorer
from rewards.text.spans import Span
from trainers.seam.members import keepers_of

LETTERS, LENGTH = "ab", 3
ROWS, REWARD = "prompts.jsonl", f"{Path(__file__).resolve()}:paid"
FIRST, TWO = 1.0, 0.5


class Paid:
    """1 for the letter that the prompt begins with, in the first place; 0.5 for a text of two letters, which shows at its end."""

    __name__ = "paid"

    def __call__(self, prompts, completions, **columns) -> list[float]:
        rows = zip(prompts, completions, strict=True)
        return [FIRST * text.startswith(prompt[0]) + TWO * (len(text) == 2) for prompt, text in rows]

    def spans(self, prompts, completions, **columns) -> list[list[Span]]:
        found = []
        for prompt, text in zip(prompts, completions, strict=True):
            first = [Span(0, 1, FIRST * (text[0] == prompt[0]))] if text else []
            found.append([*first, *([Span(2, 2, TWO)] if len(text) == 2 else [])])
        return found


paid = Paid()


def world(prompts: int = 2) -> World:
    """The same rules for the lab."""

    def parts(prompt: str, text: Text) -> list[float]:
        letters = "".join(token for token in text if token != END)
        earned = [0.0] * len(text)
        earned[0] += FIRST * letters.startswith(prompt[0])
        earned[-1] += TWO * (len(letters) == 2)
        return earned

    return World(
        name=f"letters, {prompts} prompt{'s'[: prompts - 1]}",
        meaning="",
        prompts=("ab", "ba")[:prompts],
        actions=(END, *LETTERS),
        reward=lambda prompt, text: sum(parts(prompt, text)),
        deciding=lambda prompt, text: set(range(len(text))),
        max_length=LENGTH,
        span_rewards=parts,
    )


def write_model(folder: Path, prompts: int = 2, seed: int = 0, copies: int = 1, **columns) -> Path:
    """A model of some seven hundred parameters in the layout of Hugging Face, and the game's prompts beside it.

    copies: of each prompt. columns: more of the data set, a value for each prompt.
    """
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(LETTERS) + 1, hidden_size=8, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=16, initializer_range=0.25, pad_token_id=0, eos_token_id=0, bos_token_id=None,
        tie_word_embeddings=False,
    )  # fmt: skip
    LlamaForCausalLM(config).float().save_pretrained(folder)
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate((END, *LETTERS))}, unk_token=END))
    core.pre_tokenizer, core.decoder = pre_tokenizers.Split("", "isolated"), decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=core, pad_token=END, eos_token=END).save_pretrained(folder)
    rows = [
        {"prompt": prompt, **{name: values[i] for name, values in columns.items()}}
        for i, prompt in enumerate(world(prompts).prompts)
        for _ in range(copies)
    ]
    (folder / ROWS).write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return folder


def prompt_ids(prompt: str) -> list[int]:
    return [1 + LETTERS.index(letter) for letter in prompt]


def learner_of(folder: Path, prompts: int = 2) -> Exact:
    """The game under the model of a folder."""
    return of_world(world(prompts), folder)


def of_world(rules: World, folder: Path, forgets: bool = False) -> Exact:
    """forgets: its log-probs are those of the model although the rules forbid some tokens."""
    tree, model = grow(rules), AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    ids = {prompt: prompt_ids(prompt) for prompt in rules.prompts}
    learner = Exact(tree, (Forgetful if forgets else OfModel)(tree, model, ids))
    learner.origin = learner  # without run= a policy is its own start
    return learner


class Forgetful(OfModel):
    """The model's own probabilities, whatever the rules forbid: what TRL's log-probs are."""

    def logits(self, theta: Tensor) -> Tensor:
        return self.open_logits(theta)


def words_of(folder: Path, groups: int = 2, generations: int = 4) -> list[str]:
    """Words of `python -m lab.audit` for the game. groups: of a batch; as many as there are rows, so that every batch has all."""
    return [
        *("model=hf", f"model.name={folder}", "task=jsonl", f"task.path={folder / ROWS}", "task.eval_share=0"),
        *(f"reward.funcs=[{REWARD}]", f"trainer.per_device_train_batch_size={groups * generations}"),
        *("trainer.gradient_accumulation_steps=1", f"trainer.num_generations={generations}"),
        *(f"trainer.max_completion_length={LENGTH}", "task.answer_column=null"),
    ]


MOST = {"rows": 10_000, "groups": 50_000, "batch": 10_000}


def exact_numbers(scorer: Scorer, group_size: int) -> dict[str, float] | None:
    """What the audit estimates, by the sum over all batches; None where there are too many."""
    learner = scorer.learner
    coupling = scorer.coupling(learner.prompts, group_size)
    items = itemise(learner, learner, scorer.sees_texts)
    sizes = [count_groups(items, prompt, group_size) for prompt in range(learner.prompts)]
    plan, count = {
        "rows": (every_row, len(items.prob_I)),
        "groups": (every_group, sum(sizes)),
        "batch": (every_batch, math.prod(sizes)),
    }[coupling.level]
    if count > MOST[coupling.level]:
        return None
    found = moments(scorer, items, plan(items, learner.prompts, group_size), coupling)
    return direction(found.mean_D, found.variance, learner) | {"norm": float(found.mean_D.norm())}


def taught(learner: Exact, strategy: Strategy, weights: Mapping[str, Tensor]) -> str:
    """A critic for the lab that is the head with these weights; its name."""
    policy: OfModel = learner.policy  # type: ignore[assignment]
    spec: HeadSpec = strategy.critic  # type: ignore[assignment]
    head = ValueHead(policy.model.config.hidden_size, spec)
    head.load_state_dict({name.removeprefix("head."): value for name, value in weights.items()})
    with torch.no_grad():
        raw = head(policy.states(learner.theta), learner.tree.written_NT)
        values_NT = head.values(raw).double().masked_fill(~learner.tree.mask_NT, 0.0)
    CRITICS["taught"] = lambda exact: values_NT
    return "taught"


def known_to(scorer: Scorer, members: Mapping[str, dict]) -> None:
    """Gives the lab's strategy what an audit's has learned; prompts go by other numbers there."""
    prompts = scorer.learner.tree.world.prompts
    keys = {hashed_ids(prompt_ids(prompt)): hashed_ids([number]) for number, prompt in enumerate(prompts)}
    for part, keeper in keepers_of(scorer.strategy).items():
        state = members[part]
        keeper.load_state_dict(state | {"keys": torch.tensor([keys[int(key)] for key in state["keys"]])})
