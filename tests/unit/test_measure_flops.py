"""The count of multiplications: against layers counted by hand, and against what is known of SD1.5."""

import json

import pytest
import torch

from icportrait.models.nets.portrait_net import SD15_UNET
from icportrait.training import cli
from icportrait.training.evaluation.measure import flops as measure_flops


def test_a_layer_by_hand():
    """y = W x: 2 n m FLOP a row forward; backward as many for the weights and for the input."""
    layer = torch.nn.Linear(30, 50, bias=False, device="meta")
    x = torch.empty(7, 30, device="meta")
    assert measure_flops.count(lambda: layer(x).sum(), backward=False) == 2 * 7 * 30 * 50
    assert measure_flops.count(lambda: layer(x).sum()) == 2 * (2 * 7 * 30 * 50)  # x wants no gradient
    x.requires_grad_()
    assert measure_flops.count(lambda: layer(x).sum()) == 3 * (2 * 7 * 30 * 50)


def test_kept_bytes_by_hand():
    """A square keeps its input once, however often it is used; weights and attention matrices do not count."""
    weight = torch.nn.Parameter(torch.empty(10, 10, device="meta"))
    x = torch.empty(4, 10, device="meta")
    attention = torch.empty(2, 6, 6, device="meta", requires_grad=True)

    def step():
        y = x @ weight
        return (y * y).sum() + attention.exp().sum()

    assert measure_flops.bytes_kept(step, {6}) == 4 * (4 * 10 + 4 * 10)
    assert measure_flops.bytes_kept(step, set()) == 4 * (4 * 10 + 4 * 10 + 2 * 6 * 6)


def test_hours():
    assert measure_flops.hours(3.6e15, 100, 0.5) == pytest.approx(3.6e15 / 5e13 / 3600)


@pytest.mark.slow
def test_figures(tmp_path, capsys):
    out = tmp_path / "flops.json"
    assert cli.main(["measure", "flops", "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    assert figures["parameters"]["unet"] == 859_520_964  # the published checkpoint's
    tflop = figures["tflop_per_sample"]
    # SD1.5's forward pass at 512 px is about 0.8 TFLOP with attention; training all of it costs three times that.
    assert 3 * 0.65 < tflop["whole_unet_single_view"] < 3 * 0.9
    assert 2 * tflop["whole_unet_single_view"] < tflop["whole_unet_pair"]  # attention grows faster than the width
    assert tflop["matching_flow"] < tflop["matching_paper"] < tflop["appearance"]
    run = figures["paper_run_tflop"]
    assert run["appearance"] == pytest.approx(tflop["appearance"] * 320_000)
    assert run["matching"] == pytest.approx(tflop["matching_paper"] * 3_200)
    kept, checked = (figures[f"activation_gb_per_sample_fp32{s}"] for s in ("", "_checkpointing"))
    assert all(checked[name] < 0.5 * kept[name] for name in kept)
    assert "A40" in capsys.readouterr().out and SD15_UNET["model_channels"] == 320
