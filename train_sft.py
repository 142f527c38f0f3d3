"""Learn from texts: `accelerate launch train_sft.py weight=seq_mean`. `--help` lists the choices."""

from trainers.command.cli import run_verb

if __name__ == "__main__":
    run_verb("train_sft", "trainers.run.likelihood:run_sft", "trainers.run.likelihood:register_schema")
