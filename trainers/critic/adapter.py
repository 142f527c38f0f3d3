"""The critic `adapter`: V on the frozen base of a PEFT policy, with a LoRA adapter of the critic's own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from credit.critic import AdapterSpec
from trainers.critic.gradient import GradientCritic
from trainers.critic.hidden_states import Trunk, decoder_of, states_of, width_of
from trainers.model.adapters import active_adapters, without_adapter

ADAPTER = "critic"


class AdapterCritic(GradientCritic):
    spec: AdapterSpec

    def __init__(self, trainer, spec: AdapterSpec, gamma: float):
        zero3 = trainer.is_deepspeed_enabled and trainer.accelerator.state.deepspeed_plugin.zero_stage == 3
        if trainer.is_fsdp_enabled or zero3:
            raise ValueError(
                "credit/critic=adapter runs the policy's base outside of FSDP's and ZeRO-3's own forward pass, where its "
                "weights are dealt out over the ranks. Use credit/critic=head there, or separate."
            )
        super().__init__(trainer, spec, gamma)

    def make_trunk(self, policy: nn.Module, device) -> AdapterTrunk:
        return AdapterTrunk(policy, self.spec)


class AdapterTrunk(Trunk):
    """Between passes the critic's adapter is frozen, so that neither the trainer's optimiser nor its gradient clipping nor
    DDP ever sees it."""

    own_pass = True

    def __init__(self, policy: nn.Module, spec: AdapterSpec):
        from peft import LoraConfig

        if not hasattr(policy, "peft_config"):
            raise ValueError(
                "credit/critic=adapter shares the frozen base of a PEFT policy, and this policy trains all its weights. "
                "Use model=hf model/peft=lora, or credit/critic=head or separate."
            )
        own = policy.peft_config[_active(policy)]
        modules = spec.target_modules or getattr(own, "target_modules", None)
        if not modules:
            raise ValueError("credit.critic.target_modules is needed: the policy's adapter names none.")
        trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
        modules = modules if isinstance(modules, str) else list(modules)
        config = LoraConfig(r=spec.rank, lora_alpha=spec.alpha, target_modules=modules, lora_dropout=0.0)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(spec.seed)
            policy.add_adapter(ADAPTER, config)
        self._policy, self._decoder, self.width = policy, decoder_of(policy), width_of(policy)
        self._own = {name: p for name, p in policy.named_parameters() if f".{ADAPTER}." in name}
        _set_trained(policy.parameters(), False)
        _set_trained(trained, True)

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._own

    def states(self, inputs: dict) -> Tensor:
        return states_of(self._decoder, inputs)

    @contextmanager
    def active(self) -> Iterator[None]:
        """The critic's adapter in place of all that the policy trains, which is left out (adapters, whole modules, tokens) or,
        like biases, frozen."""
        trained = [parameter for parameter in self._policy.parameters() if parameter.requires_grad]
        with active_adapters(self._policy, ADAPTER):
            _set_trained(trained, False)
            _set_trained(self._own.values(), True)
            try:
                yield
            finally:
                _set_trained(self._own.values(), False)
                _set_trained(trained, True)

    def left_out(self):
        return without_adapter(self._policy, ADAPTER)


def _set_trained(parameters: Iterable[nn.Parameter], trained: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(trained)


def _active(policy) -> str:
    active = policy.active_adapter
    return active if isinstance(active, str) else active[0]
