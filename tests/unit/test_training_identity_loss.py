"""The identity loss: faces cut out by the true landmarks, from the predicted clean latents, with a gradient."""

import numpy as np
import pytest
import torch
from test_training_features import task_of
from test_training_objectives import redraw
from tiny_training import UNET, face_shard, random_base, random_matching, with_latents

from icportrait.models.faces.alignment import arcface_transform
from icportrait.models.faces.resampling import invert, transform
from icportrait.models.nets.files import read_metadata, save_net, save_tensors
from icportrait.training.core.diffusion import LATENT_SCALE, noise_for
from icportrait.training.core.settings import LoopSettings
from icportrait.training.data.samples import SampleSet
from icportrait.training.stages.appearance import train_appearance
from icportrait.training.stages.base_models import Base
from icportrait.training.stages.recogniser import load_recogniser
from icportrait.training.tasks.appearance import AppearanceSettings
from icportrait.training.tasks.identity_loss import MARGIN, IdentityLoss, face_windows
from icportrait.training.tasks.recogniser import new_recogniser

CONFIG = {"widths": (8, 16), "dimensions": 16, "side": 32}


@pytest.fixture
def samples(tmp_path):
    return with_latents(SampleSet([face_shard(tmp_path / "faces.tar")]))


class Smooth(torch.nn.Module):
    """A decoder: three channels made large."""

    def decode(self, z):
        return torch.nn.functional.interpolate(z[:, :3], scale_factor=8, mode="bilinear").tanh()


def identity_loss(vae=None) -> IdentityLoss:
    recogniser = new_recogniser(torch.Generator().manual_seed(5), **CONFIG)
    return IdentityLoss(recogniser, vae or Smooth()).requires_grad_(False)


def known(samples, keys):
    return samples.images(keys), [samples.landmarks[key] for key in keys]


def test_windows_cover_the_faces_and_stay_inside(samples):
    """Also for a face that reaches over the picture's edge."""
    points = [samples.landmarks["p0@a"] * 4, samples.landmarks["p0@b"] * 2 + 100, samples.landmarks["p1@a"] * 2 - 30]
    matrices = [arcface_transform(p, 96) for p in points]
    corners, height, width = face_windows(matrices, 96, (32, 32))
    assert height <= 32 and width <= 32
    for matrix, (top, left) in zip(matrices, corners, strict=True):
        assert 0 <= top <= 32 - height and 0 <= left <= 32 - width
        spots = transform(np.array([[0, 0], [96, 0], [0, 96], [96, 96]]), invert(matrix)) / 8
        wanted = np.clip([spots.min(axis=0) - MARGIN, spots.max(axis=0) + MARGIN], 0, 32)
        assert (wanted[0] >= (left, top)).all() and (wanted[1] <= (left + width, top + height)).all()
    small, *_ = matrices[1:]
    assert max(face_windows([small], 96, (32, 32))[1:]) < 24  # less than everything is decoded


def test_the_true_picture_is_the_true_face(samples):
    """A decoder that gives back the true pixels of the window it was given: the cosine is 1 only where the crop lies right."""
    keys = ["p0@a", "p1@b", "p2@b"]
    truths, landmarks = known(samples, keys)
    truths = torch.nn.functional.interpolate(truths, scale_factor=2, mode="bilinear")
    landmarks = [points * 0.5 + 24 + 16 * i for i, points in enumerate(landmarks)]  # small faces at different places
    cells = torch.arange(16.0)
    places = torch.stack(
        [torch.stack([torch.full((16, 16), i), *torch.meshgrid(cells, cells, indexing="ij")]) for i in range(3)]
    )
    latents = torch.cat([places, places[:, :1]], dim=1) * LATENT_SCALE

    class Knowing(torch.nn.Module):
        shift = 0

        def decode(self, z):
            self.size = z.shape[-2:]
            out = []
            for one in z.round().int():
                i, y, x = one[:3, 0, 0].tolist()
                picture = truths[i].roll(self.shift, -1)
                out.append(picture[:, 8 * y : 8 * (y + z.shape[-2]), 8 * x : 8 * (x + z.shape[-1])] * 2 - 1)
            return torch.stack(out)

    loss = identity_loss(Knowing())
    assert torch.allclose(loss(latents, truths, landmarks), torch.ones(3), atol=1e-5)
    assert max(loss.vae.size) < 12  # a part of the picture was decoded
    loss.vae.shift = 2
    assert (loss(latents, truths, landmarks) < 0.9999).all()
    swapped = latents[[1, 2, 0]]
    assert (loss(swapped, truths, landmarks) < 0.99).any()


def test_the_gradient_reaches_the_face_and_nothing_far_from_it(samples):
    truths, landmarks = known(samples, ["p0@a"])
    latents = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(1)).requires_grad_()
    truth = torch.nn.functional.interpolate(truths, scale_factor=4)
    points = landmarks[0] * 2  # the upper left quarter of a 256-px picture
    identity_loss()(latents, truth, [points]).sum().backward()
    gradient = latents.grad[0, :3].abs().sum(dim=0)
    x, y = (points.mean(axis=0) / 8).astype(int)
    assert gradient[y - 2 : y + 3, x - 2 : x + 3].min() > 0
    assert gradient[20:].max() == 0 and gradient[:, 20:].max() == 0


