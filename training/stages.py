"""The stages of a run, each from the files of the stages before it: autoencoder -> base (-> hint) -> matching -> appearance.
The recogniser stands beside them: it needs the data alone.

A run is a folder with one subfolder a stage. The demo's base is trained here; `sd15` runs take an SD1.5 checkpoint and a
CLIP ViT-L/14 vision model, loaded by ComfyUI's own loaders.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from accelerate import PartialState
from tqdm import tqdm

from ..models.nets.files import digest, load_net_file, read_metadata, read_tensors, save_tensors
from ..models.nets.loading import load_strictly
from . import presets
from .core.diffusion import LATENT_SCALE
from .core.loop import LoopSettings, load_weights, train
from .core.modules import DEMO_UNET, DEMO_VISION, build_unet, build_vae, build_vision
from .data.samples import SampleSet
from .tasks.appearance import AppearanceTask
from .tasks.autoencoder import AutoencoderTask
from .tasks.base import BaseTask
from .tasks.hint import HintTask
from .tasks.identity_loss import IdentityLoss
from .tasks.matching import MatchingTask
from .tasks.recogniser import Recogniser, RecogniserTask, build_recogniser, verification
from .tasks.validation import Validator

LICENSE = "CC0-1.0"
DEMO_BASE = "demo base"
RECOGNISER_FORMAT = "icportrait-recogniser-1"


@dataclass
class Base:
    """The frozen models a run builds on."""

    unet: torch.nn.Module
    unet_config: dict
    vae: torch.nn.Module
    vision: torch.nn.Module
    name: str


def shards_in(folder: str | Path) -> list[Path]:
    """The data shards of a folder in name order.

    Raises:
        ValueError: there are none.
    """
    shards = sorted(Path(folder).glob("*.tar"))
    if not shards:
        raise ValueError(f"No .tar shards in {folder}; make some with `icportrait data heads --out {folder}`.")
    return shards


def train_autoencoder(run: Path, samples: SampleSet, loop: LoopSettings, task_options: dict) -> Path:
    """Train the demo autoencoder and write `autoencoder/vae.safetensors`."""
    out = run / "autoencoder" / "vae.safetensors"
    if out.exists():
        return out
    task = AutoencoderTask(samples, seed=loop.seed, **task_options)
    train(task, loop, run / "autoencoder", "autoencoder")
    if not PartialState().is_main_process:
        return out
    facts = {"steps": loop.steps, "batch": loop.batch, "data": "icportrait heads", "license": LICENSE}
    save_tensors(out, task.vae.state_dict(), {"format": "icportrait-vae-1", "training": facts})
    return out


def load_vae(run: Path) -> torch.nn.Module:
    """The run's autoencoder."""
    vae = build_vae(LATENT_SCALE)
    vae.load_state_dict(read_tensors(run / "autoencoder" / "vae.safetensors")[0])
    return vae.requires_grad_(False).eval()


def encode_samples(run: Path, samples: SampleSet, vae: torch.nn.Module, prefix: str = "") -> None:
    """Latents of all pictures, kept in `<prefix>latents_<size>.safetensors` so that they are encoded once a run.

    Each process encodes its share and hands it to the others through a file of its own.
    """
    path = run / f"{prefix}latents_{samples.size or 'full'}.safetensors"
    state = PartialState()
    if path.exists():
        samples.latents.update({key: value for key, value in read_tensors(path)[0].items() if key in samples.pictures})
    missing = sorted(samples.pictures.keys() - samples.latents.keys())
    if missing:
        share = missing[state.process_index :: state.num_processes]
        device = "cuda" if torch.cuda.is_available() else "cpu"
        with tqdm(total=len(share), desc="encoding latents", mininterval=5, disable=not state.is_main_process) as bar:
            samples.encode_latents(vae.to(device), LATENT_SCALE, share, device=device, progress=bar)
        vae.to("cpu")
        part = {key: samples.latents[key] for key in share}
        save_tensors(_part(path, state.process_index), part, {"format": "icportrait-latents-1"})
        state.wait_for_everyone()
        for index in range(state.num_processes):
            samples.latents.update(read_tensors(_part(path, index))[0])
        if state.is_main_process:
            save_tensors(path, samples.latents, {"format": "icportrait-latents-1"})
        state.wait_for_everyone()
        _part(path, state.process_index).unlink()


