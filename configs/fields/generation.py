"""What generation reads of TRL's config."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class GenerationSettings:
    """What generation reads of TRL's `GRPOConfig`, by its names."""

    per_device_eval_batch_size: int = 64
    """Completions at once, on each process."""
    max_completion_length: int | None = None
    """In tokens; null: what the task suggests, at least 64; else 512."""
    temperature: float = 1.0
    """Of sampling; 0: the likeliest token each time."""
    top_p: float = 1.0
    """Only the likeliest tokens that have this share of the probability together."""
    top_k: int = 0
    """Only so many of the likeliest tokens; 0: all."""
    min_p: float | None = None
    """Only tokens at least so likely, as a share of the likeliest one."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that have stood before become less likely."""
    chat_template_kwargs: dict[str, Any] = field(default_factory=dict)
    """Arguments of the chat template, as in training."""
    max_tool_calling_iterations: int | None = None
    """At most so many turns that call tools; null: as many as the length has room for."""
    use_vllm: bool = False
    """Generate with vLLM, which draws by itself: numbers then depend on the batch."""
    vllm_mode: str = "colocate"
    """colocate, or server."""
    vllm_server_base_url: str | None = None
    """Of the server."""
    vllm_gpu_memory_utilization: float = 0.3
    """Share of the GPU's memory that a colocated vLLM takes."""
    vllm_tensor_parallel_size: int = 1
    """Processes that share one colocated vLLM."""
    vllm_max_model_length: int | None = None
    """Longest prompt and completion of vLLM; null: the model's."""
