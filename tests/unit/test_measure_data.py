"""`icportrait measure data`: real figures of a tiny run, and a cycle error that sees a wrong flow."""

import json

import numpy as np
import pytest

pytest.importorskip("anny")
pytest.importorskip("numba")

from icportrait.training import cli
from icportrait.training.data.heads import generate
from icportrait.training.data.heads.identity import make_person
from icportrait.training.data.heads.render import render
from icportrait.training.data.heads.scene import random_scene
from icportrait.training.evaluation.measure import data as measure_data


def test_figures(tmp_path, capsys):
    size = ["--size", "64", "--groups", "1", "--identities", "1", "--scenes", "2", "--workers", "1"]
    out = tmp_path / "deep" / "data.json"
    assert cli.main(["measure", "data", *size, "--flow-people", "1", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["images"] == 2 and figures["pairs"] == 4 and figures["flow_pairs"] == 2
    assert figures["images_per_hour_64"] == pytest.approx(2 / figures["seconds"] * 3600)
    assert figures["pairs_per_hour_64"] == pytest.approx(2 * figures["images_per_hour_64"])
    assert 0 < figures["flow_cycle_error_px"] < 0.1
    assert "images_per_hour_64" in capsys.readouterr().out


def test_the_cycle_error_sees_a_wrong_flow(monkeypatch):
    person = make_person(21, "short")
    a, b = (render(person, random_scene(seed), 64) for seed in (31, 35))
    right = measure_data.cycle_errors(a, b)
    flow_between = measure_data.flow_between

    def off_by_half_a_pixel(x, y):
        flow, seen = flow_between(x, y)
        return flow + np.float32(0.5) * (x is a), seen

    monkeypatch.setattr(measure_data, "flow_between", off_by_half_a_pixel)
    wrong = measure_data.cycle_errors(a, b)
    assert len(right) > 100 and np.median(right) < 0.05
    assert 0.3 < np.median(wrong) < 1.5


def test_shards_of_another_size_are_not_taken_for_done(tmp_path):
    options = {"groups": 1, "identities": 1, "scenes": 2, "workers": 1, "progress": False}
    generate.generate_shards(tmp_path, size=64, **options)
    with pytest.raises(ValueError, match="holds pictures of 64 px, 128 px are asked for"):
        generate.generate_shards(tmp_path, size=128, **options)
