"""All metrics of one result picture of one case, as a flat dictionary of numbers."""

from __future__ import annotations

import numpy as np
import torch

from ...models.faces import dlib_backend
from ...models.faces.pixels import to_bytes
from ...models.faces.types import Face
from .cases import Case, Shot
from .metrics import landmarks as landmark_metrics
from .metrics import light as light_metrics
from .metrics import pictures as picture_metrics
from .metrics.likeness import copy_paste, sim_gt, sim_ref
from .recognisers import Recogniser
from .render_truth import RenderTruth, target_truth

# name -> (unit, which way is better: +1 more, -1 less, 0 neither); recognisers add their own, see `likeness_columns`.
COLUMNS = {
    "face_found": ("share", 1),
    "pose_error": ("degrees", -1),
    "expression_error": ("1", -1),
    "psnr": ("dB", 1),
    "psnr_face": ("dB", 1),
    "ssim": ("1", 1),
    "lpips": ("1", -1),
    "shading_error": ("share of the truth's RMS", -1),
    "sh_light_distance": ("1", -1),
    "light_angle_error": ("degrees", -1),
}


def likeness_columns(recognisers: list[Recogniser]) -> dict[str, tuple[str, int]]:
    """SimRef, SimGT and Copy-Paste of each recogniser in columns of their own."""
    columns = {}
    for one in recognisers:
        columns[f"sim_ref {one.name}"] = (one.unit, 0)
        columns[f"sim_gt {one.name}"] = (one.unit, 1)
        columns[f"copy_paste {one.name}"] = ("1", -1)
    return columns


def face_in(picture: torch.Tensor, where: Face, points: int = 5) -> Face | None:
    """The face of a result, its landmarks read at a known place; None when what is there reads like no face.

    Args:
        picture: `[1, H, W, 3]`.
        where: the face whose place it must have taken.
        points: 5 or 68.
    """
    marks, scatter = dlib_backend.landmarks(to_bytes(picture[0]), where.box, points)
    if not dlib_backend.is_steady(scatter):
        return None
    layout = {5: "dlib_5", 68: "ibug_68"}[points]
    return Face(where.box, tuple(map(tuple, marks.tolist())), layout, backend="dlib")


class Scorer:
    """Scores results of cases; remembers what several results of a case share."""

    def __init__(self, recognisers: list[Recogniser], expression: bool = False, light: bool = True):
        self.recognisers, self.expression, self.light = recognisers, expression, light
        self._embeddings: dict[tuple, np.ndarray] = {}
        self._truth: tuple[str, RenderTruth | None] | None = None

    def embedding(self, recogniser: Recogniser, shot: Shot) -> np.ndarray:
        """Embedding of an input picture, computed once."""
        key = (recogniser.name, id(shot))
        if key not in self._embeddings:
            self._embeddings[key] = (recogniser.embed(shot.picture, shot.face), shot)  # the shot keeps its id taken
        return self._embeddings[key][0]

    def upper_bound(self, recogniser: Recogniser, shots: list[Shot]) -> list[float]:
        """Similarities of all pairs of different pictures of one person: the paper's upper bound."""
        embeddings = [self.embedding(recogniser, shot) for shot in shots]
        return [recogniser.similarity(embeddings[i], embeddings[j]) for j in range(len(embeddings)) for i in range(j)]

    def score(self, case: Case, picture: torch.Tensor) -> dict:
        """Numbers by the names of `COLUMNS` and `likeness_columns` (None = not measurable), and `similarities`: recogniser
        -> similarity to every profile photo."""
        place = case.style.face if case.truth is None else case.truth.face
        face = face_in(picture, place)
        figures: dict = {"face_found": float(face is not None), "similarities": {}}
        # A result without a readable face still gets a similarity, read at the place where the face should be.
        figures |= self._likeness(case, picture, face or place, figures["similarities"])
        figures |= self._landmarks(case, picture, face)
        if case.truth is not None:
            figures |= self._against_truth(case, picture)
        return figures

    def _likeness(self, case: Case, picture: torch.Tensor, face: Face, similarities: dict) -> dict:
        figures = {}
        held_out = [case.truth] if case.truth is not None else [s for s in case.photos if s is not case.profile]
        for one in self.recognisers:
            result = one.embed(picture, face)
            reference = self.embedding(one, case.profile)
            figures[f"sim_ref {one.name}"] = sim_ref(one.similarity, result, reference)
            others = [self.embedding(one, shot) for shot in held_out]
            known = [copy_paste(result, other, reference) for other in others]
            known = [value for value in known if value is not None]
            figures[f"sim_gt {one.name}"] = (
                float(np.mean([sim_gt(one.similarity, result, other) for other in others])) if others else None
            )
            figures[f"copy_paste {one.name}"] = float(np.mean(known)) if known else None
            similarities[one.name] = [one.similarity(result, self.embedding(one, shot)) for shot in case.photos]
        return figures

    def _landmarks(self, case: Case, picture: torch.Tensor, face: Face | None) -> dict:
        figures = {"pose_error": None, "expression_error": None}
        if face is None:
            return figures
        # The wanted face is read the same way as the result's, so that the reader's own habits cancel.
        wanted = face_in(case.style.picture, case.style.face)
        figures["pose_error"] = landmark_metrics.pose_error(face, wanted) if wanted is not None else None
        if self.expression and wanted is not None:
            marks = [face_in(p, at, 68) for p, at in ((picture, face), (case.style.picture, case.style.face))]
            figures["expression_error"] = landmark_metrics.expression_error(*(mark.points for mark in marks))
        return figures

    def _against_truth(self, case: Case, picture: torch.Tensor) -> dict:
        result, truth = picture[0].double().numpy(), case.truth.picture[0].double().numpy()
        face = np.asarray(case.record["face"]) > 0
        figures = {
            "psnr": picture_metrics.psnr(result, truth),
            "psnr_face": picture_metrics.psnr(result, truth, face) if face.any() else None,
            "ssim": picture_metrics.ssim(result, truth),
            "lpips": picture_metrics.lpips_distance(result, truth),
        }
        known = self._render_truth(case)
        return figures if known is None else figures | light_figures(known, result, truth)

    def _render_truth(self, case: Case) -> RenderTruth | None:
        if not self.light:
            return None
        if self._truth is None or self._truth[0] != case.key:
            self._truth = case.key, target_truth(case.record["meta"], case.truth.picture[0].numpy())
        return self._truth[1]


def light_figures(known: RenderTruth, result: np.ndarray, truth: np.ndarray) -> dict[str, float | None]:
    """The three light errors of a result against the true render, on the skin both show without clipping."""
    figures = {"shading_error": None, "sh_light_distance": None, "light_angle_error": None}
    shading, lit = known.shading(result)
    wanted, wanted_lit = known.shading(truth)
    both = lit & wanted_lit
    if both.sum() < 100:
        return figures
    figures["shading_error"] = light_metrics.scale_invariant_shading_error(shading[both], wanted[both])
    lights = [light_metrics.fit_light(part[both], known.normals[both]) for part in (shading, wanted)]
    figures["sh_light_distance"] = light_metrics.sh_light_distance(*lights)
    figures["light_angle_error"] = light_metrics.light_angle_error(*lights)
    return figures