def embed_samples(run: Path, samples: SampleSet, vision: torch.nn.Module) -> None:
    """Embeddings of all profiles by a frozen encoder, kept in `embeddings_<size>.safetensors` with the encoder's fingerprint.

    The first process embeds, the others read.
    """
    path = run / f"embeddings_{samples.size or 'full'}.safetensors"
    facts = {"format": "icportrait-embeddings-1", "encoder": fingerprint(vision)}
    with PartialState().main_process_first():
        if path.exists():
            tensors, found = read_tensors(path)
            if found == facts:
                samples.embeddings.update({key: value for key, value in tensors.items() if key in samples.pictures})
        missing = {sample.profile for sample in samples.samples} - samples.embeddings.keys()
        if missing:
            device = "cuda" if torch.cuda.is_available() else "cpu"
            with tqdm(total=len(missing), desc="embedding profiles", mininterval=5) as bar:
                samples.embed_profiles(vision.to(device), device=device, progress=bar)
            vision.to("cpu")
            save_tensors(path, samples.embeddings, facts)


def fingerprint(module: torch.nn.Module) -> str:
    """A digest of a module's weights: equal digests mean equal weights."""
    return digest(module.state_dict())


def validator(run: Path, task: torch.nn.Module, held_out: SampleSet | None, vae: torch.nn.Module) -> Validator | None:
    """Looks at `held_out` while `task` trains; None without held-out samples."""
    if held_out is None:
        return None
    encode_samples(run, held_out, vae, "held_out_")

    def decode(latents: torch.Tensor) -> torch.Tensor:
        home = next(vae.parameters()).device  # the identity loss keeps it on the GPU
        pictures = vae.to(latents.device).decode(latents / LATENT_SCALE)
        vae.to(home)
        return (pictures.float() + 1) / 2

    return Validator(task, held_out, decode)


def _part(path: Path, index: int) -> Path:
    return path.with_suffix(f".{index}.safetensors")


def train_base(
    run: Path, samples: SampleSet, loop: LoopSettings, task_options: dict, held_out: SampleSet | None = None
) -> None:
    """Train the demo's UNet and vision encoder; writes `base/unet.safetensors` and `base/vision.safetensors`."""
    vae = load_vae(run)
    encode_samples(run, samples, vae)
    task = BaseTask(samples, seed=loop.seed, **task_options)
    train(task, loop, run / "base", "base", validate=validator(run, task, held_out, vae))
    if not PartialState().is_main_process:
        return
    facts = {"steps": loop.steps, "batch": loop.batch, "data": "icportrait heads", "license": LICENSE}
    save_tensors(
        run / "base" / "unet.safetensors",
        task.unet.state_dict(),
        {"format": "icportrait-base-1", "config": DEMO_UNET, "training": facts},
    )
    save_tensors(
        run / "base" / "vision.safetensors",
        task.vision.state_dict(),
        {"format": "icportrait-vision-1", "config": DEMO_VISION, "training": facts},
    )


def train_recogniser(
    run: Path, samples: SampleSet, loop: LoopSettings, task_options: dict, held_out: SampleSet | None = None
) -> RecogniserTask:
    """Train the face recogniser of the identity loss; writes `recogniser/recogniser.safetensors`."""
    task = RecogniserTask(samples, seed=loop.seed, **task_options)

    def look() -> dict[str, float]:
        return verification(task.net, held_out)

    validate = None if held_out is None else lambda: (look(), {})
    train(task, loop, run / "recogniser", "recogniser", {"config": task.net.config, **task_options}, validate)
    if PartialState().is_main_process:
        facts = {
            "steps": loop.steps,
            "batch": loop.batch,
            "people": len(task.people),
            "data": "icportrait heads",
            "license": LICENSE,
        }
        if held_out is not None:
            # Once more: of the running average that is saved, which no look while training saw.
            facts["held_out"] = look()
        metadata = {"format": RECOGNISER_FORMAT, "config": task.net.config, "training": facts}
        save_tensors(run / "recogniser" / "recogniser.safetensors", task.net.state_dict(), metadata)
    return task


