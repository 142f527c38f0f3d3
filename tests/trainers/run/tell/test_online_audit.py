"""The online audit: it looks at the update and leaves every bit of it alone; what it says is right on average."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from configs.compose import named_strategy
from support.resumed import assert_goes_on, grpo, live
from trainers.run.tell.online_audit import OnlineAudit, online_audit, signal_and_noise
from trainers.run.tell.online_refused import refuse_online
from trainers.seam.visit import GROUP_B

SHAPES = {
    "one micro-batch": dict(max_steps=2),
    "several, recomputed": dict(max_steps=2, per_device_train_batch_size=4, gradient_accumulation_steps=2, rows=16,
                                gradient_checkpointing=True),
    "two steps on a batch, twice": dict(max_steps=4, per_device_train_batch_size=4, steps_per_generation=2, num_iterations=2),
    "entropy bonus, critic": dict(max_steps=2, credit="value", entropy_coef=0.01),
}  # fmt: skip


def without_audit(logs):
    return [{name: value for name, value in row.items() if not name.startswith("audit/")} for row in logs]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_update_and_its_metrics_are_the_same_to_the_bit(shape, tmp_path):
    plain = live(grpo(**SHAPES[shape])(tmp_path / "plain"))
    watched = live(grpo(**SHAPES[shape], callbacks=lambda: [OnlineAudit(1)])(tmp_path / "watched"))
    assert all(torch.equal(plain.weights[name], watched.weights[name]) for name in plain.weights)
    assert without_audit(watched.logs) == plain.logs
    measured = [row["step"] for row in watched.logs if "audit/noise" in row]
    assert measured == ([1] if "twice" in shape else [row["step"] for row in plain.logs])
    assert all(row["audit/noise"] > 0 for row in watched.logs if "audit/noise" in row)


class ByMicroBatch:
    """A second way to the same halves, where every micro-batch is one row: what each adds to the gradient."""

    def __init__(self):
        self.before, self.first, self.halves = None, False, {True: 0.0, False: 0.0}

    def attached(self, trainer):
        trainer.loss_observers.append(self.note)
        trainer.gradient_observers.append(self.take)

    def __getattr__(self, name):
        if name.startswith("on_"):
            return lambda args, state, control, **kwargs: control
        raise AttributeError(name)

    def note(self, trainer, visit, loss):
        self.take(trainer)
        self.before, self.first = flat_gradient(trainer), bool(visit.inputs[GROUP_B][0] % 2 == 0)

    def take(self, trainer):
        if self.before is not None:
            self.halves[self.first] = self.halves[self.first] + flat_gradient(trainer) - self.before
            self.before = None


def flat_gradient(trainer):
    return torch.cat(
        [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in trainer.model.parameters()]
    ).double()


def test_the_halves_are_the_gradients_of_whole_groups_however_the_batch_is_cut(tmp_path):
    other, found = ByMicroBatch(), {}
    for rows, more in ((1, [other]), (8, [])):
        audit = OnlineAudit(1)
        cut = dict(max_steps=1, per_device_train_batch_size=rows, gradient_accumulation_steps=8 // rows)
        live(grpo(**cut, callbacks=lambda audit=audit, more=more: [audit, *more])(tmp_path / str(rows)))
        found[rows] = audit.state_dict()["recent"][0]
    a, b = other.halves[True], other.halves[False]
    assert found[1] == pytest.approx([float(4 * a @ b), float((a - b).square().sum())], rel=1e-4)
    assert found[8] == pytest.approx(found[1], rel=1e-4)


def test_goes_on_from_a_checkpoint_as_if_nothing_had_been(tmp_path):
    def made(folder):
        return grpo(max_steps=4, callbacks=lambda: [OnlineAudit(1, 3)])(tmp_path / folder)

    whole = live(made("whole"))
    resumed = live(made("cut"), tmp_path / "whole" / "checkpoint-2")
    assert_goes_on(whole, resumed, 2)
    assert [row["audit/measured"] for row in resumed.logs] == [3.0, 3.0]


@pytest.mark.parametrize("share", [0.5, 2 / 3, 0.25])
def test_signal_and_noise_are_right_on_average(share):
    """Twelve groups of known mean and variance, the first share of them in the first half."""
    generator = torch.Generator().manual_seed(0)
    mean, draws = torch.tensor([0.3, -0.1, 0.2]), 40000
    groups = mean + torch.randn(draws, 12, 3, generator=generator) * torch.tensor([0.5, 1.0, 0.1])
    a, t = groups[:, : round(12 * share)].sum(dim=1), groups.sum(dim=1)
    products = zip((a * a).sum(1).tolist(), (a * t).sum(1).tolist(), (t * t).sum(1).tolist(), strict=True)
    found = torch.tensor([signal_and_noise(*each, share) for each in products]).double()
    error = found.std(dim=0) / draws**0.5
    true = torch.tensor([144 * 0.14, 12 * 1.26]).double()
    assert bool(((found.mean(dim=0) - true).abs() < 4 * error).all()) and bool((error < 0.02 * true).all())


def test_noise_over_signal_is_a_ratio_of_means_over_the_window_and_missing_where_no_signal_is_seen():
    audit, metrics = OnlineAudit(1, window=2), {}
    logged = [{} for _ in range(3)]
    for row, (signal, noise) in zip(logged, [(-1.0, 4.0), (3.0, 6.0), (5.0, 2.0)], strict=True):
        metrics = {f"audit/{name}": [] for name in ("signal", "noise", "measured", "nsr", "critical_batch")}
        audit._log(metrics, signal, noise, 16)
        row.update({name: values[0] for name, values in metrics.items() if values})
    assert "audit/nsr" not in logged[0] and logged[0]["audit/signal"] == -1.0
    assert logged[1]["audit/nsr"] == 5.0 and logged[1]["audit/critical_batch"] == 80.0
    assert logged[2]["audit/nsr"] == 1.0 and logged[2]["audit/measured"] == 2.0


def test_is_due_at_the_first_step_of_a_generation_batch():
    args = SimpleNamespace(gradient_accumulation_steps=2, steps_per_generation=4, num_iterations=1)
    assert [step for step in range(20) if OnlineAudit(5).is_due(args, step)] == [0, 6, 10, 16]
    args.steps_per_generation = 2
    assert [step for step in range(20) if OnlineAudit(5).is_due(args, step)] == [0, 5, 10, 15]


@pytest.mark.parametrize("wrong", [{"every": 0}, {"every": 2.5}, {"window": 0}, {"every": True}])
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="whole number of at least 1"):
        OnlineAudit(**wrong)


def test_the_settings_of_the_command_say_their_names():
    assert online_audit(0, 10) is None and isinstance(online_audit(3, 1), OnlineAudit)
    for every, window, name in ((-1, 10, "audit.every=-1"), (5, 0, "audit.window=0")):
        with pytest.raises(ValueError, match=name):
            online_audit(every, window)


def options(**more):
    return SimpleNamespace(
        **{"generation_batch_size": 16, "num_generations": 4, "fp16": False, "gradient_checkpointing": False} | more
    )


@pytest.mark.parametrize(
    ("more", "credit", "remedy"),
    [
        (dict(generation_batch_size=4), "rloo", "at least two prompts"),
        (dict(fp16=True), "rloo", "trainer.bf16=true"),
        (
            dict(gradient_checkpointing=True, gradient_checkpointing_kwargs={"use_reentrant": True}),
            "rloo",
            "use_reentrant=false",
        ),
        (dict(torch_compile=True), "rloo", "torch_compile=false"),
        (dict(), "value credit.critic.detach=false", "credit.critic.detach=true"),
        (dict(), None, "credit=None"),
    ],
)
def test_what_cannot_be_halved_is_refused_with_the_remedy(more, credit, remedy):
    strategy = None if credit is None else named_strategy(credit, ())
    with pytest.raises(ValueError, match=remedy):
        refuse_online(options(**more), strategy)
    refuse_online(options(), named_strategy("value", ()))


@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
def test_gradients_that_are_dealt_out_are_refused_before_a_model_is_loaded(variable, monkeypatch):
    monkeypatch.setenv(variable, "true")
    with pytest.raises(ValueError, match="Train with DDP"):
        refuse_online(options(), named_strategy("rloo", ()))
