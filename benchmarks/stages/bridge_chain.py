"""Four ways to write at a sequence temperature with a small language model, and what each costs.

    PYTHONPATH=. python benchmarks/stages/bridge_chain.py --seeds 10 [--first 0] [--most 4] [--out runs/bridge_chain]

Within a seed all ways begin with the same model (the embedded one, warm-started with that seed, on sums of two or three numbers)
and aim at p^alpha / Z of it, alpha = 2. Aligned: `train_grpo.py reward=own_likelihood trainer.beta=1`; tempered: `train_lhts.py
tau=0.5 horizon=null`; sampled: `sample.py sampler=smc tau=0.5`, `sampler=mh`, `sampler=token`. Of a trained model both log q and
log p of its texts are known, so its distance is too: KL(q || p^alpha/Z) = log Z - alpha E_q[log p] - H(q), a mean over prompts;
log Z comes from 512 weighted texts a prompt. Runs so far are kept in the folder (runs.json); a second call goes on from there.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import time
import warnings
from pathlib import Path

import datasets
import torch
import transformers

from lab.stats import mean_interval, paired_difference
from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from sampling.draws import effective_sample_size
from sampling.mh import SuffixMH
from sampling.model import PAD
from sampling.smc import SMC
from trainers.build import build_policy, build_task
from trainers.folder import read_metrics
from trainers.prompts import prompt_ids
from trainers.run import register_schema as register_grpo
from trainers.run import run_grpo
from trainers.run_sft import register_schema as register_sft
from trainers.run_sft import run_lhts
from trainers.verb import compose_command

ALPHA, LIMIT, PROMPTS, TEXTS, WEIGHTED = 2.0, 40, 16, 256, 512
MODEL = ["task.terms=[2,3]", "task.n_eval=64", "model.hidden=64", "model.layers=2"]
GRPO = [
    "reward=own_likelihood",
    "trainer.beta=1",
    f"trainer.max_completion_length={LIMIT}",
    "trainer.max_steps=200",
    "trainer.learning_rate=5e-4",
    "trainer.eval_on_start=false",
]
WAYS = {
    "dr_grpo": ("train_grpo", [*GRPO, "credit=dr_grpo", "credit.kl_in_reward=true"]),
    "dr_grpo, KL in the loss": ("train_grpo", [*GRPO, "credit=dr_grpo", "credit.kl_in_reward=false"]),
    "lhts": (
        "train_lhts",
        ["tau=0.5", "horizon=null", "kl=0", f"max_new_tokens={LIMIT}", "probe=0", "trainer.max_steps=400"],
    ),
    "seq_norm": ("train_grpo", [*GRPO, "credit=seq_norm", "credit.kl_in_reward=true"]),
}
SAMPLERS = {
    "start": (TokenTemperature(), 1.0),
    "token": (TokenTemperature(), 1 / ALPHA),
    "smc": (SMC(64, max_rows=1024), 1 / ALPHA),
    "mh": (SuffixMH(32), 1 / ALPHA),
}
MEASURES = ("distance", "log p", "entropy", "length", "tokens per text", "seconds per text", "training tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--most", type=int, default=None, help="stop after so many new cells")
    parser.add_argument("--out", type=Path, default=Path("runs/bridge_chain"))
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "runs.json"
    done = json.loads(kept.read_text()) if kept.is_file() else []
    seeds = range(options.first, options.first + options.seeds)
    last = [(seed, "seq_norm") for seed in seeds]
    order = [(seed, way) for seed in seeds for way in ("samplers", *WAYS) if way != "seq_norm"] + last
    missing = [cell for cell in order if not any((row["seed"], row["cell"]) == cell for row in done)]
    for seed, way in missing[: options.most]:
        started = time.perf_counter()
        rows = sampled(seed) if way == "samplers" else [trained(seed, way)]
        done += [{"seed": seed, "cell": way, **row} for row in rows]
        kept.write_text(json.dumps(done, indent=1) + "\n")
        shown = "  ".join(f"{row['way']} {row['distance']} {row['log p']:.3f} {row['length']:.1f}" for row in rows)
        print(f"seed {seed}  {shown}  ({time.perf_counter() - started:.0f} s)", flush=True)
    text = table(done)
    (options.out / "bridge_chain.md").write_text(text + "\n")
    print(text)


class Start:
    """The model of a seed, prompts that it was not trained on, and log Z of each."""

    def __init__(self, seed: int):
        register_grpo()
        command = compose_command("train_grpo", [*MODEL, f"model.pretrain.seed={seed}"])
        task = build_task(command.config)
        with contextlib.redirect_stdout(io.StringIO()):
            policy = build_policy(command.config, task)
        self.model, self.tokenizer = policy.model.eval(), policy.tokenizer
        rows = task.evaluation[:: len(task.evaluation) // PROMPTS][:PROMPTS]
        self.prompts = [prompt_ids(row["prompt"], self.tokenizer) for row in rows]
        self.draws = torch.Generator().manual_seed(seed)
        weighted = TokenTemperature(max_rows=512)(
            CausalLM(self.model, self.tokenizer), self.prompts, 1 / ALPHA, WEIGHTED, LIMIT, self.draws
        )
        self.log_z_P = weighted.log_normaliser_P.double()
        self.ess = float(effective_sample_size(weighted.log_weights_PS).mean() / WEIGHTED)

    def row(self, way: str, draws, seconds: float, logq_PS=None) -> dict:
        """Means over prompts. Without log q: the entropy that p^alpha has at this mean log p, and no distance."""
        logp_PS = self.log_p(draws.tokens_PST).double() if logq_PS is not None else draws.logps_PS.double()
        target_entropy = float((self.log_z_P - ALPHA * logp_PS.mean(1)).mean())
        entropy = target_entropy if logq_PS is None else float(-logq_PS.mean())
        return {
            "way": way,
            "log p": float(logp_PS.mean()),
            "entropy": entropy,
            "distance": None if logq_PS is None else target_entropy - entropy,
            "length": float(draws.lengths_PS.double().mean()),
            "tokens per text": draws.tokens_per_sample,
            "seconds per text": seconds / logp_PS.numel(),
        }

    @torch.no_grad()
    def log_p(self, tokens_PST) -> torch.Tensor:
        """(P, S) of texts that another model wrote; prompts of one length at a time, so nothing is padded on the left."""
        found = []
        for prompt, tokens_ST in zip(self.prompts, tokens_PST, strict=True):
            prefix_ST = torch.tensor(prompt).expand(len(tokens_ST), -1)
            ids_SL = torch.cat([prefix_ST, tokens_ST.clamp(min=0)], dim=1)
            logps_STV = self.model(ids_SL).logits[:, len(prompt) - 1 : -1].float().log_softmax(-1)
            taken_ST = logps_STV.gather(-1, tokens_ST.clamp(min=0)[..., None])[..., 0]
            found.append(taken_ST.masked_fill(tokens_ST == PAD, 0.0).sum(1))
        return torch.stack(found)


def sampled(seed: int) -> list[dict]:
    """What the samplers write; half of the texts for those that draw 64 for one."""
    start, rows = Start(seed), []
    for name, (sampler, tau) in SAMPLERS.items():
        began = time.process_time()
        texts = 32 if name == "smc" else 64 if name == "mh" else TEXTS
        draws = sampler(CausalLM(start.model, start.tokenizer), start.prompts, tau, texts, LIMIT, start.draws)
        known = draws.logps_PS.double() / tau - draws.log_weights_PS if name in ("start", "token") else None
        row = start.row(name, draws, time.process_time() - began, known)
        rows.append(row | {"training tokens": 0, "ess": start.ess})
    return rows


def trained(seed: int, way: str) -> dict:
    """Trains by the product's command and writes with the model that it left."""
    verb, overrides = WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        register_grpo() if verb == "train_grpo" else register_sft()
        given = [*MODEL, *overrides, f"model.pretrain.seed={seed}", f"seed={seed}", "show=0", f"run_dir={folder}/run"]
        command = compose_command(verb, [*given, "trainer.save_strategy=no", "overwrite=true"])
        with contextlib.redirect_stdout(io.StringIO()):
            (run_grpo if verb == "train_grpo" else run_lhts)(command)
        model = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/run/model", dtype=torch.float32)
        metrics = read_metrics(Path(folder) / "run/metrics.jsonl")
    start = Start(seed)
    began = time.process_time()
    draws = TokenTemperature()(CausalLM(model, start.tokenizer), start.prompts, 1.0, TEXTS, LIMIT, start.draws)
    row = start.row(way, draws, time.process_time() - began, draws.logps_PS.double())
    if verb == "train_grpo":
        steps = [m for m in metrics if m.get("reward") is not None]
        texts = 128 * len(steps)
        tokens = sum(128 * m["completions/mean_length"] for m in steps)
        row["curve"] = [[m["step"], m["reward"], m["kl"] * m["completions/mean_length"]] for m in steps[::5]]
    else:
        steps = [m for m in metrics if m.get("loss") is not None]
        texts = 64 * len(steps)
        tokens = texts * float(start_length(start))
    return row | {"training tokens": tokens, "training texts": texts}


