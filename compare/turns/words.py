"""What a reader must know about numbers by turn, and how they came about."""

from __future__ import annotations

from compare.report.numbers import count
from compare.turns.pictures import PANELS
from compare.turns.study import MOST_STEPS, TurnStudy


def turn_cautions(study: TurnStudy) -> list[str]:
    """Before anybody quotes a share of credit."""
    if not any(one.idle is not None for steps in study.steps.values() for one in steps):
        return []
    return [
        "Credit on a turn that earned nothing is no fault by itself: the turn may have made a later one earn. Nothing by turn "
        "is tested; whether credit points the right way, the exact lab says."
    ]


def turn_method(study: TurnStudy) -> list[str]:
    """What was read and what was not."""
    steps = [one for steps in study.steps.values() for one in steps]
    silent = sorted({arm for (arm, _, _), steps in study.steps.items() if any(one.earned_K is None for one in steps)})
    lines = [
        f"By turn: {count(sum(one.rows for one in steps), 'recorded completion')} of {count(len(steps), 'step')}, at most "
        f"{MOST_STEPS} a run, each with whole groups of its batch; thirds of the steps that all runs reached; a run counts once. "
        "Shares are of sum |A w|. What turns earned sums to the mean reward of the scored completions. turns.csv has every turn."
    ]
    if len(study.arms) > PANELS:
        lines.append(f"Pictures by turn show the first {PANELS} of {count(len(study.arms), 'arm')}.")
    if silent:
        lines.append(
            f"Nobody recorded what turns earned in {', '.join(silent)}: no reward of these runs speaks of turns."
        )
    if broken := sum(one.left_out for one in steps):
        lines.append(f"{count(broken, 'completion')} with numbers that are not finite left out of what is by turn.")
    if unread := sum(not steps for steps in study.steps.values()):
        lines.append(
            f"{count(unread, 'run')} without records of these steps: nothing by turn (record.every=10 records)."
        )
    if study.skipped:
        path, reason = study.skipped[0]
        lines.append(
            f"{count(len(study.skipped), 'record')} could not be read, e.g. of {path.parent.parent}: {reason}."
        )
    return lines
