"""Learn from texts: `accelerate launch train_sft.py weight=seq_mean`. `--help` lists the choices."""

from trainers.verb import run_verb

if __name__ == "__main__":
    run_verb("train_sft", "trainers.run_sft:run_sft", "trainers.run_sft:register_schema")
