"""What TRL's own test-suite does to models and rewards of every make, evaluation, checkpoints, tools and environments, with our trainer
in place of TRL's."""

from __future__ import annotations

import json
from functools import partial
from itertools import groupby
from pathlib import Path
from unittest.mock import patch

import pyarrow.parquet as pq
import pytest
import torch
import trl
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer

from support.exact.swapped import LORA, assert_same, both, late, lengths, outcome, prompts, save_judge, save_policy
from trainers.grpo import CreditGRPOTrainer
from trainers.model.embedded import byte_tokenizer
from trainers.run.recording import CreditRecords
from trainers.run.records import Recorder

CREDITS = [None, "dr_grpo", "spans", "value"]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policy"))


@pytest.fixture(scope="module")
def judges(tmp_path_factory):
    return [save_judge(tmp_path_factory.mktemp("judge"), seed) for seed in (0, 1)]


def adapted(policy, seed=0):
    torch.manual_seed(seed)
    return get_peft_model(AutoModelForCausalLM.from_pretrained(policy, dtype="float32"), LORA())


def judge(folder):
    return AutoModelForSequenceClassification.from_pretrained(folder)


def reading(folder):
    return AutoTokenizer.from_pretrained(folder)


# ---- models and rewards


def models_and_rewards(policy, judges):
    one, two = judges
    return {
        "a model": dict(model=late(lambda: AutoModelForCausalLM.from_pretrained(policy)), args=dict(beta=0.1)),
        "a PeftModel": dict(model=late(lambda: adapted(policy))),
        "a PeftModel and beta": dict(model=late(lambda: adapted(policy)), args=dict(beta=0.1)),
        "a judge by name": dict(reward_funcs=one),
        "a judge of chats": dict(reward_funcs=one, train_dataset=prompts(chat=True)),
        "a judge": dict(reward_funcs=late(lambda: judge(one)), reward_processing_classes=late(lambda: reading(one))),
        "judges": dict(
            reward_funcs=late(lambda: [one, two]),
            reward_processing_classes=late(lambda: [reading(one), reading(two)]),
        ),
        "a judge and a function": dict(reward_funcs=late(lambda: [lengths, one])),
        "too few tokenizers": dict(
            reward_funcs=late(lambda: [one, two]), reward_processing_classes=late(lambda: reading(one))
        ),
        "too many labels": dict(reward_funcs=late(lambda: save_judge(Path(one) / "wide", num_labels=2))),
        "too many weights": dict(args=dict(reward_weights=[1.0, 2.0])),
        "no reward": dict(reward_funcs=None),
        "no data": dict(train_dataset=None),
        "a list of data": dict(train_dataset=[{"prompt": "ab"}]),
        "rewards missing": dict(reward_funcs=lambda completions, **columns: [1.0]),
        "no reference to synchronise": dict(args=dict(sync_ref_model=True)),
        "an adapter twice": dict(model=late(lambda: adapted(policy)), peft_config=LORA()),
        "an adapter's reference": dict(peft_config=LORA(), args=dict(beta=0.1, sync_ref_model=True)),
        "an unknown loss": dict(args=dict(loss_type="nonsense")),
        "an unknown aggregation": dict(args=dict(multi_objective_aggregation="nonsense")),
        "an unknown scale": dict(args=dict(scale_rewards="nonsense")),
        "an odd batch": dict(args=dict(num_generations=4)),
        "an unknown keyword": dict(nonsense=1),
        "no tool template": dict(tools=[lengths]),
    }


REFUSED = [
    "too few tokenizers",
    "too many labels",
    "too many weights",
    "no reward",
    "no data",
    "a list of data",
    "rewards missing",
    "no reference to synchronise",
    "an adapter twice",
    "an adapter's reference",
    "an unknown loss",
    "an unknown aggregation",
    "an unknown scale",
    "an odd batch",
    "an unknown keyword",
    "no tool template",
]


@pytest.mark.parametrize("name", models_and_rewards("", ["", ""]))
def test_models_and_rewards_of_every_make(name, policy, judges, tmp_path):
    stock, ours = both(tmp_path, policy, **models_and_rewards(policy, judges)[name])
    assert_same(stock, ours)
    assert name in REFUSED or (stock["error"] is None and stock["moved"])  # which are refused differs between releases


# ---- evaluation, checkpoints, warnings

EVALUATION = dict(eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=3)
EVALUATIONS = {
    "as in training": {},
    "one generation": dict(num_generations_eval=1),
    "on start": dict(eval_on_start=True, loss_type="grpo"),
    "on start, tokens counted": dict(eval_on_start=True, loss_type="dapo", beta=0.1),
}


@pytest.mark.parametrize("name", EVALUATIONS)
def test_evaluation(name, policy, tmp_path):
    stock, ours = both(tmp_path, policy, eval_dataset=prompts(count=3), args=EVALUATION | EVALUATIONS[name])
    assert_same(stock, ours)
    assert stock["error"] is None and any("eval_reward" in row for row in ours["logs"])


