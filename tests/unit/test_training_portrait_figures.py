"""Figures of portraits while the appearance net trains: PSNR in the face and dlib's similarity."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from test_training_features import task_of
from tiny_training import sample_set

from icportrait.models.faces.types import Face
from icportrait.training.tasks import portrait_figures
from icportrait.training.tasks.portrait_figures import PortraitFigures
from icportrait.training.tasks.validation import Validator


@pytest.fixture
def samples(tmp_path):
    return sample_set(tmp_path, people=3, styles=True)


@pytest.fixture
def no_dlib(monkeypatch):
    monkeypatch.setattr(portrait_figures.dlib_backend, "why_unavailable", lambda: "dlib is not installed")


def plain_psnr(picture, truth, face) -> float:
    """In loops over the pixels of the face."""
    total = count = 0.0
    for y in range(64):
        for x in range(64):
            weight = face[y // 8, x // 8].item()
            total += weight * sum((picture[c, y, x].item() - truth[c, y, x].item()) ** 2 for c in range(3)) / 3
            count += weight
    return -10 * math.log10(total / count)


def test_psnr_in_the_face(samples, no_dlib):
    people = samples.samples
    truths = samples.images([s.target for s in people])
    faces = torch.rand(3, 8, 8, generator=torch.Generator().manual_seed(1))
    faces[:, :4] = 0
    people = [dataclasses.replace(sample, face=face) for sample, face in zip(people, faces, strict=True)]
    results = (truths + 0.1 * torch.randn(truths.shape, generator=torch.Generator().manual_seed(2))).clamp(0, 1)
    results[:, :, :32] = 0  # no face there
    figures = PortraitFigures(samples, people)(results)
    styles = samples.images([s.style for s in people])
    for name, pictures in (("psnr_db", results), ("psnr_db_style", styles)):
        wanted = [plain_psnr(*parts) for parts in zip(pictures, truths, faces, strict=True)]
        assert figures[name] == pytest.approx(sum(wanted) / 3, abs=1e-3), name
    assert set(figures) == {"psnr_db", "psnr_db_style"}
    assert PortraitFigures(samples, people)(truths)["psnr_db"] == 100.0


def test_people_without_a_face_mask_are_left_out(samples, no_dlib):
    people = [dataclasses.replace(samples.samples[0], face=None), *samples.samples[1:]]
    truths = samples.images([s.target for s in people])
    results = truths.clone()
    results[0] = 0
    assert PortraitFigures(samples, people)(results)["psnr_db"] == 100.0
    nobody = [dataclasses.replace(sample, face=None) for sample in people]
    assert PortraitFigures(samples, nobody)(results) == {}


def test_similarity_is_measured_at_the_truths_face(samples, monkeypatch):
    """A recogniser that reads the face's mean colour; the second person's profile shows no face."""
    people, sought = samples.samples, []

    def find(picture, settings):
        sought.append(picture)
        shown = not torch.equal(picture[0], samples.pictures[people[1].profile].float() / 255)
        small, large = Face((0, 0, 5, 5)), Face((8, 16, 40, 48))
        return type("Found", (), {"frames": ((small, large) if shown else (),)})

    def embedding(picture, face):
        x0, y0, x1, y1 = (int(v) for v in face.box)
        return picture[y0:y1, x0:x1].double().mean(dim=(0, 1)).numpy()

    monkeypatch.setattr(portrait_figures.dlib_backend, "why_unavailable", lambda: None)
    monkeypatch.setattr(portrait_figures.detection, "find_faces", find)
    monkeypatch.setattr(portrait_figures.identity, "embedding", embedding)
    figures_of = PortraitFigures(samples, people)
    results = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    figures = figures_of(results)

    def similarity(pictures) -> float:
        values = []
        for i in (0, 2):
            profile = samples.images([people[i].profile])[0]
            a, b = (p[:, 16:48, 8:40].double().mean(dim=(1, 2)).numpy() for p in (pictures[i], profile))
            values.append(1 - np.linalg.norm(a - b))
        return sum(values) / 2

    assert figures["similarity"] == pytest.approx(similarity(results))
    assert figures["similarity_style"] == pytest.approx(similarity(samples.images([s.style for s in people])))
    assert figures["similarity_ceiling"] == pytest.approx(similarity(samples.images([s.target for s in people])))
    calls = len(sought)
    assert figures_of(results) == figures and len(sought) == calls == 6  # faces are sought once


def test_no_face_is_no_figure(samples, monkeypatch):
    monkeypatch.setattr(portrait_figures.dlib_backend, "why_unavailable", lambda: None)
    nobody = type("Found", (), {"frames": ((),)})
    monkeypatch.setattr(portrait_figures.detection, "find_faces", lambda *_: nobody)
    figures = PortraitFigures(samples, samples.samples[:1])(torch.zeros(1, 3, 64, 64))
    assert "psnr_db" in figures and not any(name.startswith("similarity") for name in figures)


@pytest.mark.parametrize("triplets", [0.0, 1.0])
def test_the_validator_paints_everybody_from_the_style(samples, no_dlib, triplets, monkeypatch):
    task = task_of("appearance", samples, triplets=triplets)
    styles, seen = {s.style: s for s in samples.samples}, []

    def paint(task, batch, steps):
        seen.extend(batch.style)
        return batch.target

    def decode(latents):  # the true picture, by its latents
        by_latents = {samples.latents[s.target].float().sum().item(): s.target for s in samples.samples}
        return samples.images([by_latents[latent.sum().item()] for latent in latents])

    monkeypatch.setattr("icportrait.training.tasks.validation.paint", paint)
    figures, pictures = Validator(task, samples, decode, draws=1, pictures=2)()
    assert figures["psnr_db"] == 100.0 and figures["psnr_db_style"] < 30
    assert pictures["portraits"].shape == (2, 64, 4 * 64, 3)
    assert len(seen) == 3 and all(
        torch.equal(latent, samples.latents[key].float()) for latent, key in zip(seen, styles, strict=True)
    )
