"""The losses, each against the equation computed plainly: stock ControlNet, ComfyUI's noise schedule, loops."""

import math

import comfy.cldm.cldm
import comfy.model_sampling
import comfy.ops
import numpy as np
import plain_method as plain
import pytest
import torch
from tiny_models import randomise
from tiny_training import UNET, random_base, random_matching, sample_set

from icportrait.models.method.pairs import target_and_profile
from icportrait.training.tasks import appearance
from icportrait.training.tasks.appearance import AppearanceSettings, AppearanceTask
from icportrait.training.tasks.base import identity_contrast
from icportrait.training.tasks.conditioning import draw_batch
from icportrait.training.tasks.matching import MatchingSettings, MatchingTask, flow_loss, true_flow


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_set(tmp_path_factory.mktemp("shards"), styles=True)


class EpsSampling(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
    """What ComfyUI builds for SD1.5."""


def loud(net: torch.nn.Module, seed: int) -> None:
    """Random weights, and residuals large enough to decide what the UNet predicts."""
    randomise(net, seed)
    with torch.no_grad():
        for layer in (*net.zero_convs, net.middle_block_out):
            for parameter in layer.parameters():
                parameter.mul_(5)


def stock_copy(net) -> comfy.cldm.cldm.ControlNet:
    """ComfyUI's own ControlNet with a net's weights."""
    stock = comfy.cldm.cldm.ControlNet(
        hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init, **UNET
    )
    stock.load_state_dict(net.state_dict())
    return stock


def beside(batch, target, profile):
    """Eq. 2's order, by hand."""
    return torch.cat([profile, target] if batch.profile_left else [target, profile], dim=3)


def noised(latents, noise, timesteps):
    """What the UNet sees in ComfyUI."""
    sampling = EpsSampling()
    sigma = sampling.sigma(timesteps)
    return sampling.calculate_input(sigma, sampling.noise_scaling(sigma, noise.clone(), latents))


def mean_square(a, b) -> float:
    """Over all elements, in float64."""
    total = 0.0
    for x, y in zip(a.double().flatten().tolist(), b.double().flatten().tolist(), strict=True):
        total += (x - y) ** 2
    return total / a.numel()


def steps_with_both_sides(task, count: int = 2) -> list[int]:
    """The first step with the profile right and the first with it left."""
    found = {}
    for step in range(40):
        found.setdefault(redraw(task, step, count).profile_left, step)
    assert len(found) == 2
    return list(found.values())


def redraw(task, step: int, count: int = 2):
    """The batch a task draws (what it holds is tested in test_training_conditioning.py)."""
    return draw_batch(task.samples, task.items(step, count), step, task.seed, task.frozen["vision"], task.settings)


class TestMatchingLoss:
    @pytest.fixture
    def task(self, samples):
        task = MatchingTask(samples, *random_base(), UNET, MatchingSettings(objective="paper"), seed=3)
        loud(task.net, 11)
        return task

    @torch.no_grad()
    def test_paper_objective_is_equation_3(self, task):
        for step in steps_with_both_sides(task):
            loss, figures = task(step, task.items(step, 2))
            batch = redraw(task, step)
            noise_target, noise_profile = batch.noise[..., :8], batch.noise[..., 8:]
            epsilon = beside(batch, noise_target, noise_profile)
            z_t = noised(beside(batch, batch.target, batch.profile), epsilon, batch.timesteps)
            hint = beside(batch, batch.sampled, batch.profile_image)
            control = stock_copy(task.net)(z_t, hint, batch.timesteps, batch.context)
            predicted = task.frozen["unet"](z_t, batch.timesteps, batch.context, control=control)
            alone = task.frozen["unet"](z_t, batch.timesteps, batch.context)
            assert loss.item() == pytest.approx(mean_square(predicted, epsilon), rel=2e-4)
            assert (predicted - alone).square().mean() > 0.1 * alone.square().mean()
            assert figures["loss"] == pytest.approx(loss.item())

    def test_flow_objective_trains_up_to_the_tap(self, samples):
        task = MatchingTask(samples, *random_base(), UNET, MatchingSettings(), seed=3)
        loud(task.net, 11)
        task(0, task.items(0, 4))[0].backward()
        tap = task.config["tap"]
        for name, parameter in task.net.named_parameters():
            part, index = name.split(".")[:2]
            used = part in ("time_embed", "input_hint_block") or (part == "input_blocks" and int(index) <= tap)
            assert parameter.requires_grad == used, name
            assert (parameter.grad is not None and parameter.grad.abs().sum() > 0) == used, name

    @torch.no_grad()
    def test_flow_objective_reads_the_noised_style(self, samples):
        """Its target half is what inference has, the style crop; sides are undone before matching."""
        task = MatchingTask(samples, *random_base(), UNET, MatchingSettings(triplets=1.0), seed=3, steps=100)
        loud(task.net, 11)
        for step in steps_with_both_sides(task):
            batch = redraw(task, step)
            epsilon = beside(batch, batch.noise[..., :8], batch.noise[..., 8:])
            z_t = noised(beside(batch, batch.style, batch.profile), epsilon, batch.timesteps)
            hint = beside(batch, batch.sampled, batch.profile_image)
            features = tap_features(task.net, z_t, hint, batch)
            ours = task.features(batch, task.net.encode_hint(hint))
            for a, b in zip(ours, features, strict=True):
                assert torch.allclose(a, b, rtol=1e-3, atol=1e-4)
            flow, valid = true_flow([sample for _, sample in task.items(step, 2)], (4, 4))
            sigma = 3.0 + (1.0 - 3.0) * step / 100
            wanted = flow_loss_in_loops(*features, flow, valid, 16, sigma, 0.05)
            assert task(step, task.items(step, 2))[0].item() == pytest.approx(wanted, rel=2e-3)

    def test_an_unknown_objective_is_refused(self):
        with pytest.raises(ValueError, match="'both'; choose one of paper, flow"):
            MatchingSettings(objective="both")


def tap_features(net, z_t, hint, batch, timesteps=None):
    """(target, profile) halves of the stock net's features after block 3, UNET's tap."""
    stock, kept = stock_copy(net), []
    stock.input_blocks[3].register_forward_hook(lambda _, __, out: kept.append(out.clone()))
    stock(z_t, hint, batch.timesteps if timesteps is None else timesteps, batch.context)
    left, right = kept[0][..., :4], kept[0][..., 4:]
    return (right, left) if batch.profile_left else (left, right)


class TestAppearanceLoss:
    @pytest.fixture(autouse=True)
    def read_by_window(self, monkeypatch):
        """The read-out that the loops below know; `smooth` is tested in test_correspondence.py."""
        monkeypatch.setattr(appearance, "FLOW_METHOD", "window")

    @staticmethod
    def build(samples, **options):
        net, config = random_matching()
        settings = AppearanceSettings(alpha=0.8, beta=0.3, **options)
        task = AppearanceTask(samples, *random_base(), net, config, UNET, settings, seed=4)
        loud(task.net, 12)
        return task

    @staticmethod
    def plain_flow(task, batch):
        """(flow, confidence) of each sample, in loops."""
        timesteps = torch.full((2,), 100)
        z_t = noised(beside(batch, batch.style, batch.profile), batch.flow_noise, timesteps)
        hint = beside(batch, batch.sampled, batch.profile_image)
        target, profile = tap_features(task.frozen["matching"], z_t, hint, batch, timesteps)
        flows, confidences = [], []
        for b in range(2):
            pair = target[b].double().numpy(), profile[b].double().numpy()
            there, back = plain.window_flow(*pair, 2, 0.05), plain.window_flow(*pair[::-1], 2, 0.05)
            error = np.linalg.norm(there + plain.warp(back, there), axis=0)
            flows.append(there)
            confidences.append(np.exp(-0.5 * error**2)[None])
        return flows, confidences

    def plain_errors(self, task, step: int, flows_of=None):
        """(squared error `[2, 4, 8, 8]` of the target half, of the profile half) by the equations."""
        batch = redraw(task, step)
        flows, confidences = (flows_of or self.plain_flow)(task, batch)
        epsilon = beside(batch, batch.noise[..., :8], batch.noise[..., 8:])
        z_t = noised(beside(batch, batch.target, batch.profile), epsilon, batch.timesteps)
        hint = beside(batch, batch.sampled, batch.profile_image)
        control = stock_copy(task.net)(z_t, hint, batch.timesteps, batch.context)
        levels = control["output"] + control["middle"]
        side = "left" if batch.profile_left else "right"
        blended = []
        for b in range(2):
            gate = confidences[b] if task.config["gate"] else None
            blended.append(plain.aggregate([x[b].double().numpy() for x in levels], flows[b], 0.8, 0.3, gate, side))
        levels = [torch.from_numpy(np.stack(level)).float() for level in zip(*blended, strict=True)]
        control = {"output": levels[:-1], "middle": levels[-1:]}
        predicted = task.frozen["unet"](z_t, batch.timesteps, batch.context, control=control)
        error = (predicted.double() - epsilon.double()) ** 2
        left, right = error[..., :8], error[..., 8:]
        return (right, left) if batch.profile_left else (left, right)

    @torch.no_grad()
    @pytest.mark.parametrize("gate", [False, True])
    def test_is_equation_3_with_aggregated_residuals(self, samples, gate):
        task = self.build(samples, gate=gate)
        for step in steps_with_both_sides(task):
            target, profile = self.plain_errors(task, step)
            loss, figures = task(step, task.items(step, 2))
            assert loss.item() == pytest.approx((target.mean() + profile.mean()).item() / 2, rel=2e-4)
            assert figures["target_loss"] == pytest.approx(target.mean().item(), rel=2e-4)

    @torch.no_grad()
    def test_the_exact_flow_can_stand_in_for_the_matching_net(self, samples):
        """The samples are shifted by one cell, so the flow is known without computing anything."""
        task = self.build(samples, gate=True, true_flow=1.0)
        task.frozen["matching"] = None

        def shifts(task, _):
            flows, confidences = [], []
            for _, sample in task.items(step, 2):
                dx, dy = ((1, -1), (-1, 1), (1, 1), (-1, -1))[int(sample.key[1:])]
                flow = np.zeros((2, 8, 8))
                flow[0], flow[1] = dx, dy
                y, x = np.mgrid[0:8, 0:8]
                inside = (x + dx >= 0) & (x + dx < 8) & (y + dy >= 0) & (y + dy < 8)
                flows.append(flow * inside)  # nothing is known of a cell that is not seen in the profile
                confidences.append(inside[None].astype(float))
            return flows, confidences

        for step in steps_with_both_sides(task):
            target, _ = self.plain_errors(task, step, shifts)
            assert task(step, task.items(step, 2))[1]["target_loss"] == pytest.approx(target.mean().item(), rel=2e-4)

    @torch.no_grad()
    def test_weights_of_face_and_profile(self, samples):
        task = self.build(samples, profile_weight=0.25, face_weight=3.0)
        step = steps_with_both_sides(task)[1]
        target, profile = (error.mean(dim=1) for error in self.plain_errors(task, step))
        total = weights = 0.0
        for b, (_, sample) in enumerate(task.items(step, 2)):
            for y in range(8):
                for x in range(8):
                    weight = 1 + 2 * sample.face[y, x].item()
                    total, weights = total + weight * target[b, y, x].item(), weights + weight
        wanted = (total / weights + 0.25 * profile.mean().item()) / 1.25
        assert task(step, task.items(step, 2))[0].item() == pytest.approx(wanted, rel=2e-4)

    @torch.no_grad()
    def test_a_bridged_sample_must_still_arrive_at_the_target(self, samples):
        """The eps asked for is the one that turns the noised start into the target, not the one that was added."""
        task = self.build(samples, triplets=1.0, bridge=1.0, min_timestep=600)
        asked = []
        task.frozen["unet"].forward = lambda x, t, c, control: asked.append(x) or torch.zeros_like(x)
        loss, _ = task(1, task.items(1, 2))
        batch = redraw(task, 1)
        assert not torch.equal(batch.start, batch.target)
        z_t, z_0 = asked[0].double(), beside(batch, batch.target, batch.profile).double()
        sigma = EpsSampling().sigma(batch.timesteps).double().view(-1, 1, 1, 1)
        epsilon = (z_t * (sigma**2 + 1).sqrt() - z_0) / sigma
        assert loss.item() == pytest.approx(epsilon.square().mean().item(), rel=1e-3)

    def test_matching_is_never_done_in_half_precision(self, samples, monkeypatch):
        task, seen = self.build(samples), []

        def look(target, profile, method):
            seen.append((torch.is_autocast_enabled("cpu"), target.dtype, profile.dtype, method))
            return matching_of(target, profile, method)

        matching_of = appearance.match
        monkeypatch.setattr(appearance, "match", look)
        with torch.autocast("cpu", torch.bfloat16):
            task.flow(redraw(task, 0))
        assert seen == [(False, torch.float32, torch.float32, "window")]

    def test_training_reads_the_flow_as_inference_does(self, monkeypatch):
        monkeypatch.undo()
        from icportrait.models.method import injection
        from icportrait.training.tasks import validation

        assert appearance.FLOW_METHOD == validation.FLOW_METHOD == injection.Settings().flow_method == "smooth"

    def test_only_the_appearance_net_learns(self, samples):
        task = self.build(samples)
        task(0, task.items(0, 2))[0].backward()
        for name, parameter in task.net.named_parameters():
            assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
        for module in task.frozen.values():
            assert all(parameter.grad is None and not parameter.requires_grad for parameter in module.parameters())


def flow_loss_in_loops(target, profile, flow_px, valid, cell_px, sigma, temperature) -> float:
    """-sum_v q(v | u) log p(v | u), mean over valid cells u; p: softmax of similarity, q: Gaussian at the true cell."""
    height, width = target.shape[2:]
    losses = []
    for b in range(target.shape[0]):
        cost = plain.cost_volume(target[b].detach().double().numpy(), profile[b].detach().double().numpy())
        for y in range(height):
            for x in range(width):
                true_x, true_y = (x + flow_px[b, 0, y, x].item() / cell_px, y + flow_px[b, 1, y, x].item() / cell_px)
                inside = -0.5 <= true_x <= width - 0.5 and -0.5 <= true_y <= height - 0.5
                if not (valid[b, y, x] and inside):
                    continue
                cells = [(px, py) for py in range(height) for px in range(width)]
                q = [math.exp(-((px - true_x) ** 2 + (py - true_y) ** 2) / (2 * sigma**2)) for px, py in cells]
                p = [math.exp(cost[(x, y), cell] / temperature) for cell in cells]
                losses.append(-sum(a / sum(q) * math.log(c / sum(p)) for a, c in zip(q, p, strict=True)))
    return sum(losses) / len(losses)


class TestFlowLoss:
    @staticmethod
    def case(seed: int = 0):
        generator = torch.Generator().manual_seed(seed)
        target, profile = (torch.randn(2, 5, 4, 3, generator=generator) for _ in range(2))
        flow = 20 * torch.randn(2, 2, 4, 3, generator=generator)
        return target, profile, flow, torch.rand(2, 4, 3, generator=generator) < 0.7

    @pytest.mark.parametrize("sigma,temperature", [(1.0, 0.05), (2.0, 0.3)])
    def test_equals_the_loop(self, sigma, temperature):
        case = self.case()
        wanted = flow_loss_in_loops(*case, 16, sigma, temperature)
        assert flow_loss(*case, 16, sigma, temperature).item() == pytest.approx(wanted, rel=1e-4)

    def test_the_true_match_has_the_least_loss(self):
        """The profile is the target moved by (1, 2) cells: the loss must prefer that flow to its mirror and its swap."""
        big = torch.randn(1, 16, 9, 9, generator=torch.Generator().manual_seed(2))
        target, profile = big[..., 2:8, 1:7], big[..., 0:6, 0:6]  # target(x, y) = profile(x + 1, y + 2)
        losses = {}
        for dx, dy in ((1, 2), (-1, -2), (2, 1), (0, 0)):
            flow = torch.zeros(1, 2, 6, 6)
            flow[:, 0], flow[:, 1] = 8 * dx, 8 * dy
            losses[dx, dy] = flow_loss(target, profile, flow, torch.ones(1, 6, 6, dtype=torch.bool), 8, 0.5).item()
        assert min(losses, key=losses.get) == (1, 2)
        assert losses[1, 2] < 0.5 * min(loss for flow, loss in losses.items() if flow != (1, 2))

    def test_without_a_valid_cell_it_is_zero_and_differentiable(self):
        target, profile, flow, _ = self.case()
        target.requires_grad_()
        loss = flow_loss(target, profile, flow, torch.zeros(2, 4, 3, dtype=torch.bool), 16)
        loss.backward()
        assert loss.item() == 0 and torch.count_nonzero(target.grad) == 0

    def test_is_computed_in_float32_under_autocast(self):
        case = self.case()
        plainly = flow_loss(*case, 16)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(flow_loss(*case, 16), plainly)

    def test_true_flow_on_a_coarser_grid(self, samples):
        """Cells of 16 px: valid where all four finer cells are; the mean of their flows, still in pixels."""
        chosen = samples.samples
        flow, valid = true_flow(chosen, (4, 4))
        assert valid.any() and not valid.all()
        for b, sample in enumerate(chosen):
            for y in range(4):
                for x in range(4):
                    parts = [(2 * y + j, 2 * x + i) for j in (0, 1) for i in (0, 1)]
                    assert bool(valid[b, y, x]) == all(bool(sample.visible[part]) for part in parts)
                    if valid[b, y, x]:
                        for c in (0, 1):
                            mean = sum(sample.flow[c][part].item() for part in parts) / 4
                            assert flow[b, c, y, x].item() == pytest.approx(mean, abs=1e-4)

    def test_both_halves_are_told_apart(self):
        pair = torch.arange(8.0).reshape(1, 1, 1, 8)
        target, profile = target_and_profile(pair)
        assert target.flatten().tolist() == [0, 1, 2, 3] and profile.flatten().tolist() == [4, 5, 6, 7]
        target, profile = target_and_profile(pair, profile_side="left")
        assert target.flatten().tolist() == [4, 5, 6, 7] and profile.flatten().tolist() == [0, 1, 2, 3]


class TestIdentityContrast:
    def test_equals_the_loop(self):
        generator = torch.Generator().manual_seed(1)
        first, second = (torch.randn(5, 7, generator=generator) for _ in range(2))
        people = ["a", "b", "a", "c", "d"]  # one person twice: no negative of itself

        def direction(one, other):
            total = 0.0
            for i in range(5):
                scores = {j: plain.cosine(one[i].tolist(), other[j].tolist()) / 0.1 for j in range(5)}
                against = [j for j in range(5) if j == i or people[j] != people[i]]
                total -= scores[i] - math.log(sum(math.exp(scores[j]) for j in against))
            return total / 5

        wanted = (direction(first, second) + direction(second, first)) / 2
        assert identity_contrast(first, second, people).item() == pytest.approx(wanted, rel=1e-4)

    def test_is_small_when_views_of_a_person_agree(self):
        views = torch.eye(4)
        people = list("abcd")
        assert identity_contrast(views, views, people) < 0.01
        assert identity_contrast(views, views.flip(0), people) > 5
