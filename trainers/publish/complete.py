"""What a model's folder needs besides weights, so that others can load it and talk with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trainers.model.adapters import is_adapted


def complete(trainer: Any, folder: Path) -> None:
    """Adds the generation config (peft saves none with an adapter) and the chat template where they are not yet."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    base = model.get_base_model() if is_adapted(model) else model
    config = getattr(base, "generation_config", None)
    if config is not None and not (folder / "generation_config.json").is_file():
        config.save_pretrained(folder)
    tokenizer = trainer.processing_class
    if getattr(tokenizer, "chat_template", None) and not (folder / "chat_template.jinja").is_file():
        tokenizer.save_pretrained(folder)
