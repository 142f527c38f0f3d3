"""Align a policy: `accelerate launch train_grpo.py credit=seq_norm`. `--help` lists the choices."""

from trainers.verb import run_verb

if __name__ == "__main__":
    run_verb("train_grpo", "trainers.run:run_grpo", "trainers.run:register_schema")
