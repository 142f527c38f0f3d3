"""How much memory of a GPU a run takes at most, by a formula. Numbers and arithmetic only; nothing is loaded.

What stays through the run is counted exactly: weights, gradients, the optimizer's moments. What comes and goes is bounded
by the largest of a few moments: the logits of a micro-batch with its backward pass, one layer's backward pass, and
generation. The factors of those are bytes for each number named beside them, measured on transformers' own modules
(tests/trainers/plan/test_memory.py measures them again), for decoders with gated layers and scaled-dot-product attention.

B rows of a micro-batch, P tokens of a prompt, C of a completion, T = P + C; H hidden width, I width inside a layer, V tokens of
the vocabulary, N numbers, L layers. All sizes are bytes of one process, 1 GB = 1e9 bytes.
"""

from __future__ import annotations

from dataclasses import dataclass

from trainers.plan.shape import ModelSizes

# What CUDA, its libraries and the allocator's rounding take before anything of ours.
BASE = 1.0e9
# A layer's backward pass: bytes for each token and H, for each token and I; under mixed precision of float32 weights, with
# an adapter on bfloat16 weights, and without mixed precision.
WORKING = {"mixed": (52, 13), "adapter": (48, 15), "single": (60, 26)}
# What a layer keeps for it without checkpointing.
KEPT = {"mixed": (52, 8), "adapter": (44, 10), "single": (60, 16)}
# The mask of attention, for each token and each position that it may look at.
MASK = 3
# Logits of completions with their backward pass, where TRL makes them whole; without a backward pass.
LOGITS, LOGITS_FORWARD = 20, 10
# Where TRL makes them in tiles (trl.kernels): tokens and vocabulary of a tile.
TILE = 4096 * 32768 * 2
# Logits of the token that is sampled, with what the sampler makes of them.
SAMPLING = 16
# The optimizer's moments, for each trained number; times its size where they have the weights' own dtype.
MOMENTS = {"adamw": 2.0, "adam": 2.0, "lion": 1.0, "sgd": 0.0, "rmsprop": 1.0, "adagrad": 1.0, "adafactor": 0.1}


@dataclass(frozen=True)
class Load:
    """What a process does at once.

    Args:
        rows: B of training; prompt, completion: P and C; for texts C is the whole text and P is 0.
        evaluated: rows of an evaluation batch; generated: rows that are generated together, 0 for texts.
        is_mixed: computes in bfloat16 or float16 (trainer.bf16, fp16); is_checkpointed: keeps each layer's input only.
        makes_tiles: TRL makes logits in tiles.
        optimizer: `trainer.optim`; has_reference: a second, frozen model of the same weights is there.
        vllm: share of the card that vLLM takes on the same GPU; 0: it is not there. vllm_sleeps: it gives it back in training.
        ranks: processes; sharding: what is dealt out among them: "", "zero2", "zero3" or "fsdp".
    """

    rows: int
    prompt: int
    completion: int
    evaluated: int = 0
    generated: int = 0
    is_mixed: bool = True
    is_checkpointed: bool = True
    makes_tiles: bool = False
    optimizer: str = "adamw_torch_fused"
    has_reference: bool = False
    vllm: float = 0.0
    vllm_sleeps: bool = False
    ranks: int = 1
    sharding: str = ""


@dataclass(frozen=True)
class Memory:
    """Args:
    stays: what is there all the time, by name; training, generating: what comes on top in these, by name.
    vllm: share of the card that vLLM takes; vllm_needs: what it cannot do without; vllm_sleeps: it gives it back in training.
    """

    stays: dict[str, float]
    training: dict[str, float]
    generating: dict[str, float]
    vllm: float = 0.0
    vllm_needs: float = 0.0
    vllm_sleeps: bool = False

    @property
    def peak(self) -> float:
        """What our own process takes at most, vLLM's share apart."""
        return sum(self.stays.values()) + max(sum(self.training.values()), sum(self.generating.values()))

    @property
    def smallest_card(self) -> float:
        """The smallest card on which everything has room."""
        if not self.vllm:
            return self.peak
        awake = sum(self.stays.values()) + sum(self.generating.values())
        beside = awake if self.vllm_sleeps else self.peak
        return max(self.peak, beside / (1 - self.vllm), self.vllm_needs / self.vllm)

    def fits(self, card: float) -> bool:
        """Whether a card of so many bytes has room, a twentieth of it left over for the allocator's gaps."""
        return self.smallest_card <= 0.95 * card


