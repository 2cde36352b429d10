"""Tiny models and a synthetic data set for the tests of training: a step takes milliseconds."""

import functools

import cv2
import numpy as np
import torch
import torch.nn.functional as functional
from tiny_models import randomise

from icportrait.models.nets import portrait_net as nets
from icportrait.training.core import modules
from icportrait.training.data import shards
from icportrait.training.data.samples import SampleSet

CONTEXT = 24

# SD1.5's topology with two resolutions: encoder blocks 0 (convolution), 1, 2 (downsampling), 3 (attention).
UNET = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 32,
    "num_res_blocks": [1, 1],
    "channel_mult": [1, 1],
    "num_heads": -1,
    "num_head_channels": 16,
    "use_spatial_transformer": True,
    "transformer_depth": [0, 1],
    "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 1, 1],
    "context_dim": CONTEXT,
    "legacy": False,
    "use_linear_in_transformer": False,
    "adm_in_channels": None,
}

VISION = modules.DEMO_VISION | {
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 112,
    "projection_dim": CONTEXT,
}


def smooth_picture(seed: int, height: int, width: int) -> np.ndarray:
    """uint8 `[height, width, 3]` with detail at several scales."""
    generator = torch.Generator().manual_seed(seed)
    layers = [
        functional.interpolate(torch.rand(1, 3, n, n, generator=generator), (height, width), mode="bilinear") * weight
        for n, weight in ((3, 0.4), (12, 0.6))
    ]
    return (sum(layers)[0].movedim(0, -1) * 255).round().byte().numpy()


