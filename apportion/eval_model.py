"""`python -m apportion.eval_model model=... task=... n=8` measures models on held-out prompts, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("eval_model")
