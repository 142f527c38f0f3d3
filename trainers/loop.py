"""Credit-assigned GRPO, the whole of it, in one plain file: sample, judge, score, loss, step. Read it from top to bottom.

    python -m trainers.loop                       sums thought aloud: reward from below 0.4 to 0.9 in a minute
    python -m trainers.loop credit=dr_grpo credit/weight=token_mean trainer.max_steps=100
    python -m trainers.loop --help

    loss = - sum_{b,t} w[b,t] min( rho[b,t] A[b,t], clip(rho[b,t], 1 - epsilon, 1 + epsilon) A[b,t] )

A is credit, w >= 0 a measure over tokens, rho the ratio of the policy that learns to the one that sampled. All three are the
credit strategy's (credit/strategy.py); nothing here knows which strategy it is.

The twin of `CreditGRPOTrainer` (trainers/grpo.py), which does the same inside of TRL's trainer, in micro-batches and on many
processes: tests/trainers/test_loop.py compares their gradients for every strategy. Steps have the numbers that they have there.
Left out is what makes a run and not a gradient: evaluation, checkpoints, records, the guard around rewards, tools, adapters.

Shapes:
    B  completions of a batch, G for each prompt       P  prompt tokens, left-padded         K  reward functions
    V  vocabulary       D  width of a hidden state     T  completion tokens, right-padded    S  both, P + T
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from torch.nn.utils.rnn import pad_sequence

from credit.batch import Credit, Rollout
from credit.strategy import Strategy
from trainers.critic.plain import plain_critic
from trainers.model.prompts import prompt_ids
from trainers.seam.token_spans import span_rewards
from trainers.signals.plain import PlainRows, plain_signals, prepare_providers


class Batch(NamedTuple):
    """Prompts, and what the policy wrote after them. Masks are bool, False at padding."""

    prompt_ids_BP: Tensor
    prompt_mask_BP: Tensor
    token_ids_BT: Tensor
    written_BT: Tensor
    mask_BT: Tensor  # what learns: all that was written, except for texts that were cut off, if they are masked out
    columns: dict[str, list]  # the data set's other columns, for providers of signals


def train(model, tokenizer, rows: list[dict], rewards, strategy: Strategy, args) -> None:
    """Trains `model` in place and says how it goes.

    Args:
        rows: "prompt", and the columns that the rewards read.
        rewards: `funcs`, in TRL's form, and for each its `weights` and `names`.
        args: settings by the names they have in TRL's `GRPOConfig`; those that are read stand in configs/loop.yaml.
    """
    reference = copy.deepcopy(model) if args.beta or strategy.holds_start else None
    critic = plain_critic(strategy, model)
    prepare_providers(strategy, model)
    adam = {"lr": args.learning_rate, "betas": (0.9, args.adam_beta2), "weight_decay": 0.0}
    optimizer = torch.optim.AdamW(model.parameters(), **adam)
    drawn, seen, started = endless(rows), [], time.perf_counter()
    for step in range(args.max_steps):
        if step % args.num_iterations == 0:  # a batch is used that often; after the first time rho is no longer 1
            prompts = [next(drawn) for _ in range(args.per_device_train_batch_size // args.num_generations)]
            asked = [row for row in prompts for _ in range(args.num_generations)]
            batch = sample(model, tokenizer, asked, args)
            rollout = judge(batch, tokenizer, asked, rewards, args)
            looked_at = PlainRows(model, reference, batch, rollout, asked, tokenizer, args.temperature)
            credit, signals = score(model, reference, critic, strategy, batch, rollout, looked_at, args)
        policy_logps_BT, entropies_BT, states_BTD = forward(model, batch, args.temperature)
        signals |= {"policy_logps_BT": policy_logps_BT.detach(), "entropies_BT": entropies_BT.detach()}
        loss = loss_of(strategy, credit, signals, policy_logps_BT, args)
        if critic is not None:
            critic.fit(states_BTD.detach(), batch.written_BT, strategy.outcome(signals), signals)
        optimizer.zero_grad()
        loss.backward()
        norm = clip_grad_norm_(model.parameters(), args.max_grad_norm)
        if step >= strategy.critic_warmup_steps:
            optimizer.step()
        seen.append(rollout)
        if step + 1 in (1, args.max_steps) or (step + 1) % args.logging_steps == 0:
            say(step + 1, seen, rewards, norm, time.perf_counter() - started)
            seen.clear()


def endless(rows: list[dict]) -> Iterator[dict]:
    """All rows in random order, then all in another."""
    while True:
        yield from (rows[place] for place in torch.randperm(len(rows)))


@torch.no_grad()
def sample(model, tokenizer, asked: list[dict], args) -> Batch:
    """[Step 1] One completion for each row, to its end of text or to L_max tokens."""
    prompts = [torch.tensor(prompt_ids(row["prompt"], tokenizer)) for row in asked]
    left = {"batch_first": True, "padding_side": "left"}
    prompt_ids_BP = pad_sequence(prompts, padding_value=tokenizer.pad_token_id, **left)
    prompt_mask_BP = pad_sequence([torch.ones_like(ids, dtype=torch.bool) for ids in prompts], **left)
    plainly = {"do_sample": True, "temperature": args.temperature, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    whole_BS = model.generate(
        prompt_ids_BP,
        attention_mask=prompt_mask_BP.long(),
        max_new_tokens=args.max_completion_length,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        **plainly,
    )
    token_ids_BT = whole_BS[:, prompt_ids_BP.shape[1] :]
    end_BT = token_ids_BT == tokenizer.eos_token_id
    # The end of text was written too: it is a decision, and learns. What follows it is padding.
    written_BT = end_BT.cumsum(dim=1) - end_BT.long() == 0
    mask_BT = written_BT & end_BT.any(dim=1, keepdim=True) if args.mask_truncated_completions else written_BT
    columns = {name: [row.get(name) for row in asked] for name in asked[0] if name != "prompt"}
    return Batch(prompt_ids_BP, prompt_mask_BP, token_ids_BT, written_BT, mask_BT, columns)


def judge(batch: Batch, tokenizer, asked: list[dict], rewards, args) -> Rollout:
    """[Step 2] What each row earned, from which function, and at which token.

    A function may abstain from a row (None). The reward of a row from which all abstain is NaN: it learns nothing, and no
    other row is compared with it."""
    ids = [row[written].tolist() for row, written in zip(batch.token_ids_BT, batch.written_BT, strict=True)]
    prompts, texts = [row["prompt"] for row in asked], tokenizer.batch_decode(ids, skip_special_tokens=True)
    columns = batch.columns
    given_KB = [func(prompts=prompts, completions=texts, completion_ids=ids, **columns) for func in rewards.funcs]
    if wrong := [given for given in given_KB if len(given) != len(asked)]:
        raise ValueError(f"a reward function returned {len(wrong[0])} values for {len(asked)} completions.")
    rewards_BK = torch.tensor([[math.nan if one is None else float(one) for one in given] for given in given_KB]).T
    weights_K = torch.tensor(rewards.weights)
    earned = span_rewards(rewards.funcs, rewards.weights, rewards_BK.tolist(), tokenizer, prompts, texts, ids, columns)
    return Rollout(
        rewards_B=(rewards_BK * weights_K).nansum(dim=1).masked_fill(rewards_BK.isnan().all(dim=1), math.nan),
        rewards_BK=rewards_BK,
        reward_weights_K=weights_K,
        group_B=torch.arange(len(asked)) // args.num_generations,
        mask_BT=batch.mask_BT,
        max_length=args.max_completion_length,
        token_ids_BT=batch.token_ids_BT,
        span_rewards_BT=pad_sequence([torch.tensor(row) for row in earned], batch_first=True),
    )


def forward(model, batch: Batch, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Of each completion token: its log-prob (B, T), and the entropy (B, T) and hidden state (B, T, D) before it."""
    tokens_BS = torch.cat([batch.prompt_ids_BP, batch.token_ids_BT], dim=1)
    read_BS = torch.cat([batch.prompt_mask_BP, batch.written_BT], dim=1).long()
    output = model(tokens_BS, attention_mask=read_BS, output_hidden_states=True, use_cache=False)
    before = slice(-batch.token_ids_BT.shape[1] - 1, -1)  # a token is foretold one place before its own
    logps_BTV = (output.logits[:, before] / temperature).log_softmax(dim=-1)
    logps_BT = logps_BTV.gather(-1, batch.token_ids_BT[..., None]).squeeze(-1)
    entropies_BT = -(logps_BTV.exp() * logps_BTV).sum(dim=-1)
    return logps_BT, entropies_BT, output.hidden_states[-1][:, before]


