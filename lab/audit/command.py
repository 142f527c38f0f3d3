"""`python -m lab.audit`: measure, estimate, say, write the page."""

from __future__ import annotations

from accelerate import PartialState

from lab.audit.estimates import audit_of
from lab.audit.page import write
from lab.audit.table import show_audit
from trainers.audit.cost import show_audit_plan
from trainers.audit.measure import collected_by
from trainers.command.audit.prepare import prepare_audit
from trainers.command.cli import Command


def run_audit(command: Command) -> None:
    """Everything that can be wrong with the command is found before a model is loaded or a file written.

    Raises:
        ValueError: with the remedy.
    """
    job = prepare_audit(command)
    if command.dry_run:
        return show_audit_plan(job)
    collected = collected_by(job)
    state = PartialState()
    if state.is_main_process:
        audit = audit_of(collected).as_json()
        found = write(audit, job.folder)
        show_audit(audit)
        print("\n".join(["", *found, "", f"{job.folder}: audit.html, audit.md, audit.json, strategies.csv, pictures"]))
    state.wait_for_everyone()
    state.destroy_process_group()
