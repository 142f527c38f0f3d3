"""Align a policy: `accelerate launch train_grpo.py credit=seq_norm`. `--help` lists the choices."""

from trainers.command.cli import run_verb

if __name__ == "__main__":
    run_verb("train_grpo", "trainers.run.grpo:run_grpo", "trainers.run.grpo:register_schema")
