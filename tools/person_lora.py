"""`python run.py tools person-lora`: the LoRA of the sample profile's person that ships in the bundle, made again from nothing.

The head generator photographs the person of `icportrait_profile.png` in scenes that no sample picture shows, `icportrait
customise --rank` learns them on the bundle's base, and unseen views of the person are painted without and with the result. To
be run again whenever the base changes: a LoRA fits the base it was trained on.
"""

import tempfile
from pathlib import Path

from ..models.nets.files import digest, read_tensors, save_tensors
from ..models.portrait import CropSettings
from ..training.core.settings import LoopSettings
from ..training.evaluation.measure.customise import (
    HEADS,
    before_and_after,
    labelled_rows,
    make_subject,
    mean_figures,
    similarities,
)
from ..training.evaluation.picture_grid import save_grid
from ..training.stages.facts import LICENSE
from ..training.tasks.customise import CustomiseSettings
from .demo_pictures import PICTURES

LOOP = LoopSettings(steps=900, batch=1, lr=1e-3, tracker="none")
"""The paper's 2e-6 is for the whole UNet and many steps."""
SETTINGS = CustomiseSettings(rank=8)
PORTRAIT = CropSettings(noise_strength=0.8)
"""As the workflow `customised_checkpoint` paints."""
PHOTOS, UNSEEN = 12, 6
FIRST_SCENE = 10  # of the group; the sample pictures lie in earlier ones
(GROUP, PERSON), (_, OTHER) = PICTURES[0][1], PICTURES[1][1]


def fingerprint(path: Path) -> str:
    """SHA-256 of a safetensors file's tensors, whatever its metadata say."""
    return digest(read_tensors(path)[0])


def make_person_lora(bundle: Path, out: Path, work: Path | None = None, loop: LoopSettings = LOOP) -> dict:
    """Render, train, measure and write.

    Args:
        bundle: folder of the bundle whose base it is for.
        out: the .safetensors file to write.
        work: folder for renders, training and `customise.png` to look at; repeating a call with it resumes the training.
            None = a temporary one.

    Returns:
        the figures of `measure_customise.mean_figures`, and the settings.
    """
    if work is None:
        with tempfile.TemporaryDirectory(prefix="icportrait-person-lora-") as folder:
            return make_person_lora(bundle, out, Path(folder), loop)
    subject = make_subject(GROUP, PHOTOS, UNSEEN, HEADS.size, 0, (PERSON, OTHER), FIRST_SCENE)
    painted, made = before_and_after(subject, work, bundle, HEADS, loop, SETTINGS, PORTRAIT)
    tensors, metadata = read_tensors(made)
    facts = {"license": LICENSE, "data": "icportrait heads", "base_sha256": fingerprint(bundle / "base.safetensors")}
    save_tensors(out, tensors, metadata | {"training": metadata["training"] | facts, "license": LICENSE})
    save_grid(labelled_rows(subject, painted), work / "customise.png")
    settings = {"photos": PHOTOS, "size": HEADS.size, "steps": loop.steps, "lr": loop.lr, "rank": SETTINGS.rank}
    settings |= {"noise_strength": PORTRAIT.noise_strength}
    return mean_figures(similarities(subject, painted)) | {"settings": settings}
