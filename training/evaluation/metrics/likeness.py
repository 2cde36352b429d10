"""Who is it: SimRef, SimGT and Copy-Paste on face embeddings.

Similarities of different recognisers have different units and must never share a column: every function takes embeddings of
one recogniser.
"""

import numpy as np


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    """Cosine similarity of two embeddings, in [-1, 1]. Source: ArcFace (Deng et al., 2019), the paper's Table 1."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def one_minus_distance(a: np.ndarray, b: np.ndarray) -> float:
    """1 - Euclidean distance of two embeddings, at most 1; dlib's unit, as the pack's nodes show it."""
    return 1.0 - float(np.linalg.norm(np.asarray(a, np.float64) - np.asarray(b, np.float64)))


def angle(a: np.ndarray, b: np.ndarray) -> float:
    """Angle between two embeddings in radians, 0 .. pi."""
    return float(np.arccos(np.clip(cosine(a, b), -1, 1)))


def sim_ref(similarity, result: np.ndarray, reference: np.ndarray) -> float:
    """SimRef: the result against the profile photo that was used. High values can mean copying, see `copy_paste`.

    Source: MultiID-Bench (WithAnyone, arXiv 2510.14975). Unit: that of `similarity`, one of the functions above.
    """
    return similarity(result, reference)


def sim_gt(similarity, result: np.ndarray, held_out: np.ndarray) -> float:
    """SimGT: the result against a picture of the same person that the method has not seen: likeness.

    Source: MultiID-Bench (WithAnyone, arXiv 2510.14975). Unit: that of `similarity`.
    """
    return similarity(result, held_out)


def copy_paste(result: np.ndarray, held_out: np.ndarray, reference: np.ndarray) -> float | None:
    """Copy-Paste: (angle(g, t) - angle(g, r)) / angle(t, r) for result g, held-out picture t and reference photo r.

    Unit: none, -1 .. 1. 1: the result is the reference photo; -1: it is the held-out picture; about 0: as near to both.
    None when t and r have the same embedding, where the ratio means nothing.
    Source: MultiID-Bench (WithAnyone, arXiv 2510.14975).
    """
    between = angle(held_out, reference)
    if between < 1e-6:
        return None
    return (angle(result, held_out) - angle(result, reference)) / between
