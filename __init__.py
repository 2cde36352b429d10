"""ComfyUI-IC-Portrait: in-context portrait generation as ComfyUI nodes."""

import logging

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """What ComfyUI calls to get the nodes.

    They are imported here and not above, because the command line imports this package without a running ComfyUI.
    """
    try:
        from .nodes import comfy_entrypoint as nodes_entrypoint
    except Exception:
        # ComfyUI prints only the last line of an error raised here.
        logging.exception("IC-Portrait: the nodes could not be imported.")
        raise
    return await nodes_entrypoint()