def test_following_the_gradient_makes_the_face_alike(samples):
    truths, landmarks = known(samples, ["p0@a", "p1@b"])
    latents = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(2)).requires_grad_()
    loss, optimizer = identity_loss(), torch.optim.Adam([latents], 0.05)
    before = loss(latents, truths, landmarks).detach()
    for _ in range(30):
        optimizer.zero_grad()
        (1 - loss(latents, truths, landmarks)).sum().backward()
        optimizer.step()
    assert (loss(latents, truths, landmarks) > before + 0.1).all()


class Told(torch.nn.Module):
    """Stands for the loss: cosines 0.25 and what it was asked about."""

    def forward(self, latents, truths, landmarks):
        self.asked = latents, truths, landmarks
        return latents.mean(dim=(1, 2, 3)) * 0 + 0.25


class TestTask:
    def test_of_samples_below_the_timestep_with_landmarks(self, samples):
        del samples.landmarks["p1@b"]
        plain = task_of("appearance", samples)
        weighted = task_of("appearance", samples, identity=Told(), identity_weight=0.5, identity_timestep=500)
        items = plain.items(1, 6)
        batch = redraw(plain, 1, 6)
        chosen = [i for i in range(6) if batch.timesteps[i] < 500 and items[i][1].target != "p1@b"]
        assert 0 < len(chosen) < 5
        loss, figures = plain(1, items)
        other, told = weighted(1, items)
        assert other.item() == pytest.approx(loss.item() + 0.5 * 0.75 * len(chosen) / 6, rel=1e-5)
        assert told == figures | {"identity": 0.25}  # all draws are as before
        latents, truths, landmarks = weighted.frozen["identity"].asked
        assert torch.equal(truths, samples.images([items[i][1].target for i in chosen]))
        assert all(
            np.array_equal(p, samples.landmarks[items[i][1].target]) for p, i in zip(landmarks, chosen, strict=True)
        )
        assert latents.requires_grad

    def test_of_what_the_prediction_implies(self, samples):
        """A UNet that knows the noise implies the target, on whichever side it lies and wherever the bridge began."""
        settings = {"triplets": 1.0, "bridge": 1.0, "min_timestep": 300}
        task = task_of("appearance", samples, **settings, identity=Told(), identity_weight=1.0, identity_timestep=999)
        sides = set()
        for step in range(8):
            batch = redraw(task, step)
            pair = batch.side_by_side(batch.target, batch.profile)
            task.frozen["unet"].forward = lambda x, t, c, control, pair=pair: noise_for(x, pair, t)
            task(step, task.items(step, 2))
            assert torch.allclose(task.frozen["identity"].asked[0], batch.target, atol=2e-3)
            sides.add(batch.profile_left)
        assert sides == {True, False}

    def test_it_teaches_the_net_alone(self, samples):
        def gradients(weight):
            task = task_of(
                "appearance", samples, identity=identity_loss(), identity_weight=weight, identity_timestep=1000
            )
            task(0, task.items(0, 2))[0].backward()
            assert all(p.grad is None for module in task.frozen.values() for p in module.parameters())
            return torch.cat([p.grad.flatten() for p in task.net.parameters()])

        plain, weighted = gradients(0.0), gradients(10.0)
        assert (weighted - plain).norm() > 1e-3 * plain.norm()

    def test_nobody_below_the_timestep(self, samples):
        plain = task_of("appearance", samples)
        task = task_of("appearance", samples, identity=Told(), identity_weight=1.0, identity_timestep=0)
        assert task(0, task.items(0, 2))[0].item() == plain(0, plain.items(0, 2))[0].item()
        assert "identity" not in task(0, task.items(0, 2))[1]

    def test_without_landmarks_it_is_refused(self, samples):
        samples.landmarks.clear()
        with pytest.raises(ValueError, match="needs landmarks, and none of these samples has any"):
            task_of("appearance", samples, identity=Told(), identity_weight=1.0)


class TestStage:
    @pytest.fixture
    def base(self):
        unet, vision = random_base()
        return Base(unet, UNET, Smooth(), vision, "tiny")

    def run(self, folder, samples, base, **options):
        net, config = random_matching()
        save_net(folder / "matching" / "net.safetensors", net.state_dict(), config, {})
        loop = LoopSettings(steps=1, batch=2, tracker="none")
        settings = AppearanceSettings(max_timestep=300, **options)
        return train_appearance(folder, "appearance", "matching", samples, base, loop, settings)

    def test_the_runs_recogniser_is_used_and_recorded(self, samples, base, tmp_path):
        net = new_recogniser(torch.Generator().manual_seed(6), **CONFIG)
        path = tmp_path / "recogniser" / "recogniser.safetensors"
        save_tensors(path, net.state_dict(), {"format": "icportrait-recogniser-1", "config": net.config})
        task = self.run(tmp_path, samples, base, identity_weight=0.2, identity_timestep=300)
        used = task.frozen["identity"].recogniser
        assert all(torch.equal(p, used.get_parameter(name)) for name, p in net.named_parameters())
        assert read_metadata(tmp_path / "appearance" / "net.safetensors")["training"]["identity_weight"] == 0.2
        save_tensors(path, net.state_dict(), {"format": "something else", "config": net.config})
        with pytest.raises(ValueError, match="not a recogniser of this project"):
            load_recogniser(tmp_path)

    def test_without_one_the_way_to_it_is_told(self, samples, base, tmp_path):
        with pytest.raises(
            ValueError, match="needs .*recogniser.safetensors: train it first with `icportrait train recogn"
        ):
            self.run(tmp_path, samples, base, identity_weight=0.2)
        assert "identity" not in self.run(tmp_path, samples, base).frozen  # nothing is asked of a run without it
