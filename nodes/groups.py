"""Group pictures as nodes: pick faces, collect people, say who goes where, paint them one after another.

Wire types (frozen, documented in `models/groups.py`): ICPORTRAIT_PROFILES = `Profiles`, ICPORTRAIT_ASSIGNMENT = `GroupAssignment`.

Batches: a batch of frames in gives the same number out, in order. Inputs are never changed.
"""

from __future__ import annotations

from dataclasses import replace

import comfy.model_management
import comfy.utils
import latent_preview
import torch
from comfy_api.latest import io, ui

from ..models import groups
from ..models.faces import detection, identity, selection
from ..models.faces.pixels import checked_image, checked_mask
from ..models.faces.stitching import COLOR_MATCHES, StitchSettings
from ..models.faces.types import Faces
from ..models.method.correspondence import METHODS as FLOW_METHODS
from ..models.method.detail import STRENGTH as DETAIL
from ..models.method.encoding import encode_prompt
from ..models.method.matching import FLOW_TIMESTEP
from ..models.method.pixel_sampling import PATTERNS
from ..models.pictures import draw_faces, overlay_mask
from ..models.portrait import CropSettings, paint_crop
from .common import CATEGORY, check_choice, check_nets, check_type, model_inputs, naming, net_strength_input, seed_input
from .conditioning import share_input
from .detail import detail_input
from .faces import FacesType, color_match_input, feather_input, insightface_folders, progress
from .matching import flow_method_input, flow_timestep_input
from .sampling import (
    SCHEDULER,
    cfg_input,
    crop_size_input,
    rounds_input,
    sampler_input,
    scheduler_input,
    steps_input,
    strength_input,
)

ProfilesType = io.Custom("ICPORTRAIT_PROFILES")
AssignmentType = io.Custom("ICPORTRAIT_ASSIGNMENT")

GROUP_CATEGORY = f"{CATEGORY}/groups"
SEED_LIMIT = 0xFFFFFFFFFFFFFFFF


def _shown(preview: torch.Tensor, text: str, cls) -> dict:
    return {**ui.PreviewImage(preview, cls=cls).as_dict(), "text": (text,)}


