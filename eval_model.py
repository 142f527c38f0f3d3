"""Measure models on held-out prompts: `python eval_model.py model=... task=... n=8`. `--help` lists the choices."""

from apportion.verbs import run

if __name__ == "__main__":
    run("eval_model")
