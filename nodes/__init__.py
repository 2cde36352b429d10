"""The nodes an artist sees. Each file holds one topic and ends with its list `NODES`."""

from comfy_api.latest import ComfyExtension, io

from . import apply, conditioning, detail, faces, groups, loaders, matching, portrait, sampling
from .renames import register_renames

NODES: list[type[io.ComfyNode]] = [
    node
    for topic in (loaders, faces, conditioning, matching, apply, sampling, detail, portrait, groups)
    for node in topic.NODES
]


class ICPortraitExtension(ComfyExtension):
    """What ComfyUI asks for its nodes."""

    async def on_load(self) -> None:
        await register_renames()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> ICPortraitExtension:
    """Called by ComfyUI through the pack's root."""
    return ICPortraitExtension()
