"""What a provider of signals is asked with inside the trainer: the rows of this rank, and helpers that own TRL's traps."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor

from credit.signals import Rows, TokenStatistics
from rewards.text.turns import turns_of
from tasks.environments.earned import states_by_turn
from trainers.seam.ends import ends_of
from trainers.seam.token_spans import noted_span_rewards
from trainers.seam.visit import Scoring, learning_mask
from trainers.signals.answers import answer_sums, reads_of, refuse_too_long_answers, tail_of, texts_of_tokens
from trainers.signals.contexts import logps_after, passed
from trainers.signals.reference import reference_logps
from trainers.signals.rescoring import check_texts, written_after


class TrainerRows(Rows):
    """As `credit.signals.Rows`; `trainer` is a `CreditGRPOTrainer`, `output` TRL's batch dict of this rank."""

    def __init__(self, trainer: Any, output: dict, scoring: Scoring, rewards_B: Tensor, num_generations: int):
        rows = len(output["completion_ids"])
        first = trainer.accelerator.process_index * rows
        mine = slice(first, first + rows)
        self._trainer, self._output, self._scoring = trainer, output, scoring
        self._of_start: Tensor | None = None
        self.training = trainer.model.training
        self.max_length = trainer.max_completion_length
        self.mask_BT = learning_mask(output)
        self.written_BT = output["completion_mask"].bool()
        self.token_ids_BT = output["completion_ids"]
        self.prompt_ids = [
            ids[mask.bool()].tolist() for ids, mask in zip(output["prompt_ids"], output["prompt_mask"], strict=True)
        ]
        self.rewards_B, self.rewards_BK = rewards_B[mine], scoring.rewards_BK[mine]
        self.group_B = torch.arange(first, first + rows, device=rewards_B.device) // num_generations
        self.prompts, self.completions = scoring.prompts, scoring.completions
        names = [name for name in (scoring.rows[0] if scoring.rows else {}) if name != "prompt"]
        self.columns = {name: [row.get(name) for row in scoring.rows] for name in names}

    def policy_pass(self, *statistics: str) -> TokenStatistics:
        found = self._trainer.sampler_statistics(self._output, self._scoring, frozenset(statistics))
        return TokenStatistics(found.logps_BT, found.entropies_BT, found.sum_sq_BT)

    def logps_after(self, contexts: Sequence[Any], model: Any = None) -> Tensor:
        return logps_after(self._trainer, contexts, self._output, model)

    def answer_logps(
        self, cuts: Sequence[Sequence[int]], answers: Sequence[str | None], opening: str = "", model: Any = None
    ) -> tuple[Tensor, Tensor]:
        trainer, output = self._trainer, self._output
        if "pixel_values" in output:
            raise ValueError("answers behind prompts with images are not read: there is no text-only way to them.")
        tails = [None if answer is None else tail_of(opening, answer, self._tokenizer) for answer in answers]
        reads = reads_of(self.prompt_ids, self.token_ids_BT.tolist(), cuts, tails)
        refuse_too_long_answers(reads, trainer.accelerator.unwrap_model(model or trainer.model))
        size = trainer.args.per_device_train_batch_size
        widest, chunks = map(
            max, zip(*self.gather([(max(map(len, cuts), default=0), -(-len(reads) // size))]), strict=True)
        )
        self._scoring.read_tokens += sum(len(read.before) + len(read.answer) for read in reads)
        sums_BC = answer_sums(
            reads,
            len(cuts),
            widest,
            size,
            chunks,
            self._tokenizer.pad_token_id or 0,
            partial(passed, trainer, model=model),
            self.mask_BT.device,
        )
        return sums_BC, torch.tensor([0 if tail is None else len(tail.answer) for tail in tails], device=sums_BC.device)

    def token_texts(self) -> list[list[str]]:
        return texts_of_tokens(self._tokenizer, self.token_ids_BT, self.written_BT)

    @property
    def _tokenizer(self) -> Any:
        return getattr(self._trainer.processing_class, "tokenizer", self._trainer.processing_class)

    def reference_logps(self) -> Tensor:
        if self._of_start is None:
            self._of_start = reference_logps(self._trainer, self._output)
        return self._of_start

    def fit(self, learner: Any, loss: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, float]:
        trainer, output = self._trainer, self._output
        tokens = torch.cat([output["prompt_ids"], output["completion_ids"]], dim=1)
        mask = torch.cat([output["prompt_mask"], output["completion_mask"]], dim=1)
        accelerator, size = trainer.accelerator, trainer.args.per_device_train_batch_size
        return learner.fit(
            loss,
            tokens,
            mask,
            self.mask_BT.shape[1],
            trainer.temperature,
            size,
            lambda value: accelerator.reduce(value, reduction="sum"),
            accelerator.autocast,
        )

    def log(self, name: str, value: float) -> None:
        self._trainer._metrics["train" if self.training else "eval"][f"credit/{name}"].append(value)

    def score(self, texts: Sequence[str | None]) -> Tensor:
        check_texts(texts, len(self.mask_BT))
        there_B = torch.tensor([text is not None for text in texts], device=self.rewards_B.device)
        return self._trainer.scores_of(texts, self._scoring).masked_fill(~there_B, torch.nan)

    def continue_from(self, prefixes: Sequence[Sequence[int]]) -> list[list[int]]:
        whole = [[*prompt, *ids] for prompt, ids in zip(self.prompt_ids, prefixes, strict=True)]
        left = [max(self.max_length - len(ids), 0) for ids in prefixes]
        written = written_after(self._trainer._generate_single_turn, whole, left)
        self._scoring.extra_tokens += sum(map(len, written))
        return written

    def span_rewards(self) -> Tensor:
        return noted_span_rewards(self._trainer, self._scoring, self.mask_BT)

    def state_keys(self) -> Sequence[Sequence[int] | None] | None:
        environments = getattr(self._trainer, "environments", None)
        if not environments:
            return None
        pairs = zip(environments, self.completions, strict=True)
        return [states_by_turn(environment, completion) for environment, completion in pairs]

    def finished(self) -> Tensor:
        ends = ends_of(self._trainer)
        ended = [ids[-1:] and ids[-1] in ends for ids in self._scoring.completion_ids]
        # A last turn that calls a tool was not answered: the rounds were used up, or the room.
        answered = [not (turns and turns[-1].calls) for turns in map(turns_of, self.completions)]
        both = [bool(one) and other for one, other in zip(ended, answered, strict=True)]
        return torch.tensor(both, device=self.token_ids_BT.device)

    def gather(self, values: Sequence[Any]) -> list[Any]:
        return gather_object(list(values)) if self._trainer.accelerator.num_processes > 1 else list(values)
