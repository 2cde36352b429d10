"""The pictures of the help pages and of the README: one graph that holds every node of this pack runs in the real ComfyUI on
the sample pictures with the demo bundle, and what its nodes give is put side by side, each picture under its name.
"""

import io
import logging
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from ..models.errors import UserError
from ..models.portrait import CropSettings
from ..training.evaluation.charts import stacked
from ..training.evaluation.picture_grid import strip
from .comfy_server import PACK, ComfyServer, Run, WorkflowError
from .demo import copy_samples, number_of, picture_of
from .workflow_api import problems, to_api
from .workflow_drawing import Drawing, Node
from .workflow_examples import encode_and_sample

HELP = PACK / "web" / "docs" / "pictures"
"""One a node, `<node id>.jpg`. ComfyUI's frontend takes relative paths in any help page from the folder web/docs."""
README = PACK / "docs" / "pictures"
README_NAMES = ("two_pictures", "what_the_nets_see", "result")
WIDTH = 800  # pixels
LETTERS = 26  # pixels; the editor shows help pages about 300 px wide, so they shrink to a third
LIMIT = 60_000  # bytes a file


@dataclass(frozen=True)
class Tile:
    """One picture of a panel."""

    words: str
    picture: str
    """Id of the node that shows it."""
    mask: str = ""
    """Id of a node that shows a mask, which is laid over the picture; empty for none."""
    number: str = ""
    """Id of a node that shows a number, written behind the words; empty for none."""


class Album:
    """A graph under construction, and which of its pictures go into which file."""

    def __init__(self, object_info: dict):
        self.drawing = Drawing("help pictures", object_info)
        self.drawing.stage("Help pictures")
        self.pages: dict[str, list[list[Tile]]] = {}
        self._shown: dict[tuple[str, int], str] = {}

    def add(self, kind: str, **inputs) -> Node:
        """A node of the graph, as `Drawing.add` takes it."""
        return self.drawing.add(kind, **inputs)

    def tile(self, words: str, picture: tuple, mask: tuple | None = None, number: tuple | None = None) -> Tile:
        """A tile of a node's outputs: an IMAGE, a MASK to lay over it, a FLOAT to write behind the words."""
        return Tile(words, self.shown(picture), mask and self.shown(mask), number and self.shown(number))

    def shown(self, source: tuple[Node, int]) -> str:
        """Id of the node that shows an output; one for each output, however often it is asked for."""
        node, slot = source
        key = (str(node.saved["id"]), slot)
        if key not in self._shown:
            kind = node.saved["outputs"][slot]["type"]
            if kind == "MASK":
                source = self.add("MaskToImage", mask=source)["IMAGE"]
            preview = (
                self.add("PreviewImage", images=source)
                if kind in ("IMAGE", "MASK")
                else self.add("PreviewAny", source=source)
            )
            self._shown[key] = str(preview.saved["id"])
        return self._shown[key]

    def page(self, name: str, *rows: list[Tile]) -> None:
        """The rows of one file's picture."""
        self.pages[name] = list(rows)


def draw_album(object_info: dict, steps: int = CropSettings.steps) -> Album:
    """The graph and its pages.

    Args:
        object_info: as ComfyUI's /object_info gives it.
        steps: of every sampler.
    """
    album = Album(object_info)
    bundle = album.add("ICPortrait_LoadDemoBundle")
    models = {name: bundle[name] for name in ("model", "vae", "clip_vision", "nets")}
    profile = album.add("LoadImage", image="icportrait_profile.png")["IMAGE"]
    style = album.add("LoadImage", image="icportrait_style.png")["IMAGE"]
    draw_one_face(album, models, profile, style, steps)
    draw_views(album, style)
    draw_mesh(album, profile, style)
    draw_portrait(album, models, profile, style, steps)
    draw_group(album, models, profile, steps)
    return album


