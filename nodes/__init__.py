"""The nodes an artist sees. Each file holds one topic and ends with its list `NODES`."""

from comfy_api.latest import ComfyExtension, io

from . import (
    align,
    apply,
    assign,
    conditioning,
    detail,
    detect,
    group_portrait,
    loaders,
    matching,
    mesh,
    novel_view,
    portrait,
    profiles,
    sampling,
    select,
    similarity,
    stitch,
)
from .renames import register_renames

NODES: list[type[io.ComfyNode]] = [
    node
    for topic in (
        loaders,
        detect,
        align,
        stitch,
        similarity,
        conditioning,
        matching,
        mesh,
        apply,
        sampling,
        detail,
        portrait,
        select,
        profiles,
        assign,
        group_portrait,
        novel_view,
    )
    for node in topic.NODES
]


class ICPortraitExtension(ComfyExtension):
    """The pack's nodes, as ComfyUI loads them."""

    async def on_load(self) -> None:
        await register_renames()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES


async def comfy_entrypoint() -> ICPortraitExtension:
    """Called by ComfyUI through the pack's root."""
    return ICPortraitExtension()
