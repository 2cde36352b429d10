"""Wire types, categories, errors with the node's name before them, progress."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import io, ui

CATEGORY = "IC-Portrait"
FACES_CATEGORY = f"{CATEGORY}/faces"
GROUPS_CATEGORY = f"{CATEGORY}/groups"

# Frozen dataclasses, each documented where it is defined.
NetsType = io.Custom("ICPORTRAIT_NETS")  # models.types.PortraitNets
ProfileType = io.Custom("ICPORTRAIT_PROFILE")  # models.types.Profile
FlowType = io.Custom("ICPORTRAIT_FLOW")  # models.types.Flow
FacesType = io.Custom("ICPORTRAIT_FACES")  # models.faces.types.Faces
StitchType = io.Custom("ICPORTRAIT_STITCH")  # models.faces.types.Placements
ProfilesType = io.Custom("ICPORTRAIT_PROFILES")  # models.groups.types.Profiles
AssignmentType = io.Custom("ICPORTRAIT_ASSIGNMENT")  # models.groups.types.GroupAssignment


@contextmanager
def naming(node: type[io.ComfyNode]) -> Iterator[None]:
    """Put the node's display name before the sentence of any ValueError raised inside."""
    try:
        yield
    except ValueError as error:
        name = node.define_schema().display_name
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: {error}") from error


def progress(steps: int) -> Callable[[int, int], None]:
    """A callback (done, total) that moves ComfyUI's progress bar and raises when Cancel was pressed."""
    bar = comfy.utils.ProgressBar(steps)

    def step(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return step


def insightface_folders() -> list[str]:
    """ComfyUI's folders for insightface model packs, extra_model_paths.yaml included."""
    try:
        return list(folder_paths.get_folder_paths("insightface"))
    except KeyError:  # no pack has registered the folder
        return [os.path.join(folder_paths.models_dir, "insightface")]


def shown(preview: torch.Tensor, text: str, node: type[io.ComfyNode]) -> dict:
    """`ui` of a node that shows a picture and a text on itself."""
    return {**ui.PreviewImage(preview, cls=node).as_dict(), "text": (text,)}


def generator(seed: int) -> torch.Generator:
    """A CPU generator of its own, so that the global one stays untouched."""
    return torch.Generator().manual_seed(seed)
