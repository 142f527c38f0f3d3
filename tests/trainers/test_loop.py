"""The plain loop is the twin of the seam: the same rollouts through both, and the gradients compared."""

from __future__ import annotations

import itertools
import os
import re
import subprocess
import sys
from dataclasses import replace
from inspect import signature
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from transformers import GPT2Config, GPT2LMHeadModel
from trl import GRPOTrainer

from configs.compose import compose_strategy, config_choices
from support.exact.exactness import (
    BATCHES,
    EOS,
    FIRST,
    FLOAT32,
    Found,
    distance,
    fresh,
    gradients,
    options_of,
    rich_rollouts,
)
from support.exact.fixed import made_rollouts
from support.exact.replay import flat, offline_rewards, replay_gradients, right_answer
from support.tiny import tiny_model, tiny_tokenizer
from trainers import loop
from trainers.command import loop as command
from trainers.command.cli import compose_command
from trainers.grpo import CreditGRPOTrainer

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = [f"credit={name}" for name in config_choices("credit")]
MEMBERS = [
    f"credit=dr_grpo credit/{axis}={choice}"
    for axis in ("baseline", "weight", "ratio")
    for choice in config_choices(f"credit/{axis}")
]
MORE = [
    "credit=seq_norm credit.unit_mass=true",
    "credit=rloo credit.kl_in_reward=true",
    "credit=dr_grpo credit/auxiliary=nll",
    "credit=value credit.kl_in_reward=true credit/ratio=sequence",
    "credit=value credit/spread=value_whitened credit.spread.lambda_=0.9",
    "credit=value credit/critic=ridge credit.critic.running=true",
    "credit=value credit.critic.running=true credit.critic.level=true credit.critic.lambda_=0.9 credit.critic.clip_range=0.1",
    "credit=value_prompt credit/critic=decomposition",
]
# Each batch is visited twice, and the policy moves before each step, so that rho is 1 and then is not.
DRIFT = (0.05, *[0.015] * 5)


def rollouts_of(batch: str):
    """The exactness promise's rollouts; the row that was cut off is as long as a row may be, as rows are that a model writes."""
    rollouts = rich_rollouts(BATCHES[batch][0])
    longest = max(map(len, rollouts.completion_ids))
    cut_off = next(b for b, ids in enumerate(rollouts.completion_ids) if ids[-1] != EOS)
    more = [FIRST + place % 3 for place in range(longest - len(rollouts.completion_ids[cut_off]))]
    rollouts.completion_ids[cut_off] += more
    rollouts.tool_mask[cut_off] += [1] * len(more)
    return rollouts


class Given:
    """A reward function of rollouts that come whole and in order."""

    def __init__(self, rollouts, k: int):
        self._rollouts, self._k, self.__name__ = rollouts, k, f"given_{k}"
        if rollouts.spans is not None and k == 0:
            self.spans = lambda prompts, completions, **columns: rollouts.spans

    def __call__(self, prompts, completions, **columns):
        return [row[self._k] if isinstance(row, list) else row for row in self._rollouts.rewards]


