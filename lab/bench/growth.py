"""python -m lab.bench.growth   How time and memory of the lab grow with vocabulary V, length T and group size G.

Prints the tables of docs/credit/lab.md. One thread; a few minutes.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable

import torch

from credit import baseline, weight
from credit.strategy import Strategy
from lab.exact.quantities import exact
from lab.exact.world import END, World
from lab.exact.worlds import world
from lab.measure.batches import count_groups, itemise
from lab.measure.estimate import FULL, measure, rloo

SIZES = [(2, 4), (3, 4), (3, 6), (3, 8), (4, 4), (4, 6), (4, 8), (6, 4), (6, 6), (5, 8)]


def plain(vocabulary: int, length: int) -> World:
    """V tokens, END among them, up to T long; the first token decides."""
    letters = tuple("abcde"[: vocabulary - 1])
    return World(
        name=f"V={vocabulary} T={length}",
        meaning="",
        prompts=("p",),
        actions=(*letters, END),
        reward=lambda prompt, text: float(text[0] == "a"),
        deciding=lambda prompt, text: {0},
        max_length=length,
    )


def seconds_of(work: Callable[[], object]) -> tuple[float, object]:
    """(seconds, result)"""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    """Prints both tables as Markdown."""
    torch.set_num_threads(1)
    print("| V | T | texts | parameters | gradient and values | scores of all texts, if built | measure rloo, G=4 |")
    print("|---:|---:|---:|---:|---:|---:|---:|")
    for vocabulary, length in SIZES:
        game = plain(vocabulary, length)

        def enumerate_all(game=game):
            found = exact(game)
            return found, found.reward_gradient, found.advantages_NT

        seconds, (found, _, _) = seconds_of(enumerate_all)
        texts, parameters = len(found.tree.prompt_N), found.theta.numel()
        size = texts * length * parameters * 8
        last = f"{seconds_of(lambda found=found: measure(found, rloo()))[0]:.2f} s"
        scores = f"{size / 2**20:,.1f} MiB" if size < 2**30 else f"{size / 2**30:,.0f} GiB"
        print(
            f"| {vocabulary} | {length} | {texts:,} | {parameters:,} | {seconds:.2f} s | {scores} | {last} |",
            flush=True,
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"\nPeak memory up to here: {peak:.1f} GiB.\n")
    print("| G | groups of items | groups of texts | rloo | token_mean, 192 batches drawn | R - V(s_t) |")
    print("|---:|---:|---:|---:|---:|---:|")
    found = exact(world("poison"))

    def value(rewards_B, values_BT):
        return rewards_B[:, None] - values_BT

    strategies = [
        rloo(),
        Strategy(weight.token_mean, baseline.group_mean, name="token_mean"),
        Strategy(weight.seq_sum, baseline.none, value, name="value"),
    ]
    for size in (2, 4, 8, 16):
        counts = [count_groups(itemise(found, found, apart), 0, size) for apart in (False, True)]
        times = []
        for strategy in strategies:
            got = measure(found, strategy, size, budget=FULL if strategy.name != "token_mean" else type(FULL)())
            times.append(f"{got.seconds:.2f} s" + ("" if got.exact else ", drawn"))
        print(f"| {size} | {counts[0]:,} | {counts[1]:,} | " + " | ".join(times) + " |", flush=True)


if __name__ == "__main__":
    from userio.commands import asks_for_help
    from userio.terminal import steady_output

    steady_output()
    if asks_for_help(sys.argv[1:]):
        print(__doc__)
    else:
        main()
