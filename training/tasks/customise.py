"""Customisation, the paper's DreamBooth phase: a UNet learns one person from some photographs.

"We align the faces of the profile images first. Then, we train the whole UNet ... at learning rate 2e-6 and batch size 1"
(section 4). As in all of the paper's training, the prompt is the CLIP embedding of a profile picture instead of text, zero in 10 %
of the draws. What the paper leaves open is decided here: the profile is another photograph of the person, and a share of
the steps sees both side by side, as the UNet does under the nets.
"""

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState

from ...models.nets import bundle as bundles
from ...models.nets.files import read_tensors, save_tensors
from ..core.diffusion import LATENT_SCALE, NUM_TIMESTEPS, add_noise, keyed_generator, min_snr_weights
from ..core.loop import LoopSettings, train
from ..core.lora import Lora
from ..core.modules import build_unet
from ..data.folders.faces import FilterSettings, usable_faces
from ..data.folders.pictures import pictures_of
from ..data.samples import Sample, SampleSet, batch_indices
from ..stages import Base

PAPER = LoopSettings(steps=800, batch=1, lr=2e-6)
LORA_LR = 1e-4  # customary for rank 16; the paper has no LoRA
UNET_PREFIX = "model.diffusion_model."


@dataclass(frozen=True)
class CustomiseSettings:
    """What is trained, and on what."""

    rank: int = 0
    """0 trains the whole UNet (the paper); above 0 trains a LoRA of this rank instead (16 is customary)."""
    pair_share: float = 0.5
    """Share of steps on two photographs side by side, as the UNet sees them under the nets; the rest on single ones."""
    drop: float = 0.1
    """Chance that the embedding is zero (the paper: 10 %)."""
    prior_weight: float = 1.0
    """Weight of the prior-preservation loss (Ruiz et al. 2022, arXiv 2208.12242) when --prior gives pictures of others."""
    min_snr: float = 0.0
    """Gamma of Min-SNR loss weighting; 0 = off."""


class CustomiseTask(torch.nn.Module):
    """Eps prediction of a person's photographs, by the whole UNet or by a LoRA on it."""

    def __init__(
        self,
        samples: SampleSet,
        unet: torch.nn.Module,
        settings: CustomiseSettings = CustomiseSettings(),
        seed: int = 0,
        prior: SampleSet | None = None,
    ):
        super().__init__()
        self.samples, self.settings, self.seed, self.prior = samples, settings, seed, prior
        self.lora = None
        if settings.rank:
            self.frozen = {"unet": unet.requires_grad_(False)}
            self.lora = Lora(unet, settings.rank, keyed_generator(seed, "lora"))
        else:
            self.trained = unet.requires_grad_(True)

    @property
    def unet(self) -> torch.nn.Module:
        """The UNet, trained or frozen under a LoRA."""
        return self.trained if self.lora is None else self.frozen["unet"]

    def items(self, step: int, batch: int) -> list:
        """(position, the person's sample, a sample of others or None) of a step's global batch."""
        own = batch_indices(len(self.samples), batch, step, self.seed)
        others = [None] * batch
        if self.prior is not None:
            chosen = batch_indices(len(self.prior), batch, step, self.seed + 1)
            others = [self.prior.samples[k] for k in chosen]
        return [(i, self.samples.samples[k], other) for i, (k, other) in enumerate(zip(own, others, strict=True))]

    def forward(self, step: int, items: list) -> tuple[torch.Tensor, dict[str, float]]:
        loss = self._loss(self.samples, step, [(position, sample) for position, sample, _ in items], "person")
        figures = {"loss": loss.item()}
        if self.prior is not None:
            prior = self._loss(self.prior, step, [(position, other) for position, _, other in items], "prior")
            figures["prior_loss"] = prior.item()
            loss = loss + self.settings.prior_weight * prior
        return loss, figures

    def _loss(self, source: SampleSet, step: int, items: list, key: str) -> torch.Tensor:
        shared = keyed_generator(self.seed, step, key)
        pair = torch.rand((), generator=shared).item() < self.settings.pair_share
        left = torch.rand((), generator=shared).item() < 0.5
        generators = [keyed_generator(self.seed, step, position, key) for position, _ in items]
        samples = [sample for _, sample in items]
        device = next(self.unet.parameters()).device
        latents = torch.stack([source.latents[s.target].float() for s in samples])
        if pair:
            profile = torch.stack([source.latents[s.profile].float() for s in samples])
            latents = torch.cat((profile, latents) if left else (latents, profile), dim=-1)
        keep = torch.tensor([torch.rand((), generator=g).item() >= self.settings.drop for g in generators])
        context = torch.stack([source.embeddings[s.profile] for s in samples])[:, None] * keep[:, None, None]
        timesteps = torch.tensor([int(torch.randint(0, NUM_TIMESTEPS, (), generator=g)) for g in generators])
        noise = torch.stack([torch.randn(latents.shape[1:], generator=g) for g in generators])
        latents, context, timesteps, noise = (x.to(device) for x in (latents, context, timesteps, noise))
        predicted = self.unet(add_noise(latents, noise, timesteps), timesteps, context)
        error = (predicted.float() - noise).pow(2).flatten(1).mean(dim=1)
        return (error * min_snr_weights(timesteps, self.settings.min_snr)).mean()


