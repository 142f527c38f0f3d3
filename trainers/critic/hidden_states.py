"""Where a critic's hidden states come from: caught in the policy's own forward pass, or made by a pass of the critic's own.

Each trunk has `width` (D), `parameters()` (what it trains itself, by name) and `states(inputs)`, the hidden state before each
completion token: (B, T, D), where the state before the first token is the one that has read the prompt.

Shapes: S tokens of prompt and completion.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

from credit.critic import AdapterSpec, GradientSpec, HeadSpec, SeparateSpec
from trainers.model.adapters import active_adapters, without_adapter
from trainers.model.foreign_code import UNSAFE_WEIGHTS

ADAPTER = "critic"


class PolicyTrunk:
    """The policy's last hidden state, caught by a forward hook on its decoder during TRL's own forward pass."""

    runs_forward = False

    def __init__(self, policy: nn.Module, spec: HeadSpec | None = None):
        decoder = decoder_of(policy)
        self.width = width_of(policy)
        self._keep_states: Callable[[Tensor], None] | None = None
        decoder.register_forward_hook(self._keep)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {}

    @contextmanager
    def catching(self, width: int, reduce: Callable[[Tensor, slice], Tensor]) -> Iterator[list[Tensor]]:
        """Collects `reduce(states (b, width, D), rows)` of every forward call inside; TRL may cut a batch into chunks."""
        caught: list[Tensor] = []
        rows = 0

        def keep(hidden_BSD: Tensor) -> None:
            nonlocal rows
            states = hidden_BSD[:, -width - 1 : -1]
            caught.append(reduce(states, slice(rows, rows + len(states))))
            rows += len(states)

        self._keep_states = keep
        try:
            yield caught
        finally:
            self._keep_states = None

    def _keep(self, module, arguments, output) -> None:
        if self._keep_states is not None:
            self._keep_states(output[0] if isinstance(output, tuple) else output.last_hidden_state)


class SeparateTrunk:
    """A decoder of the critic's own, every weight trained, in eval mode: values must not depend on dropout."""

    runs_forward = True

    def __init__(self, policy: nn.Module, spec: SeparateSpec):
        self.decoder = _separate_decoder(policy, spec.model).float().eval().requires_grad_(True)
        self.width = width_of(self.decoder)

    def parameters(self) -> dict[str, nn.Parameter]:
        return dict(self.decoder.named_parameters())

    def to(self, device) -> None:
        self.decoder.to(device)

    def states(self, inputs: dict) -> Tensor:
        return _forward(self.decoder, inputs)


class AdapterTrunk:
    """The frozen base of a PEFT policy with a LoRA adapter of the critic's own. Between passes that adapter is frozen, so
    that neither the trainer's optimiser nor its gradient clipping nor DDP ever sees it."""

    runs_forward = True

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
        return _forward(self._decoder, inputs)

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
        """Saving the policy leaves the critic's adapter out."""
        return without_adapter(self._policy, ADAPTER)


TRUNKS = {HeadSpec: PolicyTrunk, AdapterSpec: AdapterTrunk, SeparateSpec: SeparateTrunk}


def build_trunk(policy: nn.Module, spec: GradientSpec):
    """The trunk a specification asks for; subclasses of the specifications count as their base.

    Raises:
        ValueError: an unknown specification, or a policy that does not fit it.
    """
    for kind, trunk in TRUNKS.items():
        if isinstance(spec, kind):
            return trunk(policy, spec)
    raise ValueError(f"{type(spec).__name__} is no critic; use one of {', '.join(k.__name__ for k in TRUNKS)}.")


def decoder_of(policy: nn.Module) -> nn.Module:
    """The module whose output the LM head reads: what TRL runs before it."""
    model = policy.get_base_model() if hasattr(policy, "get_base_model") else policy
    decoder = getattr(model, "base_model", model)
    if decoder is model:
        raise ValueError(f"{type(model).__name__} does not say where its decoder ends and its LM head begins.")
    return decoder


def width_of(model: nn.Module) -> int:
    """D, the size of the last hidden state."""
    config = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    return config.hidden_size


def _set_trained(parameters: Iterable[nn.Parameter], trained: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(trained)


def _active(policy) -> str:
    active = policy.active_adapter
    return active if isinstance(active, str) else active[0]


def _forward(decoder: nn.Module, inputs: dict) -> Tensor:
    if any("pixel" in key for key in inputs):
        raise ValueError("a critic with a forward pass of its own reads text only; use credit/critic=head with images.")
    tokens = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    output = decoder(input_ids=tokens, attention_mask=mask, use_cache=False)
    return output.last_hidden_state[:, -inputs["completion_ids"].shape[1] - 1 : -1]


def check_tokenizer(tokenizer, model: str | None) -> None:
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
