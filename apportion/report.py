"""`python -m apportion.report runs/chain` compares finished runs, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("report")
