"""`python -m lab.audit`: measure, estimate, say, write the page; of several checkpoints also the page that lays them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import release_memory

from lab.audit.compare import compare_audits
from lab.audit.estimates import audit_of
from lab.audit.page import write
from lab.audit.recorded import of_recorded
from lab.audit.table import show_audit
from trainers.audit.cost import show_audit_plan
from trainers.audit.measure import collected_by, refuse_other_audit
from trainers.command.audit.prepare import AuditJob, prepare_audits
from trainers.command.cli import Command


def run_audit(command: Command) -> None:
    """Everything that can be wrong with the command is found before a model is loaded or a file written.

    Raises:
        ValueError: with the remedy.
    """
    jobs = prepare_audits(command)
    if command.dry_run:
        return show_audit_plan(jobs)
    for job in jobs:
        refuse_other_audit(job)
    state = PartialState()
    for number, job in enumerate(jobs):
        if len(jobs) > 1:
            state.print(f"\naudit    {number + 1} of {len(jobs)}: {job.model}")
        _audit(job, state)
        release_memory()  # of a model before the next one
    if len(jobs) > 1 and state.is_main_process:
        _side_by_side([job.folder for job in jobs], jobs[0].folder.parent)
    state.wait_for_everyone()
    state.destroy_process_group()


def _audit(job: AuditJob, state: PartialState) -> None:
    collected = collected_by(job)
    if state.is_main_process:
        audit = audit_of(collected).as_json()
        found = write(audit, job.folder)
        show_audit(audit)
        found += of_recorded(audit["about"].get("recorded"))
        print("\n".join(["", *found, "", f"{job.folder}: audit.html, audit.md, audit.json, strategies.csv, pictures"]))
    state.wait_for_everyone()


def _side_by_side(folders: Sequence[Path], out: Path) -> None:
    found = compare_audits(folders, out)
    print(
        "\n".join(
            [
                "",
                *(f"- {line}" for line in found),
                "",
                f"{out}: compare.html, compare.md, compare.csv, compare.json, pictures",
            ]
        )
    )
