"""`icportrait measure bundle`: flow, identity and light of a bundle on held-out heads, run as an artist would run it.

Everything goes through `models.portrait.paint_crop`, ComfyUI's samplers and the bundle's files: what is measured is what
ships. Held-out identities have group indices from 1,000,000 and are never trained on.
"""

import json
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ....models.faces import detection, identity
from ....models.method.correspondence import match, warp
from ....models.method.encoding import encode_picture
from ....models.method.matching import FLOW_TIMESTEP
from ....models.nets.loading import load_net
from ....models.portrait import CropSettings, paint_crop
from ...core.checks import at_least
from ...core.paths import InputFile, InputFolder, OutputFolder
from ..baselines import embedding_only
from ..cases import Case, held_out_cases
from ..match_bench import Draw, MatchBench, truth_of
from ..metrics.pictures import psnr
from ..models_used import Models, load_models, step0_net
from ..picture_grid import save_grid
from .matching import BASE_TAPS, Errors, best_of, in_pixels
from .settings import BundleSetting, Measure

BASE_TIMESTEPS = (50, 150)


def measure_flow(models: Models, cases: list[Case], paper_matching: Path | None, seed: int) -> dict:
    """All flow figures."""
    bench, errors = MatchBench(models), Errors(cases[0].record["flow"].shape[2])
    trained = models.nets.matching
    matchers = {"trained": trained, "step0": step0_net(models.model, trained.config)}
    if paper_matching is not None:
        matchers["paper_objective"] = load_net(paper_matching, "matching")
    draw = Draw(FLOW_TIMESTEP, seed)

    def add(name: str, pair: tuple[torch.Tensor, torch.Tensor], case: Case, method: str = "window") -> None:
        errors.add(name, in_pixels(match(*pair, method)[0], case), case)

    for case in tqdm(cases, desc="flow"):
        for name, net in matchers.items():
            pair = bench.net_features(net, case, draw)[net.config["tap"]]
            add(name, pair, case)
            if name == "trained":
                add("trained_argmax", pair, case, "paper")
        add("trained_other_person", bench.net_features(trained, case, draw, "style")[trained.config["tap"]], case)
        errors.add("zero_motion", np.zeros_like(truth_of(case)[0]), case)
        for timestep in BASE_TIMESTEPS:
            for tap, pair in bench.base_features(case, Draw(timestep, seed), list(BASE_TAPS)).items():
                add(f"base t={timestep} {tap}", pair, case)
    table = errors.table()
    table["base_unet"] = best_of(table, "base ")
    return table


def measure_pictures(
    models: Models, cases: list[Case], settings: CropSettings, folder: Path
) -> tuple[dict, dict, dict]:
    """(identity, PSNR, seconds a portrait): pictures are kept in `folder` for looking at."""
    scores: dict[str, list[float]] = {}
    light: dict[str, list[float]] = {}
    seconds, skipped = [], []
    rows = []
    for case in tqdm(cases, desc="portraits"):
        target, profile, style = case.truth.picture, case.profile.picture, case.style.picture
        faces = [detection.find_faces(picture).frames[0] for picture in (target, profile)]
        if not all(faces):
            skipped.append(case.key)
            continue
        target_face, profile_face = (max(found, key=lambda face: face.side) for found in faces)
        reference = identity.embedding(profile[0], profile_face)
        start = time.monotonic()
        painted = paint_crop(models.model, models.vae, models.vision, models.nets, profile, style, settings)
        seconds.append(time.monotonic() - start)
        face = torch.from_numpy(case.record["face"] > 0)
        warped = warp(profile.movedim(-1, 1), painted.flow.offsets).movedim(1, -1)
        made = {
            "style": style,
            "nets_off": embedding_only(models, case, settings),
            "result": painted.image,
            "paste": torch.where(face[None, :, :, None], warped, style),
        }
        decoded = models.vae.decode(encode_picture(models.vae, target, "target"))
        for name, picture in {**made, "ceiling": target, "ceiling_vae": decoded}.items():
            similarity = identity.similarity(identity.embedding(picture[0], target_face), reference)
            scores.setdefault(name, []).append(similarity)
        to_target = (identity.embedding(picture[0], target_face) for picture in (painted.image, target))
        scores.setdefault("result_to_target", []).append(identity.similarity(*to_target))
        for name, picture in {**made, "vae": decoded}.items():
            light.setdefault(name, []).append(psnr(picture[0].numpy(), target[0].numpy(), face.numpy()))
        shown = {"profile": profile, "style": style, "sampled": painted.sampled, "warped": warped}
        shown |= {"nets off": made["nets_off"], "result": painted.image, "true render": target}
        rows.append(list(shown.items()))
    save_grid(rows, folder / "portraits.png")
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    mean["share_of_ceiling"] = mean["result"] / mean["ceiling"]
    mean["cases_result_above_style"] = float(np.mean(np.array(scores["result"]) > np.array(scores["style"])))
    for other in ("style", "nets_off"):
        gain = np.array(scores["result"]) - np.array(scores[other])
        mean[f"result_minus_{other}"] = float(gain.mean())
        mean[f"result_minus_{other}_standard_error"] = float(gain.std(ddof=1) / np.sqrt(len(gain)))
    psnr_db = {name: float(np.mean(values)) for name, values in light.items()}
    return mean, psnr_db, {"portrait": float(np.median(seconds)), "skipped": skipped}


