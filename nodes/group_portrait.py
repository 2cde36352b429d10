"""All assigned people painted into a group picture, face after face."""

import functools
from collections.abc import Sequence
from dataclasses import replace

from comfy_api.latest import io

from ..models.faces.pixels import checked_image, optional_mask
from ..models.faces.stitching import COLOR_MATCHES, StitchSettings
from ..models.groups.ahead import Batches
from ..models.groups.painting import ON_ERROR, Painter, paint_group
from ..models.groups.typed_lists import numbers_for_faces, prompts_for_faces
from ..models.groups.types import GroupAssignment
from ..models.mesh.crops import OWN_SIZES, check_pair, own_crop_size
from ..models.mesh.painter import MeshSettings, paint_by_mesh
from ..models.method.correspondence import METHODS as FLOW_METHODS
from ..models.method.detail import STRENGTH as DETAIL
from ..models.method.encoding import encode_prompt
from ..models.method.injection import SPEEDS
from ..models.method.matching import FLOW_TIMESTEP
from ..models.method.pixel_sampling import PATTERNS
from ..models.methods import METHODS, choose_method
from ..models.painting import CropPair, CropResult
from ..models.portrait import CropSettings, crops_at_once, paint_crop, paint_crops
from .common import GROUPS_CATEGORY, AssignmentType, FacesBar, naming, search_aliases
from .inputs import (
    SPEED,
    cfg_input,
    check_nets,
    check_type,
    color_match_input,
    crop_size_input,
    detail_input,
    feather_input,
    flow_method_input,
    flow_timestep_input,
    mesh_inputs,
    model_inputs,
    net_strength_input,
    rounds_input,
    sampler_input,
    scheduler_input,
    seed_input,
    share_input,
    speed_input,
    steps_input,
    strength_input,
)

SEED_LIMIT = 0xFFFFFFFFFFFFFFFF