class SelectFaces(io.ComfyNode):
    """Some of the faces, and the rest."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_SelectFaces",
            display_name="Select Faces",
            category=GROUP_CATEGORY,
            description="Keeps the faces that pass every test set here, and gives the others as the rest: by number, size, confidence, "
            "or likeness to a photo. Every face keeps the number Detect Faces gave it; the preview shows the chosen and darkens the rest.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or batch of frames, the faces were found in."),
                FacesType.Input("faces", tooltip="From Detect Faces."),
                io.String.Input(
                    "numbers",
                    default="all",
                    tooltip='Numbers of Detect Faces\' preview: "0, 2-4", "-1" for the last, "all". The chosen come in the order typed. In a '
                    "batch, frames that lack a number skip it.",
                ),
                io.Int.Input(
                    "min_size",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Side of a face's box in pixels, at least. 0 keeps small faces too.",
                ),
                io.Int.Input(
                    "max_size",
                    default=0,
                    min=0,
                    max=16384,
                    tooltip="Side of a face's box in pixels, at most. 0 sets no limit.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.0,
                    min=0.0,
                    max=1.5,
                    step=0.05,
                    tooltip="The detector's confidence, at least. dlib: a clear face has about 1; insightface: 0 to 1. Faces given by box, "
                    "landmarks or mask always pass.",
                ),
                io.Float.Input(
                    "min_similarity",
                    default=identity.SAME_PERSON_ON_PHOTOGRAPHS,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="With a photo connected: likeness to its person, at least. 0.4 on photographs, 0.5 on rendered heads. Without a "
                    "photo it does nothing.",
                ),
                io.Image.Input(
                    "photo",
                    optional=True,
                    tooltip="The person looked for: one photo, or a batch of the same person; the largest face of each counts. Costs a search "
                    "of each photo and about 0.1 s a face on one CPU core.",
                ),
            ],
            outputs=[
                FacesType.Output(
                    "chosen", display_name="chosen", tooltip="Faces that pass every test; they keep their numbers."
                ),
                FacesType.Output("rest", display_name="rest", tooltip="All other faces, in their old order."),
                io.Int.Output("count", display_name="count", tooltip="Number of chosen faces over all frames."),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The chosen with their numbers, the rest darkened."
                ),
                io.String.Output(
                    "message", display_name="message", tooltip="How many were chosen, and the similarities."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image, faces, numbers, min_size, max_size, min_confidence, min_similarity, photo=None
    ) -> io.NodeOutput:
        with naming(cls):
            check_type("faces", faces, Faces, "Detect Faces")
            picture = checked_image(image)
            groups.check_frames(picture, faces.height, faces.width, len(faces.frames), "faces were found on")
            faces, texts = faces.numbered(), {}
            if photo is not None:
                photo = checked_image(photo, "photo")
                total = len(photo) + faces.count
                step = progress(total)
                found = groups.photographs_of(
                    photo,
                    on_photograph=lambda done, _: step(done, total),
                    insightface_folders=insightface_folders(),
                )
                faces = groups.embedded(picture, faces, lambda done, _: step(len(photo) + done, total))
                known = [one.embedding for one in found if one.embedding is not None]
                if not known:
                    raise ValueError("the face on the photo could not be read; give a larger or sharper photo")
            chosen, _ = selection.select_by_index(faces, numbers)
            chosen, _ = selection.select(
                chosen,
                lambda _, __, face: (
                    face.side >= min_size
                    and (not max_size or face.side <= max_size)
                    and (face.given or face.score >= min_confidence)
                ),
            )
            if photo is not None:
                asked = chosen
                chosen, _, scores = selection.select_by_similarity(asked, known, min_similarity)
                likeness = [dict(zip(asked.numbers(frame), row, strict=True)) for frame, row in enumerate(scores)]
                texts = {
                    (b, k): f"{likeness[b][face.number]:.2f}"
                    for b, frame in enumerate(chosen.frames)
                    for k, face in enumerate(frame)
                }
            # By number, not by value: doubles of one face are different faces.
            kept = [set(chosen.numbers(frame)) for frame in range(len(chosen.frames))]
            _, rest = selection.select(faces, lambda frame, _, face: face.number in kept[frame])
            preview = draw_faces(_darkened(picture, rest), chosen, texts)
            message = _selected(faces, chosen, texts)
        return io.NodeOutput(chosen, rest, chosen.count, preview, message, ui=_shown(preview, message, cls))


def _darkened(picture: torch.Tensor, faces: Faces) -> torch.Tensor:
    """A copy with the faces' boxes dark."""
    mask = torch.zeros(picture.shape[:3])
    for frame, found in enumerate(faces.frames):
        for face in found:
            x0, y0, x1, y1 = (max(0, round(value)) for value in face.box)
            mask[frame, y0:y1, x0:x1] = 1
    return overlay_mask(picture, mask, (0.0, 0.0, 0.0), 0.6)


def _selected(faces: Faces, chosen: Faces, texts: dict) -> str:
    lines = [f"{chosen.count} of {faces.count} faces chosen"]
    for frame in range(len(chosen.frames)):
        parts = [
            str(number) + (f" (similarity {texts[frame, place]})" if (frame, place) in texts else "")
            for place, number in enumerate(chosen.numbers(frame))
        ]
        lines.append((f"frame {frame}: " if len(faces.frames) > 1 else "") + (", ".join(parts) or "none"))
    return "\n".join(lines)