def loop_gradients(monkeypatch, model, rollouts, strategy, drift, **options) -> Found:
    """What `replay_gradients` gives of the seam, of `loop.train`: given completions, a learning rate of 0, and the same moves of
    the policy before each step."""
    tokenizer, found, generator = tiny_tokenizer(), [], torch.Generator().manual_seed(0)
    sizes, parameters = iter(drift), dict(model.named_parameters())
    functions = len(rollouts.rewards[0]) if isinstance(rollouts.rewards[0], list) else 1

    def move():
        size = next(sizes, 0.0)
        with torch.no_grad():
            for parameter in parameters.values():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_((size * noise).to(parameter))

    def generate(input_ids, **unused):
        if not found:
            move()
        written = [torch.tensor(ids) for ids in rollouts.completion_ids]
        return torch.cat([input_ids, pad_sequence(written, batch_first=True, padding_value=1)], dim=1)

    def with_tool_text(*arguments):
        batch = sample(*arguments)
        tool = [
            torch.tensor(mask).bool() for mask in rollouts.tool_mask or [[1] * len(i) for i in rollouts.completion_ids]
        ]
        return batch._replace(mask_BT=batch.mask_BT & pad_sequence(tool, batch_first=True))

    def is_policys(optimizer):
        return optimizer.param_groups[0]["params"][0] is next(iter(parameters.values()))

    def before(optimizer, *_):
        if is_policys(optimizer):
            found.append(flat({name: p.grad.clone() for name, p in parameters.items()}))

    def after(optimizer, *_):
        if is_policys(optimizer):
            move()

    sample = loop.sample
    monkeypatch.setattr(loop, "sample", with_tool_text)
    monkeypatch.setattr(loop, "endless", itertools.cycle)
    monkeypatch.setattr(model, "generate", generate)
    hooks = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    settings = dict(
        per_device_train_batch_size=len(rollouts.completion_ids),
        num_generations=rollouts.num_generations,
        max_completion_length=max(8, *map(len, rollouts.completion_ids)),
        num_iterations=2,
        learning_rate=0.0,
        adam_beta2=0.99,
        max_grad_norm=torch.inf,
        beta=0.0,
        temperature=1.0,
        mask_truncated_completions=False,
        logging_steps=1000,
    )
    # Called by number, as in the trainer: a teacher reads what they are called.
    rows = [
        {"prompt": str(p), "offline_rewards": offline_rewards(ids), "answer": right_answer(ids)}
        for p, ids in enumerate(rollouts.prompt_ids)
    ]
    monkeypatch.setattr(loop, "prompt_ids", lambda prompt, _: list(rollouts.prompt_ids[int(prompt)]))
    weights = options.pop("reward_weights", [1.0] * functions)
    funcs = [Given(rollouts, k) for k in range(functions)]
    rewards = SimpleNamespace(funcs=funcs, weights=weights, names=[func.__name__ for func in funcs])
    try:
        loop.train(model, tokenizer, rows, rewards, strategy, SimpleNamespace(**(settings | options)))
    finally:
        for hook in hooks:
            hook.remove()
        monkeypatch.undo()
    return Found(found)


WITH_KL = ["credit=seq_norm", "credit=value", *(words for words in MORE if "kl_in_reward" in words)]
CASES = [(words, "clipped") for words in SHIPPED + MEMBERS + MORE] + [(words, "with KL") for words in WITH_KL]


@pytest.mark.parametrize(("words", "batch"), CASES)
def test_the_gradient_is_that_of_the_trainer(words, batch, monkeypatch):
    """A critic is built and fitted on both sides, each in its own way: it learns of a first batch, is tried on a second, and what
    held there counts in the third."""
    strategy = compose_strategy(words.split())
    steps = 2 if strategy.critic is None else 6
    options = options_of(batch, strategy, {"use_bias_correction_kl": True}) | {"max_steps": steps, "drift": DRIFT}
    if strategy.uses_own_ratio:
        options["use_bias_correction_kl"] = (
            False  # the trainer refuses it there; it matters to a KL term in the loss only
        )
        assert strategy.kl_in_reward or not options.get("beta")
    trainer = gradients(batch, strategy, options, rollouts=rollouts_of(batch), max_steps=steps, drift=DRIFT)
    plain = loop_gradients(monkeypatch, tiny_model(), rollouts_of(batch), fresh(strategy), **options)
    plain.pushes = trainer.pushes
    assert len(plain.gradients) == steps and min(each.norm() for each in trainer.gradients) > 1e-3
    assert max(distance(trainer, plain)) < FLOAT32, distance(trainer, plain)


@pytest.mark.parametrize("words", SHIPPED)
def test_in_double_precision_not_even_rounding_is_between_them(words, monkeypatch):
    """TRL has its rewards and, where it fuses the language head, its log-probs in float32: here both are double, the log-probs by
    the loop's own forward pass. Rewards are 64ths and 16 rows of 8 tokens, so that other numbers are exact."""
    rollouts = made_rollouts(3)
    rewards = [None if reward is None else round(64 * reward) / 64 for reward in rollouts.rewards]
    rollouts, strategy = replace(rollouts, rewards=rewards), compose_strategy(words.split())
    outputs = 3 if "compute_aux_loss" in signature(GRPOTrainer._get_per_token_logps_and_entropies).parameters else 2

    def in_double(make):
        def rollout_in_double(*arguments):
            rollout = make(*arguments)
            return replace(rollout, rewards_B=rollout.rewards_B.double(), rewards_BK=rollout.rewards_BK.double())

        return rollout_in_double

    def log_probs_in_double(self, model, tokens_BS, read_BS, width, *arguments, **options):
        prompt, written = slice(None, -width), slice(-width, None)
        read_BS = read_BS.bool()
        batch = loop.Batch(
            tokens_BS[:, prompt], read_BS[:, prompt], tokens_BS[:, written], read_BS[:, written], None, {}
        )
        return (*loop.forward(model, batch, self.temperature)[:2], None)[:outputs]

    monkeypatch.setattr(CreditGRPOTrainer, "_rollout", in_double(CreditGRPOTrainer._rollout))
    monkeypatch.setattr(loop, "judge", in_double(loop.judge))
    monkeypatch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", log_probs_in_double)
    options = dict(num_iterations=2, epsilon=0.1, max_steps=2, drift=(0.05, 0.015))
    trainer = replay_gradients(double_model(), tiny_tokenizer(), rollouts, fresh(strategy), **options)
    trainer = Found([flat(each) for each in trainer], [0.0] * 2)
    plain = loop_gradients(monkeypatch, double_model(), rollouts, fresh(strategy), **options)
    plain.pushes = trainer.pushes
    assert max(distance(trainer, plain)) < 1e-10, distance(trainer, plain)


