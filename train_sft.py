"""Learn from texts: `accelerate launch train_sft.py weight=seq_mean`. `--help` lists the choices."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_sft")
