"""A model that takes the sequence temperature as an input, for Long Horizon Temperature Scaling over a range of tau.

Two small additions, both nothing at tau = 1 and nothing before training: a vector that depends on log alpha is added to
every token embedding, and the logits are multiplied by alpha^s with a learnt s (s = 1 alone would be token
temperature). The weights are saved with the model's own under `tau_input.`; `config.lhts` says that they are there.

Shapes: H width of the hidden states.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn


class TauInput(nn.Module):
    """Set `alpha_B` before each forward pass: (B,), or (1,) for all rows alike. None leaves the model as it is.

    The additions are scaled by `GAIN`, so that an optimiser whose steps have one size (Adam) moves them as fast as it
    moves what the many weights of the model compute together.
    """

    GAIN = 10.0

    def __init__(self, hidden: int):
        super().__init__()
        self.shift = nn.Linear(2, hidden, bias=False)
        self.sharpness = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.shift.weight)
        self.alpha_B: Tensor | None = None

    def on_embeddings(self, module, inputs, output: Tensor) -> Tensor:
        if self.alpha_B is None:
            return output
        log_alpha_B = self.GAIN * self.alpha_B.to(output.device, self.shift.weight.dtype).log()
        shift_BH = self.shift(torch.stack([log_alpha_B, log_alpha_B.square() / self.GAIN], 1))
        return output + shift_BH[:, None].to(output.dtype)

    def on_logits(self, module, inputs, output: Tensor) -> Tensor:
        if self.alpha_B is None:
            return output
        log_alpha_B = self.GAIN * self.alpha_B.to(output.device, self.sharpness.dtype).log()
        return output * (self.sharpness * log_alpha_B).exp().view(-1, 1, 1).to(output.dtype)


def attach_tau_input(model) -> TauInput:
    """Gives a transformers causal LM the input and returns it."""
    tau_input = TauInput(model.get_input_embeddings().weight.shape[1])
    weight = model.get_input_embeddings().weight
    model.tau_input = tau_input.to(weight.device, weight.dtype)
    model.get_input_embeddings().register_forward_hook(tau_input.on_embeddings)
    model.get_output_embeddings().register_forward_hook(tau_input.on_logits)
    return tau_input


def load_tau_input(model, folder: str | Path) -> TauInput | None:
    """Attaches and loads the input of a saved model; None if it was trained for one temperature, or not by LHTS."""
    if len((getattr(model.config, "lhts", None) or {}).get("tau", [])) != 2:
        return None
    tau_input = attach_tau_input(model)
    tau_input.load_state_dict(_saved(Path(folder)))
    return tau_input


def _saved(folder: Path) -> dict[str, Tensor]:
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as tensors:
            for key in tensors.keys():  # noqa: SIM118 (not a dict)
                if key.startswith("tau_input."):
                    found[key.removeprefix("tau_input.")] = tensors.get_tensor(key)
    if not found:
        raise ValueError(f"{folder} says it takes tau as an input, but its weights for it (tau_input.*) are missing.")
    return found
