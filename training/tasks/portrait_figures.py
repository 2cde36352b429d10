"""What painted portraits of held-out people look like in numbers, as `icportrait measure bundle` has them: light and likeness.

Cheap enough for validation during training: faces are detected once, and what does not change is measured once.
"""

import torch
import torch.nn.functional as functional

from ...models.faces import detection, dlib_backend, identity
from ..data.samples import Sample, SampleSet

BEST_PSNR = 100.0  # stands for an exact copy: JSON has no infinity


class PortraitFigures:
    """Call it with results: `figures(results) -> {name: mean over people}`.

    - `psnr_db`: PSNR in the face against the truth; `psnr_db_style`: that of the untouched style.
    - `similarity`: dlib's, of result and profile; `similarity_style`: of style and profile; `similarity_ceiling`: of truth and
      profile. Only where dlib is installed; people in whose truth or profile no face is found are left out.

    Args:
        samples: of which the pictures are.
        people: one sample a person; the results' order.
    """

    def __init__(self, samples: SampleSet, people: list[Sample]):
        self.people = people
        self.truths = samples.images([sample.target for sample in people])
        self.profiles = samples.images([sample.profile for sample in people])
        self.styles = samples.images([sample.style or sample.target for sample in people])
        self._faces: list | None = None  # (face in the truth, embedding of the profile) a person, None where not found
        self._constant: dict[str, float] | None = None

    @torch.no_grad()
    def __call__(self, results: torch.Tensor) -> dict[str, float]:
        """Figures of float `[B, 3, H, W]` in [0, 1], a result a person."""
        if self._constant is None:
            self._constant = {
                **self._mean("psnr_db_style", self._psnr(self.styles)),
                **self._mean("similarity_style", self._similarity(self.styles)),
                **self._mean("similarity_ceiling", self._similarity(self.truths)),
            }
        results = results.cpu()
        own = self._mean("psnr_db", self._psnr(results)) | self._mean("similarity", self._similarity(results))
        return own | self._constant

    @staticmethod
    def _mean(name: str, values: list[float]) -> dict[str, float]:
        return {name: sum(values) / len(values)} if values else {}

    def _psnr(self, pictures: torch.Tensor) -> list[float]:
        """Of each person whose face's place is known; a cell counts by its share of face."""
        found = []
        for picture, truth, person in zip(pictures, self.truths, self.people, strict=True):
            if person.face is None or not person.face.any():
                continue
            weight = functional.interpolate(person.face[None, None], truth.shape[-2:])[0, 0]
            error = ((picture - truth).pow(2).mean(dim=0) * weight).sum() / weight.sum()
            found.append(min(BEST_PSNR, -10 * torch.log10(error).item()))
        return found

    def _similarity(self, pictures: torch.Tensor) -> list[float]:
        """dlib's similarity of each picture in the truth's pose to the profile."""
        if dlib_backend.why_unavailable():
            return []
        if self._faces is None:
            self._faces = [self._known(*pair) for pair in zip(self.truths, self.profiles, strict=True)]
        return [
            identity.similarity(identity.embedding(picture.movedim(0, -1), known[0]), known[1])
            for picture, known in zip(pictures, self._faces, strict=True)
            if known is not None
        ]

    @staticmethod
    def _known(truth: torch.Tensor, profile: torch.Tensor):
        """(face in the truth, embedding of the profile), or None when either shows no face."""
        settings = detection.DetectionSettings(backend="dlib", effort="fast")  # crops: the face is large and upright
        faces = [detection.find_faces(p.movedim(0, -1)[None], settings).frames[0] for p in (truth, profile)]
        if not all(faces):
            return None
        target, own = (max(found, key=lambda face: face.side) for found in faces)
        return target, identity.embedding(profile.movedim(0, -1), own)