class GroupPortrait(io.ComfyNode):
    """All stages for all assigned faces."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_GroupPortrait",
            **search_aliases("group photo", "several people", "multiple faces", "face swap"),
            display_name="Group Portrait",
            category=GROUPS_CATEGORY,
            description="Paints the assigned people into a group picture or a batch of frames: one face after another, each from its own crop "
            "and its own photo, on the picture that already holds the faces before. Identities cannot mix; faces left alone and frames "
            "without assigned faces come out bit for bit. Time grows with the number of faces, memory does not.",
            is_input_list=True,
            inputs=[
                *model_inputs(),
                io.Image.Input(
                    "image",
                    tooltip="The picture, or batch of frames, the faces were found in: pose, light and style come from it.",
                ),
                AssignmentType.Input("assignment", tooltip="From Assign Profiles."),
                seed_input(
                    "the kept pixels and all noise; face k uses seed + k. A connected list gives each face its own"
                ),
                steps_input(),
                cfg_input(),
                strength_input(),
                net_strength_input("0 switches the nets off. A connected list gives each face its own."),
                share_input(
                    "Share of a crop's pixels the nets see. More keeps its light, less leaves more room for identity."
                ),
                crop_size_input(),
                io.Combo.Input(
                    "on_error",
                    options=list(ON_ERROR),
                    default=ON_ERROR[0],
                    tooltip="When one face fails. error: stop and name it. skip: leave it as it is, say so in the status, and go on with the "
                    "others. Cancel stops either way, between faces and within one.",
                ),
                io.String.Input(
                    "seeds",
                    default="",
                    optional=True,
                    tooltip='A seed for each face number, "7, , 12": an empty place keeps the seed above. No cost.',
                ),
                io.String.Input(
                    "strengths",
                    default="",
                    optional=True,
                    tooltip='A strength for each face number, "1, , 0.6": an empty place keeps the strength above. 0 to 10.',
                ),
                io.String.Input(
                    "noise_strengths",
                    default="",
                    optional=True,
                    tooltip='A noise strength for each face number, "0.7, , 0.5": an empty place keeps the one above. Up to 1.',
                ),
                rounds_input(optional=True),
                sampler_input(optional=True),
                scheduler_input(optional=True),
                io.Combo.Input(
                    "pattern",
                    options=list(PATTERNS),
                    default=PATTERNS[0],
                    optional=True,
                    tooltip="Which pixels are kept, as in Sample Pixels. random is as trained.",
                ),
                flow_timestep_input(optional=True),
                flow_method_input(optional=True),
                feather_input("paste's", optional=True),
                color_match_input(
                    "Match a crop's colors to the picture's before stitching; it also pulls skin towards the picture's.",
                    optional=True,
                ),
                io.Mask.Input(
                    "occlusion_mask",
                    optional=True,
                    tooltip="Of the picture's size: 1 where something is in front of a face (hand, hair, glasses). Never painted. One, or one "
                    "a frame.",
                ),
                io.Clip.Input(
                    "clip",
                    optional=True,
                    tooltip="CLIP of the SD1.5 checkpoint; only needed for prompts. The demo bundle has none.",
                ),
                io.String.Input(
                    "prompts",
                    default="",
                    multiline=True,
                    optional=True,
                    tooltip="Words beside the person, e.g. oil painting. One line holds for all faces; of several lines each goes to one face "
                    "number, an empty line to none. A connected list gives each face its own. Needs clip.",
                ),
                detail_input(optional=True),
                *mesh_inputs(),
                speed_input("By the nets: "),
            ],
            outputs=[
                io.Image.Output(
                    "result",
                    display_name="result",
                    tooltip="The frames with all assigned people, as many as came in, in order.",
                ),
                io.Mask.Output(
                    "mask", display_name="mask", tooltip="Where faces were pasted; where 0, no pixel differs."
                ),
                io.Image.Output(
                    "crops", display_name="crops", tooltip="The painted crops before stitching, in their order."
                ),
                io.Image.Output(
                    "panel", display_name="panel", tooltip="Photo, before and after of the first 16 faces."
                ),
                io.String.Output(
                    "status",
                    display_name="status",
                    tooltip="A line a frame: painted, left alone, skipped and why, passed through.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model=None,
        vae=None,
        clip_vision=None,
        nets=None,
        *,
        image,
        assignment,
        seed,
        steps,
        cfg,
        noise_strength,
        strength,
        share,
        crop_size,
        on_error,
        seeds="",
        strengths="",
        noise_strengths="",
        rounds=1,
        sampler_name=CropSettings.sampler,
        scheduler=CropSettings.scheduler,
        pattern=PATTERNS[0],
        flow_timestep=FLOW_TIMESTEP,
        flow_method=FLOW_METHODS[0],
        feather=StitchSettings.feather,
        color_match=COLOR_MATCHES[0],
        occlusion_mask=None,
        clip=None,
        prompts="",
        detail=DETAIL,
        method=METHODS[0],
        skin_tone=MeshSettings.skin_tone,
        light=MeshSettings.light,
        shape=MeshSettings.shape,
        expression=MeshSettings.expression,
        speed=SPEED,
    ) -> io.NodeOutput:
        with naming(cls, locals()):
            model, vae, clip_vision, nets = (
                None if value is None else _one(value, name)
                for value, name in ((model, "model"), (vae, "vae"), (clip_vision, "clip_vision"), (nets, "nets"))
            )
            assignment, on_error = _one(assignment, "assignment"), _one(on_error, "on_error")
            color_match, flow_method, pattern = (
                _one(color_match, "color_match"),
                _one(flow_method, "flow_method"),
                _one(pattern, "pattern"),
            )
            if nets is not None:
                check_nets(nets)
            chosen = choose_method(_one(method, "method"), nets, model=model, vae=vae, clip_vision=clip_vision)
            mesh = MeshSettings(
                _one(skin_tone, "skin_tone"),
                _one(light, "light"),
                _one(shape, "shape"),
                _one(expression, "expression"),
            )
            check_type("assignment", assignment, GroupAssignment, "Assign Profiles")
            picture = checked_image(_one(image, "image"))
            occlusion = optional_mask(_one(occlusion_mask, "occlusion_mask"), *picture.shape[1:3], "occlusion_mask")
            settings = CropSettings(
                share=_one(share, "share"),
                pattern=pattern,
                steps=_one(steps, "steps"),
                cfg=_one(cfg, "cfg"),
                sampler=_one(sampler_name, "sampler_name"),
                scheduler=_one(scheduler, "scheduler"),
                rounds=_one(rounds, "rounds"),
                flow_timestep=_one(flow_timestep, "flow_timestep"),
                flow_method=flow_method,
                detail=_one(detail, "detail"),
                pair_every=SPEEDS[_one(speed, "speed")],
            )
            most = assignment.places
            each = _settings_of_faces(
                settings, most, (seed, seeds), (strength, strengths), (noise_strength, noise_strengths)
            )
            bar = FacesBar(model, assignment.count, settings.steps * settings.rounds)
            size, batches = _one(crop_size, "crop_size"), None
            if chosen.name == "mesh":
                size = _largest_crop(assignment)

                def painter_of(face: int) -> Painter:
                    return lambda pair: _by_mesh(pair, mesh)

            else:
                prompts = prompts_for_faces(_many(prompts), most)
                encoded = _encoded(None if clip is None else _one(clip, "clip"), prompts, assignment)

                def painter_of(face: int) -> Painter:
                    words = encoded.get(prompts[face])
                    return lambda pair: paint_crop(
                        model, vae, clip_vision, nets, pair.profile, pair.style, each[face], bar.step, words
                    )

                def paint(faces: Sequence[int], pairs: Sequence[CropPair]) -> list[CropResult]:
                    crops = [pair.profile for pair in pairs], [pair.style for pair in pairs]
                    seeds, step = [each[face].seed for face in faces], functools.partial(bar.step, faces=len(faces))
                    words = encoded.get(prompts[faces[0]])
                    return paint_crops(model, vae, clip_vision, nets, *crops, each[faces[0]], seeds, step, words)

                batches = Batches(
                    crops_at_once(model, nets, size, settings),
                    lambda face: (replace(each[face], seed=0), prompts[face]),
                    paint,
                )

            result = paint_group(
                picture,
                assignment,
                painter_of,
                size,
                StitchSettings(feather=_one(feather, "feather"), color_match=color_match),
                occlusion=occlusion,
                on_error=on_error,
                on_face=bar.face,
                batches=batches,
            )
        status = f"{result.status}\n{chosen.reason}"
        return io.NodeOutput(result.image, result.mask, result.crops, result.panel, status, ui={"text": (status,)})


def _by_mesh(pair: CropPair, settings: MeshSettings) -> CropResult:
    check_pair(pair)
    return paint_by_mesh(pair, settings)


def _largest_crop(assignment: GroupAssignment) -> int:
    """One side for all crops by mesh, so that they make a batch: the largest face's own."""
    faces = [entry.face for frame in assignment.frames for entry in frame if entry.person is not None]
    return max((own_crop_size(face, assignment.height, assignment.width) for face in faces), default=OWN_SIZES[0])


