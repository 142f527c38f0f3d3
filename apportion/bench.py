"""`python -m apportion.bench credit=seq_norm` measures strategies against the exact gradient, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("bench")
