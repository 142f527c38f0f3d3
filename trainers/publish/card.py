"""The model card of a run, `model/README.md`: base, data, strategy with formula and citation, reward, command, result,
curves, versions. Made from what the run knows; nothing is asked of the hub.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from credit.citations import bibtex, papers_in
from credit.declare import Declaration, declaration_of
from credit.methods.auxiliary import parts_declared, settings_in
from credit.strategy import Strategy
from trainers.command.job import GRPOJob, Job, LikelihoodJob
from trainers.model.adapters import is_adapted
from trainers.run.files import write_text

CARD = "README.md"
AXES = ("baseline", "spread", "weight", "ratio")
CITATION = """@software{apportion,
  title = {Apportion: credit assignment for reinforcement learning of language models},
  author = {{The Apportion authors}},
  year = {2026},
}"""
_METHODS = {"train_grpo": "GRPO", "train_sft": "SFT", "train_lhts": "Long Horizon Temperature Scaling"}
_EQUATIONS = {
    "train_grpo": "loss = - sum_{b,t}  w[b,t] * f( rho[b,t], A[b,t] )        over completion tokens",
    "train_sft": "loss = - sum_{b,t}  w[b,t] * log p(y[b,t] | y[b,<t])        over the tokens of the texts",
    "train_lhts": "loss = sum_{b,t}  w[b,t] * (-W[b,t] log q(y[b,t] | y[b,<t]) + kl * KL(q || p))        W: what is still to come",
}


def write_card(job: Job, trainer: Any, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> None:
    """Writes the card and a copy of the curves into the model's folder. facts: of trainers/run/tell/facts.py."""
    folder = job.folder.model
    if job.folder.curves.is_file():
        shutil.copyfile(job.folder.curves, folder / job.folder.curves.name)
    write_text(folder / CARD, card_of(job, trainer, facts, summary))