@torch.no_grad()
def score(
    model, reference, critic, strategy: Strategy, batch: Batch, rollout: Rollout, looked_at: PlainRows, args
) -> tuple[Credit, dict]:
    """What looks at other rows, once for each batch: baseline, weight, and a spread that can do without the live pass. And the
    signals, by name (credit/batch.py), for the members that run in the loss. `looked_at`: the rows, as makers of signals see them."""
    # [Step 3] The policy has not moved since it sampled.
    sampler_logps_BT, _, states_BTD = forward(model, batch, args.temperature)
    more = {"sampler_logps_BT": sampler_logps_BT}
    if reference is not None:
        more["ref_logps_BT"], _, _ = forward(reference, batch, args.temperature)
    rollout = rollout.with_provided(plain_signals(strategy, looked_at))
    if strategy.kl_in_reward:  # the penalty belongs to the reward; else the loss has a term of its own for it
        rollout = replace(rollout, kl_rewards_BT=-args.beta * (sampler_logps_BT - more["ref_logps_BT"]))
    advantages_B = strategy.advantages(rollout)
    if critic is not None:
        outcome_BT = strategy.outcome({**rollout.signals(), "advantages_B": advantages_B})
        more["values_BT"] = critic.values(states_BTD, batch.written_BT, rollout, advantages_B, outcome_BT)
        rollout = replace(rollout, scoring_values_BT=more["values_BT"])
    # [Step 4] Here, and only here, is the whole batch in sight.
    return strategy.score(rollout, advantages_B), {**rollout.signals(), "advantages_B": advantages_B, **more}


