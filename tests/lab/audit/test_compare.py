"""Audits side by side: an order counts as kept or turned only where both tell the pair apart."""

from __future__ import annotations

import json

import pytest

from lab.audit.compare import main, words_of
from lab.audit.over import audits_of, changes, order_kept
from lab.audit.reading import reading_of
from support.reports import audit_of


def reading(noise, *groups, step=None, run=None, **more):
    about = {key: value for key, value in (("step", step), ("run", run)) if value is not None}
    return reading_of(audit_of(noise, *groups, **more) | {"about": about})


def test_only_pairs_that_both_tell_apart_are_counted():
    one = reading({"a": 1.0, "b": 2.0, "c": 4.0})
    other = reading({"a": 3.0, "b": 1.0, "c": 1.1}, ["b", "c"], ["a"])
    same, turned = order_kept(one, other)
    assert same == [] and sorted(turned) == [("a", "b"), ("a", "c")]  # b and c are not told apart in the second
    assert order_kept(one, one) == ([("a", "b"), ("a", "c"), ("b", "c")], [])


def test_it_is_said_what_turned_and_whether_the_ranking_holds(tmp_path):
    first, second = reading({"a": 1.0, "b": 2.0}, step=0), reading({"a": 9.0, "b": 4.0}, step=200)
    text = "\n".join(changes(audits_of([(tmp_path / "x", second), (tmp_path / "y", first)])))
    assert (
        "From step 0 to step 200: of 1 pair told apart in both, 0 keep their order, 1 turn round: a was quieter than b"
        in text
    )
    assert "noise over signal rises beyond its intervals under a and b" in text
    again = "\n".join(changes(audits_of([(tmp_path / "x", first), (tmp_path / "y", reading({"a": 1.0, "b": 2.0}))])))
    assert "From x to y: of 1 pair told apart in both, 1 keep their order: the ranking holds." in again
    unknown = reading({"a": 1.0, "b": 2.0}, ["a", "b"])
    assert (
        "nothing is known of the order" in changes(audits_of([(tmp_path / "x", first), (tmp_path / "y", unknown)]))[1]
    )


def test_names_are_the_shortest_ends_of_paths_that_differ(tmp_path):
    one = reading({"a": 1.0})
    assert list(audits_of([(tmp_path / "x" / "s", one), (tmp_path / "y" / "s", one)]).readings) == ["x/s", "y/s"]
    assert list(audits_of([(tmp_path, one), (tmp_path, one)]).readings) == [
        f"{tmp_path.name} #1",
        f"{tmp_path.name} #2",
    ]


def test_the_order_is_by_run_and_step_else_as_given_and_it_is_said_which(tmp_path):
    def found(*abouts):
        return audits_of([(tmp_path / name, reading({"a": 1.0}, step=step, run=run)) for name, step, run in abouts])

    one = found(("x", 80, "runs/r"), ("y", 5, "runs/r/"), ("z", 20, "./runs/r"))  # one run, however it was typed
    assert list(one.readings) == ["step 5", "step 20", "step 80"] and one.order.startswith("By the step")
    two = found(("x", 80, "runs/s"), ("y", 80, "runs/r"), ("z", 5, "runs/s"))
    assert list(two.readings) == ["s step 5", "s step 80", "r step 80"] and two.order.startswith("Run by run")
    assert two.by_run == [["s step 5", "s step 80"], ["r step 80"]]
    silent = found(("x", 80, "runs/r"), ("y", None, "runs/r"), ("z", 5, "runs/r"))
    assert list(silent.readings) == ["x", "y", "z"]
    assert silent.order == "In the order given, as y does not say the step of a run"
    assert found(("x", None, None), ("y", None, None)).order.endswith("none of them says the step of a run")
    twice = found(("x", 5, "runs/r"), ("y", 5, "runs/r"))
    assert list(twice.readings) == ["x", "y"] and "one step of one run" in twice.order


def test_two_runs_are_laid_beside_each_other_at_the_steps_they_share(tmp_path):
    rows = [(run, step, noise) for run in "rs" for step, noise in ((0, 1.0), (10, 2.0))]
    found = audits_of(
        [(tmp_path / "x", reading({"a": noise, "b": 3.0}, step=step, run=run)) for run, step, noise in rows]
    )
    text = "\n".join(changes(found))
    for pair in ("r step 0 to r step 10", "s step 0 to s step 10", "r step 0 to s step 0", "r step 10 to s step 10"):
        assert f"From {pair}:" in text
    assert "From r step 10 to s step 0" not in text


def test_noise_of_batches_of_two_sizes_is_told_in_completions(tmp_path):
    same = [(tmp_path / "x", reading({"a": 1.0}, step=0)), (tmp_path / "y", reading({"a": 1.0}, step=1))]
    assert audits_of(same).noise == "nsr"
    other = [same[0], (tmp_path / "y", reading({"a": 1.0}, step=1, completions=128))]
    assert audits_of(other).noise == "critical_batch" and "64 and 128 completions" in changes(audits_of(other))[1]


def test_a_bias_that_grows_is_said(tmp_path):
    first, last = (
        reading({"a": 1.0, "b": 1.0}, step=step, bias=bias) for step, bias in ((0, {"a": 0.1}), (9, {"a": 0.9}))
    )
    lines = changes(audits_of([(tmp_path / "x", first), (tmp_path / "y", last)]))
    assert "From step 0 to step 9 bias rises beyond its intervals under a." in lines


def test_the_command_writes_a_page_of_few_and_of_many_strategies(tmp_path, capsys):
    for names in (3, 12):
        folders = []
        for k in range(2):
            noise = {f"<s{i}>": (1.0 + i) * (k + 1) for i in range(names)}
            folders.append(tmp_path / f"{names}_{k}")
            folders[-1].mkdir()
            (folders[-1] / "audit.json").write_text(json.dumps(audit_of(noise)))
        out = tmp_path / f"out{names}"
        assert main([f"audits={','.join(map(str, folders))}", f"out={out}"]) == 0
        html = (out / "compare.html").read_text()
        kept = json.loads((out / "compare.json").read_text())
        assert [list(one["strategies"]) for one in kept["audits"].values()] == [list(noise)] * 2
        assert kept["audits"][f"{names}_1"]["strategies"]["<s2>"]["nsr"]["value"] == 6.0
        assert "the ranking holds" in html and "<s0>" not in html and "&lt;s0&gt;" in html and "data:image/png" in html
    assert "the ranking holds" in capsys.readouterr().out


REFUSED = {
    "no such folder": ["nowhere", "out=x"],
    "a file; the page": ["nowhere", "out=taken"],
    "ot= is no option": ["ot=x"],
    "at least two": ["out=x"],
}


@pytest.mark.parametrize(("said", "words"), REFUSED.items())
def test_what_cannot_be_compared_is_said(said, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").touch()
    assert main(words) == 2 and said in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_folders_may_be_words_or_one_list():
    assert words_of(["a", "b"])[0] == words_of(["audits=a,b"])[0] == words_of(["audits=[a, b]"])[0]
