"""`icportrait measure files`: true sizes."""

import json

import pytest
from tiny_models import portrait_setup

from icportrait.models.nets.files import read_tensors
from icportrait.training import cli


def test_sizes_are_those_of_the_files(tmp_path, capsys):
    folder, out = portrait_setup().folder, tmp_path / "files.json"
    assert cli.main(["measure", "files", "--bundle", str(folder), "--out", str(out)]) == 0
    figures = json.loads(out.read_text())
    weights = sum(tensor.numel() for tensor in read_tensors(folder / "vae.safetensors")[0].values())
    assert figures["files"]["vae"]["million_weights"] == pytest.approx(weights / 1e6)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert len(figures["files"]) == 5 and figures["mib"] == pytest.approx(size / 2**20)
    assert "total" in capsys.readouterr().out
