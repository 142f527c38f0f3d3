"""Write texts: `python sample.py sampler=smc tau=0.7`. `--help` lists the choices."""

from trainers.command.cli import run_verb

if __name__ == "__main__":
    run_verb("sample", "trainers.run.sample:run_sample")
