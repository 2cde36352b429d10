"""Fig. 9: extreme light. The style's scene is rendered anew under hard, side, rim and coloured light; and light leakage.

For every kind of light the result is held against the true render of the profile's person in that light. For leakage the
*profile* is relit and the style kept: the result's light should not move.
"""

import dataclasses

import numpy as np
import torch

from ...data.heads.generate import PERSON, SCENE, seed_of
from ...data.heads.identity import make_person
from ...data.heads.lights import random_light
from ...data.heads.scene import random_scene
from .. import charts
from ..baselines import icportrait, paste_by_landmarks, style_unchanged
from ..cases import Case, Shot
from ..metrics.light import light_leakage
from ..picture_grid import grid
from ..render_truth import RenderTruth, person_and_scene, relit, truth_of
from ..result_cache import fingerprint, picture_hash
from ..scoring import light_figures
from .common import GRID_CASES, Study

KINDS = ("hard", "side", "rim", "coloured")
LEAKAGE_KINDS = ("soft", "hard", "side", "coloured")
METHODS = {"style unchanged": style_unchanged, "paste by landmarks": paste_by_landmarks, "ic-portrait": icportrait}


def light_of(kind: str, seed: int, yaw: float):
    """A light of a kind, decided by the seed."""
    return random_light(np.random.default_rng([seed, 9, (*KINDS, *LEAKAGE_KINDS).index(kind)]), seed, yaw, kind)


def _picture(truth: RenderTruth) -> torch.Tensor:
    return torch.from_numpy(truth.picture)[None]


def _style_person(meta: dict):
    seed, group, person = (int(part) for part in meta["identity"]["style"].split("-"))
    return make_person(seed_of(seed, group, PERSON, person))


def _profile_scene(meta: dict):
    seed, group, scene = (int(part) for part in meta["scene"]["profile"].split("-"))
    return random_scene(seed_of(seed, group, SCENE, scene))


def under_kinds(study: Study, case: Case) -> tuple[list[dict], list]:
    """(one row a kind and method, pictures of the case by kind)."""
    rows, shown = [], []
    meta, size = case.record["meta"], case.style.picture.shape[1]
    person, scene = person_and_scene(meta)
    other = _style_person(meta)
    for kind in KINDS:
        place = relit(scene, light_of(kind, study.settings.seed, scene.camera.yaw))
        truth, style = truth_of(person, place, size), truth_of(other, place, size)
        lit = dataclasses.replace(case, style=Shot(_picture(style), case.style.face))
        line = [("profile", case.profile.picture), (f"style, {kind}", lit.style.picture)]
        for name, method in METHODS.items():
            result = _result(study, f"{case.key} {kind}", name, method, lit)
            line.append((name, result))
            figures = light_figures(truth, result[0].double().numpy(), truth.picture.astype(np.float64))
            rows.append({"kind": kind, "method": name, **figures})
        shown.append([*line, ("true render", _picture(truth))])
    return rows, shown


def _result(study: Study, key: str, name: str, method, case: Case) -> torch.Tensor:
    facts = {
        "files": study.models.files,
        "settings": dataclasses.asdict(study.settings),
        "inputs": [picture_hash(case.profile.picture), picture_hash(case.style.picture)],
        "method": name,
    }
    return study.cache.picture(
        key.replace(" ", "-"), name, fingerprint(facts), lambda: method(study.models, case, study.settings)
    )


def leakage(study: Study, case: Case) -> dict[str, float | None]:
    """Light leakage of each method for one case: the profile relit, the style kept."""
    meta, size = case.record["meta"], case.style.picture.shape[1]
    person, scene = person_and_scene(meta)
    target = truth_of(person, scene, size)  # geometry of the results
    place = _profile_scene(meta)
    profiles, results = [], {name: [] for name in METHODS}
    for kind in LEAKAGE_KINDS:
        profile = truth_of(person, relit(place, light_of(kind, study.settings.seed, place.camera.yaw)), size)
        lit = dataclasses.replace(case, profile=Shot(_picture(profile), case.profile.face))
        lights = {
            name: target.light(_result(study, f"{case.key} leak {kind}", name, method, lit)[0].double().numpy())
            for name, method in METHODS.items()
        }
        own = profile.light(profile.picture.astype(np.float64))
        if own is None or any(light is None for light in lights.values()):
            continue  # too little skin without clipping under this light
        profiles.append(own)
        for name, light in lights.items():
            results[name].append(light)
    if len(profiles) < 2:
        return dict.fromkeys(METHODS)
    return {name: light_leakage(lights, profiles) for name, lights in results.items()}


def _mean(values) -> float | None:
    known = [v for v in values if v is not None]
    return float(np.mean(known)) if known else None


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    rows, shown, leaks = [], [], []
    for number, case in enumerate(study.cases):
        more, pictures = under_kinds(study, case)
        rows += more
        leaks.append(leakage(study, case))
        if number < GRID_CASES // 2:
            shown += pictures
    columns = ("shading_error", "sh_light_distance", "light_angle_error")
    table = {
        name: {
            kind: {c: _mean(r[c] for r in rows if r["kind"] == kind and r["method"] == name) for c in columns}
            for kind in KINDS
        }
        for name in METHODS
    }
    leak = {name: _mean(one[name] for one in leaks) for name in METHODS}
    bars = {name: _mean(r["sh_light_distance"] for r in rows if r["method"] == name) for name in METHODS}
    parts = [charts.bar_chart(bars, "light against the true render, all kinds", "SH light distance")]
    if any(v is not None for v in leak.values()):
        parts.append(charts.bar_chart(leak, "light leakage from the profile", "0 = none, 1 = all"))
    return {"by_kind": table, "light_leakage": leak}, charts.stacked([charts.stacked(parts, 2), grid(shown)])
