"""The table of fields of TRL's configs that a run, a strategy or another setting overrules. trainers/command/fields.py applies it.

A field that is not named here is passed on to TRL, fields of releases to come included. Named are those that the run, the
strategy or the sampler of prompts decides (refused: what to set instead), and those that do nothing beside the other
settings (said in one line).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

ALL = ("train_grpo", "train_sft", "train_lhts")
GRPO, SFT, LHTS = ALL[:1], ALL[1:2], ALL[2:]


@dataclass(frozen=True)
class Rule:
    """`text` completes "trainer.<field>=<value>: ". `agrees`: values that are what happens anyway. `when`: the other fields
    under which the rule holds; None: always. `is_local`: it holds on this machine; a dry run, whose run may be elsewhere,
    says it."""

    fields: str
    text: str
    refused: bool = True
    verbs: tuple[str, ...] = ALL
    agrees: tuple[Any, ...] = ()
    when: Callable[[Mapping[str, Any]], bool] | None = None
    is_local: bool = False


def _without(**needed: Any) -> Callable[[Mapping[str, Any]], bool]:
    """Holds unless some field has one of the values needed."""
    return lambda values: not any(values.get(key) in wanted for key, wanted in needed.items())


def _on(name: str) -> dict[str, Any]:
    return {"text": f"does nothing without trainer.{name}=true", "refused": False, "when": _without(**{name: (True,)})}


def _once(values: Mapping[str, Any]) -> bool:
    """Each batch feeds one optimiser step, so that the ratio of new and old log-probs is 1."""
    steps, accumulation = values.get("steps_per_generation"), values.get("gradient_accumulation_steps")
    return (
        values.get("num_iterations") == 1 and steps in (None, accumulation) and not values.get("generation_batch_size")
    )


def _reports_to(values: Mapping[str, Any], name: str = "") -> bool:
    given = values.get("report_to")
    names = [given] if isinstance(given, str) else list(given or [])
    return name in names or "all" in names if name else bool(set(names) - {"none"})


_UNUSED = "does nothing here: no metrics are computed from predictions"

RULES = (
    # ---- what the run decides
    Rule(
        "output_dir",
        "the run names its folder. Set run_dir=..., or runs=... for the one above; checkpoints stand in it",
    ),
    Rule(
        "seed",
        "the run's seed counts, and names its folder. Set seed=...",
        when=lambda values: values["seed"] != values["run's seed"],
    ),
    Rule("resume_from_checkpoint", "set resume=true; the run finds its last checkpoint itself", agrees=(None,)),
    Rule(
        "disable_tqdm",
        "the run shows its own progress (a bar on a terminal, lines elsewhere). Leave it out",
        agrees=(True,),
    ),
    Rule("do_train", "this command trains; build_only=true stops before it", agrees=(True,)),
    Rule("do_eval", "nobody reads it. Set trainer.eval_strategy=steps, or trainer.eval_on_start=true", agrees=(False,)),
    Rule("do_predict", "nobody reads it; sample.py writes texts with a trained model", agrees=(False,)),
    Rule("local_rank", "the launcher (accelerate launch, torchrun) sets it. Leave it out", agrees=(-1,)),
    Rule(
        "use_cpu",
        "ACCELERATE_USE_CPU=true puts everything on the CPU. Take it out of the environment",
        agrees=(True,),
        when=lambda _: os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes", "y", "on", "t"),
    ),
    Rule(
        "model_init_kwargs",
        "the model is built by `model`. Set model.dtype=..., model.attn_implementation=...",
        agrees=(None,),
    ),
    Rule(
        "trust_remote_code", "the model is built by `model`. Set model=hf model.trust_remote_code=true", agrees=(False,)
    ),
    Rule(
        "push_to_hub",
        "give the repository a name too, trainer.hub_model_id=you/name: without one it would be called checkpoints",
        agrees=(False,),
        when=lambda values: not values.get("hub_model_id"),
    ),
    # ---- what would not be exact
    Rule("ignore_data_skip", "a resumed run would see its first prompts again. Leave it at false", agrees=(False,)),
    Rule(
        "auto_find_batch_size",
        "a batch that shrinks when memory runs out is another optimiser step. Set trainer.per_device_train_batch_size and "
        "trainer.gradient_accumulation_steps",
        agrees=(False,),
    ),
    Rule(
        "save_only_model",
        "checkpoints hold no optimiser state: this run cannot be resumed",
        refused=False,
        agrees=(False,),
    ),
    Rule(
        "enable_jit_checkpoint",
        "it saves in the middle of an optimiser batch, where a run cannot be resumed exactly. Set trainer.save_steps",
        agrees=(False,),
    ),
    # ---- GRPO: prompts, rewards and the loss
    Rule("data_seed", "the order of prompts follows from the run's seed. Set seed=...", verbs=GRPO, agrees=(None,)),
    Rule(
        "train_sampling_strategy",
        "GRPO draws its prompts itself. trainer.shuffle_dataset=false keeps the order of the table",
        verbs=GRPO,
        agrees=("random",),
    ),
    Rule(
        "remove_unused_columns",
        "it would take away the columns that rewards read, such as the answer. Leave it at false",
        verbs=GRPO,
        agrees=(False,),
    ),
    Rule("label_smoothing_factor", "GRPO's loss has no labels to smooth. Leave it at 0", verbs=GRPO, agrees=(0,)),
    Rule(
        "reward_weights",
        "reward.weights is given too. Give one of them",
        verbs=GRPO,
        agrees=(None,),
        when=lambda values: values["run's reward weights"] is not None,
    ),
    Rule("label_names", "GRPO has no labels. Leave it out", verbs=GRPO, agrees=(None,)),
    Rule(
        "loss_type",
        "chooses the surrogate (clipped, as grpo, dapo and dr_grpo all have) and, with trainer.beta, the weight of the KL term; "
        "the denominators are the strategy's: credit/weight=seq_mean (grpo), token_mean (dapo), constant (dr_grpo)",
        refused=False,
        verbs=GRPO,
        agrees=("dr_grpo", "bnpo", "cispo", "sapo", "vespo", "luspo"),
    ),
    Rule(
        "epsilon epsilon_high delta off_policy_mask_threshold",
        "does nothing while every batch is used for one step: the ratio is 1. trainer.num_iterations or "
        "trainer.steps_per_generation make it count",
        refused=False,
        verbs=GRPO,
        agrees=(None,),
        when=lambda values: _once(values) and not values.get("use_vllm"),
    ),
    Rule(
        "use_bias_correction_kl",
        "does nothing without a KL term: set trainer.beta",
        refused=False,
        verbs=GRPO,
        when=lambda values: not values.get("beta"),
    ),
    Rule(
        "sync_ref_model",
        "there is no reference model to move while trainer.beta=0. Set trainer.beta",
        verbs=GRPO,
        agrees=(False,),
        when=lambda values: not values.get("beta"),
    ),
    Rule("ref_model_mixup_alpha ref_model_sync_steps", verbs=GRPO, **_on("sync_ref_model")),
    Rule(
        "entropy_coef_min entropy_coef_max entropy_coef_delta entropy_target", verbs=GRPO, **_on("use_adaptive_entropy")
    ),
    Rule(
        "sapo_temperature_neg sapo_temperature_pos",
        "does nothing without trainer.loss_type=sapo",
        refused=False,
        verbs=GRPO,
        when=_without(loss_type=("sapo",)),
    ),
    Rule(
        "vespo_k_pos vespo_k_neg vespo_lambda_pos vespo_lambda_neg",
        "does nothing without trainer.loss_type=vespo",
        refused=False,
        verbs=GRPO,
        when=_without(loss_type=("vespo",)),
    ),
    Rule(
        "use_vllm",
        "the package vllm is not installed: pip install 'trl[vllm]'",
        verbs=GRPO,
        agrees=(False,),
        when=lambda values: find_spec("vllm") is None,
        is_local=True,
    ),
    Rule(
        "vllm_mode vllm_model_impl vllm_enable_sleep_mode vllm_structured_outputs_regex vllm_server_base_url vllm_server_host "
        "vllm_server_port vllm_server_timeout vllm_group_port vllm_gpu_memory_utilization vllm_max_model_length "
        "vllm_tensor_parallel_size vllm_importance_sampling_correction vllm_importance_sampling_mode "
        "vllm_importance_sampling_cap vllm_importance_sampling_clip_max vllm_importance_sampling_clip_min",
        verbs=GRPO,
        **_on("use_vllm"),
    ),
    Rule(
        "use_transformers_continuous_batching use_transformers_paged",
        "TRL puts the model into training mode after it, so an evaluation before training fails. Set trainer.eval_on_start=false",
        verbs=GRPO,
        agrees=(False,),
        when=lambda values: bool(values.get("eval_on_start")),
    ),
    Rule("num_completions_to_print log_unique_prompts log_multimodal", verbs=GRPO, **_on("log_completions")),
    # ---- likelihood training
    Rule(
        "dataset_text_field",
        "the task makes the texts. Set task.text_column=..., or task.completion_column=...",
        verbs=SFT + LHTS,
        agrees=("text",),
    ),
    Rule(
        "dataset_kwargs",
        "texts are always tokenised by TRL here. Leave it out",
        verbs=SFT + LHTS,
        agrees=(None,),
    ),
    Rule("packing_strategy", verbs=SFT + LHTS, **_on("packing")),
    Rule(
        "length_column_name",
        "does nothing without trainer.train_sampling_strategy=group_by_length",
        refused=False,
        when=_without(train_sampling_strategy=("group_by_length",), group_by_length=(True,)),
    ),
    Rule(
        "packing padding_free",
        "weights look at what follows in their own text, so texts are not joined. Leave it at false",
        verbs=LHTS,
        agrees=(False,),
    ),
    Rule(
        "eval_on_start",
        "the loss is no measure of a temperature. probe=... writes texts before and after",
        verbs=LHTS,
        agrees=(False,),
    ),
    # ---- fields that need another one
    Rule("include_for_metrics", _UNUSED, agrees=(None, [])),
    Rule(
        "prediction_loss_only batch_eval_metrics eval_accumulation_steps eval_do_concat_batches eval_use_gather_object",
        _UNUSED,
        refused=False,
    ),
    Rule(
        "restore_callback_states_from_checkpoint",
        "does nothing here: no callback of these commands keeps a state that it restores",
        refused=False,
        agrees=(False,),
    ),
    Rule(
        "eval_steps",
        "does nothing without trainer.eval_strategy=steps",
        refused=False,
        agrees=(None,),
        when=_without(eval_strategy=("steps",), evaluation_strategy=("steps",)),
    ),
    Rule(
        "eval_delay",
        "does nothing without trainer.eval_strategy",
        refused=False,
        agrees=(0,),
        when=lambda values: values.get("eval_strategy") in (None, "no", False),
    ),
    Rule(
        "metric_for_best_model greater_is_better",
        "does nothing without trainer.load_best_model_at_end=true or trainer.save_strategy=best",
        refused=False,
        agrees=(None,),
        when=_without(
            load_best_model_at_end=(True,), save_strategy=("best",), lr_scheduler_type=("reduce_lr_on_plateau",)
        ),
    ),
    Rule(
        "save_strategy",
        "the best checkpoint is the one with the best what? Set trainer.metric_for_best_model, e.g. reward or loss",
        agrees=("no", "steps", "epoch", False),
        when=lambda values: not values.get("metric_for_best_model"),
    ),
    Rule(
        "save_steps",
        "does nothing without trainer.save_strategy=steps",
        refused=False,
        when=_without(save_strategy=("steps",)),
    ),
    Rule(
        "hub_model_id hub_strategy hub_token hub_private_repo hub_always_push hub_revision",
        **{**_on("push_to_hub"), "agrees": (None, False)},
    ),
    Rule(
        "run_name",
        "does nothing without trainer.report_to=wandb or another reporter",
        refused=False,
        agrees=(None,),
        when=lambda values: not _reports_to(values),
    ),
    Rule(
        "project trackio_space_id trackio_bucket_id trackio_static_space_id",
        "does nothing without trainer.report_to=trackio",
        refused=False,
        agrees=(None,),
        when=lambda values: not _reports_to(values, "trackio"),
    ),
    Rule("liger_kernel_config", **_on("use_liger_kernel")),
    Rule("gradient_checkpointing_kwargs", **_on("gradient_checkpointing")),
    Rule(
        "torch_compile_backend torch_compile_mode", "switches trainer.torch_compile on", refused=False, agrees=(None,)
    ),
    Rule(
        "adam_beta1 adam_beta2 adam_epsilon",
        "does nothing with this trainer.optim",
        refused=False,
        when=lambda values: "adam" not in str(values.get("optim")) and "lion" not in str(values.get("optim")),
    ),
)
