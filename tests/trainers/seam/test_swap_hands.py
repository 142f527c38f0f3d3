"""Hands inside the trainer, as TRL's own tests lay them on: with ours in place of TRL's, none of it breaks."""

from __future__ import annotations

from collections import defaultdict
from contextlib import ExitStack
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock, patch

import pytest
import torch
import trl
from trl import GRPOTrainer

from support.exact.swapped import assert_same, build, lengths, outcome, prompts, save_policy
from trainers.grpo import CreditGRPOTrainer

CREDITS = [None, "dr_grpo", "spans", "value"]
BOTH = [GRPOTrainer, CreditGRPOTrainer]


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    return save_policy(tmp_path_factory.mktemp("policy"))


def credited(credit) -> dict:
    return {} if credit is None else {"credit": credit}


@pytest.fixture
def swap(monkeypatch):
    monkeypatch.setattr(trl, "GRPOTrainer", CreditGRPOTrainer)
    monkeypatch.setattr("trl.trainer.GRPOTrainer", CreditGRPOTrainer)
    monkeypatch.setattr("trl.trainer.grpo_trainer.GRPOTrainer", CreditGRPOTrainer)


def test_the_name_in_trl_can_be_ours(swap, policy, tmp_path):
    from trl import GRPOTrainer as Swapped

    assert Swapped is CreditGRPOTrainer
    assert_same(outcome(GRPOTrainer, tmp_path / "stock", policy), outcome(Swapped, tmp_path / "ours", policy))


@pytest.mark.parametrize("credit", CREDITS)
def test_a_method_of_the_class_is_watched(credit, policy, tmp_path):
    """Each generation batch comes num_iterations * steps_per_generation times, its prompts in groups."""
    args = dict(num_generations=2, per_device_train_batch_size=2, steps_per_generation=2, gradient_accumulation_steps=1)
    args |= dict(num_iterations=2, max_steps=8, shuffle_dataset=False)
    trainer = build(CreditGRPOTrainer, tmp_path, policy, args=args, **credited(credit))
    with patch.object(CreditGRPOTrainer, "training_step", wraps=trainer.training_step) as step:
        trainer.train()
    assert step.call_count == 8
    seen = [[row["prompt"] for row in call.args[1]] for call in step.call_args_list]
    texts = prompts()["prompt"]
    assert seen[:4] == [[texts[0]] * 2 + [texts[1]] * 2] * 4 and seen[4:] == [[texts[2]] * 2 + [texts[3]] * 2] * 4


@pytest.mark.parametrize("credit", CREDITS)
def test_methods_of_the_object_are_watched(credit, policy, tmp_path):
    trainer = build(CreditGRPOTrainer, tmp_path, policy, **credited(credit))
    names = ("_generate", "_generate_single_turn", "_prepare_inputs", "_calculate_rewards", "_compute_loss")
    with ExitStack() as stack:
        methods = [stack.enter_context(patch.object(trainer, name, wraps=getattr(trainer, name))) for name in names]
        trainer.train()
    assert [method.call_count for method in methods] == [2] * 5


@pytest.mark.parametrize("credit", CREDITS)
def test_completions_given_by_hand_are_scored(credit, policy, tmp_path):
    """`_generate` and the rewards replaced; `_generate_and_score_completions` called outside of training, in both modes."""
    trainer = build(CreditGRPOTrainer, tmp_path, policy, **credited(credit))
    rows = [{"prompt": "ab"}] * 3
    whole = trainer._generate(["ab"] * 3)
    ids = [[3, 4, 5, 1], [5, 1], [6, 7, 8, 9, 10, 3]]
    texts = ["abc", "c", "defgha"]
    answer = (whole[0], ids, None, texts, *whole[4:])
    trainer.current_gradient_accumulation_steps = 1  # set by the training loop, of which there is none
    rewards = torch.tensor([[1.0], [0.0], [0.5]])
    for mode in (trainer.model.train, trainer.model.eval):
        mode()
        with patch.object(trainer, "_generate", return_value=answer):
            output = trainer._generate_and_score_completions(rows)
        assert output["completion_mask"].sum(dim=1).tolist() == [4, 2, 6]
        with (
            patch.object(trainer, "_generate", return_value=answer),
            patch.object(GRPOTrainer, "_calculate_rewards", return_value=rewards),
        ):
            output = trainer._generate_and_score_completions(rows)
        assert output["advantages"].argsort().tolist() == [1, 2, 0]
        assert torch.isfinite(trainer._compute_loss(trainer.model, output | {"num_items_in_batch": torch.tensor(12)}))
    assert len(trainer._metrics["train"]["reward"]) == len(trainer._metrics["eval"]["reward"]) == 2
    assert len(trainer._logs["completion"]) == 3 and trainer._step == 0 and trainer._buffered_inputs is None


