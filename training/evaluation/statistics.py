"""The statistics of the paper's Table 1."""

from collections.abc import Iterable

import numpy as np


def summary(values: Iterable[float | None]) -> dict[str, float | int | None]:
    """Min, max, median and mean, as in the paper's Table 1, and how many values there were.

    None and NaN are values that could not be measured: they are left out and counted as `missing`.
    """
    values = list(values)
    known = np.array([v for v in values if v is not None and not np.isnan(v)], dtype=np.float64)
    figures = {"count": len(known), "missing": len(values) - len(known)}
    if not len(known):
        return {"min": None, "max": None, "median": None, "mean": None, **figures}
    return {
        "min": float(known.min()),
        "max": float(known.max()),
        "median": float(np.median(known)),
        "mean": float(known.mean()),
        **figures,
    }
