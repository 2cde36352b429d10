"""Crops pasted back onto the canvas."""

import torch
from comfy_api.latest import io

from ..models.faces.pixels import checked_image, optional_mask
from ..models.faces.stitching import HAIR, StitchSettings, stitch
from ..models.faces.types import Placements
from .common import FACES_CATEGORY, StitchType, naming, progress, search_aliases
from .inputs import check_type, color_match_input, feather_input


class StitchFace(io.ComfyNode):
    """Paste the generated crop back, onto the running canvas."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_StitchFace",
            **search_aliases("paste face", "blend face", "composite face", "seamless"),
            display_name="Stitch Face",
            category=FACES_CATEGORY,
            description="Pastes a crop back where Align Face took it from: face-shaped soft mask, antialiased. Pixels outside the mask stay "
            "bit for bit as they were. For several faces connect each Stitch Face's picture to the next Align Face and Stitch Face.",
            inputs=[
                io.Image.Input(
                    "canvas",
                    tooltip="The picture to paste on: for several faces the last Stitch Face's output. A single picture "
                    "with several crops gets them all, one after another.",
                ),
                io.Image.Input(
                    "crop",
                    tooltip="The generated crop, one for each crop of Align Face. May have been scaled; must be square.",
                ),
                StitchType.Input("stitch", tooltip="From Align Face."),
                feather_input("mask's"),
                color_match_input(
                    "Gives the crop the canvas's colors, measured inside the mask only. mean_std: in CIE Lab. "
                    "reinhard: in l-alpha-beta. Mends the VAE's color drift; also pulls a different skin tone towards the picture's."
                ),
                io.Float.Input(
                    "color_strength",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="How much of the color match, 0 to 1.",
                ),
                io.Float.Input(
                    "opacity",
                    default=1.0,
                    min=0.0,
                    max=1.0,
                    step=0.05,
                    tooltip="0 returns the canvas unchanged, 1 pastes fully.",
                ),
                io.Boolean.Input(
                    "keep_detail",
                    default=True,
                    tooltip="Where the crop was left unchanged, give back the canvas's finest detail that a resampled crop cannot carry.",
                ),
                io.Combo.Input(
                    "hair",
                    options=list(HAIR),
                    default="as masked",
                    tooltip="With a hair_mask: keep the picture's hair (hair is not pasted) or bring the crop's (hair is pasted too).",
                ),
                io.Mask.Input(
                    "face_mask",
                    optional=True,
                    tooltip="What to paste, in the crop. Without it, the face's own shape. Softened by feather either way.",
                ),
                io.Mask.Input(
                    "occlusion_mask",
                    optional=True,
                    tooltip="On the canvas, of its size: 1 where something is in front of the face (hand, hair, glasses). Taken out of the paste.",
                ),
                io.Mask.Input(
                    "hair_mask", optional=True, tooltip="Hair in the crop: 1 = hair. Used by the hair switch only."
                ),
            ],
            outputs=[
                io.Image.Output("image", display_name="image", tooltip="The canvas with the face pasted."),
                io.Mask.Output("mask", display_name="mask", tooltip="What was pasted, on the canvas; 0 = untouched."),
            ],
        )

    @classmethod
    def execute(
        cls,
        canvas,
        crop,
        stitch,
        feather,
        color_match,
        color_strength,
        opacity,
        keep_detail,
        hair,
        face_mask=None,
        occlusion_mask=None,
        hair_mask=None,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            check_type("stitch", stitch, Placements, "Align Face")
            settings = StitchSettings(feather, color_match, color_strength, opacity, keep_detail, hair)
            picture, crops = checked_image(canvas, "canvas"), checked_image(crop, "crop")
            count = len(stitch.items)
            if len(crops) != count:
                raise ValueError(
                    f"{len(crops)} crops came for {count} placements of Align Face: give one crop each, in their order"
                )
            if len(picture) not in (1, count):
                raise ValueError(f"{len(picture)} canvases came for {count} crops: give one, or one each")
            masks = {
                "face_mask": _masks(face_mask, "face_mask", count, crops),
                "occlusion_mask": _masks(occlusion_mask, "occlusion_mask", count, picture),
                "hair_mask": _masks(hair_mask, "hair_mask", count, crops),
            }
            if hair_mask is not None and masks["hair_mask"][0] is None:  # a bald head is no missing mask
                masks["hair_mask"] = [torch.zeros(crops.shape[1:3])] * count
            images, pasted = paste_all(picture, crops, stitch, settings, **masks)
        return io.NodeOutput(images, pasted)


def _masks(mask: torch.Tensor | None, name: str, count: int, pictures: torch.Tensor) -> list[torch.Tensor | None]:
    """One mask a crop, of the size of the pictures `[B, H, W, 3]` it lies on."""
    mask = optional_mask(mask, *pictures.shape[1:3], name)
    if mask is None:
        return [None] * count
    if len(mask) not in (1, count):
        raise ValueError(f"{len(mask)} masks came in {name} for {count} crops: give one, or one each")
    return [mask[min(index, len(mask) - 1)] for index in range(count)]


def paste_all(
    picture: torch.Tensor,
    crops: torch.Tensor,
    placements: Placements,
    settings: StitchSettings,
    face_mask: list[torch.Tensor | None],
    occlusion_mask: list[torch.Tensor | None],
    hair_mask: list[torch.Tensor | None],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Paste crop after crop: each on its own frame, or all on one running canvas. Returns IMAGE and MASK."""
    step = progress(len(crops))
    running = list(picture.permute(0, 3, 1, 2))
    pasted = [torch.zeros(picture.shape[1:3]) for _ in running]
    for index, placement in enumerate(placements.items):
        target = min(index, len(running) - 1)
        if placement is not None:
            height, width = crops.shape[1:3]
            if height != width:
                raise ValueError(f"the crop is {width}x{height}; it must be square, as Align Face made it")
            placed = placement.at_size(width)
            running[target], mask = stitch(
                running[target],
                crops[index].permute(2, 0, 1),
                placed,
                settings,
                mask=face_mask[index],
                hair_mask=hair_mask[index],
                occlusion=occlusion_mask[index],
            )
            pasted[target] = torch.maximum(pasted[target], mask)
        step(index + 1, len(crops))
    return torch.stack(running).permute(0, 2, 3, 1), torch.stack(pasted)


NODES = [StitchFace]
