"""The measurements of growth: of memory over many portraits, and of cost with what a picture holds."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from icportrait.models.painting import CropResult
from icportrait.training.evaluation.measure import curves, growth


def test_slope_leaves_the_warm_up_out():
    warm, after = [0.0, 90.0, 95.0, 96.0], [100 + 0.5 * run for run in range(8)]
    assert growth.slope_per_100(warm + after) == pytest.approx(50)
    assert growth.slope_per_100(warm + [7.0] * 8) == pytest.approx(0)


def test_live_tensors_are_counted_once():
    kept = torch.zeros(1000, 1000)
    before = growth.tensor_bytes()
    views = [kept[:10], kept.T]
    assert growth.tensor_bytes() == before
    del views, kept
    assert growth.tensor_bytes() == before - 4_000_000


def test_tensors_without_memory_do_not_count():
    before = growth.tensor_bytes()
    with FakeTensorMode():
        fake = torch.zeros(1000, 1000)
    torch._C._set_throw_on_mutable_data_ptr(fake)  # as tracing does
    made = fake, torch.zeros(1000, device="meta")
    assert growth.tensor_bytes() == before and made


def test_portraits_run_by_run():
    found = growth.growth(4, 64)
    assert found["runs"] == 4 and abs(found["tensors"]) < 1000


def test_a_power_law_is_found():
    found = curves.curve({n: 3e12 * n**2 for n in (1, 2, 5)})
    assert found["exponent"] == pytest.approx(2) and found["tflop"]["2"] == pytest.approx(12)


def test_a_portrait_is_what_is_done_once_and_its_steps():
    """Seven steps, of which `fast` runs the pair at the first, fourth and seventh."""
    cost = object.__new__(curves.PortraitCost)
    cost.once, cost.step = 100.0, {"method": 9.0, "keeping": 10.0, "target_alone": 1.0}
    assert (cost.portrait(7, "exact"), cost.portrait(7, "fast")) == (163, 134)


def test_all_faces_of_all_frames_are_counted():
    """2 GFLOP of painting each, beside which cutting and pasting is little."""

    def painter_of(number):
        return lambda pair: CropResult(pair.style + 0 * (torch.ones(1000, 1000) @ torch.ones(1000, 1000)).mean())

    for faces, frames in ((1, 1), (3, 1), (1, 3)):
        assert curves.group_flop(faces, frames, painter_of) == pytest.approx(2e9 * faces * frames, rel=0.05)
