"""What the files of a run record about their training."""

from ..core.settings import LoopSettings
from ..data.samples import SampleSet
from .base_models import DEMO_BASE

LICENSE = "CC0-1.0"
"""Of what is made from the project's heads alone."""
DATA = {"heads": "icportrait heads", "folders": "photographs"}
"""A shard's generator -> what people call it."""


def training_facts(
    loop: LoopSettings, samples: SampleSet, base_name: str = DEMO_BASE, start: dict | None = None, **more
) -> dict:
    """Facts for a file's metadata.

    Args:
        base_name: of the base it was trained for; `DEMO_BASE` is made from heads alone.
        start: licence and file name of the net it began with, as `start_from_net` gives them.
    """
    kinds = [DATA.get(name, name) for name in samples.generators]
    owners = [] if base_name == DEMO_BASE else [f"the base {base_name}"]
    owners += [f"the data ({name})" for name in kinds if name != DATA["heads"]]
    if start and start.get("license") not in (None, LICENSE):
        owners.append(f"the net {start['file']}")
    license_ = f"that of {' and of '.join(owners)}" if owners else LICENSE
    return {"steps": loop.steps, "batch": loop.batch, **more, "data": " and ".join(kinds), "license": license_}