def draw_one_face(album: Album, models: dict, profile: tuple, style: tuple, steps: int) -> None:
    """The pages of the nodes that each do one stage."""
    add, tile, vae = album.add, album.tile, models["vae"]

    def decoded(latent: tuple) -> tuple:
        return add("VAEDecode", samples=latent, vae=vae)["IMAGE"]

    crops = {}
    for name, image in (("profile", profile), ("style", style)):
        faces = add("ICPortrait_DetectFaces", image=image)
        aligned = add("ICPortrait_AlignFace", image=image, faces=faces["faces"])
        crops[name] = aligned["crop"]
    close = add("ICPortrait_AlignFace", image=style, faces=faces["faces"], template="arcface")
    album.page(
        "ICPortrait_AlignFace",
        [tile("image and its face", faces["preview"]), tile("crop, template ffhq", crops["style"])],
        [
            tile("crop, template arcface", close["crop"]),
            tile("face_mask, in red", crops["style"], aligned["face_mask"]),
        ],
    )

    nets = add("ICPortrait_LoadNets", matching_file="matching.safetensors", appearance_file="appearance.safetensors")
    encoded, sampled = encode_and_sample(album.drawing, crops["profile"], crops["style"], models)
    words = {"positive": encoded["positive"], "negative": encoded["negative"], "cfg": CropSettings.cfg, "steps": steps}
    plain = {**words, "sampler_name": CropSettings.sampler, "scheduler": CropSettings.scheduler}
    empty = add("EmptyLatentImage", width=256, height=256)["LATENT"]
    imagined = decoded(add("KSampler", model=models["model"], latent_image=empty, **plain)["LATENT"])
    album.page(
        "ICPortrait_EncodeProfile",
        [
            tile("profile_image", crops["profile"]),
            tile("its latent, decoded", decoded(encoded["profile_latent"])),
            tile("embedding, painted", imagined),
        ],
    )

    sampled = sampled["sampled_image"]
    more = add("ICPortrait_SamplePixels", style_image=crops["style"], share=0.5)["sampled_image"]
    album.page(
        "ICPortrait_SamplePixels",
        [tile("style_image", crops["style"]), tile("share 0.2", sampled), tile("share 0.5", more)],
    )

    given = {"model": models["model"], "nets": nets["nets"], "profile": encoded["profile"], "sampled_image": sampled}
    flow = add("ICPortrait_EstimateFlow", style_image=crops["style"], vae=vae, **given)
    matches = tile("style crop and profile: what belongs where", flow["match_picture"])
    colors = tile("flow_picture", flow["flow_picture"])
    warped = tile("warped_profile", flow["warped_profile"])
    album.page("ICPortrait_EstimateFlow", [matches], [colors, tile("confidence", flow["confidence_picture"]), warped])
    album.page(README_NAMES[1], [tile("sampled pixels", sampled), tile("flow", flow["flow_picture"]), warped])

    latent = add("VAEEncode", pixels=crops["style"], vae=vae)["LATENT"]
    patched = add("ICPortrait_Apply", flow=flow["flow"], **given)["patched_model"]
    without = decoded(
        add("KSampler", model=models["model"], latent_image=latent, denoise=CropSettings.noise_strength, **plain)[
            "LATENT"
        ]
    )

    def painted(**changes) -> tuple:
        return decoded(
            add("ICPortrait_ProgressiveSampler", model=patched, latent=latent, **words, **changes)["samples"]
        )

    crop = painted()
    sharp = add("ICPortrait_TransferDetail", crop=crop, profile=encoded["profile"], flow=flow["flow"])
    style_tile = tile("style crop", crops["style"])
    album.page("ICPortrait_Apply", [style_tile, tile("sampler without it", without), tile("sampler with it", crop)])
    album.page(
        "ICPortrait_LoadNets",
        [tile("matching net: what belongs where", flow["match_picture"])],
        [tile("without the appearance net", without), tile("with the appearance net", crop)],
    )
    album.page(
        "ICPortrait_LoadDemoBundle",
        [tile("vae: into a latent and back", decoded(latent)), tile("model and clip_vision alone", imagined)],
        [tile("nets: the profile, moved", flow["warped_profile"]), tile("all together, and detail", sharp["image"])],
    )
    by_strength = [tile(f"noise_strength {value}", painted(noise_strength=value)) for value in (0.3, 0.5, 0.7, 0.9)]
    twice = tile("rounds 2", painted(rounds=2))
    album.page("ICPortrait_ProgressiveSampler", [style_tile, *by_strength[:2]], [*by_strength[2:], twice])
    noised = []
    for strength in (0.2, 0.4, 0.7):
        start = add("ICPortrait_ProgressiveNoise", model=models["model"], latent=latent, noise_strength=strength)
        noised.append(tile(f"noise_strength {strength}", decoded(start["start_latent"])))
    album.page("ICPortrait_ProgressiveNoise", noised)

    album.page(
        "ICPortrait_TransferDetail",
        [tile("profile", crops["profile"]), tile("crop, as painted", crop)],
        [tile("mask: from the profile, in red", crop, sharp["mask"]), tile("image, detail 1", sharp["image"])],
    )
    stitched = add("ICPortrait_StitchFace", canvas=style, crop=sharp["image"], stitch=aligned["stitch"])
    album.page(
        "ICPortrait_StitchFace",
        [tile("canvas", style), tile("crop", sharp["image"])],
        [tile("mask, in red", style, stitched["mask"]), tile("image", stitched["image"])],
    )
    before, after = (
        add("ICPortrait_IdentitySimilarity", image_a=profile, image_b=image) for image in (style, stitched["image"])
    )
    album.page(
        "ICPortrait_IdentitySimilarity",
        [tile("profile and style reference:", before["annotated"], number=before["similarity"])],
        [tile("profile and result:", after["annotated"], number=after["similarity"])],
    )


