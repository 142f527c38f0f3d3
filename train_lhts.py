"""Fine-tune towards a sequence temperature: `accelerate launch train_lhts.py tau=0.7 horizon=8`. `--help` lists all."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_lhts")
