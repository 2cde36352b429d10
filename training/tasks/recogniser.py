"""A small face recogniser, trained on the project's own heads: what the identity loss compares faces with.

dlib's embedding has no gradient and stays an independent judge, and published recognisers were trained on data that may not be
used commercially. This one is supervised only by which pictures show one person (InfoNCE).
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as functional

from ...models.errors import UserError
from ...models.faces.alignment import arcface_transform
from ...models.faces.resampling import resample
from ..core.checks import at_least
from ..core.diffusion import keyed_generator, uniform
from ..core.modules import initialise
from ..data.samples import SampleSet, batch_indices
from .base import identity_contrast
from .drawing import DrawingTask

SIDE = 96
"""Of its input faces, in pixels, in ArcFace's frame."""
WIDTHS = (32, 64, 96, 160)


def _convolution(inputs: int, outputs: int, stride: int = 1) -> torch.nn.Conv2d:
    return torch.nn.Conv2d(inputs, outputs, 3, stride, padding=1)


class Residual(torch.nn.Module):
    """Two normalised convolutions added to their input; begins as the identity."""

    def __init__(self, width: int):
        super().__init__()
        self.branch = torch.nn.Sequential(
            torch.nn.GroupNorm(8, width),
            torch.nn.SiLU(),
            _convolution(width, width),
            torch.nn.GroupNorm(8, width),
            torch.nn.SiLU(),
            _convolution(width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.branch(x)


class Recogniser(torch.nn.Module):
    """Faces `[B, 3, side, side]` in [0, 1] to embeddings `[B, dimensions]` of unit length, float32.

    Args:
        widths: channels at a half, a quarter, ... of the side; multiples of 8.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, dimensions: int = 128, side: int = SIDE):
        super().__init__()
        self.config = {"widths": list(widths), "dimensions": dimensions, "side": side}
        layers = [_convolution(3, widths[0], 2), Residual(widths[0])]
        for narrow, wide in zip(widths, widths[1:], strict=False):
            layers += [_convolution(narrow, wide, 2), Residual(wide)]
        self.body = torch.nn.Sequential(*layers, torch.nn.GroupNorm(8, widths[-1]), torch.nn.SiLU())
        # Not pooled: the faces are aligned, so place tells eyes from mouth.
        self.head = torch.nn.Linear(widths[-1] * (side // 2 ** len(widths)) ** 2, dimensions)

    @property
    def side(self) -> int:
        """Of the faces it takes, pixels."""
        return self.config["side"]

    def forward(self, faces: torch.Tensor) -> torch.Tensor:
        # channels_last halves the time of convolutions on a CPU.
        features = self.body((2 * faces - 1).contiguous(memory_format=torch.channels_last))
        return functional.normalize(self.head(features.flatten(1)).float(), dim=1)


def build_recogniser(config: dict) -> Recogniser:
    """An empty recogniser (weights uninitialised) from its config. Draws nothing from global generators, as torch's layers would."""
    with torch.device("meta"):
        net = Recogniser(tuple(config["widths"]), config["dimensions"], config["side"])
    return net.to_empty(device="cpu")


def new_recogniser(generator: torch.Generator, **config) -> Recogniser:
    """A fresh recogniser; residual branches begin at zero."""
    net = build_recogniser({"widths": WIDTHS, "dimensions": 128, "side": SIDE} | config)
    initialise(net, generator)
    with torch.no_grad():
        for block in net.modules():
            if isinstance(block, Residual):
                block.branch[-1].weight.zero_()
    return net


def face_crops(pictures_bchw: torch.Tensor, transforms: list[np.ndarray], side: int) -> torch.Tensor:
    """Antialiased faces `[B, 3, side, side]` of pictures, a similarity `[2, 3]` (picture to crop, px) each; has a gradient."""
    crops = [resample(p[None], t, side, side) for p, t in zip(pictures_bchw.float(), transforms, strict=True)]
    return torch.cat(crops)


def blurred(face: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of `[3, H, W]`, edges repeated."""
    radius = math.ceil(3 * sigma)
    if radius < 1:
        return face
    offsets = torch.arange(-radius, radius + 1, dtype=face.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    kernel = (kernel / kernel.sum())[None, None]
    padded = functional.pad(face[:, None], (radius,) * 4, mode="replicate")
    return functional.conv2d(functional.conv2d(padded, kernel[..., None]), kernel[:, :, None])[:, 0]


@dataclass(frozen=True)
class RecogniserSettings:
    """Settings of the stage `recogniser`."""

    temperature: float = 0.1
    """Of the contrast (InfoNCE): cosines are divided by it."""
    light: float = 0.2
    """Greatest change of a channel's gain, and of the logarithm of gamma, in augmentation."""
    blur: float = 1.5
    """Greatest blur in augmentation, sigma in pixels of the 96-px face: for robustness against the autoencoder's."""
    shift: int = 2
    """Greatest shift of the face in augmentation, pixels."""

    def __post_init__(self):
        at_least(0.001, temperature=self.temperature)
        at_least(0, light=self.light, blur=self.blur, shift=self.shift)


class RecogniserTask(DrawingTask):
    """Two different pictures of each of a batch's people: each should be nearest to the same person's other one.

    Args:
        net: config of the net where it is not the default, see `Recogniser`.

    Raises:
        UserError: fewer than two people with two pictures whose landmarks are known.
    """

    def __init__(
        self,
        samples: SampleSet,
        settings: RecogniserSettings = RecogniserSettings(),
        seed: int = 0,
        net: dict | None = None,
    ):
        super().__init__()
        self.net = new_recogniser(keyed_generator(seed, "recogniser"), **(net or {}))
        self.samples, self.settings, self.seed = samples, settings, seed
        self.people = {person: keys for person, keys in pictures_of_people(samples).items() if len(keys) > 1}
        self._names = sorted(self.people)
        self._faces: dict[str, torch.Tensor] = {}
        if len(self.people) < 2:
            raise UserError(
                "A recogniser needs two people at least, with two pictures each whose landmarks the shards hold "
                "(`icportrait data heads` makes such)."
            )

    def items(self, step: int, batch: int) -> list:
        """(position, person) of a step's global batch."""
        chosen = batch_indices(len(self._names), batch, step, self.seed)
        return [(i, self._names[k]) for i, k in enumerate(chosen)]

    def face(self, key: str) -> torch.Tensor:
        """A picture's face float `[3, side, side]` in [0, 1]; cut out once."""
        if key not in self._faces:
            face = aligned_faces(self.samples, [key], self.net.side)[0]
            self._faces[key] = (face * 255).round().byte()
        return self._faces[key].float() / 255

    def augmented(self, face: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """The face moved, blurred and in other light."""
        side, pad = face.shape[-1], self.settings.shift
        y, x = (int(torch.randint(0, 2 * pad + 1, (), generator=generator)) for _ in range(2))
        face = functional.pad(face[None], (pad,) * 4, mode="replicate")[0, :, y : y + side, x : x + side]
        face = blurred(face, uniform(generator, 0.0, self.settings.blur))
        light = self.settings.light
        gamma = math.exp(uniform(generator, -light, light))
        gain = 1 + light * (2 * torch.rand(3, 1, 1, generator=generator) - 1)
        return (face.clamp(0, 1).pow(gamma) * gain).clamp(0, 1)

    def draw(self, step: int, items: list) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
        """Two views `[B, 3, side, side]` of each person, never of one picture; and who they are."""
        views = []
        for position, person in items:
            generator = keyed_generator(self.seed, step, position)
            keys = self.people[person]
            first, second = torch.randperm(len(keys), generator=generator)[:2].tolist()
            views.append(torch.stack([self.augmented(self.face(keys[k]), generator) for k in (first, second)]))
        return *torch.stack(views).unbind(dim=1), [person for _, person in items]

    def loss(self, step: int, drawn: tuple) -> tuple[torch.Tensor, dict[str, float]]:
        """Loss and figures of what was drawn."""
        *views, people = drawn
        embeddings = self.net(torch.cat(views).to(next(self.net.parameters()).device))
        loss = identity_contrast(*embeddings.chunk(2), people, self.settings.temperature)
        return loss, {"contrast": loss.item()}


def pictures_of_people(samples: SampleSet) -> dict[str, list[str]]:
    """Person -> ids of the targets and profiles whose landmarks are known, in order."""
    found: dict[str, set[str]] = {}
    for sample in samples.samples:
        found.setdefault(sample.identity, set()).update(
            key for key in (sample.target, sample.profile) if key in samples.landmarks
        )
    return {person: sorted(keys) for person, keys in found.items()}


def aligned_faces(samples: SampleSet, keys: list[str], side: int) -> torch.Tensor:
    """Faces `[B, 3, side, side]` in [0, 1] of pictures by their true landmarks."""
    transforms = [arcface_transform(samples.landmarks[key], side) for key in keys]
    return face_crops(samples.images(keys), transforms, side).clamp(0, 1)


@torch.no_grad()
def verification(net: Recogniser, samples: SampleSet, batch: int = 32) -> dict[str, float]:
    """How well cosines tell pairs of one person from pairs of two: area under the ROC curve, 0.5 = not at all, 1 = always.

    - `auc`: over all pairs of pictures.
    - `auc_same_scene`: the two people in the same pose and light, the harder and for the loss decisive case; left out where
      there are no such pairs.
    """
    pictures = [(key, person) for person, keys in pictures_of_people(samples).items() for key in keys]
    device = next(net.parameters()).device
    embeddings = torch.cat(
        [
            net(aligned_faces(samples, [key for key, _ in pictures[start : start + batch]], net.side).to(device)).cpu()
            for start in range(0, len(pictures), batch)
        ]
    )
    cosines = embeddings @ embeddings.T
    same, different, same_scene = [], [], []
    for a, (first, person) in enumerate(pictures):
        for b, (second, other) in enumerate(pictures[:a]):
            if person == other:
                same.append(cosines[a, b])
                continue
            different.append(cosines[a, b])
            if first.rpartition("@")[2] == second.rpartition("@")[2]:  # identity@scene, see samples.picture_id
                same_scene.append(cosines[a, b])
    figures = {}
    for name, others in (("auc", different), ("auc_same_scene", same_scene)):
        if same and others:
            figures[name] = area_under_roc(torch.stack(same), torch.stack(others))
    return figures


def area_under_roc(higher: torch.Tensor, lower: torch.Tensor) -> float:
    """Chance that one of `higher` lies above one of `lower`; ties count half."""
    above, level = higher[:, None] > lower[None], higher[:, None] == lower[None]
    return (above.float() + 0.5 * level.float()).mean().item()
