"""What a provider of signals is: an object that is asked before scoring, for some rows, and returns named tensors.

    @provides(surprise_BT="minus the log-prob of each token when it was sampled")
    def surprise(rows):
        return {"surprise_BT": -rows.policy_pass("logps").logps_BT}

A provider is anything that can be called with `Rows` and has `provides`, a mapping from names to `Signal`s. What its names say
of their shape is their shape: `_B` one value a completion, `_BT` one a token, `_BC` any other number a completion. It may have
`check_columns(names)`, which raises a ValueError where the data set lacks a column it reads, before a model is loaded, and
`state_dict()` and `load_state_dict(state)`; then its state is part of every checkpoint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from credit.checks import Hands, member_name

STAGES = ("scoring", "loss", "both")
STATISTICS = ("logps", "entropies", "sum_sq")
_OF_ROWS = ("mask_BT", "written_BT", "token_ids_BT", "rewards_B", "rewards_BK", "group_B")
_NAME = re.compile(r"[a-z]\w*_(B|BT|BC)")
_SHAPES = {"B": "(B,)", "BT": "(B, T)", "BC": "(B, C)"}
AnyProvider = TypeVar("AnyProvider", bound=Callable[..., Any])


@dataclass(frozen=True)
class Signal:
    """One thing a strategy member may ask for by naming a parameter after it."""

    shape: str
    stage: str  # "scoring": whole batch, all ranks | "loss": live forward, this rank's rows | "both"
    meaning: str
    padding: float = 0  # what stands at padded tokens


class TokenStatistics(NamedTuple):
    """Of each completion token under a policy, at the sampling temperature; None where it was not asked for. Arbitrary where
    nothing was written.

    logps_BT: its log-prob. entropies_BT: nats, of the distribution it was drawn from. sum_sq_BT: sum of squared
    probabilities of that distribution.
    """

    logps_BT: Tensor | None = None
    entropies_BT: Tensor | None = None
    sum_sq_BT: Tensor | None = None


class Rows:
    """The rows a provider is asked for: those of this rank, of one generation batch, before any update. Not to be written into.

    Attributes:
        training: False in evaluation.
        wanted: names of the signals that some member asks for; a provider may leave out others.
        mask_BT: bool, tokens that learn. written_BT: bool, all tokens of the completion, those of tools included.
        token_ids_BT: int64. prompt_ids: token ids of each prompt, lists.
        max_length: L_max.
        rewards_B, rewards_BK: of these rows, NaN where a function gave none.
        group_B: int64, prompt group of each row, counted over all ranks.
        prompts, completions: texts or lists of messages, as reward functions get them.
        columns: the data set's other columns, name -> one value for each row.

    The methods are for providers to call; each is refused with a sentence where a place (the lab, for one) has not got it. One
    that runs a model is to be called on every rank equally often.
    """

    training: bool = True
    wanted: frozenset[str] = frozenset()
    max_length: int
    mask_BT: Tensor
    written_BT: Tensor
    token_ids_BT: Tensor
    rewards_B: Tensor
    rewards_BK: Tensor
    group_B: Tensor
    prompt_ids: Sequence[Sequence[int]]
    prompts: Sequence[Any]
    completions: Sequence[Any]
    columns: Mapping[str, Sequence[Any]]

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        """Of these rows under the policy that sampled: "logps", "entropies", "sum_sq". One pass without gradient for all
        providers that say in an attribute `statistics` which of them they will ask for."""
        raise self._lacking("policy_pass")

    def logps_after(self, contexts: Sequence[Any], model: Any = None) -> Tensor:
        """(B, T) log-probs of these completions after other contexts, one for each row: a text, messages, token ids, or None, whose
        row is NaN. model: what `Models` gave; None: the policy that sampled. At the sampling temperature, without gradient."""
        raise self._lacking("logps_after")

    def answer_logps(
        self, cuts: Sequence[Sequence[int]], answers: Sequence[str | None], opening: str = "", model: Any = None
    ) -> tuple[Tensor, Tensor]:
        """Log-probs of answers that nobody wrote, at the sampling temperature, without gradient: behind the prompt, the first
        `cuts[b][c]` tokens of the completion, and `opening`.

        Args:
            cuts: of each row, numbers of tokens, ascending.
            answers: of each row a text; None: it has none.
            model: as in `logps_after`.

        Returns:
            (B, C) sums over the answer's tokens, C at least 1, NaN where a row has no such cut or no answer; (B,) int64, how many
            tokens those are, 0 where there is no answer.
        """
        raise self._lacking("answer_logps")

    def token_texts(self) -> list[list[str]]:
        """What each token of a completion adds to its text: they make up the text, special tokens add nothing."""
        raise self._lacking("token_texts")

    def reference_logps(self) -> Tensor:
        """(B, T) log-probs of these rows under the policy that the run started from, at the sampling temperature."""
        raise self._lacking("reference_logps")

    def fit(self, learner: Any, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, float]:
        """(B, T) log-probs of these rows under a model that learns (`Models.learner`), as it is, at the sampling temperature; then one
        step of it down the gradient of `loss`, summed over all rows of all ranks. And that sum.

        loss: asked with (b, T) log-probs, with their gradient, and the places of these b rows; denominators that look at other
            rows are the caller's, over all ranks (`gather`).
        """
        raise self._lacking("fit")

    def log(self, name: str, value: float) -> None:
        """Notes a number of this generation batch, the same on all ranks, as `credit/<name>` in metrics.jsonl."""

    def score(self, texts: Sequence[str | None]) -> Tensor:
        """(B,) what the run's own rewards, guarded and weighted, give these texts in the place of the rows' completions; NaN where
        they give none, or there is no text."""
        raise self._lacking("score")

    def continue_from(self, prefixes: Sequence[Sequence[int]]) -> list[list[int]]:
        """What the policy writes after the prompt of each row and these first token ids of a completion, up to L_max in all. The
        tokens count in the run's budget."""
        raise self._lacking("continue_from")

    def span_rewards(self) -> Tensor:
        """(B, T) reward that these rows earned at each token, of the functions that say where."""
        raise self._lacking("span_rewards")

    def state_keys(self) -> Sequence[Sequence[int] | None] | None:
        """For each row the keys that its environment gave when its turns began, None where it gave none."""
        raise self._lacking("state_keys")

    def finished(self) -> Tensor:
        """(B,) bool, whether the row ended by itself."""
        raise self._lacking("finished")

    def gather(self, values: Sequence[Any]) -> list[Any]:
        """One value for each row -> those of the rows of all ranks, in the order of `group_B`. Call it on every rank."""
        raise self._lacking("gather")

    def _lacking(self, what: str) -> ValueError:
        return ValueError(f"rows.{what} is not to be had in {type(self).__name__}: it needs a run of the trainer.")


