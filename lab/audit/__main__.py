"""python -m lab.audit credit=a,b,c [run=runs/... | model=... task=... reward=...] [batches=32]

How noisy and how biased are credit strategies on a model and a task? `--help` lists the settings, docs/audit.md says how it works.
"""

from trainers.command.cli import run_verb

if __name__ == "__main__":
    run_verb("audit", "lab.audit.command:run_audit", "trainers.run.grpo:register_schema")
