"""How the cost of pictures grows with the views' size, with steps, faces and frames: counted FLOP, and the powers fitted to them.

Size and steps: a whole portrait with SD1.5's shapes on the `meta` device. Faces and frames: group pictures painted by the bundle
shipped, on the device, so that all is counted that really runs.
"""

from collections.abc import Callable

import comfy.utils
import numpy as np
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from ....models.faces.types import Face
from ....models.groups.painting import paint_group
from ....models.groups.types import AssignedFace, GroupAssignment, Person, Photograph, Profiles
from ....models.method.correspondence import match
from ....models.method.injection import SPEEDS
from ....models.nets import bundle as bundles
from ....models.portrait import CropSettings
from ...core.modules import embed_images
from ..group_painting import bundle_painter
from .flops import SD15_VAE, FullSize, count
from .step_cost import step_costs

SIZES = (256, 384, 512, 768, 1024)
STEPS = (1, 2, 4, 8, 16, 32)
COUNTS = (1, 2, 4, 8)
CROP = 128  # px, of faces and frames


class PortraitCost:
    """FLOP of a portrait with SD1.5's shapes on views of `size` px, one row a step (the default, without guidance)."""

    def __init__(self, size: int):
        models = FullSize(size)
        with torch.device("meta"):
            vae = AutoencoderKL(ddconfig=SD15_VAE, embed_dim=4)
        picture = torch.empty(1, 3, size, size, device="meta")
        latent = torch.empty(1, 4, size // 8, size // 8, device="meta")
        hint = models.inputs()["hint"]

        def once() -> None:
            for _ in range(2):
                vae.encode(picture)
            embed_images(models.vision, picture)
            match(*models.features())
            models.appearance.encode_hint(hint)
            vae.decode(latent)

        self.once = count(once, backward=False)
        self.step = step_costs(models, lambda work: count(work, backward=False))

    def portrait(self, steps: int, speed: str) -> float:
        """Of so many steps at a speed, one of `SPEEDS`."""
        pairs = -(-steps // SPEEDS[speed])
        pair = self.step["method" if pairs == steps else "keeping"]
        return self.once + pairs * pair + (steps - pairs) * self.step["target_alone"]


def curve(cost: dict[int, float]) -> dict:
    """TFLOP by what grows, and the exponent of the power law through them."""
    x, y = (np.log(np.array(list(values), float)) for values in (cost.keys(), cost.values()))
    return {
        "tflop": {str(n): flop / 1e12 for n, flop in cost.items()},
        "exponent": float(np.polyfit(x, y, 1)[0]),
    }


def _face(x: float, y: float, size: float) -> Face:
    """An upright one whose eyes lie `size` px apart, in dlib's five points of an average head."""
    points = ((44, 0), (16, 1), (-44, 0), (-16, 1), (0, 42))
    landmarks = tuple((x + size / 60 * px, y + size / 60 * py) for px, py in points)
    box = (x - 1.25 * size, y - size, x + 1.25 * size, y + 1.5 * size)
    return Face(box, landmarks, "dlib_5")


def group_flop(faces: int, frames: int, painter_of: Callable) -> int:
    """FLOP of painting so many faces in each of so many frames."""
    image = torch.rand(frames, 256, 160 * faces, 3, generator=torch.Generator().manual_seed(1))
    row = [_face(80 + 160 * number, 110, 50) for number in range(faces)]
    photograph = Photograph(image[:1, :, :160], row[0])
    people = Profiles(tuple(Person(f"person {number}", (photograph,)) for number in range(faces)))
    entries = tuple(AssignedFace(face, number, 0, None, "") for number, face in enumerate(row))
    assignment = GroupAssignment(*image.shape[1:3], (entries,) * frames, people)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        paint_group(image, assignment, painter_of, CROP)
    return counter.get_total_flops()


def curves() -> dict[str, dict]:
    """All curves; `size` and `steps` for both speeds."""
    costs = {size: PortraitCost(size) for size in SIZES}
    comfy.utils.set_progress_bar_enabled(False)
    _, painter_of = bundle_painter(bundles.FOLDER, CropSettings())
    steps = CropSettings().steps
    found = {}
    for speed in SPEEDS:
        found[f"size, {speed}"] = curve({size: cost.portrait(steps, speed) for size, cost in costs.items()})
        found[f"steps, {speed}"] = curve({n: costs[512].portrait(n, speed) for n in STEPS})
    found["faces"] = curve({n: group_flop(n, 1, painter_of) for n in COUNTS})
    found["frames"] = curve({n: group_flop(1, n, painter_of) for n in COUNTS})
    return found