class Models:
    """Models beside the policy. A provider that has a method `prepare(models)` gets this once, before the first batch."""

    def copy_of_policy(self) -> Any:
        """The policy as it is now, frozen, a model of its own.

        Raises:
            ValueError: the policy is sharded, so that no process has it whole.
        """
        raise ValueError(f"{type(self).__name__} has no policy to copy: it needs a run of the trainer.")

    def follow(self, model: Any, decay: float) -> None:
        """Moves a copy of the policy towards the policy as it is now: new = decay old + (1 - decay) policy."""
        raise ValueError(f"{type(self).__name__} has no policy to follow: it needs a run of the trainer.")

    def weights_of(self, model: Any) -> dict[str, Tensor]:
        """What `follow` has moved in a copy of the policy, by name: what the policy trains."""
        return {}

    def put_weights(self, model: Any, weights: Mapping[str, Tensor]) -> None:
        """Puts back what `weights_of` gave."""

    def learner(self, learning_rate: float, max_grad_norm: float) -> Any:
        """A copy of the policy as it is now that learns where the policy does, by `Rows.fit`, with an AdamW of its own. It has `model`,
        for `Rows.logps_after`, `state_dict` and `load_state_dict`.

        Raises:
            ValueError: the policy is sharded, so that no process has it whole.
        """
        raise ValueError(f"{type(self).__name__} has no policy to copy: it needs a run of the trainer.")

    def hold_start(self) -> None:
        """Sees to it that `Rows.reference_logps` will know the policy as it is now."""
        raise ValueError(f"{type(self).__name__} has no policy to keep: it needs a run of the trainer.")

    def load(self, name: str | None, **options: Any) -> Any:
        """A causal language model by its folder or hub name, frozen, placed and sharded as the reference policy is. `options` go to
        its `from_pretrained`.

        Raises:
            ValueError: it does not know all token ids of the policy's tokenizer.
        """
        raise ValueError(f"{type(self).__name__} loads no models: it needs a run of the trainer.")


@runtime_checkable
class Provider(Protocol):
    """Anything that makes signals. Optional: `statistics`, what it will ask `rows.policy_pass` for; `prepare(models)`, called once
    before the first batch; and for the memory that a run is said to take: `holds_start`, whether it calls `models.hold_start`;
    `copies`, how many copies of the policy it keeps; `learns`, whether these learn."""

    provides: Mapping[str, Signal]

    def __call__(self, rows: Rows) -> Mapping[str, Tensor]: ...


