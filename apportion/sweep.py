"""`python -m apportion.sweep credit=uniform,seq_norm seed=0,1,2` trains many times and compares, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("sweep")
