"""Eq. 5 and 6, the confidence and the warp, against loops in float64 (plain_method.py)."""

import itertools
import math

import numpy as np
import plain_method as plain
import pytest
import torch

from icportrait.models.method import correspondence

HEIGHT, WIDTH = 5, 4  # not square: a swap of x and y shows


def features(seed: int, channels: int = 6, height: int = HEIGHT, width: int = WIDTH, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(seed))


def related(seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """(target, profile) with a clear but imperfect match: the profile is the target, shuffled and disturbed."""
    target = features(seed)
    order = torch.randperm(HEIGHT * WIDTH, generator=torch.Generator().manual_seed(seed + 1))
    profile = target.flatten(2)[:, :, order].unflatten(-1, (HEIGHT, WIDTH))
    return target, profile + 0.3 * features(seed + 2)


class TestCostVolume:
    def test_equals_the_loop(self):
        target, profile = features(1), features(2)
        cost = correspondence.cost_volume(target, profile)
        for b in range(2):
            wanted = plain.cost_volume(target[b].double().numpy(), profile[b].double().numpy())
            for (u, v), value in wanted.items():
                row, column = u[1] * WIDTH + u[0], v[1] * WIDTH + v[0]
                assert cost[b, row, column].item() == pytest.approx(value, abs=2e-6)

    def test_does_not_depend_on_the_features_length(self):
        target, profile = features(1), features(2)
        cost = correspondence.cost_volume(target, profile)
        assert torch.allclose(correspondence.cost_volume(7 * target, 0.01 * profile), cost, atol=1e-6)
        assert cost.abs().max() <= 1 + 1e-6

    def test_half_precision_features_are_matched_in_float32(self):
        target, profile = features(1).half(), features(2).half()
        cost = correspondence.cost_volume(target, profile)
        assert cost.dtype == torch.float32
        assert torch.equal(cost, correspondence.cost_volume(target.float(), profile.float()))


class TestFlow:
    def test_paper_method_equals_the_loop(self):
        target, profile = related()
        flow, _ = correspondence.match(target, profile, "paper")
        for b in range(2):
            wanted = plain.argmax_flow(target[b].double().numpy(), profile[b].double().numpy())
            assert np.array_equal(flow[b].numpy(), wanted)
        assert flow[:, 0].abs().max() > 0 and flow[:, 1].abs().max() > 0

    @pytest.mark.parametrize("window,temperature", [(1, 0.05), (2, 0.2)])
    def test_window_method_equals_the_loop(self, window, temperature):
        target, profile = related()
        flow, _ = correspondence.match(target, profile, "window", window=window, temperature=temperature)
        for b in range(2):
            pair = target[b].double().numpy(), profile[b].double().numpy()
            assert np.allclose(flow[b].numpy(), plain.window_flow(*pair, window, temperature), atol=2e-5)
        assert (flow != flow.round()).any()

    def test_points_from_the_target_to_the_profile(self):
        """One distinct feature: at (x, y) = (1, 1) of the target, at (3, 4) of the profile: the flow there is (2, 3)."""
        target, profile = torch.zeros(1, 2, HEIGHT, WIDTH), torch.zeros(1, 2, HEIGHT, WIDTH)
        target[:, 1], profile[:, 1] = 1.0, 1.0
        target[0, :, 1, 1] = profile[0, :, 4, 3] = torch.tensor([1.0, 0.0])
        for method in ("window", "paper"):  # `smooth` looks at the neighbours, which are all alike here
            flow, _ = correspondence.match(target, profile, method, window=0)
            assert flow[0, :, 1, 1].tolist() == [2.0, 3.0]
            assert flow[0, :, 4, 3].tolist() != [-2.0, -3.0]

    def test_brings_the_profile_to_the_target(self):
        target, profile = related()
        flow, _ = correspondence.match(target, profile, "paper")
        warped = correspondence.warp(profile, flow)
        assert (warped - target).abs().mean() < 0.5 * (profile - target).abs().mean()

    def test_an_unknown_method_is_refused(self):
        with pytest.raises(ValueError, match="'best'; choose one of smooth, window, paper"):
            correspondence.match(features(1), features(2), "best")


class TestConfidence:
    def test_equals_the_loop(self):
        forward, backward = 1.5 * features(7, 2), 1.5 * features(8, 2)
        confidence = correspondence.cycle_confidence(forward, backward, tolerance=0.8)
        for b in range(2):
            there = forward[b].double().numpy()
            back = plain.warp(backward[b].double().numpy(), there)
            for y in range(HEIGHT):
                for x in range(WIDTH):
                    error = np.hypot(there[0, y, x] + back[0, y, x], there[1, y, x] + back[1, y, x])
                    wanted = np.exp(-0.5 * (error / 0.8) ** 2)
                    assert confidence[b, 0, y, x].item() == pytest.approx(wanted, abs=1e-5)

    def test_is_one_where_a_shift_comes_back_and_falls_where_it_leaves(self):
        picture = features(4, channels=16, height=6, width=8, batch=1)
        target, profile = picture[..., :6], picture[..., 2:]  # target(x) = profile(x - 2)
        flow, confidence = correspondence.match(target, profile, "paper")
        assert torch.equal(flow[0, 0, :, 2:], torch.full((6, 4), -2.0))
        assert torch.equal(confidence[0, 0, :, 2:], torch.ones(6, 4))
        assert confidence[0, 0, :, :2].mean() < 0.5

    def test_backward_flow_is_the_profiles(self):
        """The two directions differ: two target cells may share one profile cell, which can go back to one only."""
        target, profile = related()
        forward, _ = correspondence.match(target, profile, "paper")
        there_and_back = [torch.from_numpy(np.stack(f)).float() for f in zip(*map(self._both, target, profile))]
        assert torch.equal(forward, there_and_back[0])
        wanted = correspondence.cycle_confidence(*there_and_back)
        assert torch.allclose(correspondence.match(target, profile, "paper")[1], wanted)

    @staticmethod
    def _both(target, profile):
        target, profile = target.double().numpy(), profile.double().numpy()
        return plain.argmax_flow(target, profile), plain.argmax_flow(profile, target)


def moved_pictures(size: int = 16, noise: float = 0.3, seed: int = 5):
    """(target, profile, true flow): features of places (random waves) on a surface that moves by a smooth, sub-cell flow."""
    generator = torch.Generator().manual_seed(seed)
    waves = 0.9 * torch.randn(96, 2, generator=generator)
    phases = 2 * torch.pi * torch.rand(96, 1, 1, generator=generator)
    grid = correspondence.cell_grid(size, size)
    centred = (grid - (size - 1) / 2) / size
    flow = torch.stack((0.7 + 1.5 * centred[0] * centred[1] + centred[1], 0.8 * centred[0] ** 2 - 0.45))[None]

    def features_of(places):
        return torch.cos(torch.einsum("kc,chw->khw", waves, places) + phases)[None]

    target = features_of(grid + flow[0])
    profile = features_of(grid)
    return (
        target + noise * torch.randn(target.shape, generator=generator),
        profile + noise * torch.randn(profile.shape, generator=generator),
        flow,
    )


class TestSmooth:
    def test_halves_the_papers_error_on_a_smooth_motion(self):
        """Argmax knows whole cells only; the motion is smooth and mostly between cells."""
        target, profile, truth = moved_pictures()
        errors = {}
        for method in correspondence.METHODS:
            flow, _ = correspondence.match(target, profile, method)
            errors[method] = (flow - truth).norm(dim=1).median().item()
        assert errors["smooth"] < 0.5 * errors["paper"]
        assert errors["smooth"] < errors["window"]

    def test_an_affine_motion_stays_as_it_is(self):
        grid = correspondence.cell_grid(9, 7)
        flow = torch.stack((0.2 * grid[0] - 0.1 * grid[1] + 1, 0.05 * grid[0] + 0.3 * grid[1] - 2))[None]
        smoothed = correspondence.smooth_flow(flow, torch.ones(1, 1, 9, 7), sigma=1.5)
        assert torch.allclose(smoothed, flow, atol=0.02)  # the ridge on slopes takes a little

    def test_a_lone_mistake_is_outvoted(self):
        flow = torch.full((1, 2, 9, 9), 0.5)
        flow[0, :, 4, 4] = torch.tensor([6.0, -5.0])
        smoothed = correspondence.smooth_flow(flow, torch.ones(1, 1, 9, 9), sigma=1.5)
        assert (smoothed - 0.5).abs().max() < 0.1
        assert flow[0, 0, 4, 4] == 6.0  # the caller's flow is not changed

    def test_unsure_cells_follow_sure_ones(self):
        flow = torch.zeros(1, 2, 9, 9)
        flow[..., 5:] = 3.0
        confidence = torch.zeros(1, 1, 9, 9)
        confidence[..., :5] = 1.0
        smoothed = correspondence.smooth_flow(flow, confidence, sigma=1.5)
        assert smoothed[..., 5].abs().max() < 0.5

    def test_two_alike_places_share_the_probability(self):
        """One place looks like its like and nothing else: sure. It looks like two far places: half each."""
        cost = torch.full((1, 64, 64), -1.0)
        cost[0, range(64), range(64)] = 1.0
        options = {
            "window": 1,
            "temperature": 0.05,
            "prior": 0.0,
            "smoothness": 0.0,
            "tolerance": 1e9,
        }  # the share alone
        sure = correspondence.match_costs(cost, 8, 8, "smooth", **options)[1]
        assert sure[0, 0, 0, 0] == pytest.approx(1, abs=1e-5)
        cost[0, 0, 63] = 1.0
        assert correspondence.match_costs(cost, 8, 8, "smooth", **options)[1][0, 0, 0, 0] == pytest.approx(
            0.5, abs=1e-5
        )

    def test_the_prior_decides_between_two_alike_matches_for_the_nearer(self):
        target = torch.zeros(1, 2, 8, 8)
        profile = torch.zeros(1, 2, 8, 8)
        target[:, 1], profile[:, 1] = 1.0, 1.0
        for half, places in ((target, ((3, 2),)), (profile, ((3, 3), (3, 6)))):  # one eye here, both eyes there
            for row, column in places:
                half[0, :, row, column] = torch.tensor([1.0, 0.0])
        profile[0, 1, 3, 3] = 0.02  # the farther one is a trace more alike
        flow, _ = correspondence.match(target, profile, "smooth", smoothness=0, window=0)
        assert flow[0, :, 3, 2].tolist() == [1.0, 0.0]
        flow, _ = correspondence.match(target, profile, "smooth", smoothness=0, window=0, prior=0)
        assert flow[0, :, 3, 2].tolist() == [4.0, 0.0]

    def test_no_motion_costs_nothing_and_one_spread_costs_a_half(self):
        nothing = torch.zeros(1, 3, 64)

        def penalty(prior):
            target, profile = correspondence.with_prior(nothing, nothing, 4, 16, prior)
            return -(target.transpose(1, 2) @ profile)[0]

        found = penalty(1 / 16)
        assert found[0, 0] == pytest.approx(0, abs=1e-5)
        assert found[0, 1] == pytest.approx(0.5, abs=1e-5) and found[0, 16] == pytest.approx(0.5, abs=1e-5)
        assert not penalty(0).any() and not penalty(math.inf).any()

    def test_confidence_ranks_rightly(self):
        """The target gets worse from left to right."""
        target, profile, truth = moved_pictures()
        disturbance = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
        target = target + disturbance * torch.linspace(0, 4, target.shape[-1])
        flow, confidence = correspondence.match(target, profile, "smooth")
        error, order = (flow - truth).norm(dim=1).flatten(), confidence.flatten().argsort()
        thirds = [error[part].median().item() for part in order.chunk(3)]
        assert thirds[0] > thirds[1] > thirds[2]


class TestBlocks:
    @pytest.mark.parametrize("method", correspondence.METHODS)
    def test_small_blocks_find_what_the_whole_volume_finds(self, method):
        target, profile, _ = moved_pictures(size=12)
        target, profile = torch.cat((target, profile)), torch.cat((profile, target))
        whole = correspondence.match(target, profile, method)
        small = correspondence.match(target, profile, method, block=500)
        from_costs = correspondence.match_costs(correspondence.cost_volume(target, profile), 12, 12, method)
        for one in (small, from_costs):
            assert all(torch.allclose(a, b, atol=2e-4) for a, b in zip(whole, one, strict=True))

    def test_memory_is_bounded_by_the_block_not_by_the_volume(self):
        """A volume of 64 x 64 cells is 67 MB, and masks on it were five times as much."""
        target, profile, _ = moved_pictures(size=64)
        correspondence.match(target[..., :8, :8], profile[..., :8, :8])
        with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
            correspondence.match(target, profile, block=2**20)
        events = [e for e in profiled.profiler.kineto_results.events() if e.name() == "[memory]"]
        peak = max(itertools.accumulate(e.nbytes() for e in sorted(events, key=lambda e: e.start_ns())))
        assert peak < 4 * 2**20 * 8  # a block has 4 bytes an entry; the gathers and their indices a few such


class TestWarp:
    def test_equals_the_loop(self):
        image, flow = features(5, 3), 2.0 * features(6, 2)
        warped = correspondence.warp(image, flow)
        for b in range(2):
            wanted = plain.warp(image[b].double().numpy(), flow[b].double().numpy())
            assert np.allclose(warped[b].numpy(), wanted, atol=1e-5)

    def test_a_whole_shift_is_exact(self):
        image = features(5, 3, 8, 8, 1)
        flow = torch.zeros(1, 2, 8, 8)
        flow[:, 0], flow[:, 1] = 2, -1
        assert torch.allclose(correspondence.warp(image, flow)[..., 1:, :-2], image[..., :-1, 2:], rtol=0, atol=1e-6)

    def test_no_motion_changes_nothing(self):
        image = features(5, 3)
        assert torch.allclose(correspondence.warp(image, torch.zeros(2, 2, HEIGHT, WIDTH)), image, rtol=0, atol=1e-6)

    def test_outside_lies_the_border(self):
        image = features(5, 3)
        flow = torch.zeros(2, 2, HEIGHT, WIDTH)
        flow[:, 0] = 100
        assert torch.allclose(correspondence.warp(image, flow), image[..., -1:].expand_as(image), atol=1e-6)

    def test_takes_a_flow_of_another_grid(self):
        image, flow = features(5, 3, 10, 8, 1), features(6, 2, 5, 4, 1)
        wanted = plain.warp(image[0].double().numpy(), plain.resize_flow(flow[0].double().numpy(), 10, 8))
        assert np.allclose(correspondence.warp(image, flow)[0].numpy(), wanted, atol=1e-5)

    def test_keeps_the_dtype(self):
        assert correspondence.warp(features(5).half(), features(6, 2)).dtype == torch.float16


class TestResizeFlow:
    @pytest.mark.parametrize("size", [(10, 8), (15, 4), (5, 12), (5, 4)])
    def test_equals_the_loop(self, size):
        flow = features(6, 2)
        resized = correspondence.resize_flow(flow, *size)
        for b in range(2):
            assert np.allclose(resized[b].numpy(), plain.resize_flow(flow[b].double().numpy(), *size), atol=1e-5)

    def test_scales_dx_by_the_width_and_dy_by_the_height(self):
        resized = correspondence.resize_flow(torch.ones(1, 2, 5, 4), 15, 8)
        assert torch.allclose(resized[0, 0], torch.full((15, 8), 2.0))
        assert torch.allclose(resized[0, 1], torch.full((15, 8), 3.0))

    def test_the_callers_flow_is_not_changed(self):
        flow = features(6, 2)
        before = flow.clone()
        correspondence.resize_flow(flow, 10, 8)
        assert torch.equal(flow, before)