def card_of(job: Job, trainer: Any, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    """The whole page, metadata in front."""
    verb = _verb(job)
    base, base_words = hub_base(trainer)
    if str(job.command.config.model.get("_target_")).startswith("trainers.model.embedded"):
        base_words = f"from the small model that `model={job.command.choices['model']}` builds on any machine"
    name = Path(str(base or job.command.config.model.get("name") or job.command.choices["model"])).name
    title = f"{name}, {job.credit} on {job.command.choices['task']}"
    rows = [("model", base_words.removeprefix("from ")), *_rows(job, trainer, facts, summary)]
    parts = [
        f"---\n{metadata(job, trainer, base, summary, title)}---",
        f"# {title}",
        f"A language model trained with {_METHODS[verb]} by Apportion's `{verb}.py`: {base_words}, credit strategy "
        f"`{job.credit}`, data `{job.command.choices['task']}`. This page was made by the run; look through it before you "
        "publish it, and add a license.",
        "## Use",
        _usage(trainer),
        "## Training",
        "\n".join(["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows)]),
        "The command:",
        f"```bash\n{facts['command']}\n```",
        "## Credit",
        f"```text\n{_equation(job.strategy, verb)}\n```",
        "\n".join(["| part | member | what it is | source |", "|---|---|---|---|", *_members(job.strategy, verb)]),
        "## Result",
        "\n".join(_results(summary)),
    ]
    if (job.folder.model / job.folder.curves.name).is_file():
        parts += ["## Curves", f"![curves]({job.folder.curves.name})"]
    parts += [
        "## Versions",
        ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
        + (f"; Apportion at commit {facts['commit']}" if facts.get("commit") else ""),
        "## Citation",
        "```bibtex\n" + "\n\n".join([*map(bibtex, papers_of(job.strategy, verb)), CITATION]) + "\n```",
    ]
    return "\n\n".join(parts) + "\n"


def metadata(job: Job, trainer: Any, base: str | None, summary: Mapping[str, Any], title: str) -> str:
    """The YAML that the hub reads."""
    task = job.command.choices["task"]
    dataset = job.command.config.task.get("dataset")
    is_on_hub = isinstance(dataset, str) and _is_hub_id(dataset)
    before_after = [
        EvalResult(
            task_type="text-generation",
            task_name="Text generation",
            dataset_type=dataset if is_on_hub else task,
            dataset_name=task,
            metric_type=kind,
            metric_name=f"held-out {kind}",
            metric_value=round(value, 6),
        )
        for kind in ("reward", "loss")
        if (value := summary.get(f"eval_{kind}_after")) is not None
    ]
    data = ModelCardData(
        base_model=base,
        datasets=[dataset] if is_on_hub else None,
        library_name="peft" if is_adapted(trainer.model) else "transformers",
        pipeline_tag="text-generation",
        tags=["apportion", "trl", _verb(job).removeprefix("train_"), "credit-assignment", str(job.strategy.name)],
        model_name=title if before_after else None,
        eval_results=before_after or None,
    )
    return yaml.safe_dump(data.to_dict(), sort_keys=False, allow_unicode=True)


def _equation(strategy: Strategy, verb: str) -> str:
    more = verb == "train_grpo" and strategy.auxiliary is not None
    return _EQUATIONS[verb] + (
        "\n       + sum_{b,t}  m[b,t] * l[b,t]        the auxiliary: its measure and its term" if more else ""
    )


def papers_of(strategy: Strategy, verb: str) -> list[str]:
    """arXiv ids that the declarations of the strategy name, and the verb's own."""
    sources = [_declared(strategy, axis).source for axis in _axes(verb, strategy)]
    own = {"train_grpo": "arXiv 2402.03300", "train_lhts": "arXiv 2302.03686"}
    return papers_in("; ".join([*sources, own.get(verb, "")]))


def hub_base(trainer: Any) -> tuple[str | None, str]:
    """(hub id of the base model or None, words for it). A folder that a run has left says in its own card what it began with."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    model = model.get_base_model() if is_adapted(model) else model
    name = str(getattr(model, "name_or_path", "") or "")
    if _is_hub_id(name):
        return name, f"from `{name}`"
    card = Path(name) / CARD
    if name and card.is_file():
        base = ModelCard.load(card, ignore_metadata_errors=True).data.get("base_model")
        if isinstance(base, str):
            return base, f"from a folder that began as `{base}`"
    return None, f"from the local folder `{Path(name).name}`" if Path(name).is_dir() else "from a model built for it"


def _is_hub_id(name: str) -> bool:
    return re.fullmatch(r"[\w.-]+/[\w.-]+", name) is not None and not Path(name).exists()


def _verb(job: Job) -> str:
    if isinstance(job, LikelihoodJob):
        return "train_sft" if job.has_comparable_loss else "train_lhts"
    return "train_grpo"


def _axes(verb: str, strategy: Strategy) -> tuple[str, ...]:
    more = [axis for axis in ("live_weight", "auxiliary") if getattr(strategy, axis) is not None]
    return (*AXES, *more) if verb == "train_grpo" else ("weight",)


def _declared(strategy: Strategy, axis: str) -> Declaration:
    return (parts_declared if axis == "auxiliary" else declaration_of)(getattr(strategy, axis))


def _usage(trainer: Any) -> str:
    adapted = is_adapted(trainer.model)
    package, name = ("peft", "AutoPeftModelForCausalLM") if adapted else ("transformers", "AutoModelForCausalLM")
    imports = [f"from {package} import {name}", "from transformers import AutoTokenizer"]
    lines = [*(imports if adapted else [f"from {package} import {name}, AutoTokenizer"]), ""]
    lines += ['place = "path/or/hub-id"', f"model = {name}.from_pretrained(place)"]
    return "```python\n" + "\n".join([*lines, "tokenizer = AutoTokenizer.from_pretrained(place)"]) + "\n```"


def _rows(job: Job, trainer: Any, facts: Mapping[str, Any], summary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    config, task, args = job.command.config, job.task, job.args
    yield "parameters", f"{summary['parameters']:,}, {summary['trainable_parameters']:,} of them trained"
    where = next((str(config.task[key]) for key in ("dataset", "path") if config.task.get(key)), "")
    place = f" (`{where if _is_hub_id(where) else Path(where).name}`)" if where else ""
    rows, held_out = len(task.train), len(task.evaluation or ())
    yield "data", f"`{job.command.choices['task']}`{place}, {rows:,} rows, {held_out:,} held out"
    if isinstance(job, GRPOJob):
        weights = args.reward_weights or job.rewards.weights
        each = zip(job.rewards.names, weights, job.rewards.funcs, strict=True)
        yield "reward", "; ".join(f"`{name}` x {weight:g}{_said(func)}" for name, weight, func in each)
    yield "strategy", f"`{job.credit}`"
    yield "steps", f"{summary['steps']:,}"
    if "completions_per_step" in summary:
        yield "completions a step", f"{summary['completions_per_step']:,}, {args.num_generations} for a prompt"
    if summary.get("tokens"):
        yield "generated tokens", f"{summary['tokens']:,}"
    yield "learning rate", f"{args.learning_rate:g}, {getattr(args.lr_scheduler_type, 'value', args.lr_scheduler_type)}"
    if getattr(args, "beta", 0):
        yield "KL coefficient", f"{args.beta:g}"
    mixed = "bfloat16" if args.bf16 else "float16" if args.fp16 else ""
    dtype = str(trainer.model.dtype).removeprefix("torch.")
    yield "precision", f"{dtype}, {mixed} autocast" if mixed else dtype
    yield "seed, processes", f"{config.seed}, {facts['processes']}"


def _said(func: Callable) -> str:
    """The first line of a reward's own docstring, in parentheses."""
    func = getattr(getattr(func, "guard", func), "func", func)
    doc = (func.func if isinstance(func, partial) else func).__doc__ or ""
    line = " ".join(doc.strip().split("\n\n")[0].split()).replace("|", "\\|")
    return f" ({line.rstrip('.')})" if 0 < len(line) < 160 else ""


def _members(strategy: Strategy, verb: str) -> Iterator[str]:
    for axis in _axes(verb, strategy):
        member = getattr(strategy, axis)
        settings = {}
        while isinstance(member, partial):
            settings |= member.keywords
            member = member.func
        owner = member if hasattr(member, "__name__") else type(member)
        if axis == "auxiliary":
            settings = settings_in(member)
        doc = " ".join((owner.__doc__ or "").strip().split("\n\n")[0].split()).replace("|", "\\|")
        shown = f"`{owner.__name__}`" + (f" ({', '.join(f'{k}={v}' for k, v in settings.items())})" if settings else "")
        yield f"| {axis} | {shown} | {doc} | {_declared(strategy, axis).source or 'not declared'} |"
    if strategy.critic is not None and verb == "train_grpo":
        yield f"| critic | `{type(strategy.critic).__name__}` | `{strategy.critic}` | |"


def _results(summary: Mapping[str, Any]) -> Iterator[str]:
    yield "| | before | after |"
    yield "|---|---:|---:|"
    found = summary.get("evaluation") or {}
    before, after = (found.get(when) or {} for when in ("before", "after"))
    for key in dict.fromkeys([*before, *after]):
        yield f"| held-out {key} | {_interval(before.get(key))} | {_interval(after.get(key))} |"
    if not after:
        for kind in ("reward", "loss"):
            if summary.get(f"eval_{kind}_after") is not None:
                first, last = summary.get(f"eval_{kind}_before"), summary[f"eval_{kind}_after"]
                yield f"| held-out {kind} | {_number(first)} | {_number(last)} |"
    for kind in ("reward", "loss"):
        if summary.get(f"final_{kind}") is not None:
            first, last = summary.get(f"initial_{kind}"), summary[f"final_{kind}"]
            yield f"| training {kind}, first step and last ten | {_number(first)} | {_number(last)} |"
    if after:
        prompts = next(iter(after.values())).get("prompts")
        yield ""
        yield f"In brackets: 95 % intervals over {prompts} held-out prompts."


def _interval(one: Mapping[str, Any] | None) -> str:
    if not one:
        return "-"
    ends = f" [{_number(one['low'])}, {_number(one['high'])}]" if one.get("low") is not None else ""
    return f"{_number(one['value'])}{ends}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
