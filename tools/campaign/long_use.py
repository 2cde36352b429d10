"""Portraits queued in a real server, some cancelled and some failing: memory stays, and plain ComfyUI's pictures stay the same."""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path

import numpy as np
import psutil

from ..comfy_server import ComfyServer, WorkflowError, accelerator_found
from ..demo import copy_samples

OPTIONS = ((), ("--force-fp16",))
GPU_OPTIONS = (("--lowvram",), ("--novram",))
"""ComfyUI refuses them together with `--cpu`."""
WARM, WARM_SHARE = 8, 6
"""At least so many runs before memory is looked at, and one of so many: the first ones load models and fill caches."""
SETTLED = 30
"""Runs after them that it takes to tell growth from what one run happens to need."""
LEAK = "leaking_pack"


def offered_options() -> tuple[tuple[str, ...], ...]:
    """Those that this machine's ComfyUI takes."""
    return OPTIONS + (GPU_OPTIONS if accelerator_found() else ())


def portrait(number: int, broken: bool) -> dict:
    """A portrait by the nets in API format, with a seed of its own; a broken one asks for a face that is not there."""
    return {
        "bundle": {"class_type": "ICPortrait_LoadDemoBundle", "inputs": {}},
        "profile": {"class_type": "LoadImage", "inputs": {"image": "icportrait_profile.png"}},
        "style": {"class_type": "LoadImage", "inputs": {"image": "icportrait_style.png"}},
        "portrait": {
            "class_type": "ICPortrait_Portrait",
            "inputs": {
                **{name: ["bundle", slot] for slot, name in enumerate(("model", "vae", "clip_vision", "nets"))},
                "profile_image": ["profile", 0],
                "style_image": ["style", 0],
                **{"seed": number, "steps": 2, "cfg": 1.0, "noise_strength": 0.6, "strength": 1.0, "share": 0.2},
                **{"crop_size": 128, "style_face": 200 if broken else 0, "method": ("nets", "mesh")[number % 2]},
                "effort": "fast",
            },
        },
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["portrait", 0]}},
    }


def plain() -> dict:
    """A picture that no node of the portrait touches: a stock sampler with the same MODEL and VAE."""
    return {
        "bundle": {"class_type": "ICPortrait_LoadDemoBundle", "inputs": {}},
        "grey": {
            "class_type": "EmptyImage",
            "inputs": {"width": 128, "height": 128, "batch_size": 1, "color": 8421504},
        },
        "encoded": {
            "class_type": "ICPortrait_EncodeProfile",
            "inputs": {"profile_image": ["grey", 0], "vae": ["bundle", 1], "clip_vision": ["bundle", 2]},
        },
        "latent": {"class_type": "VAEEncode", "inputs": {"pixels": ["grey", 0], "vae": ["bundle", 1]}},
        "sampler": {
            "class_type": "KSampler",
            "inputs": {
                **{"model": ["bundle", 0], "positive": ["encoded", 2], "negative": ["encoded", 3]},
                **{"latent_image": ["latent", 0], "seed": 5, "steps": 2, "cfg": 2.0, "sampler_name": "euler"},
                **{"scheduler": "normal", "denoise": 0.8},
            },
        },
        "decoded": {"class_type": "VAEDecode", "inputs": {"samples": ["sampler", 0], "vae": ["bundle", 1]}},
        "shown": {"class_type": "PreviewImage", "inputs": {"images": ["decoded", 0]}},
    }


def _plain_picture(server: ComfyServer) -> bytes:
    server.post(
        "/free", {"unload_models": True, "free_memory": True}
    )  # drop what is cached, so that it is painted anew
    run = server.run_workflow(plain(), timeout=300)
    return server.view(run.outputs["shown"]["images"][0])


