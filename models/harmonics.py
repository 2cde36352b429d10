"""Real spherical harmonics up to order 2, for arrays and tensors alike."""

from __future__ import annotations


def harmonic_terms(x, y, z) -> list:
    """The nine of unit vectors given by their components, arrays or tensors of one shape: nine of that shape.

    Order and factors as in R. Ramamoorthi and P. Hanrahan, An efficient representation for irradiance environment maps, 2001.
    """
    return [
        0.282095 + 0 * x,
        0.488603 * y,
        0.488603 * z,
        0.488603 * x,
        1.092548 * x * y,
        1.092548 * y * z,
        0.315392 * (3 * z * z - 1),
        1.092548 * x * z,
        0.546274 * (x * x - y * y),
    ]