@pytest.mark.parametrize("credit", CREDITS[1:])
def test_evaluation_with_credit(credit, policy, tmp_path):
    args = EVALUATION | dict(eval_on_start=True, num_generations_eval=1, loss_type="grpo")
    ours = outcome(CreditGRPOTrainer, tmp_path, policy, credit=credit, eval_dataset=prompts(count=3), args=args)
    assert ours["error"] is None and ours["moved"] and any("eval_reward" in row for row in ours["logs"])


def resumed(trainer):
    trainer.train()
    trainer.train(resume_from_checkpoint=f"{trainer.args.output_dir}/checkpoint-1")


@pytest.mark.parametrize("adapter", [None, LORA()])
def test_a_checkpoint_is_resumed(adapter, policy, tmp_path):
    args = dict(save_strategy="steps", save_steps=1)
    stock, ours = both(tmp_path, policy, act=resumed, args=args, peft_config=adapter)
    assert_same(stock, ours)
    assert stock["error"] is None
    files = [{path.name for path in (tmp_path / who / "checkpoint-2").iterdir()} for who in ("stock", "ours")]
    assert files[1] - files[0] == {"complete", "run_state_0.pt"} and files[0] <= files[1]


def test_rewards_that_all_abstain_are_warned_of(policy, tmp_path, caplog):
    nothing = dict(reward_funcs=lambda completions, **columns: [None] * len(completions))
    with caplog.at_level("WARNING", logger="trl.trainer.grpo_trainer"):
        stock, ours = both(tmp_path, policy, **nothing)
    assert_same(stock, ours)
    assert caplog.text.count("All reward functions returned None") >= 2 and caplog.text.count("All reward") % 2 == 0


@pytest.mark.parametrize("credit", CREDITS)
def test_only_the_model_the_reward_and_the_data_are_needed(credit, policy, judges, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    on_cpu = partial(GRPOConfig, use_cpu=True, bf16=False)  # TRL's default is bfloat16 on a GPU
    monkeypatch.setattr("trl.trainer.grpo_trainer.GRPOConfig", on_cpu)
    keywords = {} if credit is None else {"credit": credit}
    trainer = CreditGRPOTrainer(policy, judges[0], train_dataset=prompts(), **keywords)
    assert trainer.args.output_dir.endswith("-GRPO") and isinstance(trainer, GRPOTrainer)


def test_a_subclass_of_ours_is_as_good_as_one_of_trls(policy, tmp_path):
    def halved(base):
        class Halved(base):
            def _calculate_rewards(self, *arguments):
                return super()._calculate_rewards(*arguments) / 2

            def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
                return 2 * super().compute_loss(model, inputs, return_outputs, num_items_in_batch)

        return Halved

    stock = outcome(halved(GRPOTrainer), tmp_path / "stock", policy, args=dict(scale_rewards="none"))
    assert_same(stock, outcome(halved(CreditGRPOTrainer), tmp_path / "ours", policy, args=dict(scale_rewards="none")))
    assert stock["error"] is None


# ---- completions that are given: masks, tools, environments, rollouts

TOOLS = Path(trl.__file__).parent / "chat_templates" / "qwen3.jinja"


def speaking_tokenizer():
    """Bytes, and Qwen's template and ends of turn, so that TRL knows how its tool calls look."""
    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
    tokenizer.chat_template = TOOLS.read_text(encoding="utf-8")
    return tokenizer


@pytest.fixture(scope="module")
def speaker(tmp_path_factory):
    tokenizer = speaking_tokenizer()
    sizes = dict(vocab_size=len(tokenizer), max_position_embeddings=4096)
    ends = dict(pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id)
    return save_policy(tmp_path_factory.mktemp("speaker"), tokenizer, **sizes, **ends)


def says(trainer, *rounds):
    """Makes the policy say these texts, one tuple a call; the last one from then on."""
    tokenizer, queue = trainer.processing_class, list(rounds)

    def generate(input_ids, **_):
        texts = queue.pop(0) if len(queue) > 1 else queue[0]
        ids = [torch.tensor(tokenizer.encode(text, add_special_tokens=False)) for text in texts][: len(input_ids)]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=tokenizer.pad_token_id)
        return torch.cat([input_ids, padded], dim=1)

    with patch.object(trainer.model, "generate", side_effect=generate):
        trainer.train()


def multiply(a: int, b: int) -> int:
    """Multiplies two integers.

    Args:
        a: The first.
        b: The second.

    Returns:
        The product.
    """
    return a * b


async def multiply_later(a: int, b: int) -> int:
    """Multiplies two integers, some time.

    Args:
        a: The first.
        b: The second.

    Returns:
        The product.
    """
    return a * b