@dataclass(frozen=True, kw_only=True)
class BundleMeasure(BundleSetting, Measure):
    """Flow, identity and light of a bundle on held-out heads."""

    data: InputFolder | None = None
    """Held-out shards; default: rendered into --work."""
    work: OutputFolder = Path("measure_work")
    """Folder for held-out renders and pictures."""
    identities: int = 24
    """Held-out identities."""
    steps: int | None = None
    """Sampling steps; default: the node's."""
    cfg: float | None = None
    """Classifier-free guidance; default: the node's."""
    strength: float | None = None
    """Noise strength of progressive inference; default: the node's."""
    share: float | None = None
    """Kept share of style pixels; default: the node's."""
    paper_matching: InputFile | None = None
    """Also report this net, trained by the paper's objective."""
    seed: int = 0
    """Decides kept pixels and all noise."""

    def __post_init__(self):
        at_least(1, identities=self.identities, steps=self.steps)


def measure_bundle(options: BundleMeasure) -> dict:
    """All figures of the bundle; see `icportrait measure bundle --help`."""
    changes = {
        "seed": options.seed,
        "steps": options.steps,
        "cfg": options.cfg,
        "noise_strength": options.strength,
        "share": options.share,
    }
    settings = CropSettings(**{name: value for name, value in changes.items() if value is not None})
    cases = held_out_cases(options.data, options.work, options.identities)
    with torch.inference_mode():
        models = load_models(options.bundle)
        flow = measure_flow(models, cases, options.paper_matching, options.seed)
        who, light, seconds = measure_pictures(models, cases, settings, options.work)
    names = ("seed", "share", "steps", "cfg", "sampler", "noise_strength", "rounds", "flow_timestep")
    return {
        "identities": len(cases),
        "view_width_px": cases[0].record["flow"].shape[2],
        "flow_epe_px": {name: values["epe_px"] for name, values in flow.items()},
        "pck_0.05": flow["trained"]["pck_0.05"],
        "flow": flow,
        "identity": who,
        "psnr_db": light,
        "seconds": seconds,
        "settings": {name: getattr(settings, name) for name in names},
        "training": {
            name: models.training[f"{name}.safetensors"] for name in ("base", "vae", "matching", "appearance")
        },
    }


def print_table(figures: dict) -> None:
    """The figures for people."""
    print(
        f"\n{figures['identities']} held-out identities, {figures['view_width_px']} px\n\nflow (visible, not hair)        median EPE px   PCK@0.05 %"
    )
    for name in (
        "trained",
        "trained_argmax",
        "trained_other_person",
        "paper_objective",
        "step0",
        "base_unet",
        "zero_motion",
    ):
        if name in figures["flow"]:
            row = figures["flow"][name]
            print(
                f"  {name + (' (' + row['which'] + ')' if 'which' in row else ''):34s} {row['epe_px']:8.2f}   {row['pck_0.05']:8.1f}"
            )
    print("\nidentity: dlib similarity to the profile (1 - distance), mean")
    for name, value in figures["identity"].items():
        print(f"  {name:34s} {value:8.3f}")
    print("\nPSNR in the face against the true render, dB, mean")
    for name, value in figures["psnr_db"].items():
        print(f"  {name:34s} {value:8.2f}")
    print("\n" + json.dumps(figures["settings"]))
