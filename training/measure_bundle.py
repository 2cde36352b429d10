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

from ..models import bundle as bundles
from ..models.correspondence import match, resize_flow, warp
from ..models.encoding import encode_picture, encode_profile
from ..models.faces import detection, identity
from ..models.loading import load_net
from ..models.matching import FLOW_TIMESTEP, estimate_flow, noised, pair_noise
from ..models.net_files import read_metadata
from ..models.nets import build_net, initialise_from_unet
from ..models.pixel_sampling import sample_pixels
from ..models.portrait import CropSettings, paint_crop
from ..models.types import LoadedNet, PortraitNets
from .data.shards import read_shards
from .diffusion import keyed_generator

HELD_OUT = 1_000_000
FLOW_SHARE = 0.1  # kept pixels while the flow is measured, the mean of the training range
IDENTITIES_A_GROUP = 6


@dataclass
class Case:
    """One held-out sample; pictures float32 `[1, H, W, 3]`."""

    key: str
    target: torch.Tensor
    profile: torch.Tensor
    style: torch.Tensor
    flow: np.ndarray  # [2, H, W] px
    scored: np.ndarray  # bool [H, W]: visible in both views, not hair
    face: torch.Tensor  # bool [H, W]


def held_out_cases(shards: list[Path], identities: int) -> list[Case]:
    """One case an identity: its first sample."""
    cases, seen = [], set()
    for record in read_shards(shards):
        person = str(record["meta"]["identity"]["target"])
        if person in seen or record.get("style") is None:
            continue
        seen.add(person)
        pictures = {role: torch.from_numpy(record[role])[None].float() / 255 for role in ("target", "profile", "style")}
        scored = (record["visible"] > 0) & ~(record["hair"] > 0)
        cases.append(
            Case(
                record["key"], **pictures, flow=record["flow"], scored=scored, face=torch.from_numpy(record["face"] > 0)
            )
        )
        if len(cases) == identities:
            return cases
    raise ValueError(
        f"The held-out shards hold only {len(cases)} identities; {identities} are wanted. Render more groups."
    )


def end_point_errors(offsets: torch.Tensor, case: Case) -> np.ndarray:
    """End-point error in px of every scored pixel of a flow `[1, 2, h, w]` (cells), brought to full resolution."""
    height, width = case.flow.shape[1:]
    flow = resize_flow(offsets.float(), height, width)[0].numpy()
    return np.linalg.norm(flow - case.flow, axis=0)[case.scored]


def flow_figures(errors: list[np.ndarray], width: int) -> dict[str, float]:
    """Median end-point error in px and PCK at shares of the view's width, in %, over all scored pixels."""
    pixels = np.concatenate(errors)
    pck = {f"pck_{share:.2f}": float((pixels < share * width).mean() * 100) for share in (0.01, 0.05, 0.10)}
    return {"epe_px": float(np.median(pixels)), **pck}


class FlowBench:
    """Flows of several matchers on the same noisy pairs."""

    def __init__(self, model, nets: PortraitNets, vae, vision, seed: int):
        self.model, self.nets, self.vae, self.vision, self.seed = model, nets, vae, vision, seed

    def inputs(self, case: Case, lit_by: torch.Tensor):
        """(profile, style latent, sampled pixels) of a case lit by the target itself or by another person's picture."""
        profile = encode_profile(case.profile, self.vae, self.vision)
        sampled, _ = sample_pixels(lit_by, FLOW_SHARE, keyed_generator(self.seed, case.key))
        return profile, encode_picture(self.vae, lit_by, "style crop"), sampled

    def with_net(self, net: LoadedNet, case: Case, lit_by: torch.Tensor, method: str = "window") -> torch.Tensor:
        """Offsets `[1, 2, h, w]` by a matching net at the default timestep."""
        nets = PortraitNets(net, self.nets.appearance)
        profile, latent, sampled = self.inputs(case, lit_by)
        return estimate_flow(self.model, nets, profile, latent, sampled, FLOW_TIMESTEP, method, self.seed).offsets

    def with_base(self, case: Case, lit_by: torch.Tensor, taps: list[str], timestep: int) -> dict[str, torch.Tensor]:
        """Offsets by the base UNet's own features after each named block, no net involved."""
        profile, latent, _ = self.inputs(case, lit_by)
        base, unet = self.model.model, self.model.model.diffusion_model
        sigma = base.model_sampling.sigma(torch.tensor([float(timestep)]))
        noise_profile, noise_style = pair_noise(profile.latent, self.seed)
        pair = torch.cat(
            [
                noised(base.model_sampling, base.process_latent_in(z), noise, sigma)
                for z, noise in ((latent, noise_style), (profile.latent, noise_profile))
            ],
            dim=-1,
        )
        features, hooks = {}, []
        for tap in taps:
            side, index = tap.split()
            # ComfyUI runs a block's layers one by one and never calls the block itself: hook its last layer.
            last = getattr(unet, f"{side}_blocks")[int(index)][-1]
            hooks.append(last.register_forward_hook(lambda _, __, out, tap=tap: features.__setitem__(tap, out)))
        try:
            x = base.model_sampling.calculate_input(sigma, pair)
            unet.float()(x, base.model_sampling.timestep(sigma).float(), profile.embedding)
        finally:
            for hook in hooks:
                hook.remove()
        return {tap: match(*out.float().chunk(2, dim=-1))[0] for tap, out in features.items()}


