"""The measurement of speed: ratios of what they say, on small sizes."""

import sys

import pytest
from child import child_environment

from icportrait.models.method.correspondence import METHODS
from icportrait.training.evaluation.measure import speed, step_cost
from icportrait.training.evaluation.measure.dryrun import RandomWeights, checkpoint_shapes


def test_spread_is_median_and_ends():
    assert speed.spread([3.0, 1.0, 2.0]) == {"median": 2.0, "least": 1.0, "greatest": 3.0}


def test_matching_is_compared_with_a_matrix_product_by_method():
    found = speed.matching_ratios(8, 2)
    assert set(found) == set(METHODS)
    assert all(0 < one["least"] <= one["median"] <= one["greatest"] for one in found.values())


def test_a_step_counts_the_pair_and_one_net():
    """The pair costs more than twice a view because of self-attention; a second net as much as the first."""
    counted = step_cost.counted_steps(128)
    single, pair, two = (counted[f"tflop_{name}"] for name in ("unet_single", "unet_pair", "two_controlnets"))
    net = (two - pair) / 2
    assert pair > 2 * single
    assert 0.9 * (pair + net) < counted["tflop_method"] < pair + net  # less what one query saves
    assert single < counted["tflop_target_alone"] < 1.3 * single
    assert counted["step_vs_two_controlnets"]["default"] == pytest.approx(counted["tflop_method"] / two)


def test_fast_is_the_mean_of_the_nodes_steps():
    """Six steps, of which the first and the fourth run the pair."""
    costs = {"method": 6.0, "keeping": 6.0, "target_alone": 3.0, "two_controlnets": 8.0, "unet_single": 2.0}
    found = step_cost.step_ratios(costs)
    assert found["step_vs_two_controlnets"] == {"default": 0.75, "fast": 0.5}
    assert found["step_vs_unet_single"] == {"default": 3.0, "fast": 2.0}


@pytest.mark.parametrize("workers", [0, 1])
def test_waiting_for_data_is_a_share(workers):
    found = speed.data_wait(speed.SpeedMeasure(batches=3, repetitions=1, workers=workers), 64, batch=2, seconds=0.002)
    assert 0 <= found["wait_share"] <= 1 and found["draw_cpu_seconds"] > 0


def test_random_weights_are_the_same_twice():
    shapes = checkpoint_shapes()
    name = "model.diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k.weight"
    one, other = (RandomWeights(3)(name, shapes[name]) for _ in range(2))
    assert one.shape == (320, 768) and one.equal(other) and 0.8 < one.float().std() * 768**0.5 < 1.2


def test_nodes_import_nothing_heavy(tmp_path, monkeypatch):
    """OpenCV, kornia and the like are imported where they are first needed; scipy and torchvision ComfyUI itself has."""
    monkeypatch.setenv("PYTHONPATH", child_environment(tmp_path)["PYTHONPATH"])
    seconds, packages = speed.import_nodes(tmp_path / "bytecode")
    assert seconds > 0 and packages - set(sys.stdlib_module_names) <= {"icportrait", "safetensors", "numpy"}
