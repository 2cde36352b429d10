"""What the files of a run record about their training."""

from ..core.settings import LoopSettings

LICENSE = "CC0-1.0"


def training_facts(loop: LoopSettings, **more) -> dict:
    """Facts for a file's metadata."""
    return {"steps": loop.steps, "batch": loop.batch, **more, "data": "icportrait heads", "license": LICENSE}
