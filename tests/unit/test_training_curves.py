"""`icportrait curves`: validation figures of runs against steps."""

import json

import numpy as np
import pytest
from PIL import Image

from icportrait.training.commands import curves as command
from icportrait.training.evaluation import curves
from icportrait.training.evaluation.curves import charts_of, draw_curves, read_validation, short_names


def run_folder(path, looks: list[dict]):
    path.mkdir(parents=True)
    (path / "validation.jsonl").write_text("".join(json.dumps(look) + "\n" for look in looks))
    return path


def test_a_step_written_again_counts_once_and_steps_are_in_order(tmp_path):
    looks = [{"step": 20, "epe_px": 5.0}, {"step": 10, "epe_px": 7.0}, {"step": 20, "epe_px": 4.0, "loss": 1.0}]
    assert read_validation(run_folder(tmp_path / "run", looks)) == {
        "epe_px": [(10, 7.0), (20, 4.0)],
        "loss": [(20, 1.0)],
    }


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing holds no validation.jsonl; train with --validation"):
        read_validation(tmp_path / "nothing")
    folder = run_folder(tmp_path / "run", [{"step": 1, "loss": 2.0}, {"loss": 1.0}])
    with pytest.raises(ValueError, match="Line 2 of .*validation.jsonl"):
        read_validation(folder)
    with pytest.raises(ValueError, match="hold no figures"):
        draw_curves([run_folder(tmp_path / "empty", [])], tmp_path / "x.png")


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert short_names([tmp_path / "a" / "matching", tmp_path / "a" / "appearance"]) == ["matching", "appearance"]
    assert short_names([tmp_path / "a" / "matching", tmp_path / "b" / "matching"]) == ["a/matching", "b/matching"]
    with pytest.raises(ValueError, match="twice"):
        short_names([tmp_path / "a", tmp_path / "b" / ".." / "a"])


def test_references_stand_in_their_figures_chart():
    """One ceiling where the runs agree, one a run where they do not; a name that only looks like a reference is a figure."""
    runs = {
        "a": {
            "psnr_db_style": [(1, 9.0)],
            "psnr_db": [(1, 12.0), (2, 13.0)],
            "loss_without": [(1, 0.3)],
            "loss": [(1, 0.2)],
        },
        "b": {
            "psnr_db": [(2, 14.0)],
            "psnr_db_style": [(1, 9.0), (2, 9.5)],
            "loss_without": [(1, 0.4)],
            "loss": [(1, 0.1)],
        },
        "c": {"kept_style": [(1, 1.0)]},
    }
    charts = charts_of(runs)
    assert set(charts) == {"psnr_db", "loss", "kept_style"}
    assert charts["psnr_db"] == {"a": [(1, 12.0), (2, 13.0)], "b": [(2, 14.0)], "untouched style": [(1, 9.0), (2, 9.5)]}
    assert list(charts["psnr_db"]) == ["a", "b", "untouched style"]
    assert charts["loss"]["a, without the nets"] == [(1, 0.3)] and charts["loss"]["b, without the nets"] == [(1, 0.4)]
    assert charts["kept_style"] == {"c": [(1, 1.0)]}


def test_the_command_draws_and_writes_the_numbers(tmp_path, monkeypatch):
    folders = [
        run_folder(tmp_path / name, [{"step": s, "epe_px": 9.0 - s / factor, "loss": 1 / s} for s in (50, 100, 150)])
        for name, factor in (("one", 50), ("two", 25))
    ]
    drawn, draw = [], curves.line_chart
    monkeypatch.setattr(curves, "line_chart", lambda *a, **k: drawn.append(a) or draw(*a, **k))
    out, data = tmp_path / "new" / "curves.png", tmp_path / "curves.json"
    assert command.main([*map(str, folders), "--out", str(out), "--json", str(data)]) == 0
    wanted = {"one": [[50, 8.0], [100, 7.0], [150, 6.0]], "two": [[50, 7.0], [100, 5.0], [150, 3.0]]}
    assert json.loads(data.read_text())["epe_px"] == wanted
    assert [a[1] for a in drawn] == ["epe_px", "loss"] and drawn[0][3] == "flow error, px"
    picture = np.asarray(Image.open(out))
    assert picture.shape[1] > 2 * picture.shape[0]  # two charts beside each other
    for colour in ((0, 114, 178), (213, 94, 0)):  # a line each
        assert (picture == colour).all(axis=-1).sum() > 200
