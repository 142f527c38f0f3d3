"""Texts from a model by token or by sequence temperature, with the diagnostics of how they were found.

Shapes: S samples of a prompt.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from configs.compose import ConfigError
from sampling.ancestral import TokenTemperature
from sampling.causal_lm import CausalLM
from sampling.draws import Draws, check_counts
from sampling.smc import SMC
from sampling.tempering import alpha_of
from tasks.base import Row, Task
from trainers.command.behind.agreed import SAMPLED, with_model_of, with_runs
from trainers.command.build import build_policy, build_sampler, build_task, template_of
from trainers.command.cli import Command
from trainers.command.tools import build_tools, check_tools
from trainers.command.world_size import world_size
from trainers.evaluation.sampled import conversations, record_of, refuse_whole_texts, show_conversations
from trainers.model.adapters import for_sampling
from trainers.model.lengths import positions_of
from trainers.model.prompts import prompt_ids, spoken
from trainers.model.tau_input import load_tau_input
from userio.read import TEXT, kind_of, read_lines, read_rows
from userio.visible import visible


def run_sample(command: Command) -> None:
    """Samples and prints; writes `out` if it is named. Cheap mistakes are found before the model is loaded.

    Raises:
        ValueError: with the remedy.
    """
    command = with_runs(with_model_of(command), SAMPLED)
    config = command.config
    if world_size() > 1:
        raise ConfigError("sample.py runs in one process: `python sample.py ...`, without accelerate launch.")
    alpha_of(config.tau)
    sampler = build_sampler(config)
    check_counts(num_samples=config.num_samples)
    if isinstance(sampler, SMC):
        sampler.check(config.num_samples)
    device = device_of(config.device)
    task = build_task(config)
    task.tools = [*task.tools, *build_tools(config.tools)]
    plays = plays_with_tools(config, task)
    if plays:
        check_tools(task, config)
        refuse_whole_texts(sampler, command.choices["sampler"], task)
    prompts = prompts_of(config, task)
    if plays:
        prompts = [row["prompt"] for row in begun_by(config, task)]
    max_length = (task.max_completion_length or 128) if config.max_length is None else config.max_length
    check_counts(max_length=max_length)
    if command.dry_run:
        print("\n".join(_planned(command, task, prompts, max_length)))
        return
    policy = build_policy(config, task, max_length if plays else 0)
    model = for_sampling(policy.model).to(device)
    tau = temperature_for(model, getattr(model, "name_or_path", ""), sampler, config.tau)
    if plays:
        return write_texts(
            played(config, task, model, policy.tokenizer, tau, max_length, command.choices["sampler"]), config
        )
    lm = CausalLM(model, policy.tokenizer)
    ids = [encoded(prompt, policy.tokenizer, template_of(config)) for prompt in prompts]
    check_fits(prompts, ids, max_length, policy.model.config)
    generator = torch.Generator(lm.device).manual_seed(config.seed)
    started = time.perf_counter()
    draws = sampler(lm, ids, tau, config.num_samples, max_length, generator)
    seconds = time.perf_counter() - started
    rows = records(prompts, draws, policy.tokenizer, command.choices["sampler"], config)
    show(rows, draws, prompts, command.choices["sampler"], config, seconds)
    write_texts(rows, config)


def write_texts(rows: list[dict[str, Any]], config: DictConfig) -> None:
    """Puts the texts where `out` says."""
    if config.out:
        out = Path(config.out).expanduser()
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        print(f"\n{out}: {len(rows)} texts")


def plays_with_tools(config: DictConfig, task: Task) -> bool:
    """Whether conversations are to be had; prompts of one's own are answered once."""
    return config.prompts is None and (task.environment is not None or bool(task.tools))


def begun_by(config: DictConfig, task: Task) -> list[Row]:
    """What conversations begin with: each prompt once, and of an environment each row, since it makes more of a prompt."""
    rows = task.evaluation or task.train
    if task.environment is None:
        rows = list({json.dumps(row["prompt"]): row for row in rows}.values())
    return rows[: config.limit]