def provides(*, stage: str = "both", padding: float = 0, **meanings: str) -> Callable[[AnyProvider], AnyProvider]:
    """Says of a function or class which signals it makes, and what each means.

    Args:
        stage: who may read them: "scoring", where all rows of all ranks are in sight; "loss", where a micro-batch is; "both".
        padding: what stands at padded tokens where rows of several ranks are put together.

    Raises:
        ValueError: a name that does not say its shape, or a stage that there is not.
    """
    found = {name: signal(name, stage, meaning, padding) for name, meaning in meanings.items()}

    def attach(provider: AnyProvider) -> AnyProvider:
        provider.provides = found  # type: ignore[attr-defined]
        return provider

    return attach


def signal(name: str, stage: str, meaning: str, padding: float = 0) -> Signal:
    """Raises ValueError: see `provides`."""
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{name!r} cannot name a signal: the name says its shape, by ending in _B (one value a completion), _BT (one a token) "
            "or _BC (another number a completion), as in surprise_BT."
        )
    if stage not in STAGES:
        raise ValueError(f"stage={stage!r} of signal {name} is not one of {', '.join(STAGES)}.")
    return Signal(_SHAPES[name.rsplit("_", 1)[1]], stage, meaning, padding)


def named_columns(columns: Collection[str]) -> str:
    """The columns that a data set has beside its prompts, in words."""
    return ", ".join(sorted(name for name in columns if name != "prompt")) or "no other column"


def is_signal_name(name: str) -> bool:
    """Whether a parameter of that name asks for a signal, made by whomever."""
    return _NAME.fullmatch(name) is not None


def provided_by(provider: Any) -> dict[str, Signal]:
    """What a provider makes.

    Raises:
        ValueError: it is no provider, or names a signal that there cannot be.
    """
    source = provider
    while isinstance(source, partial):
        source = source.func
    found = getattr(source, "provides", None)
    if not callable(provider) or not isinstance(found, Mapping) or not found:
        raise ValueError(
            f"{member_name(provider)} is no provider of signals: it needs to be callable with the rows, and to say what it makes, as "
            'by `@provides(surprise_BT="what it means")` from credit.signals.'
        )
    for name, one in found.items():
        stage, meaning = (one.stage, one.meaning) if isinstance(one, Signal) else ("both", str(one))
        signal(name, stage, meaning)
    return {
        name: signal(name, one.stage, one.meaning, one.padding)
        if isinstance(one, Signal)
        else signal(name, "both", str(one))
        for name, one in found.items()
    }


def ask(provider: Any, rows: Rows, wanted: frozenset[str]) -> dict[str, Tensor]:
    """What a provider made of the rows: the wanted signals, checked, without gradient.

    Raises:
        ValueError: it left one out, made one that it does not name, or one of another shape; it wrote into the rows.
    """
    who, promised = f"The provider {member_name(provider)}", provided_by(provider)
    hands = Hands({name: value for name in _OF_ROWS if isinstance(value := getattr(rows, name, None), Tensor)})
    made = provider(rows)
    if not isinstance(made, Mapping):
        raise ValueError(f"{who} returned {type(made).__name__}, expected a mapping from names to tensors.")
    if strange := sorted(set(made) - set(promised)):
        raise ValueError(f"{who} returned {', '.join(strange)}, which it does not name in `provides`.")
    if missing := sorted((wanted & set(promised)) - set(made)):
        raise ValueError(f"{who} did not return {', '.join(missing)}, which the strategy asks for.")
    if written := hands.written():
        raise ValueError(f"{who} wrote into {', '.join(written)}, which is the batch itself. Let it work on a copy.")
    return {name: _checked(who, name, made[name], rows) for name in promised if name in made and name in wanted}


def _checked(who: str, name: str, value: Any, rows: Rows) -> Tensor:
    kind, (size, width) = name.rsplit("_", 1)[1], rows.mask_BT.shape
    expected = {"B": f"({size},)", "BT": f"({size}, {width})", "BC": f"({size}, any)"}[kind]
    if not isinstance(value, Tensor):
        raise ValueError(f"{who} returned {type(value).__name__} for {name}, expected a tensor {expected}.")
    fits = {
        "B": value.shape == (size,),
        "BT": value.shape == (size, width),
        "BC": value.dim() == 2 and len(value) == size,
    }[kind]
    if not fits:
        raise ValueError(f"{who} returned {tuple(value.shape)} for {name}, expected {expected}.")
    if value.is_complex():
        raise ValueError(f"{who} returned {value.dtype} for {name}; use floats, whole numbers or bools.")
    return value.detach().to(rows.mask_BT.device)
