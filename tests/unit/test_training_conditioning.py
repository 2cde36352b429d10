"""What a training batch holds: eq. 1 and 2, the dropped embedding, sides, triplets; each rate is counted."""

import math

import pytest
import torch
from tiny_training import random_base, sample_set

from icportrait.training.core.modules import embed_images
from icportrait.training.tasks import conditioning
from icportrait.training.tasks.conditioning import ConditioningSettings, draw_batch


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_set(tmp_path_factory.mktemp("shards"), styles=True)


@pytest.fixture(scope="module")
def vision():
    return random_base()[1].requires_grad_(False).eval()


@pytest.fixture
def no_vision(monkeypatch):
    """A stand-in for the encoder where only rates are counted: all embeddings are ones."""
    monkeypatch.setattr(conditioning, "embed_images", lambda _, images: torch.ones(len(images), 1, 8))
    return torch.nn.Linear(1, 1)


def items(samples, count: int) -> list:
    return [(position, samples.samples[position % len(samples)]) for position in range(count)]


def by_side(samples, vision, settings=ConditioningSettings(), count: int = 4) -> dict[bool, conditioning.Batch]:
    """One batch with the profile on each side: {profile_left: batch}."""
    found = {}
    for step in range(40):
        batch = draw_batch(samples, items(samples, count), step, 0, vision, settings)
        found.setdefault(batch.profile_left, batch)
    assert set(found) == {False, True}
    return found


class TestRates:
    def test_both_sides_are_drawn_equally(self, samples, no_vision):
        count = 800
        sides = [
            draw_batch(samples, items(samples, 1), step, 5, no_vision, ConditioningSettings()).profile_left
            for step in range(count)
        ]
        assert abs(sum(sides) - count / 2) < 4 * math.sqrt(count / 4)
        assert sides[:400] != sides[400:]

    @pytest.mark.parametrize("drop", [0.0, 0.1, 0.5, 1.0])
    def test_the_embedding_is_zero_at_its_rate(self, samples, no_vision, drop):
        count = 600
        batch = draw_batch(samples, items(samples, count), 3, 0, no_vision, ConditioningSettings(drop=drop))
        zero = (batch.context == 0).flatten(1).all(dim=1)
        one = (batch.context == 1).flatten(1).all(dim=1)
        assert (zero | one).all()
        assert abs(zero.float().mean().item() - drop) <= 4 * math.sqrt(drop * (1 - drop) / count)

    @pytest.mark.parametrize("most", [0.2, 0.6])
    def test_the_kept_share_is_uniform_up_to_n(self, samples, no_vision, most):
        count = 600
        batch = draw_batch(samples, items(samples, count), 1, 0, no_vision, ConditioningSettings(max_share=most))
        shares = (batch.sampled > 0).any(dim=1).float().mean(dim=(1, 2)) / most
        assert shares.max() < 1.1
        for quarter in range(4):
            inside = (shares >= quarter / 4) & (shares < (quarter + 1) / 4 if quarter < 3 else shares < 9)
            assert inside.float().mean().item() == pytest.approx(0.25, abs=0.075)

    def test_timesteps_are_uniform_in_their_range(self, samples, no_vision):
        settings = ConditioningSettings(min_timestep=100, max_timestep=300)
        timesteps = draw_batch(samples, items(samples, 600), 1, 0, no_vision, settings).timesteps
        assert timesteps.min() >= 100 and timesteps.max() < 300
        assert timesteps.float().mean().item() == pytest.approx(199.5, abs=10)
        full = draw_batch(samples, items(samples, 600), 1, 0, no_vision, ConditioningSettings()).timesteps
        assert full.min() < 30 and full.max() > 970

    @pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
    def test_triplets_are_drawn_at_their_rate(self, samples, no_vision, share):
        count = 300
        batch = draw_batch(samples, items(samples, count), 2, 0, no_vision, ConditioningSettings(triplets=share))
        triplet = (batch.style != batch.target).flatten(1).any(dim=1)
        assert abs(triplet.float().mean().item() - share) <= 4 * math.sqrt(share * (1 - share) / count)