def photo_samples(pictures: dict[str, torch.Tensor], person: str = "person") -> SampleSet:
    """Every photograph with every other as its profile; a lone one with itself.

    Args:
        pictures: id -> uint8 `[S, S, 3]`, aligned.
    """
    names = sorted(pictures)
    pairs = [(a, b) for a in names for b in names if a != b] or [(names[0], names[0])]
    samples = [Sample(f"{a}<-{b}", a, b, None, person, None, None, None) for a, b in pairs]
    return SampleSet.of_pictures(pictures, samples)


def aligned_photos(folder: Path, filters: FilterSettings) -> tuple[dict[str, torch.Tensor], list]:
    """(aligned pictures by name, what was dropped) of a folder of photographs and videos of one person.

    Raises:
        ValueError: no usable face; the message lists why.
    """
    faces, drops = usable_faces(pictures_of(folder), filters)
    if not faces:
        why = "; ".join(f"{drop.name}: {drop.reason} ({drop.detail})" for drop in drops) or "it holds no pictures"
        raise ValueError(f"No usable photograph in {folder}: {why}.")
    return {face.name: torch.from_numpy(face.picture) for face in faces}, drops


def load_bundle_base(folder: Path) -> Base:
    """The models of a demo bundle, in float32.

    Raises:
        ValueError: a missing or unfitting file.
    """
    bundles.check_bundle(folder)
    tensors, metadata = read_tensors(folder / "base.safetensors")
    unet = build_unet(metadata["config"])
    unet.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    vae = bundles.load_vae(folder / "vae.safetensors").first_stage_model.float()
    vision = bundles.load_vision(folder / "vision.safetensors").model.float()
    for module in (unet, vae, vision):
        module.requires_grad_(False).eval()
    return Base(unet, metadata["config"], vae, vision, "demo base")