def load_recogniser(run: Path) -> Recogniser:
    """The recogniser that `train_recogniser` wrote.

    Raises:
        ValueError: there is none, or the file is not one.
    """
    path = run / "recogniser" / "recogniser.safetensors"
    if not path.exists():
        raise ValueError(
            f"The identity loss (--identity-weight) needs {path}: train it first with `icportrait train recogniser --run "
            f"{run} --data ...`."
        )
    tensors, metadata = read_tensors(path)
    if metadata.get("format") != RECOGNISER_FORMAT:
        raise ValueError(f"{path} is not a recogniser of this project (its metadata lack format {RECOGNISER_FORMAT}).")
    net = build_recogniser(metadata["config"])
    load_strictly(lambda: net.load_state_dict(tensors, strict=False), path)
    return net.requires_grad_(False).eval()


def load_demo_base(run: Path) -> Base:
    """The base models that `train_base` wrote; a run whose base is still training gives its last checkpoint."""
    unet, vision = build_unet(DEMO_UNET), build_vision(DEMO_VISION)
    if (run / "base" / "unet.safetensors").exists():
        unet.load_state_dict(read_tensors(run / "base" / "unet.safetensors")[0])
        vision.load_state_dict(read_tensors(run / "base" / "vision.safetensors")[0])
    else:
        load_weights(torch.nn.ModuleDict({"unet": unet, "vision": vision}), run / "base")
    for module in (unet, vision):
        module.requires_grad_(False).eval()
    return Base(unet, DEMO_UNET, load_vae(run), vision, DEMO_BASE)


def load_sd15_base(checkpoint: str | Path, vision: str | Path) -> Base:
    """An SD1.5 checkpoint and a CLIP ViT-L/14 vision model through ComfyUI's loaders, in float32.

    Raises:
        ValueError: the checkpoint is no SD1.5 or the vision model's embedding is not 768 wide.
    """
    import comfy.clip_vision
    import comfy.sd

    model, _, vae, _ = comfy.sd.load_checkpoint_guess_config(
        str(checkpoint), output_clip=False, model_options={"dtype": torch.float32}
    )
    config = model.model.model_config.unet_config
    if config.get("context_dim") != 768 or config.get("model_channels") != 320:
        raise ValueError(
            f"{checkpoint} is not an SD1.5 checkpoint (context {config.get('context_dim')}, width {config.get('model_channels')})."
        )
    loaded = comfy.clip_vision.load(str(vision))
    projection = getattr(getattr(loaded, "model", None), "visual_projection", None)
    if getattr(projection, "weight", None) is None or projection.weight.shape[0] != 768:
        raise ValueError(f"{vision} does not give 768-wide image embeddings; use CLIP ViT-L/14.")
    encoder = loaded.model.float()
    unet = model.model.diffusion_model.float()
    vae_module = vae.first_stage_model.float()
    for module in (unet, encoder, vae_module):
        module.requires_grad_(False).eval()
    return Base(unet, config, vae_module, encoder, Path(checkpoint).name)


def train_hint(run: Path, samples: SampleSet, base: Base, loop: LoopSettings, task_options: dict) -> None:
    """Train a start for the nets' hint blocks and write `hint/hint.safetensors`; later stages of the run begin with it."""
    encode_samples(run, samples, base.vae)
    task = HintTask(samples, base.unet, base.unet_config, seed=loop.seed, **task_options)
    train(task, loop, run / "hint", "hint")
    if PartialState().is_main_process:
        save_tensors(run / "hint" / "hint.safetensors", task.net.state_dict(), {"format": "icportrait-hint-1"})


