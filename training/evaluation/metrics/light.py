"""Light of a picture whose geometry and albedo are known: shading error, spherical-harmonics light, leakage.

Only renders have that truth (`render_truth.py`). Everything works on linear radiance, in the world's axes of the heads:
x to the subject's left, y up, z forward.
"""

import numpy as np

from ....models.harmonics import harmonic_terms

# Lambertian transfer of radiance to irradiance / pi by degree 0, 1, 2: Ramamoorthi and Hanrahan, 2001 (pi, 2 pi / 3, pi / 4).
LAMBERT = np.array([1.0] + [2 / 3] * 3 + [1 / 4] * 5)
LUMINANCE = np.array([0.2126, 0.7152, 0.0722])  # Rec. 709


def linear_radiance(srgb: np.ndarray) -> np.ndarray:
    """Linear RGB of an sRGB picture in [0, 1]: the exact inverse of the heads' tone curve (soft shoulder above 0.6).

    Values at the top of the curve are not invertible; mask out what is brighter than about 0.97 in sRGB.
    """
    s = np.asarray(srgb, np.float64)
    x = np.where(s <= 0.04045, s / 12.92, ((s + 0.055) / 1.055) ** 2.4)
    shoulder = 0.6 - 0.4 * np.log(np.clip(1 - (x - 0.6) / 0.4, 1e-3, None))
    return np.where(x > 0.6, shoulder, x)


def scale_invariant_shading_error(shading: np.ndarray, truth: np.ndarray) -> float:
    """Root mean square error of a shading after the best single scale, in shares of the truth's root mean square.

    min over s of |s * shading - truth| / |truth|; 0 is perfect, 1 is as bad as black. Unit: none. Shading is linear radiance
    divided by albedo. Source: the scale-invariant error of intrinsic images (Grosse et al., 2009).

    Args: `[N, 3]` linear, the same pixels.
    """
    shading, truth = np.asarray(shading, np.float64).ravel(), np.asarray(truth, np.float64).ravel()
    power = shading @ shading
    scale = shading @ truth / power if power > 0 else 0.0
    return float(np.linalg.norm(scale * shading - truth) / np.linalg.norm(truth))


def sh_basis(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics to degree 2 of unit vectors `[N, 3]`: `[N, 9]` (Ramamoorthi and Hanrahan, 2001)."""
    return np.stack(harmonic_terms(*np.asarray(directions, np.float64).T), axis=1)


def fit_light(shading: np.ndarray, normals: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
    """Radiance coefficients `[9, 3]` whose unshadowed diffuse shading is nearest to the given one (least squares).

    Normals of one view cover half a sphere, so the nine functions are not independent there: a ridge keeps the weak directions
    small. So compare fits with fits made on the same pixels, not with a scene's own coefficients.

    Args: shading `[N, 3]` linear radiance / albedo (irradiance / pi); normals `[N, 3]` unit, world axes.

    Raises: ValueError for fewer than 100 pixels.
    """
    if len(shading) < 100:
        raise ValueError(f"A light fit needs at least 100 pixels with known albedo and normal; {len(shading)} came.")
    design = sh_basis(normals) * LAMBERT
    weight = ridge * len(design) * np.eye(9)
    weight[0, 0] = 0.0  # the mean is always determined
    return np.linalg.solve(design.T @ design + weight, design.T @ np.asarray(shading, np.float64))


def sh_light_distance(light: np.ndarray, truth: np.ndarray) -> float:
    """Distance of two lights `[9, 3]`, each scaled to length 1 over all 27 numbers: 0 equal, at most 2. Unit: none.

    Brightness does not count, colour and direction do. Source: the spherical-harmonics lighting error of portrait relighting (DPR,
    Zhou et al., 2019), scale-free.
    """
    a, b = (np.asarray(v, np.float64).ravel() for v in (light, truth))
    return float(np.linalg.norm(a / np.linalg.norm(a) - b / np.linalg.norm(b)))


def dominant_direction(light: np.ndarray) -> np.ndarray:
    """Unit vector `[3]` towards where most light comes from: the degree-1 part of the luminance."""
    luminance = np.asarray(light, np.float64) @ LUMINANCE
    direction = luminance[[3, 1, 2]]  # x, y, z
    return direction / max(np.linalg.norm(direction), 1e-12)


def light_angle_error(light: np.ndarray, truth: np.ndarray) -> float:
    """Angle in degrees between the dominant directions of two lights `[9, 3]`, 0 .. 180."""
    return float(np.degrees(np.arccos(np.clip(dominant_direction(light) @ dominant_direction(truth), -1, 1))))


def light_leakage(results: list[np.ndarray], profiles: list[np.ndarray]) -> float | None:
    """How much the profile's light shows in the result: same style, the same profile relit K times.

    Mean distance of the K results' lights from each other over the mean distance of the K profiles' lights: 0 = the result's light
    follows the style alone, 1 = it changes as much as the profile's. None when the profiles' lights are all alike.
    Source: "light leakage" as the variance of the result's light fit under a relit profile, normalised.

    Args: lights `[9, 3]` of `fit_light`, in the same order.

    Raises: ValueError for fewer than two, or lists of different length.
    """
    if len(results) != len(profiles) or len(results) < 2:
        raise ValueError("Light leakage needs the lights of at least two results and of as many profiles.")

    def spread(lights):
        pairs = [(i, j) for j in range(len(lights)) for i in range(j)]
        return float(np.mean([sh_light_distance(lights[i], lights[j]) for i, j in pairs]))

    given = spread(profiles)
    return None if given < 1e-6 else spread(results) / given
