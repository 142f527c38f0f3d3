"""The largest bias of a strategy that was found anywhere: the number that its page may call "the bias"."""

from __future__ import annotations

from dataclasses import dataclass

from lab.bench.jobs import Spec
from lab.bench.summary import percent
from lab.measure.declarations import Finding
from lab.measure.metrics import WORST_BIAS

GROUP_SIZE = 4  # of the worlds of a card


@dataclass(frozen=True)
class Largest:
    """The largest relative bias that was found anywhere, and where: the number that a page may call "the bias"."""

    bias: float
    where: str
    error: float = 0.0

    @property
    def words(self) -> str:
        """The number, or that the mean update lowers the reward."""
        return "backwards" if self.bias >= WORST_BIAS else percent(self.bias)

    def __str__(self) -> str:
        if self.bias >= WORST_BIAS:
            return f"backwards in {self.where}, {'sampled' if self.error else 'by enumeration'}: the mean update lowers the reward"
        by = f"sampled, ±{percent(self.error, 1)}" if self.error else "by enumeration"
        return f"by up to {self.words} in {self.where}, {by}"


def largest_bias(variants: list[Spec], records: list[dict], finding: Finding) -> Largest:
    """Over every world of the card, whatever the critic, and what `check_declaration` saw before it stopped. A sampled bias
    counts from three of its standard errors on."""
    found = [Largest(finding.worst, finding.where)]
    labels = {spec.label: spec.critic for spec in variants}
    for record in (r for r in records if r["label"] in labels and "metrics" in r):
        bias, error = record["metrics"]["relative_bias"], record["errors"].get("relative_bias") or 0.0
        if bias is not None and bias > 3 * error:
            critic = f", {labels[record['label']]} critic" if len(variants) > 1 else ""
            found.append(Largest(bias, f"{record['world']}, groups of {GROUP_SIZE}{critic}", error))
    return max(found, key=lambda each: each.bias)