def double_model():
    torch.manual_seed(0)
    settings = dict(vocab_size=11, n_positions=128, n_embd=16, n_layer=2, n_head=2, initializer_range=0.2)
    off = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)
    return GPT2LMHeadModel(GPT2Config(**settings, **off, pad_token_id=0, eos_token_id=1, bos_token_id=None)).double()


def test_its_steps_are_those_of_the_seam():
    ours, theirs = (
        re.findall(r"\[Step (\d+)\]", (ROOT / "trainers" / name).read_text()) for name in ("loop.py", "grpo.py")
    )
    assert len(ours) > 5 and set(ours) <= set(theirs) and ours == sorted(ours, key=int)


# ---- the command


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What `python -m trainers.loop` prints, from an empty folder, with a model of its own that starts from nothing."""
    folder = tmp_path_factory.mktemp("loop")
    words = ["model=blank", "model.hidden=32", "model.layers=1", "model.position=learned", "task=doors", "task.count=3"]
    small = [
        "credit=spans",
        "trainer.max_steps=40",
        "trainer.per_device_train_batch_size=64",
        "trainer.learning_rate=1e-2",
    ]
    program = "import runpy, sys; runpy.run_module('trainers.loop', run_name='__main__'); print('trl' in sys.modules)"
    line = [sys.executable, "-c", program, *words, *small, "trainer.logging_steps=20"]
    environment = {**os.environ, "APPORTION_CACHE": str(folder / "cache"), "PYTHONPATH": str(ROOT)}
    (folder / "empty").mkdir()
    done = subprocess.run(line, cwd=folder / "empty", env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert not list((folder / "empty").iterdir())
    return done.stdout.splitlines()


def test_it_learns_and_says_so(said):
    lines = [
        re.match(r"step +(\d+)  reward (\S+) \(share (\S+)\)  length +(\S+)  gradient (\S+) ", line) for line in said
    ]
    steps = {int(line[1]): float(line[2]) for line in lines if line}
    assert list(steps) == [1, 20, 40]
    assert steps[40] > 0.9 > 0.4 > steps[1]


def test_it_runs_without_trl(said):
    assert said[-1] == "False"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("credit=seqnorm", "seq_norm"),
        ("trainer.learning_rat=1", "trainer.learning_rate"),
        ("trainer.per_device_train_batch_size=30", "no multiple of trainer.num_generations=8"),
        ("trainer.max_steps=0", "at least 1"),
        ("trainer.max_completion_length=0", "at least 1"),
        ("trainer.num_generations=1", "at least 2"),
        ("trainer=grpo", "trainer.key=..."),
        ("task=corpus model=blank", "has no rewards"),
        ("trainer.epsilon=-0.1", "must not be negative"),
        ("reward.guard.timeout=3", "the loop has no guard"),
        ("trainer.temperature=0", "above 0"),
        ("trainer.learning_rate=nan", "finite"),
        ("credit=rloo credit.kl_in_reward=true", "trainer.beta=0.05"),
        ("credit=dr_grpo credit/spread=value", "credit/critic=head"),
        ("credit=value credit/critic=separate", "train_grpo.py"),
        ("credit=value credit.critic.detach=false", "detach=true"),
        ("credit=decomposition credit.spread.gamma=0.9", "gamma=1"),
        ("+credit.requires.beta='>0'", "requires beta >0"),
        ("+credit.requires.loss_type=dapo", "train_grpo.py has it"),
    ],
)
def test_bad_words_are_refused_with_the_remedy_before_a_model_is_built(words, remedy, monkeypatch):
    monkeypatch.setattr(command, "build_policy", lambda *_: pytest.fail("a model was built"))
    with pytest.raises(ValueError, match=re.escape(remedy)):
        command.run_loop(compose_command("loop", words.split()))