def _many(value) -> list:
    """The node takes lists, so that numbers can differ from face to face; a direct call may hand in a plain value."""
    return list(value) if isinstance(value, list | tuple) else [value]


def _one(value, name: str):
    """The only item. Raises ValueError for a list of several where one is wanted."""
    items = _many(value)
    if len(items) != 1:
        raise ValueError(f"{name} came as a list of {len(items)}; connect one (pictures of one size as a batch)")
    return items[0]


def _text(value) -> str:
    """A text of numbers; a connected list of texts counts as one number each."""
    return ",".join(_many(value))


def _settings_of_faces(settings: CropSettings, faces: int, seeds, strengths, noise_strengths) -> list[CropSettings]:
    """The settings with each face's own numbers; of each kind come the input's value and the typed list."""
    columns = (
        numbers_for_faces(_many(value), _text(typed), faces, name, low, high, step=step)
        for name, (value, typed), low, high, step in (
            ("seeds", seeds, 0, SEED_LIMIT, 1),
            ("strengths", strengths, 0, 10, 0),
            ("noise_strengths", noise_strengths, 0.01, 1, 0),
        )
    )
    return [
        replace(settings, seed=seed, strength=strength, noise_strength=noise_strength)
        for seed, strength, noise_strength in zip(*columns, strict=True)
    ]


def _encoded(clip, prompts: list[str], assignment: GroupAssignment) -> dict:
    """{prompt: its encoding for `paint_crop`} of the faces with a person. Raises ValueError for a prompt without CLIP."""
    painted = {
        number
        for frame, entries in enumerate(assignment.frames)
        for number, entry in zip(assignment.numbers(frame), entries, strict=True)
        if entry.person is not None and prompts[number]
    }
    if painted and clip is None:
        raise ValueError(
            f"face {min(painted)} has a prompt, but no CLIP is connected: connect the SD1.5 checkpoint's CLIP to clip, or empty "
            "prompts (the demo bundle has no text encoder)"
        )
    return {prompts[number]: encode_prompt(clip, prompts[number]) for number in sorted(painted)}


NODES = [GroupPortrait]