def write_shard(path, people: int = 4, styles: bool = False, size: int = 64, shift: int = 8):
    """A shard of `people` samples, one a person: two crops of one picture, moved by `shift` px along both axes.

    The flow is exact: sample i's target pixel (x, y) shows what the profile shows at (x + dx, y + dy), with
    (dx, dy) = (s, -s), (-s, s), (s, s) or (-s, -s) in turn.
    """
    samples = []
    for i in range(people):
        dx, dy = (shift if i % 2 == 0 else -shift), (shift if i % 4 in (1, 2) else -shift)
        canvas = smooth_picture(100 + i, size + 2 * shift, size + 2 * shift)
        target = canvas[shift + dy : shift + dy + size, shift + dx : shift + dx + size]
        profile = canvas[shift : shift + size, shift : shift + size]
        flow = np.zeros((2, size, size), np.float32)
        flow[0], flow[1] = dx, dy
        y, x = np.mgrid[0:size, 0:size]
        visible = ((x + dx >= 0) & (x + dx < size) & (y + dy >= 0) & (y + dy < size)).astype(np.uint8)
        face = np.zeros((size, size), np.uint8)
        face[size // 4 : 3 * size // 4, size // 4 : 3 * size // 4] = 1
        sample = {
            "__key__": f"s{i}",
            "target.webp": shards.encode_picture(target, 101),
            "profile.webp": shards.encode_picture(profile, 101),
            "truth.npz": shards.encode_truth(flow, visible, np.zeros_like(face), face),
            "meta.json": {
                "format_version": shards.FORMAT_VERSION,
                "identity": {"target": f"p{i}", "profile": f"p{i}", "style": f"x{i}"},
                "scene": {"target": f"b{i}", "profile": f"a{i}", "style": f"b{i}"},
                "cameras": {},
            },
        }
        if styles:
            sample["style.webp"] = shards.encode_picture(smooth_picture(900 + i, size, size), 101)
        samples.append(sample)
    shards.write_shard(path, samples)
    return path


def face_shard(path, people: int = 6, first: int = 0, size: int = 64):
    """A shard of "faces" with landmarks: a pattern a person on a background a scene; scene a upright, scene b turned, smaller
    and moved. Sample i of person i has target `p<i>@b` and profile `p<i>@a`; the style is the next person in scene b."""
    # Five points of a face in its own square, [0, 1].
    points = np.array([[0.34, 0.46], [0.66, 0.46], [0.5, 0.64], [0.37, 0.82], [0.63, 0.82]])
    views = {"a": (0.75, 0.0, (0.5, 0.5)), "b": (0.65, 0.3, (0.46, 0.54))}  # side in pictures, turn in radians, centre
    pictures, landmarks = {}, {}
    for i in range(first, first + people):
        pattern = smooth_picture(5000 + i, size, size)
        for number, (scene, (side, turn, centre)) in enumerate(views.items()):
            linear = side * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
            shift = size * (np.array(centre) - linear @ (0.5, 0.5))  # pattern px -> picture px, continuous
            pixel_shift = shift + linear @ (0.5, 0.5) - 0.5  # OpenCV counts from pixel centres
            canvas = smooth_picture(7000 + number, size, size)
            matrix = np.column_stack([linear, pixel_shift])
            drawn = cv2.warpAffine(pattern, matrix, (size, size), flags=cv2.INTER_LINEAR)
            inside = cv2.warpAffine(np.ones((size, size), np.uint8), matrix, (size, size), flags=cv2.INTER_NEAREST)
            pictures[i, scene] = np.where(inside[..., None] > 0, drawn, canvas)
            landmarks[i, scene] = (points * size @ linear.T + shift).tolist()
    samples = []
    for i in range(first, first + people):
        other = first + (i - first + 1) % people
        roles = {"target": (i, "b"), "profile": (i, "a"), "style": (other, "b")}
        samples.append(
            {
                "__key__": f"s{i:04d}",
                **{f"{role}.webp": shards.encode_picture(pictures[key], 101) for role, key in roles.items()},
                "meta.json": {
                    "format_version": shards.FORMAT_VERSION,
                    "identity": {"target": f"p{i}", "profile": f"p{i}", "style": f"p{other}"},
                    "scene": {role: scene for role, (_, scene) in roles.items()},
                    "landmarks5": {role: landmarks[key] for role, key in roles.items()},
                    "cameras": {},
                },
            }
        )
    shards.write_shard(path, samples)
    return path


def with_latents(samples: SampleSet) -> SampleSet:
    """Stand-in latents `[4, 8, 8]` of unit size: the pictures themselves, made small. No autoencoder is run."""
    for key, picture in samples.pictures.items():
        image = picture.movedim(-1, 0).float() / 127.5 - 1
        small = functional.adaptive_avg_pool2d(image, (picture.shape[0] // 8, picture.shape[1] // 8)) * 3
        samples.latents[key] = torch.cat((small, small.mean(dim=0, keepdim=True).flip(-1))).half()
    return samples


def sample_set(folder, people: int = 4, styles: bool = False, shift: int = 8) -> SampleSet:
    """A loaded data set with latents."""
    return with_latents(SampleSet([write_shard(folder / "tiny.tar", people, styles, shift=shift)]))


@functools.lru_cache(maxsize=4)
def _drawn(kind: str, seed: int) -> torch.nn.Module:
    build = {"unet": lambda: modules.build_unet(UNET), "vision": lambda: modules.build_vision(VISION)}
    return randomise(build[kind](), seed)


def random_base(seed: int = 1) -> tuple[torch.nn.Module, torch.nn.Module]:
    """(UNet, vision encoder) with random weights, new objects each time."""
    parts = []
    for offset, kind in enumerate(("unet", "vision")):
        module = modules.build_unet(UNET) if kind == "unet" else modules.build_vision(VISION)
        module.load_state_dict(_drawn(kind, seed + offset).state_dict())
        parts.append(module)
    return tuple(parts)


def random_matching(seed: int = 7) -> tuple[torch.nn.Module, dict]:
    """(matching net with random weights, its config)."""
    config = nets.net_config("matching", UNET)
    return randomise(nets.build_net(config), seed), config