def step0_net(model, config: dict) -> LoadedNet:
    """The matching net before any training: ControlNet's initialisation from the base UNet."""
    net = build_net(config)
    initialise_from_unet(net, model.model.diffusion_model, keyed_generator(0, "matching"))
    import comfy.model_patcher

    patcher = comfy.model_patcher.ModelPatcher(net, load_device=torch.device("cpu"), offload_device=torch.device("cpu"))
    return LoadedNet(patcher, config, torch.float32)


def measure_flow(bench: FlowBench, cases: list[Case], paper_matching: Path | None) -> dict:
    """All flow figures."""
    width = cases[0].flow.shape[2]
    matchers = {
        "trained": bench.nets.matching,
        "step0": step0_net(bench.model, bench.nets.matching.config),
    }
    if paper_matching is not None:
        matchers["paper_objective"] = load_net(paper_matching, "matching")
    errors: dict[str, list] = {}
    taps = [f"input {i}" for i in (4, 5, 7, 8)] + [f"output {i}" for i in (3, 4, 5, 6, 7, 8)]
    for case in tqdm(cases, desc="flow"):
        for name, net in matchers.items():
            errors.setdefault(name, []).append(end_point_errors(bench.with_net(net, case, case.target), case))
        errors.setdefault("trained_argmax", []).append(
            end_point_errors(bench.with_net(matchers["trained"], case, case.target, "paper"), case)
        )
        errors.setdefault("trained_other_person", []).append(
            end_point_errors(bench.with_net(matchers["trained"], case, case.style), case)
        )
        errors.setdefault("zero_motion", []).append(np.linalg.norm(case.flow, axis=0)[case.scored])
        for timestep in (50, 150):
            for tap, offsets in bench.with_base(case, case.target, taps, timestep).items():
                errors.setdefault(f"base t={timestep} {tap}", []).append(end_point_errors(offsets, case))
    table = {name: flow_figures(values, width) for name, values in errors.items()}
    best = min((name for name in table if name.startswith("base ")), key=lambda name: table[name]["epe_px"])
    table["base_unet"] = {**table[best], "which": best}
    return table


def face_embedding(picture: torch.Tensor, face) -> np.ndarray:
    """dlib's embedding of the face at a known place of a picture `[1, H, W, 3]`."""
    return identity.embedding(picture[0], face)