def draw_mesh(album: Album, profile: tuple, style: tuple) -> None:
    """The pages of the nodes that need no model."""
    add, tile = album.add, album.tile
    crops = {}
    for name, image in (("profile", profile), ("style", style)):
        faces = add("ICPortrait_DetectFaces", image=image)
        aligned = add("ICPortrait_AlignFace", image=image, faces=faces["faces"], crop_size=512)
        crops |= {f"{name}_crop": aligned["crop"], f"{name}_stitch": aligned["stitch"]}
    given = [tile("profile_crop", crops["profile_crop"]), tile("style_crop", crops["style_crop"])]
    flow = add("ICPortrait_MeshFlow", **crops)
    album.page(
        "ICPortrait_MeshFlow",
        [*given, tile("flow_picture", flow["flow_picture"])],
        [
            tile("confidence, in red", crops["style_crop"], flow["confidence"]),
            tile("warped_profile", flow["warped_profile"]),
        ],
    )
    painted = add("ICPortrait_WarpRelight", **crops)
    album.page(
        "ICPortrait_WarpRelight",
        [*given, tile("warped", painted["warped"])],
        [tile("mask, in red", crops["style_crop"], painted["mask"]), tile("image", painted["image"])],
    )


def draw_views(album: Album, style: tuple) -> None:
    """The pages of other cameras and lights."""
    add, tile = album.add, album.tile
    room = add("EmptyImage", width=128, height=64, color=0x303030)
    lamp = add("EmptyImage", width=28, height=28, color=0xFFD9A0)
    lit = add("ImageCompositeMasked", destination=room["IMAGE"], source=lamp["IMAGE"], x=24, y=10)["IMAGE"]
    given = tile("image", style)
    view = add("ICPortrait_NovelView", image=style, yaw=18.0, environment=lit)
    album.page(
        "ICPortrait_NovelView",
        [given, tile("views: yaw 18, environment", view["views"]), tile("depth", view["depth"])],
        [
            tile("normals", view["normals"]),
            tile("albedo", view["albedo"]),
            tile("mask, in red", view["views"], view["mask"]),
        ],
    )
    relit = add("ICPortrait_Relight", image=style, environment=lit)
    album.page("ICPortrait_Relight", [given, tile("environment", lit), tile("relit", relit["relit"])])


def draw_portrait(album: Album, models: dict, profile: tuple, style: tuple, steps: int) -> None:
    """The page of the node that does everything, and the README's first and last picture."""
    tile = album.tile
    whole = album.add(
        "ICPortrait_Portrait", **models, profile_image=profile, style_image=style, steps=steps, method="nets"
    )
    given = [tile("profile: the person", profile), tile("style reference", style)]
    result = tile("result", whole["image"])
    album.page("ICPortrait_Portrait", [*given, result], [tile("panel", whole["panel"])])
    album.page(README_NAMES[0], given)
    album.page(README_NAMES[2], [tile("what may change, in red", style, whole["stitch_mask"]), result])