def played(
    config: DictConfig, task: Task, model: Any, tokenizer: Any, tau: float, max_length: int, sampler: str
) -> list[dict[str, Any]]:
    """Conversations with the task's environment and tools, shown and as rows for `out`."""
    rows = begun_by(config, task)
    with tempfile.TemporaryDirectory() as folder:
        found = conversations(
            model,
            tokenizer,
            task,
            rows,
            samples=config.num_samples,
            tau=tau,
            max_length=max_length,
            rounds=config.max_tool_calling_iterations,
            template=template_of(config),
            seed=config.seed,
            folder=folder,
        )
    show_conversations(found)
    return [record_of(one, rows[one.made.prompt], sampler, config.tau) for one in found]


def _planned(command: Command, task: Task, prompts: list, max_length: int) -> list[str]:
    """The lines of `--dry-run`."""
    config, choices = command.config, command.choices
    what = "conversation" if plays_with_tools(config, task) else "text"
    texts = len(prompts) * config.num_samples
    return [
        f"task     {choices['task']}: {len(prompts)} prompts of {config.prompts or task.name}, {config.num_samples} {what}(s) each",
        f"sampler  {choices['sampler']} at tau={config.tau}",
        f"tokens   at most {max_length} a text: {texts * max_length:,} in all",
        f"model    {config.model.get('name') or choices['model']}",
        f"out      {config.out or 'printed only'}",
        "dry run  no model was loaded, nothing was drawn or written",
    ]


def prompts_of(config: DictConfig, task: Task) -> list:
    """The prompts of the file, or the task's held-out ones; at most `limit`.

    Raises:
        ConfigError: an empty file, no such file, or no prompts.
    """
    if config.limit is not None and config.limit < 1:
        raise ConfigError(f"limit={config.limit} must be at least 1, or null for all prompts.")
    if config.prompts is None:
        found = list({json.dumps(row["prompt"]): row["prompt"] for row in (task.evaluation or task.train)}.values())
    elif kind_of(str(config.prompts)) == TEXT:
        found = [line for _, line in read_lines(str(config.prompts), "prompts") if line.strip()]
        if not found:
            raise ConfigError(f"prompts={config.prompts} is empty: write one prompt a line.")
    else:
        rows = read_rows(str(config.prompts), "prompts")
        for place, row in rows:
            if "prompt" not in row:
                raise ConfigError(f'{place}: every row of prompts={config.prompts} needs a column "prompt".')
            _check_prompt(row["prompt"], place)
        found = [row["prompt"] for _, row in rows]
    for prompt in found:
        _check_prompt(prompt, "sample.py")
    return found[: config.limit]


def check_fits(prompts: list, ids: list[list[int]], max_length: int, config: Any) -> None:
    """Raises ConfigError where a prompt and `max_length` tokens behind it are more than the model, whose configuration this is,
    has positions."""
    positions = positions_of(config)
    for prompt, tokens in zip(prompts, ids, strict=True):
        if positions is not None and len(tokens) + max_length > positions:
            raise ConfigError(
                f"the prompt {prompt!r:.80} has {len(tokens):,} tokens, and with max_length={max_length} behind it takes "
                f"{len(tokens) + max_length:,}; the model has {positions:,} positions. Lower max_length, or shorten the prompt."
            )


def _check_prompt(prompt: Any, place: str) -> None:
    if not isinstance(prompt, str | list) or not prompt:
        raise ConfigError(
            f"{place}: a prompt must be a text or a chat (a list of messages), not empty; got {prompt!r:.100}."
        )


