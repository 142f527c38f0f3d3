"""A learned reward: a sequence-classification model with one output, local or from the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewards.text.completions import completion_text


class reward_model:
    """The logit of a sequence-classification model for prompt and completion together.

    Conversations go through the tokenizer's chat template, plain texts are joined. The model is loaded at the first
    call, on this process's device; a missing local folder is told at once. torch and transformers are imported only
    then. To have TRL place and shard the model itself, give TRL the model id instead of this function.

    Args:
        model: a local folder or a hub id. A name with a path separator at its start ("./", "/", "~") is local.
        batch_size: completions per forward pass; texts of similar length go together.
        max_length: tokens; longer texts lose their beginning. None: the tokenizer's limit.
        device: as torch names it; None: this process's GPU if there is one, else the CPU.
        dtype: as torch names it ("bfloat16"); None: as saved.
        squash: "sigmoid" gives values from 0 to 1; None the raw logit.
        name: the name in the logs; default the last part of `model`.

    Range: any number (0 to 1 with squash). Raises:
        ValueError: a missing folder, a model with more than one output, an unknown squash.
    """

    def __init__(
        self,
        model: str,
        *,
        batch_size: int = 16,
        max_length: int | None = None,
        device: str | None = None,
        dtype: str | None = None,
        squash: str | None = None,
        name: str | None = None,
    ):
        if model.startswith((".", "/", "~")) and not Path(model).expanduser().is_dir():
            raise ValueError(f"There is no reward model folder {Path(model).expanduser().absolute()}.")
        if squash not in (None, "sigmoid"):
            raise ValueError(f"squash={squash!r} is not null or sigmoid.")
        if batch_size < 1:
            raise ValueError(f"batch_size={batch_size} must be at least 1.")
        self.model_name = str(Path(model).expanduser()) if model.startswith("~") else model
        self.batch_size, self.max_length, self.device, self.dtype = batch_size, max_length, device, dtype
        self.squash, self.__name__ = squash, name or Path(model).name
        self._loaded: Any = None

    def __getstate__(self):
        return {**self.__dict__, "_loaded": None}

    def __call__(self, prompts: list, completions: list, **columns: Any) -> list[float]:
        """One value per completion, in order."""
        import torch

        model, tokenizer = self._model()
        texts = [self._text(tokenizer, *pair) for pair in zip(prompts, completions, strict=True)]
        order = sorted(range(len(texts)), key=lambda row: len(texts[row]), reverse=True)
        values = [0.0] * len(texts)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            inputs = tokenizer(
                [texts[row] for row in rows],
                return_tensors="pt",
                padding=True,
                truncation=True,
                max_length=self.max_length,
                add_special_tokens=isinstance(completions[0], str),
            ).to(model.device)
            with torch.inference_mode():
                logits_B = model(**inputs).logits[:, 0].float()
            logits_B = logits_B.sigmoid() if self.squash == "sigmoid" else logits_B
            for row, value in zip(rows, logits_B.tolist(), strict=True):
                values[row] = value
        return values

    def _text(self, tokenizer: Any, prompt: Any, completion: Any) -> str:
        if isinstance(completion, str):
            return prompt + completion
        messages = prompt if isinstance(prompt, list) else [{"role": "user", "content": prompt}]
        if messages[-1].get("role") == "assistant":  # the beginning of the answer (a prefill), which is one message
            begun = completion_text([messages[-1]])
            messages, completion = (
                messages[:-1],
                [{**completion[0], "content": begun + completion_text(completion[:1])}, *completion[1:]],
            )
        if getattr(tokenizer, "chat_template", None):
            return tokenizer.apply_chat_template([*messages, *completion], tokenize=False)
        return "\n".join([*(completion_text([message]) for message in messages), completion_text(completion)])

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            import torch
            from transformers import AutoModelForSequenceClassification, AutoTokenizer

            own = {"trust_remote_code": False}  # said, so that nobody is asked in the middle of a run
            sides = {"padding_side": "right", "truncation_side": "left"}
            tokenizer = AutoTokenizer.from_pretrained(self.model_name, **sides, **own)
            dtype = getattr(torch, self.dtype) if self.dtype else "auto"
            model = AutoModelForSequenceClassification.from_pretrained(self.model_name, dtype=dtype, **own)
            if model.config.num_labels != 1:
                raise ValueError(f"Reward model {self.model_name} has {model.config.num_labels} outputs, not one.")
            if tokenizer.pad_token is None:
                tokenizer.pad_token = tokenizer.eos_token
            model.config.pad_token_id = tokenizer.pad_token_id
            self._loaded = model.to(self.device or _default_device()).eval().requires_grad_(False), tokenizer
        return self._loaded


def _default_device() -> str:
    import os

    import torch

    return f"cuda:{os.environ.get('LOCAL_RANK', 0)}" if torch.cuda.is_available() else "cpu"