def start_length(start: Start) -> float:
    """Mean length of the start's own texts, which LHTS is trained on."""
    draws = TokenTemperature()(CausalLM(start.model, start.tokenizer), start.prompts, 1.0, 64, LIMIT, start.draws)
    return float(draws.lengths_PS.double().mean())


def table(done: list[dict]) -> str:
    ways = [way for way in (*SAMPLERS, *WAYS) if any(row["way"] == way for row in done)]
    lines = [f"| way | {' | '.join(MEASURES)} |", "|" + "---|" * (len(MEASURES) + 1)]
    for way in ways:
        rows = sorted((row for row in done if row["way"] == way), key=lambda row: row["seed"])
        cells = []
        for key in MEASURES:
            values = [row[key] for row in rows if row.get(key) is not None]
            if len(values) < 2:
                cells.append("")
                continue
            mean = mean_interval([values])
            digits = 5 if key.startswith("seconds") else 0 if key == "training tokens" else 3
            cells.append(f"{mean.value:,.{digits}f} [{mean.low:,.{digits}f}, {mean.high:,.{digits}f}]")
        lines.append(f"| {way} ({len(rows)}) | {' | '.join(cells)} |")
    lines += ["", *differences(done)]
    return "\n".join(lines)


def differences(done: list[dict]) -> list[str]:
    """Distances, paired by seed, against those of dr_grpo with the KL term in the reward."""
    lines = []
    for way in (*WAYS, "token"):
        of = {row["seed"]: row["distance"] for row in done if row["way"] == way}
        base = {row["seed"]: row["distance"] for row in done if row["way"] == "dr_grpo"}
        both = sorted(of.keys() & base.keys())
        if way != "dr_grpo" and len(both) > 1:
            gap = paired_difference([[of[s] for s in both]], [[base[s] for s in both]])
            lines.append(f"{way} - dr_grpo: {gap.value:+.3f} [{gap.low:+.3f}, {gap.high:+.3f}] ({len(both)} seeds)")
    return lines


if __name__ == "__main__":
    from rewards.terminal import steady_output

    steady_output()
    main()