def device_of(name: str | None) -> torch.device:
    """The device named, or a GPU if there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={name}: not to be had here ({str(error).splitlines()[0]}). Try device=cpu."
        ) from error
    return device


def encoded(prompt, tokenizer, template: dict[str, Any] | None = None) -> list[int]:
    """Token ids of a prompt; `template`: arguments of the chat template.

    Raises:
        ConfigError: a chat for a model without a template, or characters that a closed vocabulary lacks.
    """
    if not isinstance(prompt, str) and tokenizer.chat_template is None:
        raise ConfigError(
            f"the prompt {prompt!r:.100} is a chat, but the model has no chat template. Give plain texts, or a template "
            "(model.chat_template=my_template.jinja)."
        )
    try:
        return prompt_ids(prompt, tokenizer, **(template or {}))
    except Exception as error:  # tokenizers raises Exception itself
        raise ConfigError(
            f"the model's tokenizer cannot encode the prompt {prompt!r:.100}: {error}. The embedded model knows its "
            "task's own words only; model=hf takes any text."
        ) from error


def temperature_for(model, folder: str, sampler, tau: float) -> float:
    """The temperature to sample at: a model fine-tuned by LHTS has its own built in, and is sampled as it is.

    Raises:
        ConfigError: another temperature or sampler than the model was trained for.
    """
    trained = getattr(model.config, "lhts", None)
    if not trained:
        return tau
    if not isinstance(sampler, TokenTemperature):
        raise ConfigError(
            f"This model was fine-tuned towards tau={trained['tau']} by train_lhts.py; its texts come by plain sampling. "
            "Use sampler=token, or the model it was made from."
        )
    taus = trained["tau"]
    tau_input = load_tau_input(model, folder)
    if tau_input is not None:
        if not taus[0] <= tau <= taus[1]:
            raise ConfigError(f"tau={tau} is outside of {taus[0]} to {taus[1]}, for which the model was trained.")
        tau_input.alpha_B = torch.tensor([1 / tau])
        return 1.0
    if tau not in (taus[0], 1.0):
        raise ConfigError(f"The model was trained for tau={taus[0]}: ask for that, or take the model it was made from.")
    return 1.0


def records(prompts: list, draws: Draws, tokenizer, sampler: str, config: DictConfig) -> list[dict[str, Any]]:
    return [
        {
            "prompt": prompt,
            "text": spoken(tokenizer, tokens),
            "tokens": tokens,
            "log_p": float(draws.logps_PS[p, s]),
            "log_weight": float(draws.log_weights_PS[p, s]),
            "sampler": sampler,
            "tau": config.tau,
        }
        for p, (prompt, texts) in enumerate(zip(prompts, draws.texts(), strict=True))
        for s, tokens in enumerate(texts)
    ]


def show(rows: list[dict], draws: Draws, prompts: list, sampler: str, config: DictConfig, seconds: float) -> None:
    console = Console(highlight=False, width=None if os.isatty(1) else 120)
    for p, prompt in enumerate(prompts):
        console.print(f"\n[bold]{escape(visible(str(prompt)))}[/bold]")
        for row in rows[p * config.num_samples : (p + 1) * config.num_samples]:
            console.print(f"  {escape(visible(row['text']))}  [dim]log p {row['log_p']:.2f}[/dim]")
    table = Table(title=f"sampler={sampler}  tau={config.tau}", title_justify="left")
    for name in ("prompt", f"ESS of {draws.ess_out_of}", "acceptance", "log normaliser", *draws.extras):
        table.add_column(name, justify="left" if name == "prompt" else "right", max_width=32, overflow="ellipsis")
    for p, prompt in enumerate(prompts):
        values = [draws.ess_P, draws.acceptance_P, draws.log_normaliser_P, *draws.extras.values()]
        cells = [_number(v[p] if torch.is_tensor(v) else v) for v in values]
        table.add_row(escape(visible(str(prompt)[:32])), *cells)
    console.print()
    console.print(table)
    total = draws.tokens_per_sample * len(rows)
    print(
        f"{draws.tokens_per_sample:.1f} tokens drawn per returned text, {total / max(seconds, 1e-9):.0f} tokens a second"
    )


def _number(value) -> str:
    value = float(value)
    return "-" if value != value else f"{value:.3f}"
