"""Fine-tune towards a sequence temperature: `accelerate launch train_lhts.py tau=0.7 horizon=8`. `--help` lists all."""

from trainers.command.cli import run_verb

if __name__ == "__main__":
    run_verb("train_lhts", "trainers.run.likelihood:run_lhts", "trainers.run.likelihood:register_schema")