def start_from_hint(run: Path, net: torch.nn.Module) -> bool:
    """Give a fresh net the run's trained hint block where there is one; tells whether there was."""
    path = run / "hint" / "hint.safetensors"
    if not path.exists():
        return False
    prefix = "input_hint_block."
    weights = {name.removeprefix(prefix): tensor for name, tensor in read_tensors(path)[0].items()}
    net.input_hint_block.load_state_dict(weights)
    return True


def start_from_net(path: Path, net: torch.nn.Module, config: dict) -> dict:
    """Give a fresh net the weights of a net file, of this run or of a bundle (float16).

    Only the role and the UNet it was made for must be those of `config`: tap, alpha, beta and gate are the new run's.

    Returns:
        What to record: the file's name and the steps it says it was trained for (None when it does not say).

    Raises:
        ValueError: not a net file, of another role, or for another UNet.
    """
    tensors, found, training = load_net_file(path, config["role"])
    differing = [key for key, value in config["unet"].items() if found["unet"].get(key) != value]
    if differing:
        told = ", ".join(f"{key} {found['unet'].get(key)} instead of {config['unet'][key]}" for key in differing)
        raise ValueError(f"{path} (--init) was made for another UNet than this run's: {told}.")
    load_strictly(lambda: net.load_state_dict(tensors, strict=False), path)
    return {"file": Path(path).name, "steps": training.get("steps")}


def starting_weights(run: Path, task: MatchingTask | AppearanceTask, init: Path | None) -> dict:
    """Give a task's fresh net its start beyond the UNet's copy: a net file, or else the run's hint block where there is one.

    Returns:
        Facts for the settings and the net's metadata.
    """
    if init is None:
        return {"hint": start_from_hint(run, task.net)}
    return {"hint": False, "init": start_from_net(init, task.net, task.config)}


def train_matching(
    run: Path,
    name: str,
    samples: SampleSet,
    base: Base,
    loop: LoopSettings,
    conditioning,
    task_options: dict,
    held_out: SampleSet | None = None,
    init: Path | None = None,
) -> MatchingTask:
    """Train a matching net in the run's subfolder `name`, from the UNet's copy or from the net file `init`."""
    encode_samples(run, samples, base.vae)
    embed_samples(run, samples, base.vision)
    task = MatchingTask(
        samples,
        base.unet,
        base.vision,
        base.unet_config,
        settings=conditioning,
        seed=loop.seed,
        steps=loop.steps,
        **task_options,
    )
    own = {"objective": task.objective}
    return _train_net(run, name, task, base, loop, {**own, "conditioning": conditioning}, own, held_out, init)


def train_appearance(
    run: Path,
    name: str,
    matching: str,
    samples: SampleSet,
    base: Base,
    loop: LoopSettings,
    conditioning,
    task_options: dict,
    held_out: SampleSet | None = None,
    init: Path | None = None,
) -> AppearanceTask:
    """Train an appearance net in the run's subfolder `name`, guided by the matching net of subfolder `matching`, from the
    UNet's copy or from the net file `init`."""
    encode_samples(run, samples, base.vae)
    embed_samples(run, samples, base.vision)
    net, config = load_stage_net(run / matching / "net.safetensors")
    if task_options.get("base_share") and base.name != DEMO_BASE:
        raise ValueError("base_share above 0 is for the demo's own base; an SD1.5 checkpoint stays frozen.")
    if task_options.get("identity_weight"):
        task_options = task_options | {"identity": IdentityLoss(load_recogniser(run), base.vae)}
    task = AppearanceTask(
        samples, base.unet, base.vision, net, config, base.unet_config, conditioning, loop.seed, **task_options
    )
    asked = {
        "conditioning": conditioning,
        "matching": matching,
        "identity_weight": task.identity_weight,
        "identity_timestep": task.identity_timestep,
    }
    kept = {
        "triplets": conditioning.triplets,
        "bridge": conditioning.bridge,
        "identity_weight": task.identity_weight,
    }
    _train_net(run, name, task, base, loop, asked, kept, held_out, init)
    if task.base_share and PartialState().is_main_process:
        metadata = read_metadata(run / "base" / "unet.safetensors")
        along = {"steps": loop.steps, "batch": loop.batch, "lr": loop.lr, "base_share": task.base_share}
        metadata["training"] = metadata["training"] | {"along_with_appearance": along}
        save_tensors(run / name / "unet.safetensors", task.unet.state_dict(), metadata)
    return task


