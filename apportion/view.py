"""`python -m apportion.view runs/chain/seq_norm/seed0` shows each token coloured by its credit, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("view")
