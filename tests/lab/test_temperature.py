"""The picture of the two temperatures: exact curves, numbers a machine can read, mistakes told at once."""

import json

import pytest

from lab import temperature
from lab.temperature import exact_points, main


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["tau=0"], "positive number"),
        (["tau=warm"], "numbers with commas"),
        (["sampler=smcc"], "choose among"),
        (["samples=0"], "samples=0"),
        (["prompts=two"], "prompts=two"),
        (["seed=x"], "seed=x"),
    ],
)
def test_mistakes_end_with_a_line(arguments, reason):
    with pytest.raises(SystemExit, match=reason):
        main(arguments)


def test_sequence_temperature_is_the_upper_edge_of_likelihood_against_diversity():
    """It maximises E[log p] + tau * entropy, so no other way to write lies above that line."""
    exact, sampled = exact_points(taus=(0.5,), draws=2000)
    by_name = {point.sampler: point for point in exact}
    token, sequence = by_name["token"], by_name["sequence"]
    assert sequence.log_p + 0.5 * sequence.entropy > token.log_p + 0.5 * token.entropy + 0.01
    assert sequence.distance == 0 and token.distance > 0.2
    drawn = {point.sampler: point for point in sampled}
    assert drawn["rejection"].distance < 3 * drawn["rejection"].noise < drawn["token"].distance
    assert drawn["rejection"].tokens < 25  # what an acceptance of 0.108 costs, not what a first batch does


def test_the_command_leaves_table_picture_and_json(tmp_path, monkeypatch):
    monkeypatch.setattr(temperature, "DRAWS", 500)
    main(["tau=1,0.5", f"out={tmp_path}"])
    points = json.loads((tmp_path / "temperature.json").read_text())
    assert {point["sampler"] for point in points if not point["exact"]} == set(temperature.SAMPLERS)
    assert all(point["distance"] is not None for point in points)
    assert (tmp_path / "temperature.md").read_text().count("exact sequence") == 2
    assert (tmp_path / "temperature.png").stat().st_size > 10_000
