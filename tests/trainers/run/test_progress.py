"""`generated_tokens`: the budget that runs are compared at."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from trainers.run.progress import EXTRA_TOKENS, MetricsFile, generation_batches


def arguments(steps_per_generation=1, accumulation=1, iterations=1, rows=8):
    return SimpleNamespace(
        steps_per_generation=steps_per_generation,
        gradient_accumulation_steps=accumulation,
        num_iterations=iterations,
        generation_batch_size=rows,
    )


def log(file, args, step, **logs):
    file.on_log(args, SimpleNamespace(global_step=step, is_world_process_zero=True), None, logs=logs)


def start(path, step=0):
    file = MetricsFile(path)
    file.on_train_begin(arguments(), SimpleNamespace(global_step=step), None)
    return file


def generated(path):
    return [row.get("generated_tokens") for row in map(json.loads, path.read_text().splitlines())]


@pytest.mark.parametrize(
    ("shape", "at"), [((1, 1, 1), [1, 2, 3, 4, 5, 6]), ((2, 1, 1), [1, 3, 5]), ((4, 2, 3), [1]), ((2, 2, 2), [1, 3, 5])]
)
def test_batches_are_counted_at_the_steps_that_sample_them(shape, at):
    """(steps_per_generation, accumulation, iterations): a batch lasts steps / accumulation * iterations steps."""
    args = arguments(*shape)
    assert [step for step in range(1, 7) if generation_batches(args, step - 1, step)] == at
    assert generation_batches(args, 0, 6) == len(at)


def test_tokens_of_every_batch_add_up_and_evaluations_do_not_count(tmp_path):
    file, path = start(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl"
    log(file, arguments(), 0, eval_reward=0.1, **{"eval_completions/mean_length": 30.0})
    log(file, arguments(), 1, **{"completions/mean_length": 10.5})
    log(file, arguments(), 2, **{"completions/mean_length": 2.125})
    assert generated(path) == [None, 84, 84 + 17]


def test_rows_that_stand_for_several_batches_count_them_all(tmp_path):
    file, path = start(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl"
    log(file, arguments(), 5, **{"completions/mean_length": 10.0})  # a mean over five batches of 8 rows
    assert generated(path) == [5 * 8 * 10]


def test_rollouts_beyond_the_batch_count_as_generated(tmp_path):
    file, path = start(tmp_path / "metrics.jsonl"), tmp_path / "metrics.jsonl"
    log(file, arguments(), 1, **{"completions/mean_length": 10.0, EXTRA_TOKENS: 1000.0})
    assert generated(path) == [1080]


def test_resumed_run_goes_on_counting_where_its_checkpoint_stood(tmp_path):
    path = tmp_path / "metrics.jsonl"
    first = start(path)
    for step in (1, 2):
        log(first, arguments(), step, **{"completions/mean_length": 10.0})
    log(start(path, step=2), arguments(), 3, **{"completions/mean_length": 10.0})
    assert generated(path) == [80, 160, 240]
