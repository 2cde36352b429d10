"""Attention along the flow (beyond the paper), with and without nets, from the face warped and relit by the meshes and from the plain
style crop. The flow is the meshes' everywhere, so that only the attention differs."""

import dataclasses

import torch

from ....models.faces.types import Placement
from ....models.mesh.painter import MeshResult, paint_by_mesh
from ....models.method.encoding import encode_picture, encode_profile
from ....models.method.injection import Settings, apply_portrait
from ....models.method.pixel_sampling import sample_pixels
from ....models.painting import CropPair
from ....models.portrait import CropSettings, sample_crop
from ....models.types import Flow
from .. import charts
from ..cases import Case, Shot
from ..models_used import Models
from ..results import Maker
from .common import Study

ATTENTIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
STARTS = (("warped", 0.3), ("warped", 0.5), ("style", 0.5))
SHOWN = ("warped", 0.5)
FIGURES = (
    ("psnr_face", "PSNR in the face, dB"),
    ("shading_error", "scale-invariant shading error"),
    ("copy_paste dlib", "copy-paste"),
)


def crop_pair(case: Case) -> CropPair:
    """A case as a painter's input: its pictures are crops already."""

    def placement(shot: Shot) -> Placement:
        height, width = shot.picture.shape[1:3]
        return Placement(height, width, (1.0, 0.0, 0.0, 0.0, 1.0, 0.0), width, shot.face)

    return CropPair(case.profile.picture, case.style.picture, placement(case.profile), placement(case.style))


def paint(
    models: Models, case: Case, settings: CropSettings, start: torch.Tensor, flow: Flow, nets: bool, attention: float
) -> torch.Tensor:
    """One round from `start` `[1, H, W, 3]`, which takes the style crop's place; a picture of its size."""
    profile = encode_profile(case.profile.picture, models.vae, models.vision)
    sampled, _ = sample_pixels(start, settings.share, torch.Generator().manual_seed(settings.seed), settings.pattern)
    apply = Settings(seed=settings.seed, attention=attention)
    patched = apply_portrait(models.model, models.nets if nets else None, profile, sampled, apply, flow)
    latent = encode_picture(models.vae, start, "style crop")
    return models.vae.decode(sample_crop(patched, profile, latent, settings))


def named(nets: bool, start: str, noise: float, attention: float) -> str:
    """A maker's name."""
    return f"{'nets' if nets else 'no nets'}, {start} {noise:g}, attention {attention:g}"


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    attentions = tuple(study.values or ATTENTIONS)
    meshes: dict[str, MeshResult] = {}

    def mesh(case: Case) -> MeshResult:
        if case.key not in meshes:
            meshes.clear()  # cases come one after another
            meshes[case.key] = paint_by_mesh(crop_pair(case))
        return meshes[case.key]

    def through_the_vae(case: Case) -> torch.Tensor:
        vae = study.models.vae
        return vae.decode(encode_picture(vae, mesh(case).image, "style crop"))

    makers = {
        "style unchanged": Maker(lambda case: case.style.picture, {}),
        "true render": Maker(lambda case: case.truth.picture, {}),
        "warped": Maker(lambda case: mesh(case).image, {}),
        "warped, through the VAE": Maker(through_the_vae, {}),
    }
    lines: dict[str, list[tuple[float, str]]] = {}
    for nets in (False, True):
        for start, noise in STARTS:
            settings = dataclasses.replace(study.settings, noise_strength=noise)
            for attention in attentions:

                def make(case: Case, how=(nets, attention), start=start, settings=settings):
                    picture = mesh(case).image if start == "warped" else case.style.picture
                    return paint(study.models, case, settings, picture, mesh(case).flow, *how)

                name = named(nets, start, noise, attention)
                facts = dataclasses.asdict(settings) | {"nets": nets, "start": start, "attention": attention}
                makers[name] = Maker(make, facts)
                lines.setdefault(name.rsplit(",", 1)[0], []).append((attention, name))
    mean = study.means(study.run(makers))
    images = [
        charts.line_chart(
            {line: [(x, mean[name][column]) for x, name in points] for line, points in lines.items()},
            label,
            "attention",
            label,
        )
        for column, label in ((study.likeness, "likeness to the true render"), *FIGURES)
    ]
    shown = ["warped", *(named(nets, *SHOWN, a) for nets in (False, True) for a in (attentions[0], attentions[-1]))]
    return {"means": mean}, charts.stacked([charts.stacked(images, 2), study.grid(shown)])
