"""What scoring needs of the policy that sampled, before any update: log-probs for the KL penalty, hidden states for a critic,
statistics of its tokens for providers of signals.

Read off TRL's no-grad pass for old log-probs where it makes one; a pass is made where something is needed and TRL made none.
"""

from __future__ import annotations

import time

import torch

from trainers.seam.visit import KL_REWARDS_BT, Pass, Scoring, learning_mask

# What TRL's batch dict may hold for its forward pass beside tokens and masks (images of multimodal policies).
FORWARD_EXTRAS = (
    "pixel_values",
    "image_grid_thw",
    "num_images",
    "pixel_attention_mask",
    "spatial_shapes",
    "num_tiles",
    "image_sizes",
    "token_type_ids",
    "mm_token_type_ids",
    "image_position_ids",
)


class SamplerPass:
    """Mixin of `CreditGRPOTrainer`, before `KLReward`, `SignalSeam` and `CriticSeam` in the order of methods."""

    def _note_sampler(self, output: dict, scoring: Scoring) -> None:
        """Puts the KL penalty and a critic's values beside the rows, where the strategy scores with them."""
        old_logps = output.get("old_per_token_logps")
        found = next((each for each in scoring.passes if each.logps_BT is old_logps), None)
        if found is None and (self._scores_kl or self._scores_values_of_policy or self._statistics):
            started = time.perf_counter()
            found = self._one_more_pass(output, scoring)
            scoring.seconds = time.perf_counter() - started
        scoring.sampler = found
        if self._scores_kl:
            ref_logps_BT, mask_BT = output["ref_per_token_logps"], learning_mask(output)
            output[KL_REWARDS_BT] = self._kl_rewards(found.logps_BT, ref_logps_BT, mask_BT)
        self._note_values(output, found)

    def _one_more_pass(self, output: dict, scoring: Scoring) -> Pass:
        """Of the policy as it is, without gradient."""
        tokens = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        extras = {name: output[name] for name in FORWARD_EXTRAS if name in output}
        width, size = output["completion_ids"].shape[1], self.args.per_device_train_batch_size
        scoring.looked_at = False
        with torch.no_grad():
            self._get_per_token_logps_and_entropies(self.model, tokens, mask, width, batch_size=size, **extras)
        return scoring.passes[-1]
