"""Sequence-level reward functions: how much is this completion worth?

A reward is a plain callable `(prompts, completions, **columns) -> list[float | None]`, the signature of TRL. Nothing
here imports torch, trl or transformers (except `rewards.learned`, when a reward model is built).
"""
