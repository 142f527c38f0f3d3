"""Ways to write at a sequence temperature with a small language model, and what each costs.

    PYTHONPATH=. python benchmarks/stages/bridge/stories.py [--seeds 10] [--first 0] [--most 4] [--out runs/stages]

Within a seed all ways begin with the same model (the embedded one, warm-started with that seed on made-up stories) and aim at
p^alpha / Z of it, tau = 1/alpha = 0.8. Aligned: `train_grpo.py reward=own_likelihood trainer.beta=4`; tempered: `train_lhts.py
tau=0.8 horizon=null`; sampled: `sample.py tau=0.8` with `sampler=smc`, `mh` and `token`. Of a trained model both log q and log p of
its texts are known, and so is its distance: KL(q || p^alpha/Z) = log Z - alpha E_q[log p] - H(q); log Z comes from 128 runs of SMC.
Runs so far are kept in OUT/bridge_stories.json, and a second call goes on
from there; tables and pictures: benchmarks/stages/bridge/report.py.

Shapes: S texts of a prompt, L tokens of prompt and text.
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
from torch import Tensor

from lab.length_bias import repeated_pairs
from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from sampling.draws import Draws
from sampling.mh import SuffixMH
from sampling.model import PAD
from sampling.smc import SMC
from trainers.command.build import build_policy, build_task
from trainers.command.cli import compose_command
from trainers.model.prompts import prompt_ids
from trainers.run.files import read_metrics
from trainers.run.grpo import register_schema as register_grpo
from trainers.run.grpo import run_grpo
from trainers.run.likelihood import register_schema as register_sft
from trainers.run.likelihood import run_lhts

ALPHA, LIMIT, TEXTS, RUNS = 1.25, 93, 1024, 128
MODEL = ["task=corpus", "model.hidden=48", "model.layers=2", "model.intermediate=96"]
WARM = ["model.pretrain.steps=200", "model.pretrain.batch=64"]
GRPO = [
    "reward=own_likelihood",
    "trainer.beta=4",
    f"trainer.max_completion_length={LIMIT}",
    "trainer.per_device_train_batch_size=64",
    "trainer.max_steps=60",
    "trainer.learning_rate=1e-3",
    "trainer.lr_scheduler_type=linear",
    "trainer.eval_on_start=false",
]
WAYS = {
    "dr_grpo": ("train_grpo", [*GRPO, "credit=dr_grpo", "credit.kl_in_reward=true"]),
    "dr_grpo, KL in the loss": ("train_grpo", [*GRPO, "credit=dr_grpo", "credit.kl_in_reward=false"]),
    "lhts": (
        "train_lhts",
        ["tau=0.8", "horizon=null", "kl=0", f"max_new_tokens={LIMIT}", "probe=0", "trainer.max_steps=60"],
    ),
    "seq_norm": ("train_grpo", [*GRPO, "credit=seq_norm", "credit.kl_in_reward=true"]),
}
LATER = ("dr_grpo, KL in the loss", "seq_norm")  # in this order, after all seeds have the others
SAMPLERS = {
    "start": (TokenTemperature(), 1.0),
    "token": (TokenTemperature(), 1 / ALPHA),
    "smc": (SMC(64, max_rows=1024), 1 / ALPHA),
    "mh": (SuffixMH(32), 1 / ALPHA),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--most", type=int, default=None, help="stop after so many new cells")
    parser.add_argument("--out", type=Path, default=Path("runs/stages"))
    options = parser.parse_args()
    datasets.disable_progress_bars()
    transformers.logging.disable_progress_bar()
    warnings.filterwarnings("ignore")
    options.out.mkdir(parents=True, exist_ok=True)
    kept = options.out / "bridge_stories.json"
    done = json.loads(kept.read_text()) if kept.is_file() else []
    seeds = range(options.first, options.first + options.seeds)
    order = [(seed, way) for seed in seeds for way in ("samplers", *WAYS) if way not in LATER]
    order += [(seed, way) for way in LATER for seed in seeds]
    missing = [cell for cell in order if not any((row["seed"], row["cell"]) == cell for row in done)]
    for seed, way in missing[: options.most]:
        started = time.perf_counter()
        known = next((row["log z"] for row in done if row["seed"] == seed and "log z" in row), None)
        rows = sampled(seed) if way == "samplers" else [trained(seed, way, known)]
        done += [{"seed": seed, "cell": way, **row} for row in rows]
        kept.write_text(json.dumps(done, indent=1) + "\n")
        shown = "  ".join(f"{row['way']} {row['distance']} {row['log p']:.3f} {row['length']:.1f}" for row in rows)
        print(f"seed {seed}  {way}: {shown}  ({time.perf_counter() - started:.0f} s)", flush=True)


class Start:
    """The model of a seed, its prompt, and log Z (estimated once; 0 where it is not wanted)."""

    def __init__(self, seed: int, log_z: float | None = None):
        register_grpo()
        chosen = [*MODEL, *WARM, "reward=own_likelihood", f"model.pretrain.seed={seed}"]
        command = compose_command("train_grpo", chosen)
        task = build_task(command.config)
        with contextlib.redirect_stderr(io.StringIO()):  # the bar of the warm start
            policy = build_policy(command.config, task)
        self.model, self.tokenizer = policy.model.eval(), policy.tokenizer
        self.prompt = prompt_ids(task.train[0]["prompt"], self.tokenizer)
        self.lm, self.draws = CausalLM(self.model, self.tokenizer), torch.Generator().manual_seed(seed)
        if log_z is not None:
            self.log_z = log_z
            return
        runs = SMC(64, max_rows=1024)(self.lm, [self.prompt], 1 / ALPHA, RUNS, LIMIT, torch.Generator().manual_seed(1))
        self.log_z = float(runs.log_normaliser_P[0])

    def row(self, way: str, draws: Draws, seconds: float, logq_S: Tensor | None = None) -> dict:
        """Without log q: the entropy that p^alpha has where log p is this on average, and no distance."""
        logp_S = (draws.logps_PS if logq_S is None else self.log_p(draws.tokens_PST[0]))[0].double()
        target_entropy = self.log_z - ALPHA * float(logp_S.mean())
        entropy = target_entropy if logq_S is None else -float(logq_S.mean())
        pairs_S = repeated_pairs(draws.tokens_PST[0])
        return {
            "way": way,
            "log p": float(logp_S.mean()),
            "entropy": entropy,
            "distance": None if logq_S is None else target_entropy - entropy,
            "length": float(draws.lengths_PS.double().mean()),
            "repeated pairs": float(pairs_S.mean()),
            "tokens per text": draws.tokens_per_sample,
            "seconds per text": seconds / len(logp_S),
        }

    @torch.no_grad()
    def log_p(self, tokens_ST: Tensor) -> Tensor:
        """(1, S) of texts that another model wrote."""
        ids_SL = torch.cat([torch.tensor(self.prompt).expand(len(tokens_ST), -1), tokens_ST.clamp(min=0)], dim=1)
        logps_STV = self.model(ids_SL).logits[:, len(self.prompt) - 1 : -1].float().log_softmax(-1)
        taken_ST = logps_STV.gather(-1, tokens_ST.clamp(min=0)[..., None])[..., 0]
        return taken_ST.masked_fill(tokens_ST == PAD, 0.0).sum(1)[None]


def sampled(seed: int) -> list[dict]:
    """What the samplers write; fewer texts of those that draw many for one."""
    start, rows = Start(seed), []
    for name, (sampler, tau) in SAMPLERS.items():
        texts = RUNS if name in ("smc", "mh") else TEXTS
        began = time.process_time()
        draws = sampler(start.lm, [start.prompt], tau, texts, LIMIT, start.draws)
        seconds = time.process_time() - began
        known = name in ("start", "token")
        logq_S = (draws.logps_PS.double() / tau - draws.log_weights_PS)[0] if known else None
        row = start.row(name, draws, seconds, logq_S) | {"log z": start.log_z}
        rows.append(row | {"training tokens": 0, "ess": float(draws.ess_P[0] / max(1, draws.ess_out_of))})
    return rows


def trained(seed: int, way: str, log_z: float | None) -> dict:
    """Trains by the product's command and writes with the model that it left."""
    verb, overrides = WAYS[way]
    start = Start(seed, log_z)
    with tempfile.TemporaryDirectory() as folder:
        (register_grpo if verb == "train_grpo" else register_sft)()
        given = [*MODEL, *WARM, *overrides, f"model.pretrain.seed={seed}", f"seed={seed}", f"run_dir={folder}/run"]
        command = compose_command(verb, [*given, "show=0", "trainer.save_strategy=no"])
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            (run_grpo if verb == "train_grpo" else run_lhts)(command)
        training = time.process_time() - began
        model = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/run/model", dtype=torch.float32)
        metrics = read_metrics(Path(folder) / "run/metrics.jsonl")
    began = time.process_time()
    draws = TokenTemperature()(CausalLM(model, start.tokenizer), [start.prompt], 1.0, TEXTS, LIMIT, start.draws)
    row = start.row(way, draws, time.process_time() - began, draws.logps_PS[0].double())
    if verb == "train_grpo":
        steps = [m for m in metrics if m.get("reward") is not None]
        lengths = [m["completions/mean_length"] for m in steps]
        row["log p by step"] = [round(m["reward"], 3) for m in steps]
        row["length by step"] = [round(length, 3) for length in lengths]
    else:  # the start writes what it is trained on
        steps = [m for m in metrics if m.get("loss") is not None]
        lengths = [start_length(start)] * len(steps)
    return row | {"log z": start.log_z, "training tokens": 64 * sum(lengths), "training seconds": training}


def start_length(start: Start) -> float:
    """Mean length of the start's own texts."""
    draws = TokenTemperature()(start.lm, [start.prompt], 1.0, TEXTS, LIMIT, start.draws)
    return float(draws.lengths_PS.double().mean())


if __name__ == "__main__":
    from userio.terminal import steady_output

    steady_output()
    main()
