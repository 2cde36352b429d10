"""Results on disk, one picture and one JSON a case and method, so that an interrupted evaluation goes on where it stopped."""

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from ...models.faces.pixels import to_bytes
from ...models.writing import replacing


def fingerprint(facts: dict) -> str:
    """16 digits that change with any of the facts (JSON values)."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def picture_hash(picture: torch.Tensor) -> str:
    """16 digits of a picture's 8-bit pixels."""
    return hashlib.sha256(to_bytes(picture[0]).tobytes()).hexdigest()[:16]


def write_atomically(path: Path, data: bytes) -> None:
    """A reader sees the old file or the whole new one."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, value) -> None:
    """Indented JSON with a newline at the end, atomically."""
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


def save_picture(path: Path, picture: torch.Tensor) -> torch.Tensor:
    """Write `[1, H, W, 3]` as PNG and return what a reader will get (8 bits), so that a resumed run measures the same pixels."""
    pixels = to_bytes(picture[0])
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    write_atomically(path, stream.getvalue())
    return torch.from_numpy(pixels)[None].float() / 255


def load_picture(path: Path) -> torch.Tensor:
    """`[1, H, W, 3]` of a PNG."""
    with Image.open(path) as image:
        return torch.from_numpy(np.asarray(image.convert("RGB"), dtype=np.float32) / 255)[None]


class ResultCache:
    """Pictures and figures of (case, method), each kept with the fingerprint of everything that decided it."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def _paths(self, case: str, method: str) -> tuple[Path, Path]:
        stem = f"{case}--{method.replace(' ', '_')}"
        return self.folder / f"{stem}.png", self.folder / f"{stem}.json"

    def _stored(self, path: Path) -> dict:
        try:
            return json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def picture(self, case: str, method: str, made_from: str, make) -> torch.Tensor:
        """The result picture; `make()` is called only when none of this fingerprint is stored."""
        picture, facts = self._paths(case, method)
        if picture.is_file() and self._stored(facts).get("made_from") == made_from:
            return load_picture(picture)
        facts.unlink(missing_ok=True)
        result = save_picture(picture, make())
        write_json(facts, {"made_from": made_from})
        return result

    def figures(self, case: str, method: str, measured_by: str, measure) -> dict:
        """The figures of a stored picture; `measure()` is called only when none of this fingerprint are stored."""
        _, path = self._paths(case, method)
        stored = self._stored(path)
        if stored.get("measured_by") != measured_by:
            stored |= {"measured_by": measured_by, "figures": measure()}
            write_json(path, stored)
        return stored["figures"]

    def stored_picture(self, case: str, method: str) -> torch.Tensor:
        """A result that was made before."""
        return load_picture(self._paths(case, method)[0])
