"""One completion with what the rewards gave it, and who notes them while a trainer evaluates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from accelerate.utils import gather_object

from rewards.answers.scorable import comparing
from rewards.base import TextReward
from rewards.guard import guard_of
from rewards.guard.clock import run_within
from rewards.text.completions import completion_text
from rewards.text.opened import text_with_opening
from tasks.base import Row, prompt_key
from trainers.evaluation.talks import talks_of
from trainers.seam.ends import ends_of
from trainers.seam.visit import Scoring

_SECONDS = 10.0  # for finding the answer in one text


@dataclass(frozen=True)
class Completion:
    """Args:
    prompt, sample: its place among the prompts, and among the completions of that prompt.
    text: without special tokens; of a conversation, what the last turn says.
    tokens: how many the model wrote, the end tokens included.
    ended: whether it ended by itself; else it was cut off, by its length or by the number of its turns.
    scores: what each reward function gave; None where it gave no number.
    failed: functions that failed on it, and how (rewards/guard/failures.py).
    reward: the weighted sum of the scores there are; None: there is none.
    answer: what the function that compares answers reads in it; None: nothing, or there is no such function.
    messages: of a conversation with tools, from the prompt as the policy read it; None: a plain text.
    earned: what each of its turns earned, where a reward function says it.
    fault: kind and words of what went wrong in its environment; such a conversation has no scores.
    """

    prompt: int
    sample: int
    text: str
    tokens: int
    ended: bool
    scores: dict[str, float | None]
    failed: dict[str, str] = field(default_factory=dict)
    reward: float | None = None
    answer: str | None = None
    messages: list[dict[str, Any]] | None = None
    earned: list[float] | None = None
    fault: tuple[str, str] | None = None

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Judges:
    """The reward functions of an evaluation.

    Args:
        funcs, weights, names: as a run has them, guarded or not.
        passes: the function that says whether a completion passes: at `threshold` or above.
    """

    funcs: Sequence[Callable]
    weights: Sequence[float]
    names: Sequence[str]
    passes: str
    threshold: float = 1.0

    def __post_init__(self):
        if self.passes not in self.names:
            raise ValueError(f"passes={self.passes}: there is no such reward function, but {', '.join(self.names)}.")

    @property
    def comparing(self) -> TextReward | None:
        """The function that reads answers and says which are one: that of `passes`, or inside of it."""
        func = self.funcs[list(self.names).index(self.passes)]
        found = [one for one in comparing([func]) if hasattr(one, "same") and hasattr(one, "extract")]
        return found[0] if found else None

    def total(self, scores: dict[str, float | None]) -> float | None:
        known = [w * score for w, n in zip(self.weights, self.names, strict=True) if (score := scores[n]) is not None]
        return sum(known) if known else None


def passes_by_default(funcs: Sequence[Callable], weights: Sequence[float], names: Sequence[str]) -> str:
    """The first function that compares answers, else the one that weighs most."""
    answers = [name for func, name in zip(funcs, names, strict=True) if comparing([func])]
    return answers[0] if answers else max(zip(weights, names, strict=True), key=lambda pair: pair[0])[1]


class Collector:
    """A scoring observer of `CreditGRPOTrainer` that notes every completion of an evaluation, on the main process.

        collector = Collector(judges, task.evaluation)
        trainer.scoring_observers.append(collector)

    Rows that the processes were given twice to make their batches even are noted once.

    Args:
        prompts: the rows that are evaluated.
        each: completions of each.
        places: for the rows that this process is at, (prompt, sample) of each; None: by their prompts, in the order in which
            they come.
    """

    def __init__(self, judges: Judges, prompts: Sequence[Row], each: int = 1, places: Callable[[], list] | None = None):
        self.judges, self._places = judges, places
        self._reads = places is not None or each > 1  # one completion is no vote
        keys = [_key(row) for row in prompts]
        self._place = {key: keys.index(key) for key in dict.fromkeys(keys)} if places is None else {}
        self._wanted = {place: keys.count(key) * each for key, place in self._place.items()}
        self._seen: set[tuple[int, int]] = set()
        self._count: Counter[int] = Counter()
        self.completions: list[Completion] = []

    def reset(self) -> None:
        """For the next evaluation."""
        self._seen, self._count, self.completions = set(), Counter(), []

    def __call__(self, trainer: Any, scoring: Scoring) -> None:
        if trainer.model.training:
            return
        for place, one in gather_object(self._noted(trainer, scoring)):
            if self._places is None:
                prompt = self._place[place]
                place = (prompt, self._count[prompt])
                if place[1] >= self._wanted[prompt]:
                    continue
                self._count[prompt] += 1
            if place not in self._seen:
                self._seen.add(place)
                self.completions.append(Completion(prompt=place[0], sample=place[1], **one))

    def _noted(self, trainer: Any, scoring: Scoring) -> list[tuple[Any, dict]]:
        """Of this process: the place of each completion, and what there is to say of it."""
        judges, rank, count = self.judges, trainer.accelerator.process_index, len(scoring.rows)
        assert scoring.rewards_BK is not None
        numbers = scoring.rewards_BK[rank * count : (rank + 1) * count].tolist()
        places = [_key(row) for row in scoring.rows] if self._places is None else self._places()
        failures = {name: guard_of(func) for name, func in zip(judges.names, judges.funcs, strict=True)}
        ends, noted, talks = ends_of(trainer), [], talks_of(trainer, scoring)
        for row, (place, ids) in enumerate(zip(places, scoring.completion_ids, strict=True)):
            # TRL holds scores as float32: 0.2 and not 0.20000000298
            pairs = zip(judges.names, numbers[row], strict=True)
            scores = {name: None if value != value else float(f"{value:.7g}") for name, value in pairs}
            text = completion_text(scoring.completions[row])
            talk = dict(talks[row])
            tokens, answered = talk.pop("tokens", len(ids)), talk.pop("answered", True)
            one = {
                "text": text,
                "tokens": tokens,
                "ended": bool(ids) and ids[-1] in ends and answered,
                "scores": scores,
                "failed": {
                    name: guard.last_failed[row]
                    for name, guard in failures.items()
                    if guard and row in guard.last_failed
                },
                "reward": judges.total(scores),
                "answer": self._answer(scoring.openings[row], text) if self._reads else None,
                **talk,
            }
            noted.append((place, one))
        return noted

    def _answer(self, opened: str, text: str) -> str | None:
        reader = self.judges.comparing
        if reader is None:
            return None
        try:
            return run_within(_SECONDS, lambda: reader.extract(text_with_opening(reader, opened, text)))  # type: ignore[attr-defined]
        except Exception:  # as the reward itself failed on it, which is counted
            return None


def _key(row: Row) -> str:
    """Of a row: its prompt, and the seed from which an environment makes the rest."""
    return prompt_key(row["prompt"]) + (f" seed {row['seed']}" if "seed" in row else "")