class TestEquation1And2:
    """c_f = F(z) beside z', z_0 = z beside z': which picture lies where."""

    def test_order_of_both_sides(self, samples, vision):
        for profile_left, batch in by_side(samples, vision).items():
            hint = batch.side_by_side(batch.sampled, batch.profile_image)
            latents = batch.side_by_side(batch.target, batch.profile)
            assert hint.shape == (4, 3, 64, 128) and latents.shape == (4, 4, 8, 16)
            assert batch.profile_side == ("left" if profile_left else "right")
            for row, sample in enumerate(samples.samples):
                target = samples.pictures[sample.target].movedim(-1, 0).float() / 255
                profile = samples.pictures[sample.profile].movedim(-1, 0).float() / 255
                left, right = hint[row, :, :, :64], hint[row, :, :, 64:]
                f_of_z, z_prime = (right, left) if profile_left else (left, right)
                assert torch.equal(z_prime, profile)
                kept = (f_of_z > 0).any(dim=0)
                assert 0 < kept.sum() < 0.3 * kept.numel()
                assert torch.allclose(f_of_z[:, kept], target[:, kept], rtol=0, atol=1e-7)
                assert torch.count_nonzero(f_of_z[:, ~kept]) == 0
                z, z_dash = samples.latents[sample.target].float(), samples.latents[sample.profile].float()
                wanted = torch.cat((z_dash, z) if profile_left else (z, z_dash), dim=-1)
                assert torch.equal(latents[row], wanted)

    def test_the_context_is_the_profiles_embedding(self, samples, vision):
        batch = draw_batch(samples, items(samples, 4), 0, 0, vision, ConditioningSettings(drop=0.0))
        profiles = samples.images([sample.profile for sample in samples.samples])
        targets = samples.images([sample.target for sample in samples.samples])
        assert torch.allclose(batch.context, embed_images(vision, profiles), atol=1e-6)
        assert not torch.allclose(batch.context, embed_images(vision, targets), atol=1e-2)

    def test_a_pair_lights_itself(self, samples, vision):
        batch = draw_batch(samples, items(samples, 4), 0, 0, vision, ConditioningSettings())
        assert torch.equal(batch.style, batch.target) and torch.equal(batch.start, batch.target)


class TestTriplets:
    def test_light_comes_from_the_style_and_the_target_stays(self, samples, vision):
        batch = draw_batch(samples, items(samples, 4), 0, 0, vision, ConditioningSettings(triplets=1.0, max_share=1.0))
        for row, sample in enumerate(samples.samples):
            style = samples.pictures[sample.style].movedim(-1, 0).float() / 255
            kept = (batch.sampled[row] > 0).any(dim=0)
            assert kept.any() and torch.allclose(batch.sampled[row][:, kept], style[:, kept], rtol=0, atol=1e-7)
            assert torch.equal(batch.style[row], samples.latents[sample.style].float())
            assert torch.equal(batch.target[row], samples.latents[sample.target].float())
            assert torch.equal(batch.start[row], batch.target[row])

    @pytest.mark.parametrize("end", [1000, 400])
    def test_a_bridge_starts_between_target_and_style(self, samples, vision, end):
        """At most t / end of the way, so that little noise never asks for another person's face."""
        settings = ConditioningSettings(triplets=1.0, bridge=1.0, bridge_timestep=end)
        ways = []
        for step in range(6):
            batch = draw_batch(samples, items(samples, 4), step, 0, vision, settings)
            for row in range(4):
                whole = (batch.style[row] - batch.target[row]).flatten()
                part = (batch.start[row] - batch.target[row]).flatten()
                way = (part @ whole / (whole @ whole)).item()
                assert torch.allclose(part, way * whole, atol=1e-5)
                assert -1e-6 <= way <= min(1, batch.timesteps[row].item() / end) + 1e-6
                ways.append(way)
        assert max(ways) > 0.2 * 1000 / end

    def test_samples_without_style_stay_pairs(self, tmp_path, vision):
        plain = sample_set(tmp_path)
        batch = draw_batch(plain, items(plain, 4), 0, 0, vision, ConditioningSettings(triplets=1.0, bridge=1.0))
        assert torch.equal(batch.style, batch.target) and torch.equal(batch.start, batch.target)


class TestDraws:
    def test_a_part_of_the_batch_draws_what_the_whole_draws(self, samples, vision):
        """What makes two processes equal to one, and a resumed run equal to an unbroken one."""
        settings = ConditioningSettings(triplets=0.5, bridge=0.5, drop=0.5)
        whole = draw_batch(samples, items(samples, 4), 9, 1, vision, settings)
        part = draw_batch(samples, items(samples, 4)[1::2], 9, 1, vision, settings)
        assert part.profile_left == whole.profile_left
        for name in (
            "target",
            "style",
            "start",
            "profile",
            "sampled",
            "profile_image",
            "timesteps",
            "noise",
            "flow_noise",
            "truth",
        ):
            assert torch.equal(getattr(part, name), getattr(whole, name)[1::2]), name
        assert torch.allclose(part.context, whole.context[1::2], atol=1e-6)

    def test_steps_seeds_and_positions_differ(self, samples, vision):
        def noise(step, seed):
            return draw_batch(samples, items(samples, 2), step, seed, vision, ConditioningSettings()).noise

        draws = [noise(0, 0), noise(1, 0), noise(0, 1)]
        rows = [row for draw in draws for row in draw]
        assert len({row.sum().item() for row in rows}) == 6
        assert abs(torch.stack(rows).mean().item()) < 0.1 and abs(torch.stack(rows).std().item() - 1) < 0.1

    def test_nothing_else_is_touched(self, samples, vision):
        torch.manual_seed(3)
        state = torch.get_rng_state()
        pictures = {key: picture.clone() for key, picture in samples.pictures.items()}
        draw_batch(samples, items(samples, 4), 0, 0, vision, ConditioningSettings(triplets=0.5, bridge=0.5))
        assert torch.equal(torch.get_rng_state(), state)
        assert all(torch.equal(samples.pictures[key], picture) for key, picture in pictures.items())
