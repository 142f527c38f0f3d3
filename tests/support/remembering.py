"""A member of a strategy that remembers, for runs that are killed."""

from __future__ import annotations


class RunningMean:
    """A = R - mean of the batches before, older ones forgotten."""

    def __init__(self, memory: float = 0.7):
        self.memory, self.mean, self.batches = memory, 0.0, 0

    def __call__(self, rewards_B):
        before = self.mean
        self.mean = self.memory * self.mean + (1 - self.memory) * float(rewards_B.nanmean())
        self.batches += 1
        return rewards_B - before

    def state_dict(self):
        return {"mean": self.mean, "batches": self.batches}

    def load_state_dict(self, state):
        self.mean, self.batches = state["mean"], state["batches"]
