"""Eq. 7 and the blending of warped profile features, against loops in float64 (plain_method.py)."""

import numpy as np
import plain_method as plain
import pytest
import torch

from icportrait.models.method.aggregation import aggregate_residuals, annealed_weights


def random(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def residuals(batch: int = 2) -> list[torch.Tensor]:
    """Five levels as a small net makes them: two grids, the middle block last."""
    shapes = [(3, 6, 8), (3, 6, 8), (4, 3, 4), (5, 3, 4), (5, 3, 4)]  # a view is 6 x 4, then 3 x 2
    return [random(level, batch, *shape) for level, shape in enumerate(shapes)]


def test_weights_of_sd15():
    """12 encoder blocks and the middle block: W_l = (1 - l / 12) * alpha + beta."""
    weights = annealed_weights(12, alpha=0.6, beta=0.3)
    assert len(weights) == 13
    assert weights[0] == pytest.approx(0.9)  # nearest the input: the most
    assert weights[6] == pytest.approx(0.6)
    assert weights[12] == pytest.approx(0.3)  # the middle block: beta alone
    steps = [a - b for a, b in zip(weights, weights[1:], strict=False)]
    assert steps == pytest.approx([0.05] * 12)  # linear, falling


@pytest.mark.parametrize("profile_side", ["left", "right"])
@pytest.mark.parametrize("with_confidence", [False, True])
def test_equals_the_loop(profile_side, with_confidence):
    levels, flow = residuals(), random(20, 2, 2, 3, 2)
    confidence = torch.rand(2, 1, 3, 2, generator=torch.Generator().manual_seed(21)) if with_confidence else None
    out = aggregate_residuals(levels, flow, 0.7, 0.2, confidence, profile_side)
    for b in range(2):
        wanted = plain.aggregate(
            [level[b].double().numpy() for level in levels],
            flow[b].double().numpy(),
            0.7,
            0.2,
            None if confidence is None else confidence[b].double().numpy(),
            profile_side,
        )
        assert len(out) == len(wanted) == 5
        for ours, reference in zip(out, wanted, strict=True):
            assert np.allclose(ours[b].numpy(), reference, atol=1e-5)


def test_the_level_decides_the_weight():
    """No motion, all residuals 1: the target half becomes 1 + W_l, from the input (first) to the middle block (last)."""
    levels = [torch.ones(1, 2, 4, 8) for _ in range(5)]
    out = aggregate_residuals(levels, torch.zeros(1, 2, 4, 4), alpha=1.0, beta=0.0)
    assert [level[0, 0, 0, 0].item() for level in out] == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


@pytest.mark.parametrize("profile_side", ["left", "right"])
def test_only_the_target_half_changes(profile_side):
    levels, flow = residuals(), random(20, 2, 2, 3, 2)
    for before, after in zip(levels, aggregate_residuals(levels, flow, 1.0, 0.5, None, profile_side), strict=True):
        (left, right), (new_left, new_right) = before.chunk(2, dim=-1), after.chunk(2, dim=-1)
        if profile_side == "right":
            assert torch.equal(right, new_right) and not torch.allclose(left, new_left)
        else:
            assert torch.equal(left, new_left) and not torch.allclose(right, new_right)


def test_weights_of_zero_change_nothing():
    levels = residuals()
    out = aggregate_residuals(levels, random(20, 2, 2, 3, 2), alpha=0.0, beta=0.0)
    assert all(torch.equal(a, b) for a, b in zip(levels, out, strict=True))


def test_no_confidence_means_no_profile():
    levels, flow = residuals(), random(20, 2, 2, 3, 2)
    out = aggregate_residuals(levels, flow, 1.0, 0.5, torch.zeros(2, 1, 3, 2))
    assert all(torch.equal(a, b) for a, b in zip(levels, out, strict=True))
    full = aggregate_residuals(levels, flow, 1.0, 0.5, torch.ones(2, 1, 3, 2))
    plainly = aggregate_residuals(levels, flow, 1.0, 0.5)
    assert all(torch.allclose(a, b) for a, b in zip(full, plainly, strict=True))


def test_inputs_are_not_changed():
    levels, flow = residuals(), random(20, 2, 2, 3, 2)
    before = [level.clone() for level in levels]
    aggregate_residuals(levels, flow, 1.0, 0.5)
    assert all(torch.equal(a, b) for a, b in zip(levels, before, strict=True))