def measure_pictures(
    model, vae, vision, nets, cases: list[Case], settings: CropSettings, folder: Path
) -> tuple[dict, dict, dict]:
    """(identity, PSNR, seconds a portrait): pictures are kept in `folder` for looking at."""
    names = ("style", "nets_off", "result", "paste", "ceiling", "ceiling_vae")
    scores: dict[str, list[float]] = {name: [] for name in names}
    likeness: list[float] = []
    psnr: dict[str, list[float]] = {name: [] for name in ("style", "nets_off", "result", "paste", "vae")}
    seconds, skipped = [], []
    rows = []
    for case in tqdm(cases, desc="portraits"):
        faces = [detection.find_faces(picture).frames[0] for picture in (case.target, case.profile)]
        if not all(faces):
            skipped.append(case.key)
            continue
        target_face, profile_face = (max(found, key=lambda face: face.side) for found in faces)
        reference = face_embedding(case.profile, profile_face)
        start = time.monotonic()
        painted = paint_crop(model, vae, vision, nets, case.profile, case.style, settings)
        seconds.append(time.monotonic() - start)
        off = paint_crop(model, vae, vision, nets, case.profile, case.style, _with(settings, strength=0.0)).image
        warped = warp(case.profile.movedim(-1, 1), painted.flow.offsets).movedim(1, -1)
        paste = torch.where(case.face[None, :, :, None], warped, case.style)
        decoded = vae.decode(encode_picture(vae, case.target, "target"))
        pictures = {
            "style": case.style,
            "nets_off": off,
            "result": painted.image,
            "paste": paste,
            "ceiling": case.target,
            "ceiling_vae": decoded,
        }
        for name, picture in pictures.items():
            scores[name].append(identity.similarity(face_embedding(picture, target_face), reference))
        likeness.append(
            identity.similarity(face_embedding(painted.image, target_face), face_embedding(case.target, target_face))
        )
        for name, picture in (
            ("style", case.style),
            ("nets_off", off),
            ("result", painted.image),
            ("paste", paste),
            ("vae", decoded),
        ):
            error = (picture[0] - case.target[0]).pow(2).mean(dim=-1)[case.face].mean()
            psnr[name].append(float(-10 * torch.log10(error)))
        rows.append([case.profile, case.style, painted.sampled, warped, off, painted.image, case.target])
    save_grid(rows, folder / "portraits.png")
    mean = {name: float(np.mean(values)) for name, values in scores.items()}
    mean["result_to_target"] = float(np.mean(likeness))
    mean["share_of_ceiling"] = mean["result"] / mean["ceiling"]
    mean["cases_result_above_style"] = float(np.mean(np.array(scores["result"]) > np.array(scores["style"])))
    light = {name: float(np.mean(values)) for name, values in psnr.items()}
    return mean, light, {"portrait": float(np.median(seconds)), "skipped": skipped}


def _with(settings: CropSettings, **changes) -> CropSettings:
    import dataclasses

    return dataclasses.replace(settings, **changes)


def save_grid(rows: list[list[torch.Tensor]], path: Path) -> None:
    """One picture: a row a case, columns profile | style | sampled | warped | nets off | result | ground truth."""
    from PIL import Image

    lines = [torch.cat([picture[0, ..., :3].clamp(0, 1) for picture in row], dim=1) for row in rows]
    grid = (torch.cat(lines, dim=0) * 255).round().byte().numpy()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grid).save(path)


def measure_bundle(arguments) -> dict:
    """All figures of the bundle; see `icportrait measure bundle --help`."""
    folder = arguments.bundle or bundles.FOLDER
    data = arguments.data or arguments.work / "held_out"
    if arguments.data is None:
        from .data.heads.generate import generate_shards

        groups = -(-arguments.identities // IDENTITIES_A_GROUP)
        generate_shards(data, groups=groups, first_group=HELD_OUT, groups_per_shard=1)
    changes = {
        "seed": arguments.seed,
        "steps": arguments.steps,
        "cfg": arguments.cfg,
        "noise_strength": arguments.strength,
        "share": arguments.share,
    }
    settings = CropSettings(**{name: value for name, value in changes.items() if value is not None})
    with torch.inference_mode():
        model, vae, vision, nets = bundles.load_bundle(folder)
        cases = held_out_cases(sorted(Path(data).glob("*.tar")), arguments.identities)
        flow = measure_flow(FlowBench(model, nets, vae, vision, arguments.seed), cases, arguments.paper_matching)
        who, light, seconds = measure_pictures(model, vae, vision, nets, cases, settings, arguments.work)
    return {
        "identities": len(cases),
        "view_width_px": cases[0].flow.shape[2],
        "flow_epe_px": {name: values["epe_px"] for name, values in flow.items()},
        "pck_0.05": flow["trained"]["pck_0.05"],
        "flow": flow,
        "identity": who,
        "psnr_db": light,
        "seconds": seconds,
        "settings": {
            name: getattr(settings, name)
            for name in ("seed", "share", "steps", "cfg", "noise_strength", "rounds", "flow_timestep")
        },
        "training": {
            name: read_metadata(Path(folder) / f"{name}.safetensors").get("training", {})
            for name in ("base", "vae", "matching", "appearance")
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