def memory_of(shape: ModelSizes, load: Load) -> Memory:
    """The memory of one process."""
    shared = load.ranks if load.sharding in ("zero3", "fsdp") else 1
    shared_state = load.ranks if load.sharding else 1
    stays = {
        "weights": _weights(shape, load) / shared,
        "optimizer": optimizer_bytes(shape, load) / shared_state,
        "reference": shape.weight_bytes / shared if load.has_reference and not shape.is_adapted else 0.0,
        "CUDA": BASE,
    }
    gradients = shape.trained_bytes / shared_state
    if load.ranks > 1 and not load.sharding:
        gradients += shape.trained_bytes  # DDP sums them in buckets of its own
    copies = 2.0 * shape.matrices if load.is_mixed and shared == 1 and not load.sharding.startswith("zero") else 0.0
    training = {
        "gradients": gradients,
        "bfloat16 copies": copies,
        "gathered": _gathered(shape, load),
        **_activations(shape, load),
    }
    generating = {"bfloat16 copies": copies, **_generating(shape, load)} if load.generated or load.vllm else {}
    return Memory(
        _positive(stays),
        _positive(training),
        _positive(generating),
        load.vllm,
        2.0 * shape.parameters + BASE + 4.0 * _cache(shape, load, 1, 2.0) if load.vllm else 0.0,
        load.vllm_sleeps,
    )


def optimizer_bytes(shape: ModelSizes, load: Load) -> float:
    """The moments, and under DeepSpeed the float32 weights that it keeps."""
    name = load.optimizer.lower()
    per_number = next((count for kind, count in MOMENTS.items() if kind in name), MOMENTS["adamw"])
    size = 1.0 if "8bit" in name else 0.5 if "4bit" in name else shape.trained_bytes / max(1, shape.trained)
    master = 0.0
    if load.sharding.startswith("zero"):
        size, master = 4.0, 4.0
    return shape.trained * (per_number * size + master)


def _weights(shape: ModelSizes, load: Load) -> float:
    """DeepSpeed trains in bfloat16, whatever the weights were loaded as."""
    return 2.0 * shape.parameters if load.sharding.startswith("zero") and load.is_mixed else float(shape.weight_bytes)


def _gathered(shape: ModelSizes, load: Load) -> float:
    """What a sharded model has whole for a moment: two layers and what stands outside of them, with gradients."""
    if load.sharding == "fsdp":
        trains = 4.0 if not shape.is_adapted else 0.0
        return (2.0 + trains) * (2 * shape.layer + shape.outside)
    if load.sharding == "zero3":  # DeepSpeed's defaults: 1e9 live numbers, two buckets of 5e8
        return 2.0 * min(shape.parameters, 1e9) + 2.0 * min(shape.trained, 1e9)
    return 0.0


def _activations(shape: ModelSizes, load: Load) -> dict[str, float]:
    length = load.prompt + load.completion
    tokens = load.rows * length
    kind = "adapter" if shape.is_adapted and load.is_mixed else "mixed" if load.is_mixed else "single"
    working = _layer(WORKING[kind], shape, tokens) + MASK * tokens * length
    if load.is_checkpointed:
        kept = float(shape.layers * tokens * shape.hidden * _hidden_bytes(shape, load))
    else:
        kept = shape.layers * _layer(KEPT[kind], shape, tokens)
    logits = _logits(shape, load, load.rows, LOGITS)
    if load.evaluated:
        rows = load.evaluated
        judged = _logits(shape, load, rows, LOGITS_FORWARD) + _layer(WORKING[kind], shape, rows * length) / 2
        logits = max(logits, judged - kept)
    return {"kept for backward": kept, "logits" if logits > working else "one layer": max(logits, working)}


def _layer(factors: tuple[int, int], shape: ModelSizes, tokens: int) -> float:
    return float(tokens * (factors[0] * shape.hidden + factors[1] * shape.intermediate))


def _hidden_bytes(shape: ModelSizes, load: Load) -> int:
    return 2 if load.sharding.startswith(("zero", "fsdp")) and load.is_mixed else shape.hidden_bytes


def _logits(shape: ModelSizes, load: Load, rows: int, factor: int) -> float:
    tokens = rows * (load.completion + 1)
    if load.makes_tiles:
        head = 4.0 * shape.vocabulary * shape.hidden if not shape.is_adapted else 0.0
        return TILE * min(1.0, tokens / 4096) * 2 + head + 8.0 * tokens * shape.hidden
    return float(factor * tokens * shape.vocabulary)


def _generating(shape: ModelSizes, load: Load) -> dict[str, float]:
    """transformers' generate: all rows of a generation at once, with a cache that grows to the end."""
    if load.vllm or not load.generated:
        return {}
    # Rotary positions are float32 where the weights are, so keys are, too; values come out of a bfloat16 product.
    size = shape.hidden_bytes if not load.is_mixed or shape.hidden_bytes == 2 else 3.0
    return {
        "cache": _cache(shape, load, load.generated, size),
        "sampling": float(SAMPLING * load.generated * shape.vocabulary),
        "first pass": load.generated * load.prompt * 12.0 * (shape.hidden + shape.intermediate),
        "gathered": 2.0 * shape.parameters if load.sharding == "zero3" else 0.0,
    }


def _cache(shape: ModelSizes, load: Load, rows: int, size: float) -> float:
    """Keys and values of every token of these rows; size: bytes of a number."""
    return 2.0 * size * rows * (load.prompt + load.completion) * shape.layers * shape.kv_heads * shape.head_size


def _positive(parts: dict[str, float]) -> dict[str, float]:
    return {name: size for name, size in parts.items() if size > 0}