def test_scoring_by_hand_gives_what_stock_trl_gives(policy, tmp_path):
    outputs = {}
    for kind in BOTH:
        trainer = build(kind, tmp_path / kind.__name__, policy, args=dict(beta=0.1, num_iterations=2))
        torch.manual_seed(1)
        trainer.model.train()
        outputs[kind] = trainer._generate_and_score_completions([{"prompt": "ab"}] * 3)
    stock, ours = outputs.values()
    assert stock.keys() == ours.keys()
    assert all(torch.equal(stock[key], ours[key]) for key in stock if torch.is_tensor(stock[key]))


@pytest.mark.parametrize("credit", CREDITS)
def test_the_parts_of_the_rewards_can_be_replaced(credit, policy, tmp_path):
    """A reward made by `Mock`: it has every attribute one asks it for."""
    reward = MagicMock(side_effect=lengths, __name__="reward", spans=None)
    trainer = build(CreditGRPOTrainer, tmp_path, policy, reward_funcs=reward, **credited(credit))
    trainer.train()
    assert reward.call_count == 2 and "rewards/reward/mean" in trainer.state.log_history[0]


# ---- without `__init__`


def test_unbound_methods_take_a_mock_of_the_class():
    fake = Mock(spec=CreditGRPOTrainer)
    fake.accelerator = Mock(num_processes=1)
    fake.accelerator.gather = lambda values: values
    fake.accelerator.pad_across_processes = lambda values, dim, pad_index: values
    entropies, mask = torch.tensor([[0.1, 0.9, 0.5], [0.3, 0.2, 7.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = CreditGRPOTrainer.get_high_entropy_mask(fake, entropies, mask, 0.8)
    assert found.tolist() == [[False, True, False], [False] * 3]


def test_static_methods_are_trls():
    ones = torch.ones(2, 4)
    policy_logps = torch.tensor([[-2.0] * 4, [-0.5] * 4])
    for kind in BOTH:
        arguments = (-torch.ones(2, 1), policy_logps, torch.zeros(2, 4), ones, 1.0)
        assert kind.get_off_policy_mask(*arguments).tolist() == [[0.0], [1.0]]
    names = ("get_off_policy_mask", "get_sapo_token_loss", "get_gamma_weights", "get_high_entropy_mask")
    for name in names:
        assert getattr(CreditGRPOTrainer, name, None) is getattr(GRPOTrainer, name, None)


def shell(kind, policy):
    """As TRL's tests make one: no `__init__`, only what the method in question reads."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    trainer = object.__new__(kind)
    trainer.accelerator = SimpleNamespace(
        device=torch.device("cpu"), is_main_process=True, num_processes=1, process_index=0, gather=lambda values: values
    )
    trainer.model = AutoModelForCausalLM.from_pretrained(policy, dtype="float32")
    trainer.state = SimpleNamespace(global_step=2, num_input_tokens_seen=0)
    trainer.args = SimpleNamespace(report_to=[], delta=None)
    trainer.processing_class = trainer._tokenizer = AutoTokenizer.from_pretrained(policy)
    trainer.use_vllm, trainer._last_loaded_step = False, 2
    trainer.tools = trainer.environments = trainer.environment_factories = None
    trainer.pad_token_id, trainer.eos_token_id, trainer.eos_token_ids = 0, 1, [1]
    trainer.num_generations = trainer.num_generations_eval = 1
    trainer.temperature, trainer._metrics = 1.0, {"train": defaultdict(list), "eval": defaultdict(list)}
    trainer.reward_funcs, trainer.reward_func_names, trainer.reward_processing_classes = [lengths], ["lengths"], [None]
    return trainer


ROLLOUT = {"prompt_ids": [[3]], "completion_ids": [[4, 5, 1]], "logprobs": [[-1.0, -1.0, -1.0]]}


def generating(trainer):
    trainer.rollout_func = MagicMock(return_value=ROLLOUT)
    return type(trainer)._generate(trainer, ["a"])[:2]


def generating_too_little(trainer):
    trainer.rollout_func = MagicMock(return_value={"prompt_ids": [[3]]})
    with pytest.raises(ValueError, match="must return keys"):
        type(trainer)._generate(trainer, ["a"])


def rewarding(trainer):
    return type(trainer)._calculate_rewards(trainer, [{"prompt": "a"}] * 2, ["a", "a"], ["bc", "d"], [[4, 5], [6]])


@pytest.mark.parametrize("act", [generating, generating_too_little, rewarding])
def test_a_trainer_that_was_never_initialised_does_what_trls_does(act, policy):
    assert repr(act(shell(GRPOTrainer, policy))) == repr(act(shell(CreditGRPOTrainer, policy)))


def test_log_probs_and_loss_need_no_init(policy, tmp_path):
    whole = build(GRPOTrainer, tmp_path, policy, args=dict(beta=0.1))
    tokens, ones = torch.tensor([[3, 4, 5, 1]]), torch.ones(1, 3).long()
    found = {}
    for kind in BOTH:
        trainer = object.__new__(kind)
        vars(trainer).update(vars(whole))
        trainer.current_gradient_accumulation_steps = 1
        logps_BT = trainer._get_per_token_logps_and_entropies(trainer.model, tokens, torch.ones_like(tokens), 3)[0]
        inputs = dict(
            prompt_ids=tokens[:, :1], prompt_mask=ones[:, :1], completion_ids=tokens[:, 1:], completion_mask=ones
        )
        inputs |= dict(advantages=torch.ones(1), old_per_token_logps=logps_BT.detach() - 0.1)
        inputs |= dict(ref_per_token_logps=logps_BT.detach(), num_items_in_batch=torch.tensor(3))
        found[kind] = (logps_BT.tolist(), trainer._compute_loss(trainer.model, inputs).item())
    assert found[GRPOTrainer] == found[CreditGRPOTrainer]


# ---- vLLM, faked: what TRL makes of its log-probs


class FakeVLLM:
    def __init__(self, **settings):
        self.synced = 0

    def sync_weights(self):
        self.synced += 1

    def generate(self, prompts, images, num_generations, profiler=None):
        ids = [[*torch.randint(3, 11, (int(torch.randint(1, 6, ())),)).tolist(), 1] for _ in prompts]
        return prompts, ids, [[[-2.0 - 0.1 * t] for t in range(len(row))] for row in ids], None


@pytest.mark.parametrize(
    ("mode", "credit"),
    [
        *((mode, None) for mode in ("sequence_mask", "sequence_truncate", "token_mask", "token_truncate")),
        *(("token_truncate", credit) for credit in CREDITS[1:]),
    ],
)
def test_the_sampler_may_be_another_engine(mode, credit, policy, tmp_path, monkeypatch):
    monkeypatch.setattr("trl.trainer.grpo_trainer.VLLMGeneration", FakeVLLM)
    args = dict(use_vllm=True, vllm_importance_sampling_mode=mode, off_policy_mask_threshold=0.5)
    ours = outcome(CreditGRPOTrainer, tmp_path / "ours", policy, args=args, **credited(credit))
    if credit is None:
        assert_same(outcome(GRPOTrainer, tmp_path / "stock", policy, args=args), ours)
    assert ours["error"] is None and ours["moved"] and ours["trainer"].vllm_generation.synced == 2
    assert "sampling/importance_sampling_ratio/mean" in ours["logs"][0]


# ---- batches that teach nothing


def unfinished(input_ids, **_):
    return torch.cat([input_ids, torch.randint(3, 11, (len(input_ids), 6))], dim=1)


@pytest.mark.parametrize("credit", CREDITS)
def test_rows_that_are_all_masked_leave_the_policy_as_it_is(credit, policy, tmp_path):
    def cut(trainer):
        with patch.object(trainer.model, "generate", side_effect=unfinished):
            trainer.train()

    args = dict(mask_truncated_completions=True)
    ours = outcome(CreditGRPOTrainer, tmp_path, policy, act=cut, args=args, **credited(credit))
    assert ours["error"] is None and not ours["moved"]


@pytest.mark.parametrize("credit", CREDITS)
def test_rewards_that_all_abstain_leave_the_policy_as_it_is(credit, policy, tmp_path):
    silent = dict(reward_funcs=lambda completions, **columns: [None] * len(completions))
    ours = outcome(CreditGRPOTrainer, tmp_path, policy, **silent, **credited(credit))
    assert ours["error"] is None and not ours["moved"]
