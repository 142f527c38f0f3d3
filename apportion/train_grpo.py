"""`accelerate launch -m apportion.train_grpo credit=seq_norm` aligns a policy, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("train_grpo")