def draw_group(album: Album, models: dict, profile: tuple, steps: int) -> None:
    """The pages of the nodes for several faces."""
    add, tile = album.add, album.tile
    picture = add("LoadImage", image="icportrait_group.jpg")["IMAGE"]
    faces, backwards = (
        add("ICPortrait_DetectFaces", image=picture, order=order) for order in ("left-right", "right-left")
    )
    album.page(
        "ICPortrait_DetectFaces",
        [tile("order left-right", faces["preview"])],
        [tile("order right-left", backwards["preview"])],
    )
    some = add("ICPortrait_SelectFaces", image=picture, faces=faces["faces"], numbers="0, 2-3")
    photo = add("ICPortrait_AlignFace", image=picture, faces=faces["faces"], face_index=4)["crop"]
    alike = add("ICPortrait_SelectFaces", image=picture, faces=faces["faces"], photo=photo, min_similarity=0.9)
    album.page(
        "ICPortrait_SelectFaces",
        [tile("numbers 0, 2-3", some["preview"])],
        [tile("photo", photo), tile("the person on it", alike["preview"])],
    )

    second, third = (add("LoadImage", image=f"icportrait_profile_{number}.jpg")["IMAGE"] for number in (2, 3))
    people, photos = None, []
    for name, image in (("Ben", profile), ("Carl", second), ("Anna", third)):
        chain = {"profiles": people["people"]} if people else {}
        people = add("ICPortrait_AddProfile", images=image, name=name, **chain)
        photos.append(tile(name, people["preview"]))
    album.page("ICPortrait_AddProfile", photos)
    pairs = "0:Ben, 2:Carl, 4:Anna"
    assigned = add(
        "ICPortrait_AssignProfiles",
        image=picture,
        faces=faces["faces"],
        profiles=people["people"],
        method="pairs",
        pairs=pairs,
    )
    album.page("ICPortrait_AssignProfiles", photos, [tile(f"pairs {pairs}", assigned["preview"])])
    group = add(
        "ICPortrait_GroupPortrait",
        **models,
        image=picture,
        assignment=assigned["assignment"],
        steps=steps,
        on_error="skip",
        method="nets",
    )
    album.page(
        "ICPortrait_GroupPortrait",
        [tile("who goes where", assigned["preview"])],
        [tile("mask, in red", picture, group["mask"])],
        [tile("result", group["result"])],
    )


def tile_tensor(tile: Tile, server: ComfyServer, run: Run):
    """(title, IMAGE) of a tile after the run."""
    import numpy as np
    import torch

    from ..models.pictures.faces import overlay_mask

    def shown(node_id: str) -> torch.Tensor:
        return torch.from_numpy(np.asarray(picture_of(server, run, node_id), dtype=np.float32) / 255)[None]

    picture, title = shown(tile.picture), tile.words
    if tile.mask:
        picture = overlay_mask(picture, shown(tile.mask)[..., 0])
    if tile.number:
        value = number_of(run, tile.number)
        title += " unknown" if value is None else f" {value:.2f}"
    return title, picture


def page_picture(rows: list[list[tuple]]):
    """Rows of (title, IMAGE) below each other, each as high as makes it `WIDTH` wide, as a PIL image."""
    strips = []
    for row in rows:
        height = round(WIDTH / sum(picture.shape[2] / picture.shape[1] for _, picture in row))
        strips.append(strip(row, height, LETTERS))
    whole = stacked(strips, gap=0)
    return whole.crop((0, 0, WIDTH, whole.height))  # rounding of each picture's width adds up to some pixels


def write_small(picture, path: Path) -> None:
    """Write a JPEG of at most `LIMIT` bytes, as good as that allows.

    Raises:
        UserError: it is larger at any quality that is worth looking at.
    """
    for quality in range(90, 20, -5):
        stream = io.BytesIO()
        picture.save(stream, "JPEG", quality=quality, optimize=True)
        if stream.tell() <= LIMIT:
            path.write_bytes(stream.getvalue())
            return
    raise UserError(
        f"{path.name} takes {stream.tell()} bytes at the lowest quality, {LIMIT} are allowed: show fewer pictures on its page"
    )


def write_help_pictures(
    help_folder: Path = HELP, readme_folder: Path = README, steps: int = CropSettings.steps, cpu: bool | None = None
):
    """Run the graph and write all pictures.

    Args:
        help_folder, readme_folder: where the help pages' and the README's go; created.
        steps: of every sampler; 1 for a quick look.
        cpu: force the CPU; None = when torch sees no GPU.

    Returns:
        paths of the files.

    Raises:
        WorkflowError: ComfyUI refuses the graph, or a node fails.
    """
    paths = []
    with tempfile.TemporaryDirectory(prefix="icportrait-help-") as folder:
        base = Path(folder)
        copy_samples(base)
        nets = base / "models" / "icportrait"
        nets.mkdir(parents=True)
        for name in ("matching.safetensors", "appearance.safetensors"):  # for Load Portrait Nets
            shutil.copy(PACK / "bundle" / name, nets)
        with ComfyServer(base, cpu) as server:
            album = draw_album(server.object_info, steps)
            prompt = to_api(album.drawing.workflow(), server.object_info)
            if found := problems(prompt, server.object_info):
                raise WorkflowError(found[0])
            run = server.run_workflow(prompt)
            for name, rows in album.pages.items():
                path = (readme_folder if name in README_NAMES else help_folder) / f"{name}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                write_small(page_picture([[tile_tensor(tile, server, run) for tile in row] for row in rows]), path)
                logging.info("wrote %s", path)
                paths.append(path)
    return paths
