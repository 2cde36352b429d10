"""Numbered faces and masks drawn on pictures."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from ..faces.types import Face, Faces, number_of
from .drawing import font, from_pil, to_pil

# Distinct on skin and on each other; face k has colour k modulo 8.
FACE_COLORS = (
    (255, 80, 80),
    (80, 200, 255),
    (120, 230, 90),
    (255, 190, 60),
    (220, 110, 255),
    (60, 230, 200),
    (255, 120, 190),
    (200, 200, 90),
)


def draw_faces(image: torch.Tensor, faces: Faces, texts: dict[tuple[int, int], str] | None = None) -> torch.Tensor:
    """Boxes, landmarks and numbers on copies of the frames.

    Args:
        image: `[B, H, W, 3]`, the frames the faces were found in.
        texts: more words beside a number, by (frame, place in the frame), for example a similarity.

    Returns:
        float32 `[B, H, W, 3]`. The number drawn is the one to type into any node.
    """
    drawn = []
    for index, frame in enumerate(image):
        picture = to_pil(frame)
        for place, face in enumerate(faces.frames[index] if index < len(faces.frames) else ()):
            _draw_face(picture, face, number_of(face, place), (texts or {}).get((index, place), ""))
        drawn.append(from_pil(picture))
    return torch.stack(drawn)


def _draw_face(picture, face: Face, number: int, text: str) -> None:
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture)
    color = FACE_COLORS[number % len(FACE_COLORS)]
    line = max(1, round(max(picture.size) / 350))
    x0, y0, x1, y1 = face.box
    draw.rectangle((x0 - 1, y0 - 1, x1 + 1, y1 + 1), outline=(0, 0, 0), width=line + 2)
    draw.rectangle((x0, y0, x1, y1), outline=color, width=line)
    dot = line * (1.5 if len(face.landmarks) <= 5 else 0.7)
    for x, y in face.landmarks:
        draw.ellipse((x - dot, y - dot, x + dot, y + dot), fill=color, outline=(0, 0, 0) if dot > 2 else None)
    size = int(np.clip(face.side / 4, 12, max(14, max(picture.size) / 25)))
    label = f"{number} {text}".strip()
    width = draw.textlength(label, font=font(size))
    # The label stays inside the picture, also for a face at its edge.
    x = float(np.clip(face.box[0], 0, max(0, picture.width - width - 6)))
    y = float(np.clip(face.box[1] - size - 6, 0, max(0, picture.height - size - 6)))
    draw.rectangle((x, y, x + width + 6, y + size + 5), fill=color)
    draw.text((x + 3, y + 1), label, fill=(0, 0, 0), font=font(size))


def overlay_mask(
    image: torch.Tensor, mask: torch.Tensor, color: tuple[float, float, float] = (1.0, 0.2, 0.2), opacity: float = 0.5
) -> torch.Tensor:
    """Tint the masked part: `mask` `[B or 1, H, W]`, 1 = full tint. A mask of another size is scaled to the picture's."""
    mask = mask.detach().to(device="cpu", dtype=torch.float32)
    if mask.shape[-2:] != image.shape[1:3]:
        mask = F.interpolate(mask[:, None], size=tuple(image.shape[1:3]), mode="bilinear", align_corners=False)[:, 0]
    amount = opacity * mask.clamp(0, 1)[..., None]
    return image.detach().cpu() * (1 - amount) + torch.tensor(color) * amount