class AddProfile(io.ComfyNode):
    """One person more for the group picture."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AddProfile",
            display_name="Add Profile",
            category=GROUP_CATEGORY,
            description="Adds one person, with one or more photos, to the people of a group picture. Chain one node a person. The same "
            "name again adds photos to that person, for photos of other sizes. The largest face of each photo counts.",
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="Photos of one person: one, or a batch. With several, the one nearest in pose is used for each face.",
                ),
                io.String.Input(
                    "name",
                    default="",
                    tooltip="Shown on previews and usable in pairs; no effect on the picture. Empty: person 0, person 1 ... Not only "
                    "digits, none of , ; : =",
                ),
                io.Combo.Input(
                    "effort",
                    options=list(detection.EFFORTS),
                    default="normal",
                    tooltip="As in Detect Faces: how large a photo may be while searching. On one CPU core fast takes about 2 s a photo, normal 5.",
                ),
                ProfilesType.Input(
                    "profiles",
                    optional=True,
                    tooltip="The people so far, from the Add Profile before. Empty for the first.",
                ),
            ],
            outputs=[
                ProfilesType.Output(
                    "people",
                    display_name="people",
                    tooltip="The people with this one, for the next Add Profile or Assign Profiles.",
                ),
                io.Image.Output("preview", display_name="preview", tooltip="The photos with the face that counts."),
                io.String.Output(
                    "message",
                    display_name="message",
                    tooltip="The person's number and photos, and what looks doubtful.",
                ),
            ],
        )

    @classmethod
    def execute(cls, images, name, effort, profiles=None) -> io.NodeOutput:
        with naming(cls):
            check_choice("effort", effort, detection.EFFORTS)
            if profiles is not None:
                check_type("profiles", profiles, groups.Profiles, "Add Profile")
            images = checked_image(images, "images")
            photographs = groups.photographs_of(images, effort, progress(len(images)), insightface_folders())
            people, number = groups.with_person(profiles or groups.Profiles(), name, photographs)
            person = people.people[number]
            lines = [f"person {number} of {len(people.people)}: {person.name}, {len(person.photographs)} photographs"]
            first = len(person.photographs) - len(photographs)
            lines += [
                f"photograph {first + k}: no face, never used" for k, one in enumerate(photographs) if one.face is None
            ]
            lines += groups.doubtful_photographs(person)
            frames = tuple((one.face,) if one.face else () for one in photographs)
            preview = draw_faces(
                images, Faces(*images.shape[1:3], frames), {(k, 0): f"{person.name}" for k in range(len(images))}
            )
            message = "\n".join(lines)
        return io.NodeOutput(people, preview, message, ui=_shown(preview, message, cls))


class AssignProfiles(io.ComfyNode):
    """Who goes onto which face."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_AssignProfiles",
            display_name="Assign Profiles",
            category=GROUP_CATEGORY,
            description="Says which person goes onto which face, and which of a person's photos is used. Faces that get nobody are left "
            "alone. The preview shows names and similarities, the report the reason for each.",
            inputs=[
                io.Image.Input("image", tooltip="The picture, or batch of frames, the faces were found in."),
                FacesType.Input("faces", tooltip="From Detect Faces or Select Faces."),
                ProfilesType.Input("profiles", tooltip="The people, from the last Add Profile."),
                io.Combo.Input(
                    "method",
                    options=list(groups.METHODS),
                    default="order",
                    tooltip="order: person 0 on the first face, and so on. pairs: as typed below. similarity: everybody on the face that looks "
                    "most like them, one face each (about 0.1 s a face on one CPU core); for batches, where faces change places.",
                ),
                io.String.Input(
                    "pairs",
                    default="",
                    multiline=True,
                    tooltip="For method pairs: face:person, \"0:Anna, 2:1\". The face's number on the preview, the person's name or number. One "
                    "person may go on several faces. Faces not named are left alone.",
                ),
                io.Float.Input(
                    "threshold",
                    default=identity.SAME_PERSON_ON_PHOTOGRAPHS,
                    min=-1.0,
                    max=1.0,
                    step=0.01,
                    tooltip="For method similarity: below this a face is left alone. 0.4 on photographs, 0.5 on rendered heads; 1 is the same "
                    "picture.",
                ),
                io.Combo.Input(
                    "photograph",
                    options=list(groups.PHOTOGRAPHS),
                    default=groups.PHOTOGRAPHS[0],
                    tooltip="Of several photos of a person. nearest pose: the head held most like the face's, large enough and inside its photo. "
                    "first: always the first with a face, steadier in video. No cost.",
                ),
            ],
            outputs=[
                AssignmentType.Output("assignment", display_name="assignment", tooltip="For Group Portrait."),
                io.Int.Output(
                    "count", display_name="count", tooltip="Number of faces that get a person, over all frames."
                ),
                io.Image.Output(
                    "preview", display_name="preview", tooltip="The frames with numbers, names and similarities."
                ),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="Person, photo and reason for each face, and the table of similarities.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, faces, profiles, method, pairs, threshold, photograph) -> io.NodeOutput:
        with naming(cls):
            check_choice("method", method, groups.METHODS)
            check_choice("photograph", photograph, groups.PHOTOGRAPHS)
            check_type("faces", faces, Faces, "Detect Faces")
            check_type("profiles", profiles, groups.Profiles, "Add Profile")
            picture = checked_image(image)
            step = progress(max(1, faces.count))
            assignment, scores = groups.assign(
                picture, faces, profiles, method, pairs, threshold, photograph, on_face=step
            )
            text = groups.report(assignment, scores)
            preview = draw_faces(picture, groups.faces_of_assignment(assignment), groups.labels(assignment))
        return io.NodeOutput(assignment, assignment.count, preview, text, ui=_shown(preview, text, cls))


class GroupPortrait(io.ComfyNode):
    """All stages for all assigned faces."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ICPortrait_GroupPortrait",
            display_name="Group Portrait",
            category=GROUP_CATEGORY,
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
                    options=list(groups.ON_ERROR),
                    default=groups.ON_ERROR[0],
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
        model,
        vae,
        clip_vision,
        nets,
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
        scheduler=SCHEDULER,
        pattern=PATTERNS[0],
        flow_timestep=FLOW_TIMESTEP,
        flow_method=FLOW_METHODS[0],
        feather=0.08,
        color_match=COLOR_MATCHES[0],
        occlusion_mask=None,
        clip=None,
        prompts="",
        detail=DETAIL,
    ) -> io.NodeOutput:
        with naming(cls):
            model, vae, clip_vision, nets = map(
                _one, (model, vae, clip_vision, nets), ("model", "vae", "clip_vision", "nets")
            )
            assignment, on_error = _one(assignment, "assignment"), _one(on_error, "on_error")
            color_match, flow_method, pattern = (
                _one(color_match, "color_match"),
                _one(flow_method, "flow_method"),
                _one(pattern, "pattern"),
            )
            check_choice("on_error", on_error, groups.ON_ERROR)
            check_choice("color_match", color_match, COLOR_MATCHES)
            check_choice("flow_method", flow_method, FLOW_METHODS)
            check_choice("pattern", pattern, PATTERNS)
            check_nets(nets)
            check_type("assignment", assignment, groups.GroupAssignment, "Assign Profiles")
            picture = checked_image(_one(image, "image"))
            occlusion = _one(occlusion_mask, "occlusion_mask")
            if occlusion is not None:
                occlusion = checked_mask(occlusion, "occlusion_mask")
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
            )
            size, most = _one(crop_size, "crop_size"), assignment.places
            each = [
                replace(settings, seed=own_seed, strength=own_strength, noise_strength=own_noise)
                for own_seed, own_strength, own_noise in zip(
                    groups.numbers_for_faces(_many(seed), _text(seeds), most, "seeds", 0, SEED_LIMIT, step=1),
                    groups.numbers_for_faces(_many(strength), _text(strengths), most, "strengths", 0, 10),
                    groups.numbers_for_faces(
                        _many(noise_strength), _text(noise_strengths), most, "noise_strengths", 0.01, 1
                    ),
                    strict=True,
                )
            ]
            prompts = groups.prompts_for_faces(_many(prompts), most)
            encoded = _encoded(None if clip is None else _one(clip, "clip"), prompts, assignment)
            bar = _FacesBar(model, assignment.count, settings.steps * settings.rounds)

            def paint(profile_crop, style_crop, _, face):
                words = encoded.get(prompts[face])
                return paint_crop(
                    model, vae, clip_vision, nets, profile_crop, style_crop, each[face], bar.step, words
                ).image

            result = groups.paint_group(
                picture,
                assignment,
                paint,
                size,
                StitchSettings(feather=_one(feather, "feather"), color_match=color_match),
                occlusion=occlusion,
                on_error=on_error,
                on_face=bar.face,
            )
        shown = {"text": (result.status,)}
        return io.NodeOutput(result.image, result.mask, result.crops, result.panel, result.status, ui=shown)


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


def _encoded(clip, prompts: list[str], assignment: groups.GroupAssignment) -> dict:
    """{prompt: what paint_crop wants} of the faces that get a person. Raises ValueError for a prompt without CLIP."""
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


class _FacesBar:
    """One progress bar over all faces and their steps, with the sampler's preview; Cancel comes through at each of them."""

    def __init__(self, model, faces: int, steps: int):
        self._steps, self._done, self._total = steps, 0, max(1, faces * steps)
        self._bar = comfy.utils.ProgressBar(self._total)
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)

    def step(self, step: int, x0, _, total: int) -> None:
        """Called by the sampler after each step."""
        preview = None
        if self._previewer is not None:
            preview = self._previewer.decode_latent_to_preview_image("JPEG", x0)
        part = min(self._steps, (step + 1) * self._steps // max(1, total))
        self._bar.update_absolute(self._done * self._steps + part, self._total, preview)
        comfy.model_management.throw_exception_if_processing_interrupted()

    def face(self, done: int) -> None:
        """Called after each face, painted or skipped."""
        self._done = done
        self._bar.update_absolute(done * self._steps, self._total)
        comfy.model_management.throw_exception_if_processing_interrupted()


NODES = [SelectFaces, AddProfile, AssignProfiles, GroupPortrait]