def _train_net(
    run: Path,
    name: str,
    task,
    base: Base,
    loop: LoopSettings,
    asked: dict,
    kept: dict,
    held_out: SampleSet | None,
    init: Path | None,
):
    """Train a net's task in the run's subfolder `name` and write the net; returns the task.

    Args:
        asked: for `settings.json`, beside what all nets have.
        kept: for the net file's metadata, likewise.
        init: net file whose weights it begins with, or None.
    """
    start = starting_weights(run, task, init)
    facts = {"config": task.config, "base": base.name, **start, **asked}
    train(task, loop, run / name, name, facts, validator(run, task, held_out, base.vae))
    _save_stage(run / name / "net.safetensors", task, loop, base, {**kept, **start})
    return task


def _save_stage(path: Path, task, loop: LoopSettings, base: Base, extra: dict) -> None:
    if not PartialState().is_main_process:
        return
    facts = {
        "steps": loop.steps,
        "batch": loop.batch,
        "lr": loop.lr,
        "base": base.name,
        "data": "icportrait heads",
        "license": LICENSE,
        **extra,
    }
    save_tensors(path, task.net.state_dict(), {"format": "icportrait-net-1", "config": task.config, "training": facts})


def load_stage_net(path: Path) -> tuple[torch.nn.Module, dict]:
    """A trained net in float32 and its config."""
    from ..models.nets.portrait_net import build_net

    tensors, metadata = read_tensors(path)
    net = build_net(metadata["config"])
    net.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return net.requires_grad_(False).eval(), metadata["config"]


def export_bundle(run: Path, out: Path, matching: str = "matching", appearance: str = "appearance") -> dict[str, int]:
    """Write the demo bundle's files in float16; a UNet that learned along with the appearance net goes with it.

    Returns:
        File name -> bytes.
    """
    along = run / appearance / "unet.safetensors"
    parts = {
        "base.safetensors": along if along.exists() else run / "base" / "unet.safetensors",
        "vae.safetensors": run / "autoencoder" / "vae.safetensors",
        "vision.safetensors": run / "base" / "vision.safetensors",
        "matching.safetensors": run / matching / "net.safetensors",
        "appearance.safetensors": run / appearance / "net.safetensors",
    }
    for name, source in parts.items():
        tensors, _ = read_tensors(source)
        halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
        save_tensors(out / name, halves, read_metadata(source) | {"license": LICENSE})
    (out / "vision.json").write_text(json.dumps(DEMO_VISION, indent=1) + "\n")
    return {name: (out / name).stat().st_size for name in parts}


def phases(name: str, stage: str, steps: int) -> list[tuple[int | None, int]]:
    """(picture size, last step) of a stage's phases: small pictures first where the preset says so.

    The preset's shares are kept when the number of steps is overridden.
    """
    shares = presets.PHASES[name].get(stage, ((None, 1.0),))
    return [(size, round(steps * share)) for size, share in shares]


def preset(name: str, stage: str):
    """(loop settings, conditioning settings or None, task options) of a preset's stage.

    Raises:
        ValueError: the preset has no such stage.
    """
    if stage not in presets.LOOP[name]:
        raise ValueError(f"The preset {name} has no stage {stage}: its base is a checkpoint of yours (--base).")
    return presets.LOOP[name][stage], presets.CONDITIONING[name].get(stage), dict(presets.TASK[name][stage])
