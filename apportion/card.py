"""`python -m apportion.card credit=seq_norm` writes a page about a strategy, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("card")
