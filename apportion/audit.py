"""`python -m apportion.audit credit=a,b run=...` measures noise and bias of strategies on a model and a task, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("audit")
