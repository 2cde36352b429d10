"""Wire types, categories, errors with the node's name before them, progress."""

import dataclasses
import inspect
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import comfy.model_management
import comfy.utils
import folder_paths
import latent_preview
import torch
from comfy_api.latest import io, ui

from ..models.errors import UserError
from ..models.values import check_number, check_option, check_whole

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


def search_aliases(*words: str) -> dict[str, list[str]]:
    """For `io.Schema`: words artists type into the node search; nothing in a ComfyUI that does not know them yet."""
    known = any(field.name == "search_aliases" for field in dataclasses.fields(io.Schema))
    return {"search_aliases": list(words)} if known else {}


@contextmanager
def naming(node: type[io.ComfyNode], values: dict) -> Iterator[None]:
    """Check what came in for the node's widgets, and put its display name before the sentence of any ValueError raised inside.

    Args:
        values: what came in, by name; ComfyUI itself checks only what was typed, not what a link or another client brings.
    """
    try:
        check_widgets(node, values)
        yield
    except ValueError as error:
        name = node.define_schema().display_name
        if str(error).startswith(name):
            raise
        raise ValueError(f"{name}: {error}") from error


_NEEDED = {
    io.Model.Input: ("a MODEL", ("model_options", "clone")),
    io.Vae.Input: ("a VAE", ("encode", "decode")),
    io.ClipVision.Input: ("a CLIP_VISION", ("encode_image",)),
}
"""What must be there of ComfyUI's own objects; other packs' stand-ins have it too."""


def check_widgets(node: type[io.ComfyNode], values: dict) -> None:
    """Raises UserError for a number, choice or text of another kind or outside its widget's range, and for what is no model."""
    schema, parameters = node.define_schema(), inspect.signature(node.execute).parameters
    for widget in schema.inputs:
        if widget.id not in values or (values[widget.id] is None and parameters[widget.id].default is None):
            continue
        given = values[widget.id]
        for value in given if schema.is_input_list and isinstance(given, list) else [given]:
            if isinstance(widget, io.Int.Input):
                check_whole(widget.id, value, widget.min, widget.max)
            elif isinstance(widget, io.Float.Input):
                check_number(widget.id, value, widget.min, widget.max)
            elif isinstance(widget, io.Combo.Input):
                check_option(widget.id, value, widget.options)
            elif isinstance(widget, io.String.Input | io.Boolean.Input):
                wanted, name = (str, "a text") if isinstance(widget, io.String.Input) else (bool, "true or false")
                if not isinstance(value, wanted):
                    raise UserError(f"{widget.id} must be {name}; a {type(value).__name__} came")
    for wire in schema.inputs:
        if wire.id not in values or type(wire) not in _NEEDED:
            continue  # wires of the pack's own types, pictures and latents are checked where they are read
        came = values[wire.id]
        value = came[0] if schema.is_input_list and isinstance(came, list) and len(came) == 1 else came
        if value is None and not wire.optional:
            raise UserError(f"nothing came for {wire.id}; a checkpoint without a VAE, for one, gives an empty one")
        name, needed = _NEEDED[type(wire)]
        if value is not None and not all(hasattr(value, part) for part in needed):
            raise UserError(f"{wire.id} must be connected to {name}; a {type(value).__name__} came")


def progress(steps: int) -> Callable[[int, int], None]:
    """A callback (done, total) that moves ComfyUI's progress bar and raises when Cancel was pressed."""
    bar = comfy.utils.ProgressBar(steps)

    def step(done: int, total: int) -> None:
        bar.update_absolute(done, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return step


class FacesBar:
    """One progress bar over all faces and their steps, with the sampler's preview; raises at each of them when Cancel was pressed."""

    def __init__(self, model, faces: int, steps: int):
        self._steps, self._done, self._total = steps, 0, max(1, faces * steps)
        self._shown = 0
        self._bar = comfy.utils.ProgressBar(self._total)
        self._previewer = None
        if model is not None:
            self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def step(self, step: int, x0, _, total: int, faces: int = 1) -> None:
        """Called by the sampler after each step, which was one of so many `faces`: painted ahead, some of them count before they are done."""
        preview = None
        if self._previewer is not None:
            preview = self._previewer.decode_latent_to_preview_image("JPEG", x0)
        part = min(self._steps, (step + 1) * self._steps // max(1, total))
        self._show(self._done * self._steps + part * faces, preview)

    def face(self, done: int) -> None:
        """Called after each face, painted or skipped."""
        self._done = done
        self._show(done * self._steps)

    def _show(self, steps: int, preview=None) -> None:
        self._shown = max(self._shown, steps)  # the bar never goes back
        self._bar.update_absolute(self._shown, self._total, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()


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
    return torch.Generator().manual_seed(int(seed))
