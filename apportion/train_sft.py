"""`accelerate launch -m apportion.train_sft weight=seq_mean` learns from texts, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_sft")
