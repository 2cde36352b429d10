"""Loading the two nets, and the demo bundle."""

import os

import folder_paths
from comfy_api.latest import io

from ..models.nets import bundle
from ..models.nets.loading import load_portrait_nets
from .common import CATEGORY, NetsType, check_widgets, naming, search_aliases

FOLDER = "icportrait"


def register_folder() -> None:
    """Let `folder_paths` find nets in models/icportrait and wherever extra_model_paths.yaml points."""
    folder_paths.add_model_folder_path(FOLDER, os.path.join(folder_paths.models_dir, FOLDER))
    # A folder registered by hand or by yaml takes every file; ours holds safetensors only.
    paths, _ = folder_paths.folder_names_and_paths[FOLDER]
    folder_paths.folder_names_and_paths[FOLDER] = (paths, {".safetensors"})


register_folder()


def _stamp(path) -> str:
    stat = os.stat(path)
    return f"{path}:{stat.st_mtime_ns}:{stat.st_size}"


class LoadNets(io.ComfyNode):
    """Matching and appearance net from models/icportrait."""

    @classmethod
    def define_schema(cls):
        files = folder_paths.get_filename_list(FOLDER)
        return io.Schema(
            node_id="ICPortrait_LoadNets",
            **search_aliases("load ic-portrait", "portrait model"),
            display_name="Load Portrait Nets",
            category=CATEGORY,
            description="Loads the matching net and the appearance net from models/icportrait. They must have been trained for "
            "the UNet they are used with. ComfyUI moves them to the GPU together with the MODEL.",
            inputs=[
                io.Combo.Input(
                    "matching_file",
                    options=files,
                    tooltip="The net that finds which part of the profile belongs where in the style reference. A .safetensors file "
                    "made by `icportrait export`; recognised by its metadata, the name is free. About 720 MB for SD1.5 in fp16.",
                ),
                io.Combo.Input(
                    "appearance_file",
                    options=files,
                    tooltip="The net that carries the profile's appearance into the picture. A .safetensors file made by "
                    "`icportrait export`; recognised by its metadata, the name is free. About 720 MB for SD1.5 in fp16.",
                ),
            ],
            outputs=[
                NetsType.Output(
                    "nets", display_name="nets", tooltip="Both nets, for 'Estimate Flow' and 'Apply Portrait'."
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, matching_file, appearance_file):
        return [_stamp(folder_paths.get_full_path_or_raise(FOLDER, name)) for name in (matching_file, appearance_file)]

    @classmethod
    def execute(cls, matching_file, appearance_file) -> io.NodeOutput:
        with naming(cls, {}):
            if not folder_paths.get_filename_list(FOLDER):
                folders = " or ".join(folder_paths.get_folder_paths(FOLDER))
                raise ValueError(f"No nets were found; put the two .safetensors files into {folders}.")
            check_widgets(cls, {"matching_file": matching_file, "appearance_file": appearance_file})
            paths = [folder_paths.get_full_path_or_raise(FOLDER, name) for name in (matching_file, appearance_file)]
            return io.NodeOutput(load_portrait_nets(*paths))


class LoadDemoBundle(io.ComfyNode):
    """The small models that ship with the pack."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_LoadDemoBundle",
            **search_aliases("demo models", "ic-portrait demo"),
            display_name="Load Demo Bundle",
            category=CATEGORY,
            description="Loads the small models that ship with this pack (trained on synthetic heads, CC0): a base MODEL, its VAE, "
            "its image encoder and both nets. They work at 256 x 256 pixels and show every step of the method on a CPU; for real "
            "pictures load an SD1.5 checkpoint and full-size nets instead.",
            inputs=[],
            outputs=[
                io.Model.Output("model", display_name="model", tooltip="Small base UNet with SD1.5's interfaces."),
                io.Vae.Output("vae", display_name="vae", tooltip="Its autoencoder (8 x, 4 channels)."),
                io.ClipVision.Output(
                    "clip_vision", display_name="clip_vision", tooltip="Its image encoder (embedding 768 wide)."
                ),
                NetsType.Output("nets", display_name="nets", tooltip="Its matching net and appearance net."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls):
        return [_stamp(bundle.FOLDER / name) for name in bundle.FILES]

    @classmethod
    def execute(cls) -> io.NodeOutput:
        with naming(cls, {}):
            return io.NodeOutput(*bundle.load_bundle(bundle.FOLDER))


NODES = [LoadNets, LoadDemoBundle]
