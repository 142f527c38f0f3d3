"""What the guard costs: 4,096 completions of 2,000 characters, with and without it, in one run on one core.

    python benchmarks/cost/guard.py

Guarded and bare calls take turns, so that a change of the machine's speed meets both; the ratio is that of the
medians.
"""

from __future__ import annotations

import random
import statistics
import time

from rewards.format import regex_format
from rewards.guard import guarded
from rewards.tags import think_answer

ROWS, CHARACTERS, ROUNDS = 4096, 2000, 15


def completions() -> list[str]:
    """Half of them in the format, the others with one tag missing or doubled."""
    rng = random.Random(0)
    words = ["so", "then", "the", "sum", "of", "3", "and", "4", "is", "7", "therefore", "check:", "\n"]
    result = []
    for row in range(ROWS):
        pieces = ["<think>", "", "</think>", "<answer>", "7", "</answer>"]
        if row % 2:
            pieces[rng.choice((0, 2, 3, 5))] *= rng.choice((0, 2))
        room = CHARACTERS - sum(map(len, pieces))
        pieces[1] = " ".join(rng.choices(words, k=room))[:room]
        result.append("".join(pieces))
    return result


def timed(func, texts: list[str]) -> tuple[float, float]:
    """Seconds on the clock and on the CPU."""
    started = time.perf_counter(), time.process_time()
    func(prompts=texts, completions=texts)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def main() -> None:
    texts = completions()
    pattern = r"<think>.*?</think>\s*<answer>.*?</answer>"
    rewards = [regex_format(pattern, name="regex"), think_answer()]
    total = {form: [(0.0, 0.0)] * ROUNDS for form in ("bare", "guarded")}
    print(f"{ROWS} completions of {CHARACTERS} characters, {ROUNDS} rounds, milliseconds a call (median)")
    for reward in rewards:
        times: dict[str, list[tuple[float, float]]] = {"bare": [], "guarded": []}
        forms = {"bare": reward, "guarded": guarded(reward)}
        for round_ in range(ROUNDS):
            for form in forms if round_ % 2 else reversed(forms):
                clock, cpu = timed(forms[form], texts)
                times[form].append((clock, cpu))
                total[form][round_] = total[form][round_][0] + clock, total[form][round_][1] + cpu
        _line(reward.__name__, times)
        spans = statistics.median(timed(reward.spans, texts)[0] for _ in range(3))
        print(f"  {'  its spans':<16} {1000 * spans:8.1f}")
    _line("both", total)


def _line(name: str, times: dict[str, list[tuple[float, float]]]) -> None:
    for what, which in (("clock", 0), ("CPU", 1)):
        bare, guard = (statistics.median(entry[which] for entry in times[form]) for form in ("bare", "guarded"))
        print(f"  {name:<16} {1000 * bare:8.1f} bare {1000 * guard:8.1f} guarded   ratio {guard / bare:.3f}  {what}")


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