class Counter:
    def reset(self, **columns) -> str | None:
        self.value = 0
        return " Count."

    def increment(self, step: int) -> int:
        """Adds to the counter.

        Args:
            step: How much.

        Returns:
            The counter.
        """
        self.value += step
        return self.value


def counted(completions, environments, **columns):
    return [float(environment.value) for environment in environments]


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call><|im_end|>"


def asked(name, *arguments):
    """One call that works, one with wrong arguments, none."""
    good, bad = arguments
    return (call(name, **good), call(name, **bad), "no<|im_end|>"), ("Done!<|im_end|>",) * 2


SPOKEN = {
    "a tool": (dict(tools=[multiply]), asked("multiply", {"a": 3, "b": 4}, {"a": 3, "c": 4})),
    "an asynchronous tool": (dict(tools=[multiply_later]), asked("multiply_later", {"a": 3, "b": 4}, {"a": 3, "c": 4})),
    "an environment": (
        dict(environment_factory=Counter, reward_funcs=counted),
        asked("increment", {"step": 2}, {"stop": 2}),
    ),
}


@pytest.mark.parametrize(
    ("name", "credit"),
    [
        *((name, None) for name in SPOKEN),
        ("a tool", "value"),
        ("an asynchronous tool", "dr_grpo"),
        ("an environment", "spans"),
    ],
)
def test_tools_and_environments(name, credit, speaker, tmp_path):
    keywords, texts = SPOKEN[name]
    case = dict(
        act=lambda trainer: says(trainer, *texts),
        train_dataset=prompts(chat=True),
        args=dict(max_completion_length=256, max_steps=1),
        **keywords,
    )
    stock = outcome(GRPOTrainer, tmp_path / "stock", speaker, **case)
    if stock["error"] and stock["error"][0] is ImportError:
        pytest.skip(stock["error"][1])
    assert stock["error"] is None
    logs = stock["logs"][0]
    assert logs["tools/call_frequency"] == pytest.approx(2 / 3)
    assert logs["tools/failure_frequency"] == pytest.approx(1 / 2)
    ours = outcome(
        CreditGRPOTrainer, tmp_path / "ours", speaker, **case, **({} if credit is None else {"credit": credit})
    )
    if credit is None:
        assert_same(stock, ours)
        return
    assert ours["error"] is None and ours["moved"]


def test_records_tell_turns_apart_and_hold_the_prompt_that_an_environment_made(speaker, tmp_path):
    keywords, texts = SPOKEN["an environment"]

    def act(trainer):
        trainer.add_callback(CreditRecords(Recorder(tmp_path / "records", every=1), ["counted"]))
        says(trainer, *texts)

    args = dict(max_completion_length=256, max_steps=1)
    case = dict(act=act, train_dataset=prompts(chat=True), args=args, credit="uniform", **keywords)
    ours = outcome(CreditGRPOTrainer, tmp_path / "ours", speaker, **case)
    if ours["error"] and ours["error"][0] is ImportError:
        pytest.skip(ours["error"][1])
    assert ours["error"] is None
    for row in pq.read_table(tmp_path / "records" / "step00000001.parquet").to_pylist():
        learnt = zip(row["tokens"], row["learns"], strict=True)
        turns = ["".join(token for token, _ in turn) for _, turn in groupby(learnt, lambda pair: pair[1])]
        asked_for = json.loads(row["messages"])[-1]["content"]
        assert asked_for.endswith(" Count.") and f"user\n{asked_for}<|im_end|>" in row["prompt"]
        assert len(turns) == (3 if "<tool_call>" in turns[0] else 1) and "<tool_response>" not in turns[0] + turns[-1]
        assert row["learns"][0] and row["learns"][-1]


def rolled(prompts, trainer):
    """Completions from elsewhere, with a token in their middle that the policy did not write, and a column for the reward."""
    ids = [[*torch.randint(3, 11, (4,)).tolist(), 1] for _ in prompts]
    logprobs, mask = [[-1.0] * 5 for _ in prompts], [[1, 1, 0, 1, 1] for _ in prompts]
    first = [float(row[0]) for row in ids]
    return dict(prompt_ids=[[3]] * len(prompts), completion_ids=ids, logprobs=logprobs, env_mask=mask, first=first)


def first_token(completions, first, **columns):
    return first


@pytest.mark.parametrize("credit", CREDITS)
def test_rollouts_from_elsewhere(credit, policy, tmp_path):
    case = dict(rollout_func=rolled, reward_funcs=first_token)
    ours = outcome(
        CreditGRPOTrainer, tmp_path / "ours", policy, **case, **({} if credit is None else {"credit": credit})
    )
    if credit is None:
        assert_same(outcome(GRPOTrainer, tmp_path / "stock", policy, **case), ours)
    assert ours["error"] is None and ours["moved"] and ours["logs"][0]["completions/mean_length"] == 4
