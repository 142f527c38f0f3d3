"""`python -m apportion.sample sampler=smc tau=0.7` writes texts, from anywhere."""

from apportion.verbs import run

if __name__ == "__main__":
    run("sample")
