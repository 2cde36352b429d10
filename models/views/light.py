"""Light by second-order spherical harmonics: fitted to a photograph, read from an environment map, laid on a surface.

R. Ramamoorthi and P. Hanrahan, An efficient representation for irradiance environment maps, 2001. Light is given in the world's axes as
coefficients `[9, 3]` of radiance, linear RGB.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from ..errors import UserError
from ..harmonics import harmonic_terms

LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])
_LAMBERT = torch.tensor([1.0] + [2 / 3] * 3 + [1 / 4] * 5)
_RIDGE = torch.tensor([0.0] + [0.02] * 3 + [0.25] * 5)
"""Keeps those weak that a face seen from one side says little about."""
DARKEST = 0.1
"""Least shading in shares of its mean: an expansion into nine functions can fall below 0."""


def to_linear(x: torch.Tensor) -> torch.Tensor:
    """sRGB to linear light (IEC 61966-2-1); values above 1, of maps with high range, go on along the curve."""
    x = x.clamp_min(0)
    return torch.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def to_srgb(x: torch.Tensor) -> torch.Tensor:
    """Linear light to sRGB in [0, 1], with a soft shoulder above 0.8 instead of clipping."""
    x = x.clamp_min(0)
    x = torch.where(x > 0.8, 0.8 + 0.2 * (1 - torch.exp(-(x - 0.8) / 0.2)), x)
    return torch.where(x <= 0.0031308, x * 12.92, 1.055 * x.clamp_min(1e-6) ** (1 / 2.4) - 0.055)


def harmonics(directions: torch.Tensor) -> torch.Tensor:
    """The nine real spherical harmonics of order 0 to 2 of unit vectors `[..., 3]`: `[..., 9]`."""
    return torch.stack(harmonic_terms(*directions.unbind(-1)), dim=-1)


def shading(light: torch.Tensor, normals: torch.Tensor, least: float = DARKEST) -> torch.Tensor:
    """What a white matt surface sends back, linear `[..., 3]`, for light `[9, 3]` and unit normals `[..., 3]`.

    Args:
        least: it never falls below this share of the light's mean.
    """
    mean = (light[0] * 0.282095).clamp_min(1e-3)
    shares = (harmonics(normals) * _LAMBERT) @ light / mean
    # Smooth where it would be cut off, or the border of the darkest part shows as a line.
    return mean * (least + F.softplus(shares - least, beta=12))


def fit_light(linear: torch.Tensor, normals: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Light `[9, 3]` under which plain skin looks like this; its mean shading over the weights is 1.

    How bright and of which colour light is cannot be told from skin of unknown colour: it is grey here, so that albedo keeps the photograph's
    colours. Least squares, with weights that distrust what no smooth light explains (cast shadows, highlights; Huber, 0.15).

    Args:
        linear: `[N, 3]`.
        normals: `[N, 3]`, unit.
        weight: `[N]`, how surely it is bare skin.
    """
    flat = torch.zeros(9, 3)
    flat[0] = 1 / 0.282095
    if weight.sum() < 50:
        return flat
    design = (harmonics(normals) * _LAMBERT).double()
    luminance = linear @ LUMINANCE
    wanted = (luminance / ((luminance * weight).sum() / weight.sum()).clamp_min(1e-4)).double()
    trust = weight.double()
    for _ in range(6):
        weighted = design * trust[:, None]
        system = weighted.T @ design + float(trust.sum()) * torch.diag(_RIDGE.double() * 0.05) + 1e-9 * torch.eye(9)
        light = torch.linalg.solve(system, weighted.T @ wanted)
        trust = weight.double() / torch.clamp_min((wanted - design @ light).abs() / 0.15, 1)
    light = light.float()[:, None].expand(9, 3)
    level = (shading(light, normals) * weight[:, None]).sum(0) / weight.sum()
    return light / level.clamp_min(1e-3)


def environment_light(environment: torch.Tensor, rotation: float = 0.0) -> torch.Tensor:
    """Light `[9, 3]` of an equirectangular picture, in the axes x right, y up, z to the camera.

    Its middle is what the camera looks at, behind the person; its right half is to the right; its left and right edges meet behind the
    camera.

    Args:
        environment: one picture `[H, 2H, 3]`; sRGB in [0, 1], or with values above 1 from a picture of high range.
        rotation: degrees; turns the surroundings to the viewer's right.

    Raises:
        UserError: not twice as wide as high, values that are not finite, or no light at all.
    """
    height, width = environment.shape[:2]
    if width != 2 * height:
        raise UserError(f"the environment map is {width}x{height}; an equirectangular map is twice as wide as high")
    if not torch.isfinite(environment).all():
        raise UserError("the environment map has NaN or infinite values; clamp them before")
    # Nine functions have no finer detail than this.
    linear = F.adaptive_avg_pool2d(to_linear(environment.float()).movedim(-1, 0)[None], (32, 64))[0].movedim(0, -1)
    if float(linear.max()) <= 1e-6:
        raise UserError("the environment map is black: it gives no light")
    elevation = math.pi / 2 - (torch.arange(32) + 0.5) / 32 * math.pi
    azimuth = (torch.arange(64) + 0.5) / 64 * 2 * math.pi - math.pi + math.radians(rotation)
    e, a = torch.meshgrid(elevation, azimuth, indexing="ij")
    directions = torch.stack([torch.sin(a) * torch.cos(e), torch.sin(e), -torch.cos(a) * torch.cos(e)], dim=-1)
    solid = torch.cos(e) * (math.pi / 32) * (2 * math.pi / 64)
    return torch.einsum("hwk,hwc->kc", harmonics(directions) * solid[..., None], linear)


def turned(light: torch.Tensor, rotation: torch.Tensor) -> torch.Tensor:
    """Light `[9, 3]` in other axes: `rotation` `[3, 3]` takes directions from its axes to the new ones."""
    # Nine functions of enough directions determine the nine coefficients exactly.
    directions = F.normalize(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)), dim=-1)
    return torch.linalg.lstsq(harmonics(directions @ rotation.T), harmonics(directions) @ light).solution


def metered(light: torch.Tensor, normals: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """The light made as strong as a camera's exposure would: half by the mean, half by the brightest of the weighted surface.

    Args:
        normals: `[N, 3]`.
        weight: `[N]`: what the exposure is for, the face's skin.
    """
    luminance = shading(light, normals) @ LUMINANCE
    chosen = luminance[weight > 0.5]
    if not len(chosen):
        chosen = luminance
    return light / (
        0.5 * chosen.mean() + 0.5 * torch.quantile(chosen[:: max(1, len(chosen) // 100_000)], 0.95)
    ).clamp_min(1e-4)
