"""GAE over a batch of long rows: the vectorised form, the plain loop over time, and one pass over the same bytes.

    python benchmarks/cost/gae.py [--rows 512] [--tokens 8192] [--threads 1]

The loop is the one that peers use (`credit.returns.gae_loop` has the same steps). Each round times all of them one after the
other; ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

import torch

from credit.returns import gae, gae_loop, last_token_rewards


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (("rows", 512), ("tokens", 8192), ("threads", 1), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    lengths_B = torch.randint(given.tokens // 2, given.tokens + 1, (given.rows,))
    mask_BT = torch.arange(given.tokens) < lengths_B[:, None]
    holes_BT = mask_BT & (torch.rand(mask_BT.shape) < 0.9)
    values_BT = torch.randn(mask_BT.shape)
    for label, mask, lambda_ in (
        ("lambda 0.95", mask_BT, 0.95),
        ("lambda 1", mask_BT, 1.0),
        ("lambda 0.95, tool text inside", holes_BT, 0.95),
        ("a lambda for each row", mask_BT, torch.rand(given.rows)),
    ):
        rewards_BT = last_token_rewards(torch.rand(given.rows), mask)
        rows = []
        for _ in range(given.rounds):
            fast = timed(lambda: gae(rewards_BT, values_BT, mask, 1.0, lambda_))  # noqa: B023
            slow = timed(lambda: gae_loop(rewards_BT, values_BT, mask, 1.0, lambda_))  # noqa: B023
            once = timed(lambda: rewards_BT + values_BT * mask)  # noqa: B023
            rows.append((fast, slow, once))
        fast, slow, once = (statistics.median(column) for column in zip(*rows, strict=True))
        ratio = statistics.median(slow / fast for fast, slow, _ in rows)
        passes = statistics.median(fast / once for fast, _, once in rows)
        print(
            f"{label:<30} {1000 * fast:7.1f} ms, loop {1000 * slow:8.1f} ms: {ratio:5.1f} x; one pass over the bytes "
            f"{1000 * once:5.1f} ms, so {passes:4.1f} passes",
            flush=True,
        )


def timed(run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
