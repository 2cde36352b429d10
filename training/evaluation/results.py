"""Results of many cases under several makers (methods, or settings of one), made and measured once each."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from tqdm import tqdm

from .cases import Case
from .metrics.pictures import why_no_lpips, why_no_ssim
from .result_cache import ResultCache, fingerprint, picture_hash
from .scoring import Scorer

CODE = 1  # raise it when a metric or method changes what it computes, so that no old result is taken for a new one


@dataclass(frozen=True)
class Maker:
    """One way to make a result."""

    make: Callable[[Case], torch.Tensor]
    """A case to a picture `[1, H, W, 3]`; decided by the case, the models' files and `facts` alone."""
    facts: dict
    """What decides the result besides, as JSON values."""


def run_results(
    files: dict[str, str], cases: list[Case], makers: dict[str, Maker], scorer: Scorer, cache: ResultCache
) -> list[dict]:
    """One row a case and maker: case, identity, method (the maker's name) and the figures of `Scorer.score`.

    What the cache holds with the same facts, inputs and files is not made again.

    Args:
        files: the models' files and hashes.
    """
    rows = []
    recognisers = [one.name for one in scorer.recognisers]
    measured = {"recognisers": recognisers, "expression": scorer.expression, "light": scorer.light}
    measured["optional"] = [why_no_ssim() is None, why_no_lpips() is None]
    with tqdm(total=len(cases) * len(makers), desc="results", unit="picture") as bar:
        for case in cases:
            shots = [case.profile, case.style, *case.photos, *([case.truth] if case.truth else [])]
            inputs = [picture_hash(shot.picture) for shot in shots]
            for name, maker in makers.items():
                facts = {"code": CODE, "files": files, "inputs": inputs, "method": name, "facts": maker.facts}
                made_from = fingerprint(facts)
                picture = cache.picture(case.key, name, made_from, lambda c=case, m=maker: m.make(c))
                measured_by = fingerprint({"made_from": made_from, **measured})
                figures = cache.figures(case.key, name, measured_by, lambda c=case, p=picture: scorer.score(c, p))
                rows.append({"case": case.key, "identity": case.identity, "method": name, **figures})
                bar.update()
    return rows
