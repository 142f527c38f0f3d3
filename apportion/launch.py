"""`apportion launch --num_processes 2 train_grpo credit=seq_norm` trains on several processes, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("launch")
