"""Write texts: `python sample.py sampler=smc tau=0.7`. `--help` lists the choices."""

from apportion.verbs import run

if __name__ == "__main__":
    run("sample")
