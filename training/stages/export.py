"""A run's nets as the demo bundle."""

import json
from pathlib import Path

from ...models.nets.files import read_tensors, save_tensors
from ..core.modules import DEMO_VISION
from .facts import LICENSE


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
        tensors, metadata = read_tensors(source)
        license_ = metadata.get("training", {}).get("license", LICENSE)
        halves = {key: value.half() if value.is_floating_point() else value for key, value in tensors.items()}
        save_tensors(out / name, halves, metadata | {"license": license_})
    (out / "vision.json").write_text(json.dumps(DEMO_VISION, indent=1) + "\n")
    return {name: (out / name).stat().st_size for name in parts}