def use(base: Path, runs: int, seconds: float, options: tuple[str, ...] = (), planted: str = "") -> dict:
    """Queue portraits, a third cancelled and a seventh failing.

    Args:
        base: base directory of the server.
        runs, seconds: ends at whichever comes first.
        options: ComfyUI's.
        planted: `leak` keeps a megabyte of each run; `vanilla` changes the plain MODEL's picture.

    Returns:
        `runs`, `cancelled`, `failed`, `tracebacks`, `hangs`, `growth_mb` (see `growth`), `lowest_mb` of each tenth of the runs, `median_mb`,
        `vanilla_identical`, `options`.
    """
    copy_samples(base)
    if planted:
        _plant(base)
    rng, counts = random.Random(str(options)), {"runs": 0, "cancelled": 0, "failed": 0, "tracebacks": 0, "hangs": 0}
    sizes, end = [], time.monotonic() + seconds
    with ComfyServer(base, cpu=options not in GPU_OPTIONS, options=options) as server:
        process = psutil.Process(server.process.pid)
        before = _plain_picture(server)
        while counts["runs"] < runs and (time.monotonic() < end or counts["runs"] < WARM + 2):
            number = counts["runs"]
            broken, cancel = number % 7 == 6, number % 3 == 2
            prompt = portrait(number, broken)
            if planted == "leak":
                prompt["leak"] = {"class_type": "CampaignLeak", "inputs": {"image": ["portrait", 0], "number": number}}
            try:
                prompt_id = server.queue(prompt)
                if cancel:
                    time.sleep(rng.uniform(0.0, 1.5))
                    server.interrupt()
                status = finished(server, prompt_id)
            except WorkflowError as error:
                counts["tracebacks"] += 1
                print(f"run {number}: {error}", flush=True)
                status = None
            if status is None:
                counts["hangs"] += 1
                break
            for kind, data in status["messages"]:
                if kind == "execution_error":
                    counts["failed"] += 1
                    counts["tracebacks"] += data["exception_type"] not in ("ValueError", "UserError") and not broken
                counts["cancelled"] += kind == "execution_interrupted"
            counts["runs"] += 1
            sizes.append(process.memory_info().rss / 2**20)
        after = b"" if planted == "vanilla" else _plain_picture(server)
    return {
        **counts,
        "growth_mb": growth(sizes),
        "lowest_mb": [round(float(part.min())) for part in np.array_split(sizes, 10) if len(part)],
        "median_mb": round(statistics.median(sizes or [0]), 1),
        "vanilla_identical": before == after,
        "options": " ".join(options),
    }


def growth(sizes: list[float]) -> float | None:
    """By how much memory grew from the first half of the settled runs to the second; None after too few runs.

    The lowest of each half counts: what is still in use, without what one run happens to need.

    Args:
        sizes: memory after each run, in MB.
    """
    settled = sizes[max(WARM, len(sizes) // WARM_SHARE) :]
    half = len(settled) // 2
    return None if len(settled) < SETTLED else round(max(0.0, min(settled[half:]) - min(settled[:half])), 1)


def finished(server: ComfyServer, prompt_id: str, patience: float = 180) -> dict | None:
    """The run's status; None where it does not end."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        entry = server.get(f"/history/{prompt_id}").get(prompt_id)
        if entry:
            return entry["status"]
        queue = server.get("/queue")
        if not queue["queue_running"] and not queue["queue_pending"] and server.get(f"/history/{prompt_id}") == {}:
            time.sleep(0.3)
            if server.get(f"/history/{prompt_id}") == {}:
                return {"messages": []}  # cancelled before it began
        time.sleep(0.1)
    return None


def _plant(base: Path) -> None:
    """A pack that keeps a megabyte of each run."""
    folder = base / "custom_nodes" / LEAK
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "__init__.py").write_text(
        "KEPT = []\n"
        "class CampaignLeak:\n"
        "    RETURN_TYPES, FUNCTION, OUTPUT_NODE, CATEGORY = (), 'keep', True, 'test'\n"
        "    @classmethod\n"
        "    def INPUT_TYPES(cls):\n"
        "        return {'required': {'image': ('IMAGE',), 'number': ('INT', {})}}\n"
        "    def keep(self, image, number):\n"
        "        KEPT.append(b'x' * 2**23)\n"
        "        return {}\n"
        "NODE_CLASS_MAPPINGS = {'CampaignLeak': CampaignLeak}\n"
    )