def prepare(samples: SampleSet, base: Base) -> SampleSet:
    """Encode and embed all pictures."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    samples.encode_latents(base.vae.to(device), LATENT_SCALE, device=device)
    samples.embed_profiles(base.vision.to(device), device=device)
    base.vae.to("cpu")
    base.vision.to("cpu")
    return samples


def train_person(
    pictures: dict[str, torch.Tensor],
    base: Base,
    run: Path,
    loop: LoopSettings = PAPER,
    settings: CustomiseSettings = CustomiseSettings(),
    prior: SampleSet | None = None,
) -> CustomiseTask:
    """Train on aligned pictures in the folder `run`; repeating the call resumes."""
    samples = prepare(photo_samples(pictures), base)
    if prior is not None:
        prepare(prior, base)
    task = CustomiseTask(samples, base.unet, settings, loop.seed, prior)
    facts = {"customise": dataclasses.asdict(settings), "photographs": len(pictures), "base": base.name}
    return train(task, loop, run, "customise", facts)


def save_person(task: CustomiseTask, out: Path, base_file: Path, facts: dict) -> Path:
    """Write what was trained: a LoRA file; or, for the whole UNet, a copy of the base with the new weights.

    Args:
        out: a `.safetensors` file, or the folder of a new bundle when `base_file` is that of a bundle.
        base_file: SD1.5 checkpoint, or `base.safetensors` of a bundle. Everything but the UNet is copied bit for bit, and
            the UNet keeps the file's precision.

    Returns:
        the file ComfyUI loads.
    """
    if task.lora is not None:
        task.lora.save(out, facts)
        return out
    state = task.unet.state_dict()
    tensors, metadata = read_tensors(base_file)
    in_bundle = metadata.get("format") == bundles.BASE_FORMAT
    prefix = "" if in_bundle else UNET_PREFIX
    missing = [name for name in state if prefix + name not in tensors]
    if missing:
        raise ValueError(f"{base_file} lacks {len(missing)} tensors of its UNet (first: {prefix}{missing[0]}).")
    for name, tensor in state.items():
        tensors[prefix + name] = tensor.detach().to("cpu", tensors[prefix + name].dtype)
    if not in_bundle:
        save_tensors(out, tensors, {"customised_from": base_file.name, "training": facts})
        return out
    out.mkdir(parents=True, exist_ok=True)
    for name in bundles.FILES:
        if name != base_file.name:
            shutil.copyfile(base_file.parent / name, out / name)
    training = metadata.get("training", {}) | {"customised": facts}
    save_tensors(out / base_file.name, tensors, metadata | {"training": training})
    return out / base_file.name


def check_out(out: Path, whole_bundle: bool, bundle: Path) -> None:
    """Raises ValueError when the result could not be written where it is asked for; before any training."""
    if whole_bundle:
        if out.resolve() == bundle.resolve():
            raise ValueError(f"--out {out} is the base bundle itself: choose a new folder.")
        if out.suffix == ".safetensors":
            raise ValueError(f"--out {out} must be a folder: the customised demo base becomes part of a whole bundle.")
    elif out.suffix != ".safetensors":
        raise ValueError(f"--out {out} must end in .safetensors.")


def customise(
    photos: Path,
    out: Path,
    checkpoint: Path | None,
    vision: Path | None,
    bundle: Path,
    filters: FilterSettings,
    loop: LoopSettings,
    settings: CustomiseSettings,
    prior: SampleSet | None = None,
    run: Path | None = None,
) -> tuple[Path, list]:
    """A folder of photographs to a customised base: `icportrait customise`.

    Args:
        checkpoint, vision: an SD1.5 checkpoint (.safetensors) and CLIP ViT-L/14, or None for the demo bundle `bundle`.
        run: folder of the training's checkpoints; default: beside `out`.

    Returns:
        (the file ComfyUI loads, photographs that were dropped).

    Raises:
        ValueError: no usable photograph, or a base or --out that does not fit.
    """
    from ..stages import load_sd15_base

    check_out(out, checkpoint is None and not settings.rank, bundle)
    if checkpoint is not None and vision is None:
        raise ValueError("--base needs --vision as well: a CLIP ViT-L/14 vision model.")
    if checkpoint is not None and checkpoint.suffix != ".safetensors":
        raise ValueError(
            f"{checkpoint} is not a .safetensors file: convert it first, pickled checkpoints are not read."
        )
    pictures, drops = aligned_photos(photos, filters)
    base = load_bundle_base(bundle) if checkpoint is None else load_sd15_base(checkpoint, vision)
    task = train_person(pictures, base, run or out.with_name(f"{out.stem}_training"), loop, settings, prior)
    facts = {"steps": loop.steps, "lr": loop.lr, "batch": loop.batch, "photographs": len(pictures), "base": base.name}
    facts |= {"license": "that of the base and of the photographs"}
    if PartialState().is_main_process:
        out = save_person(task, out, checkpoint or bundle / "base.safetensors", facts)
    return out, drops