def loss_of(strategy: Strategy, credit: Credit, signals: dict, policy_logps_BT: Tensor, args) -> Tensor:
    """The formula at the top, and the KL term. `policy_logps_BT` has its graph; of what the signals hold nothing has."""
    mask_BT = signals["mask_BT"]
    # [Step 7] A spread, or a factor on the weights, that reads the live pass sees each row by itself.
    advantages_BT = strategy.live_advantages(signals) if strategy.is_live else credit.advantages_BT
    log_rho_BT = strategy.log_ratio(signals).masked_fill(~mask_BT, 0.0)
    # [Step 9] Whatever ratio the strategy has, its gradient is that of the token's own log-prob.
    rho_BT = (log_rho_BT + policy_logps_BT - policy_logps_BT.detach()).exp()
    # [Step 10] Credit and weight meet here for the first time.
    clipped_BT = rho_BT.clamp(1 - args.epsilon, 1 + args.epsilon)
    weights_BT = (
        credit.weights_BT if strategy.live_weight is None else credit.weights_BT * strategy.live_weights(signals)
    )
    loss = -(weights_BT * torch.minimum(rho_BT * advantages_BT, clipped_BT * advantages_BT)).sum()
    if strategy.auxiliary is not None:
        terms_BT = strategy.auxiliary_terms({**signals, "policy_logps_BT": policy_logps_BT})
        loss = loss + (credit.auxiliary_BT * terms_BT).sum()
    if args.beta and not strategy.kl_in_reward:  # an estimate of KL(policy || reference), over B L_max as in TRL
        ahead_BT = signals["ref_logps_BT"] - policy_logps_BT
        kl_BT = (policy_logps_BT - signals["sampler_logps_BT"]).exp() * (ahead_BT.exp() - ahead_BT - 1)
        loss = loss + args.beta * kl_BT[mask_BT].sum() / (len(kl_BT) * args.max_completion_length)
    return loss


def say(step: int, seen: list[Rollout], rewards, norm: Tensor, seconds: float) -> None:
    """A line for a person: mean reward, of each function too, and length, of the steps since the last line."""
    means_K = torch.cat([rollout.rewards_BK for rollout in seen]).nanmean(dim=0).tolist()
    parts = [f"{name} {mean:.3f}" for name, mean in zip(rewards.names, means_K, strict=True)]
    reward = torch.cat([rollout.rewards_B for rollout in seen]).nanmean()
    length = torch.cat([rollout.lengths_B for rollout in seen]).float().mean()
    print(
        f"step {step:4}  reward {reward:.3f} ({', '.join(parts)})  length {length:.1f}  gradient {norm:.3f}  {seconds:3.0f} s",
        flush=True,
    )


if __name__ == "__main__":
    from trainers.command.cli import run_verb

    run_verb("loop", "trainers.command.loop:run_loop")
