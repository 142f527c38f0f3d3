"""Compare strategies: `python sweep.py credit=uniform,seq_norm,dr_grpo seed=0,1,2 task=chain`. `--help` explains."""

from apportion.verbs import run

if __name__ == "__main__":
    run("sweep")
