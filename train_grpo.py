"""Align a policy: `accelerate launch train_grpo.py credit=seq_norm`. `--help` lists the choices."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_grpo")
