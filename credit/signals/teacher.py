"""A teacher: somebody else's log-probs of the tokens that the policy wrote. docs/credit/teachers.md.

    credit/teacher=self     the policy itself, which has been told more
    credit/teacher=ema      an average of the policy over its past, which may have been told more
    credit/teacher=model    another model, which may have been told more

What it has been told is a function of yours, asked once for each row:

    def hint(prompt, completion, reward, siblings, columns):
        return f"{prompt}\\n(The answer is {columns['answer']}.)"

It returns what the teacher reads in the prompt's place: a text, a list of messages (chat template), or None where this row has no
teacher. `siblings`: the other completions of the prompt, of all ranks, each with its `completion` and `reward`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from credit.checks import member_name, unbound
from credit.signals.contract import Rows, provides
from credit.signals.readers import AverageReader, ModelReader, Reader


class Sibling(NamedTuple):
    """Another completion of the same prompt, as reward functions get it; the reward is None where no function gave one."""

    completion: Any
    reward: float | None


Told = Callable[[Any, Any, "float | None", Sequence[Sibling], Mapping[str, Any]], Any]


class _ReadsAgain(Reader):
    """Makes `teacher_logps_BT`.

    Args:
        context: what the teacher has been told, a function as above; None: nothing but the prompt.
    """

    def __init__(self, context: Told | None = None):
        if context is not None and not callable(context):
            raise ValueError(
                f"the teacher's context must be a function (prompt, completion, reward, siblings, columns), got {context!r}."
            )
        self.context = context

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        return {"teacher_logps_BT": rows.logps_after(contexts_of(rows, self.context), self.model_for(rows))}


_LOGPS = provides(
    stage="both",
    teacher_logps_BT="log-prob of each token under the teacher (credit/teacher=self, ema or model), NaN in rows that have none; "
    "costs a forward pass over what it is told and the completion",
)


@_LOGPS
class PolicyTeacher(_ReadsAgain):
    """The policy that sampled, told more.

    Args:
        context: what it is told: my_file.py:function.
    """

    def __init__(self, context: Told | None = None):
        super().__init__(context)
        if context is None:
            raise ValueError(
                "credit/teacher=self without a context is the policy itself, and has nothing to teach it. Set "
                "credit.teacher.context=my_file.py:function."
            )


@_LOGPS
class AverageTeacher(AverageReader, _ReadsAgain):
    """A moving average of the policy, of the same size; moved once for each generation batch of training.

    Args:
        decay: how much of the average stays each time.
        context: what it is told: my_file.py:function; None: only the prompt.
    """

    copies = 1

    def __init__(self, decay: float = 0.99, context: Told | None = None):
        _ReadsAgain.__init__(self, context)
        self.average_with(decay, "the teacher")


@_LOGPS
class ModelTeacher(ModelReader, _ReadsAgain):
    """Another model, which reads the same token ids.

    Args:
        name: its folder or hub id.
        context: what it is told: my_file.py:function; None: only the prompt.
    """

    nameless = "credit/teacher=model is no model yet. Set credit.teacher.name=<folder or hub id>"

    def __init__(self, name: str | None = None, context: Told | None = None):
        _ReadsAgain.__init__(self, context)
        self.name = name


@_LOGPS
class NoTeacher:
    """In the place of one, where a strategy names none."""

    refusal = (
        "and there is no teacher. Add credit/teacher=self (the policy, told more), ema or model; in a YAML of your own "
        "`- teacher: self` under `defaults`. docs/credit/teachers.md"
    )

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]:
        raise ValueError(f"teacher_logps_BT is asked for, {self.refusal}.")


no_teacher = NoTeacher()


def teacher_of(given: Any) -> Any:
    """What a strategy was given for a teacher: nothing where it is configs/credit/teacher/none.yaml; its function as it is, where
    Hydra has bound nothing to it."""
    if isinstance(given, Mapping):
        return None
    if callable(context := getattr(given, "context", None)):
        given.context = unbound(context)
    return given


def contexts_of(rows: Rows, context: Told | None) -> list[Any]:
    """What a teacher reads in the place of each row's prompt; without a function, the prompt's token ids.

    Raises:
        ValueError: the function failed, or returned something else than a text, messages or None; names it and the row.
    """
    if context is None:
        return [list(ids) for ids in rows.prompt_ids]
    rewards = [None if reward != reward else reward for reward in rows.rewards_B.tolist()]
    groups, prompts, completions = rows.group_B.tolist(), rows.prompts, rows.completions
    own = [Sibling(*pair) for pair in zip(completions, rewards, strict=True)]
    by_group: dict[int, list[Sibling]] = {}
    for group, one in rows.gather(list(zip(groups, own, strict=True))):
        by_group.setdefault(group, []).append(Sibling(*one))
    found = []
    for b, group in enumerate(groups):
        siblings = list(by_group[group])
        siblings.remove(own[b])
        columns = {name: values[b] for name, values in rows.columns.items()}
        try:
            told = context(prompts[b], completions[b], rewards[b], siblings, columns)
        except Exception as error:
            raise ValueError(
                f"the teacher's context {member_name(context)} failed on row {b}: {type(error).__name__}: {error}"
            ) from error
        found.append(_checked(told, context, b))
    return found


def _checked(told: Any, context: Told, row: int) -> Any:
    is_chat = isinstance(told, list) and told and all(isinstance(one, dict) and "role" in one for one in told)
    if told is None or is_chat or (isinstance(told, str) and told):
        return told
    raise ValueError(
        f"the teacher's context {member_name(context)} returned {type(told).__name__} for row {row}: {told!r:.80}. It must return "
        "a text that is not empty, a list of messages, or None where this row has no teacher."
    )


def right_sibling(
    prompt: Any,
    completion: Any,
    reward: float | None,
    siblings: Sequence[Sibling],
    columns: Mapping[str, Any],
    success: float = 0.5,
    words: str = "Answer:",
) -> Any:
    """The prompt, and below it the best other completion; None where no other one is a success. Of equals the one that comes first
    in the alphabet, so that the order of rows does not matter.

    Args:
        prompt, completion, reward, siblings, columns: as any context's, see above.
        success: the reward from which on a completion may be shown.
        words: what stands above it.
    """
    right = [each for each in siblings if each.reward is not None and each.reward >= success]
    if not right:
        return None
    best = min(right, key=lambda each: (-(each.reward or 0.0), text_of(each.completion)))
    more = f"\n{words}\n{text_of(best.completion)}\n"
    if isinstance(prompt, str):
        return prompt + more
    return [*prompt[:-1], {**prompt[-1], "content": f"{prompt[-1]['content']}\n{more}"}]


def text_of(completion: Any) -> str:
    """A completion as one text: of messages, what the assistant wrote; of the lab, its tokens."""
    if isinstance(completion, str):
        return completion
    parts = [each.get("content") or "" if isinstance(each, Mapping) else str(each) for each in completion]
    return "\n".join(parts) if any(isinstance(each, Mapping) for each in completion) else " ".join(parts)
