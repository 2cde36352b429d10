"""The pictures beside the example workflows: each workflow is run in the real ComfyUI, and what its node titled "Result" shows
becomes the same-named .jpg that ComfyUI's template browser displays, with the profile in its corner.
"""

import json
import logging
import tempfile
from pathlib import Path

from ..models.errors import UserError
from .comfy_server import PACK, ComfyServer, WorkflowError
from .demo import copy_samples, node_titled, picture_of
from .workflow_api import to_api
from .workflow_examples import RESULT, on_the_demo

FOLDER = PACK / "workflows"
SIDE = 400
"""Pixels; the browser's cards are about half as wide."""


def thumbnail(result, profile):
    """The result's middle square, or all of a wide picture, with the profile small in the lower left corner, PIL image `SIDE` x `SIDE`."""
    from PIL import ImageOps

    result = result.convert("RGB")
    wide = result.width > 1.5 * result.height  # two pictures side by side: shown whole
    picture = (ImageOps.pad if wide else ImageOps.fit)(result, (SIDE, SIDE))
    inset = ImageOps.expand(ImageOps.fit(profile.convert("RGB"), (SIDE // 4, SIDE // 4)), 3, "white")
    picture.paste(inset, (8, SIDE - inset.height - 8))
    return picture


def first_profile(prompt: dict) -> str:
    """File of the first node whose title begins with "Profile"; a group has several.

    Raises:
        WorkflowError: there is none.
    """
    for node in prompt.values():
        if node.get("_meta", {}).get("title", "").startswith("Profile") and "image" in node["inputs"]:
            return node["inputs"]["image"]
    raise WorkflowError("The workflow has no LoadImage node whose title begins with 'Profile'.")


def write_thumbnails(names: list[str], cpu: bool | None = None, folder: Path = FOLDER) -> list[str]:
    """Run workflows and write their .jpg files into `folder`.

    Args:
        names: file stems; empty takes all.

    Returns:
        stems of the thumbnails written.

    Raises:
        UserError: an unknown name.
        WorkflowError: a workflow that ComfyUI refuses or that fails.
    """
    from PIL import Image

    paths = sorted(FOLDER.glob("*.json"))
    if unknown := set(names) - {path.stem for path in paths}:
        raise UserError(
            f"no workflow is called {', '.join(sorted(unknown))}; there are {', '.join(p.stem for p in paths)}"
        )
    written = []
    with tempfile.TemporaryDirectory(prefix="icportrait-thumbnails-") as base:
        copy_samples(Path(base))
        with ComfyServer(Path(base), cpu) as server:
            for path in paths:
                if names and path.stem not in names:
                    continue
                prompt = on_the_demo(to_api(json.loads(path.read_text("utf-8")), server.object_info))
                run = server.run_workflow(prompt)
                result = picture_of(server, run, node_titled(prompt, RESULT))
                file = first_profile(prompt)
                profile = Image.open(Path(base) / "input" / file)
                thumbnail(result, profile).save(folder / f"{path.stem}.jpg", quality=88)
                written.append(path.stem)
                logging.info("wrote %s", folder / f"{path.stem}.jpg")
    return written
