"""Eq. 1's sampling F(z, n), against a picture checked pixel by pixel."""

import math

import pytest
import torch

from icportrait.models.method.pixel_sampling import PATTERNS, sample_pixels, sampled_positions


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def colours(batch: int = 2, height: int = 12, width: int = 9) -> torch.Tensor:
    """Pictures without a black pixel, so that kept and dropped pixels can be told apart."""
    return 0.1 + 0.9 * torch.rand(batch, height, width, 3, generator=seeded(5))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_kept_pixels_are_unchanged_and_all_others_black(pattern):
    images = colours()
    before = images.clone()
    sampled, kept = sample_pixels(images, 0.25, seeded(1), pattern)
    assert kept.shape == images.shape[:3] and 0 < kept.sum() < kept.numel()
    for b in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                wanted = images[b, y, x] if kept[b, y, x] == 1 else torch.zeros(3)
                assert torch.equal(sampled[b, y, x], wanted)
    assert torch.equal(images, before)


@pytest.mark.parametrize("share", [0.05, 0.2, 0.5, 0.9])
def test_share_of_kept_pixels(share):
    kept = sampled_positions(200, 300, share, seeded(2), batch=2)
    deviation = math.sqrt(share * (1 - share) / kept.numel())
    assert abs(kept.mean().item() - share) < 4 * deviation


def test_pixels_are_drawn_independently_of_place_and_neighbour():
    kept = sampled_positions(400, 400, 0.2, seeded(3))[0]
    for part in (kept[:200], kept[200:], kept[:, :200], kept[:, 200:], kept[::2], kept[:, 1::2]):
        assert part.mean().item() == pytest.approx(0.2, abs=0.006)
    for neighbours in (kept[:, 1:] * kept[:, :-1], kept[1:] * kept[:-1], kept[1:, 1:] * kept[:-1, :-1]):
        assert neighbours.mean().item() == pytest.approx(0.04, abs=0.004)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_nothing_and_everything(pattern):
    assert sampled_positions(8, 8, 0.0, seeded(0), pattern).sum() == 0
    assert sampled_positions(8, 8, 1.0, seeded(0), pattern).sum() == 64


def test_the_seed_decides_and_the_global_generator_is_not_touched():
    torch.manual_seed(11)
    state = torch.get_rng_state()
    first = sampled_positions(30, 30, 0.3, seeded(7))
    assert torch.equal(first, sampled_positions(30, 30, 0.3, seeded(7)))
    assert not torch.equal(first, sampled_positions(30, 30, 0.3, seeded(8)))
    pictures = sampled_positions(30, 30, 0.3, seeded(7), batch=3)
    assert not torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[1], pictures[2])
    assert torch.equal(torch.get_rng_state(), state)


def test_a_larger_share_keeps_a_superset():
    smaller = sampled_positions(50, 50, 0.1, seeded(4))
    for share in (0.1, 0.15, 0.6, 1.0):
        larger = sampled_positions(50, 50, share, seeded(4))
        assert (larger >= smaller).all()
        assert share == 0.1 or larger.sum() > smaller.sum()


def test_one_share_a_picture():
    kept = sampled_positions(100, 100, torch.tensor([0.0, 0.1, 0.5]), seeded(6), batch=3)
    assert [round(k.mean().item(), 1) for k in kept] == [0.0, 0.1, 0.5]


def test_checkerboard_is_a_regular_grid():
    kept = sampled_positions(7, 9, 1 / 9, None, "checkerboard")[0]
    for y in range(7):
        for x in range(9):
            assert kept[y, x] == (1 if y % 3 == 0 and x % 3 == 0 else 0)


def test_a_region_limits_what_is_kept():
    images = colours(1, 10, 10)
    region = torch.zeros(10, 10)
    region[2:5, 3:8] = 1
    _, kept = sample_pixels(images, 1.0, seeded(1), region=region)
    assert torch.equal(kept[0], region)


@pytest.mark.parametrize("share", [-0.01, 1.01])
def test_an_impossible_share_is_refused(share):
    with pytest.raises(ValueError, match=r"share of kept pixels must lie in \[0, 1\]"):
        sampled_positions(4, 4, share, seeded(0))


def test_an_unknown_pattern_is_refused():
    with pytest.raises(ValueError, match="'dots'; choose one of random, checkerboard"):
        sampled_positions(4, 4, 0.5, seeded(0), "dots")
