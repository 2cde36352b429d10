"""What released nodes and inputs were called before, so that workflows saved then still open.

ComfyUI with the node replacement API reads it when the pack loads; older ones never call `on_load`, and show an old node
as missing.
"""

from comfy_api import latest

# Keyword arguments of ComfyUI's io.NodeReplace: new_node_id, old_node_id, old_widget_ids (in the old order, because
# workflows hold widget values by position), input_mapping, output_mapping. Nothing has been renamed since the first release.
RENAMES: list[dict] = []


async def register_renames(renames: list[dict] = RENAMES) -> None:
    """Tell ComfyUI about `renames`; does nothing where ComfyUI cannot take them."""
    if not renames or not hasattr(latest.io, "NodeReplace"):
        return
    replacements = latest.ComfyAPI().node_replacement
    for rename in renames:
        await replacements.register(latest.io.NodeReplace(**rename))
