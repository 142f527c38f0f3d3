"""The critic `separate`: V of a model of its own, all of it trained, whole on every rank."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from credit.critic import SeparateSpec
from trainers.critic.gradient import GradientCritic
from trainers.critic.hidden_states import Trunk, decoder_of, states_of, width_of
from trainers.model.foreign_code import UNSAFE_WEIGHTS


class SeparateCritic(GradientCritic):
    spec: SeparateSpec

    def __init__(self, trainer, spec: SeparateSpec, gamma: float):
        _check_tokenizer(trainer.processing_class, spec.model)
        super().__init__(trainer, spec, gamma)

    def make_trunk(self, policy: nn.Module, device) -> SeparateTrunk:
        return SeparateTrunk(policy, self.spec, device)


class SeparateTrunk(Trunk):
    """A decoder of the critic's own, in eval mode: values must not depend on dropout."""

    own_pass = True

    def __init__(self, policy: nn.Module, spec: SeparateSpec, device):
        self.decoder = _separate_decoder(policy, spec.model).float().eval().requires_grad_(True)
        self.width = width_of(self.decoder)
        self.decoder.to(device)

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.decoder.named_parameters())

    def states(self, inputs: dict) -> Tensor:
        return states_of(self.decoder, inputs)


def _check_tokenizer(tokenizer, model: str | None) -> None:
    """Raises ValueError if a separate critic's folder brings a tokenizer that numbers the policy's tokens otherwise."""
    from transformers import AutoTokenizer

    tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
    if model is None or not hasattr(tokenizer, "get_vocab"):
        return
    try:
        theirs = AutoTokenizer.from_pretrained(model, trust_remote_code=False).get_vocab()
    except (OSError, ValueError, KeyError, ImportError):
        return  # weights without a tokenizer; what is wrong with the folder itself is said where they are loaded
    added = tokenizer.get_added_vocab()
    strange = [word for word, i in tokenizer.get_vocab().items() if theirs.get(word) != i and word not in added]
    if strange:
        raise ValueError(
            f"credit.critic.model={model} has another tokenizer ({len(strange)} of the policy's tokens, {strange[0]!r} among "
            "them, have another number there), and the critic reads the policy's token ids. Take a model with the same one."
        )


def _separate_decoder(policy: nn.Module, model: str | None) -> nn.Module:
    if model is None:
        if hasattr(policy, "peft_config"):
            raise ValueError(
                "credit/critic=separate needs credit.critic.model=FOLDER with a PEFT policy; credit/critic=adapter "
                "shares its base instead."
            )
        if any(hasattr(parameter, "ds_id") for parameter in policy.parameters()):
            raise ValueError("under DeepSpeed ZeRO-3 credit/critic=separate needs credit.critic.model=FOLDER.")
        return copy.deepcopy(decoder_of(policy))
    from transformers import AutoModel

    if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
        raise ValueError(f"credit.critic.model={model}: no such folder (looked in {Path.cwd()}).")
    model = str(Path(model).expanduser()) if model.startswith("~") else model
    with _whole_on_every_rank():
        try:
            decoder = AutoModel.from_pretrained(model, dtype=torch.float32, trust_remote_code=False)
        except (OSError, ValueError, UNSAFE_WEIGHTS) as error:
            raise ValueError(f"credit.critic.model={model}: {error}") from error
    ours, theirs = policy.config.get_text_config().vocab_size, decoder.config.get_text_config().vocab_size
    if theirs < ours:
        raise ValueError(
            f"credit.critic.model={model} knows {theirs} tokens, the policy {ours}: the critic reads the policy's token "
            "ids, so it needs the same tokenizer."
        )
    return decoder


def _whole_on_every_rank():
    """Loading under ZeRO-3 would deal the critic's weights out over the ranks; it is trained outside of DeepSpeed."""
    from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled

    return _without_deepspeed() if is_deepspeed_zero3_enabled() else nullcontext()


@contextmanager
def _without_deepspeed() -> Iterator[None]:
    from transformers.integrations import deepspeed

    config = deepspeed._hf_deepspeed_config_weak_ref()
    deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        deepspeed.set_hf_deepspeed_config(config)
