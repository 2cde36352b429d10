"""The example workflows in workflows/ that are drawn from code: `python run.py tools workflows` writes them.

The others were drawn in the editor. All run with the demo bundle as they are; what only SD1.5 can do is drawn beside it,
switched off, and a note says how to change over.
"""

import json
from collections.abc import Callable
from pathlib import Path

from ..models.portrait import CropSettings
from .demo import BEFORE_AFTER, PERSON_LORA, PROFILE, REPORT, RESULT, STYLE
from .workflow_drawing import (
    CHECKPOINT,
    CHECKPOINT_URL,
    CLIP_VISION,
    CLIP_VISION_URL,
    Drawing,
    Node,
    origin,
    with_current_outputs,
)

STAGE_1, STAGE_RESULT = "1 Models and pictures", "3 Result"
PROFILE_FILE, STYLE_FILE = "icportrait_profile.png", "icportrait_style.png"
SWAP = (
    "**For real photographs** replace *Load Demo Bundle* by *Load Checkpoint* (SD1.5), *Load CLIP Vision* (ViT-L/14) and "
    "*Load Portrait Nets*, and set every `crop_size` to 512, `sampler_name` to euler, `steps` to 20 and `cfg` to 3. The demo bundle is "
    "small and knows synthetic heads only."
)
TURN = (
    "Still the style's person: `noise_strength` up to 0.85.\n\nRight person, wrong light: `share` up to 0.5.\n\nHarsh colors: `cfg` "
    "down to"
)
CONSENT = "Use only pictures of people who agreed to it."
STEADY = 1.0
"""Frames: on a turning photograph with grain landmarks are nearest to the truth, and the picture trembles least."""
NETS_NOTE = (
    "*Load Portrait Nets* wants a matching and an appearance net trained for SD1.5, in `models/icportrait`. None are published yet: "
    "the pack's training page says how to make them."
)
CLIP_VISION_NOTE = f"[{CLIP_VISION}]({CLIP_VISION_URL}) (save it under this name) in `models/clip_vision`"
FOR_SD15 = "in *Portrait* set `crop_size` to 512, `sampler_name` to euler, `steps` to 20 and `cfg` to 3"
SD15_SETTINGS = {"crop_size": 512, "sampler_name": "euler", "steps": 20, "cfg": 3.0}
DEMO_SETTINGS = {"crop_size": 256, "sampler_name": "lcm", "steps": 6, "cfg": 1.0}
CUSTOMISED = "my_person_sd15.safetensors"
TO_WORDS = (
    f"Files: [{CHECKPOINT}]({CHECKPOINT_URL}) in `models/checkpoints`, {CLIP_VISION_NOTE}. {NETS_NOTE}\n\n1. Select all nodes of this "
    "stage and press Ctrl+B: they are on.\n2. Connect *Style reference from words* to `style_image` of *Portrait*.\n3. Connect this stage's "
    "MODEL, VAE, CLIP_VISION and nets to *Portrait* in the place of *Load Demo Bundle*'s, and delete stage 2 and *Load Demo "
    f"Bundle*.\n4. Then {FOR_SD15}."
)
TO_CUSTOMISED = (
    "1. Select this stage's loaders and press Ctrl+B: they are on. In *Load Checkpoint* choose your SD1.5 checkpoint, trained on aligned "
    f"photos of the person. You need {CLIP_VISION_NOTE}. {NETS_NOTE}\n2. Connect their outputs to *Portrait* in the place of *Load Demo "
    "Bundle* and of the LoRA, and delete these two. Is yours a LoRA instead of a checkpoint? Then load plain SD1.5, and keep *LoraLoaderModelOnly* "
    f"between it and *Portrait*.\n3. Then {FOR_SD15}."
)
# The demo base, asked for a face from pure noise.
FROM_NOISE = {"seed": 2, "steps": 12, "cfg": 2.0, "sampler_name": "lcm", "scheduler": "normal", "denoise": 1.0}


def samples(first: str, second: str) -> str:
    """Where the sample pictures are, for a note."""
    return (
        f"The two sample pictures are in this pack's `bundle` folder: drop `{first}` and `{second}` onto the two Load Image nodes, or "
        "use your own."
    )


def demo_models(drawing: Drawing) -> dict:
    """The demo bundle's outputs by the names of a portrait node's inputs."""
    bundle = drawing.add("ICPortrait_LoadDemoBundle")
    return {name: bundle[name] for name in ("model", "vae", "clip_vision", "nets")}


def demo_models_and_pictures(drawing: Drawing, about: str, height: int = 330) -> tuple[dict, Node, Node]:
    """Stage 1 of most: the demo bundle's outputs by name, the profile, the style reference."""
    drawing.stage(STAGE_1)
    models = demo_models(drawing)
    profile = drawing.add("LoadImage", PROFILE, image=PROFILE_FILE)
    style = drawing.add("LoadImage", STYLE, image=STYLE_FILE)
    drawing.note("Read me", f"{about}\n\n{samples(PROFILE_FILE, STYLE_FILE)}\n\n{SWAP}", height)
    return models, profile, style


def sd15_loaders(drawing: Drawing, checkpoint: str) -> Node:
    """The three loaders for SD1.5, switched off. Returns that of the checkpoint."""
    loader = drawing.add("CheckpointLoaderSimple", bypassed=True, ckpt_name=checkpoint)
    drawing.add("CLIPVisionLoader", bypassed=True, clip_name=CLIP_VISION)
    nets = {f"{name}_file": f"{name}.safetensors" for name in ("matching", "appearance")}
    drawing.add("ICPortrait_LoadNets", bypassed=True, **nets)
    return loader


def detect_and_align(drawing: Drawing, pictures: dict, **options) -> dict[str, Node]:
    """The open stage gets a pair of nodes for each named picture's output, in two columns; gives the aligned ones by name."""
    aligned = {}
    for name, image in pictures.items():
        if aligned:
            drawing.column()
        faces = drawing.add("ICPortrait_DetectFaces", f"Detect: {name}", image=image, **options)
        aligned[name] = drawing.add("ICPortrait_AlignFace", f"Align: {name}", image=image, faces=faces["faces"])
    return aligned


def encode_and_sample(drawing: Drawing, profile, style, models: dict) -> tuple[Node, Node]:
    """'Encode Profile' and 'Sample Pixels' for two crops' outputs."""
    encoded = drawing.add(
        "ICPortrait_EncodeProfile", profile_image=profile, vae=models["vae"], clip_vision=models["clip_vision"]
    )
    return encoded, drawing.add("ICPortrait_SamplePixels", style_image=style)


def result_stage(drawing: Drawing, portrait: Node, name: str, note: str = "", title: str = STAGE_RESULT) -> Node:
    """The last stage of the workflows around one Portrait node; returns the node that saves its picture."""
    drawing.stage(title)
    saved = drawing.add("SaveImage", RESULT, images=portrait["image"], filename_prefix=f"icportrait/{name}")
    drawing.add("PreviewAny", REPORT, source=portrait["report"])
    drawing.add("PreviewImage", BEFORE_AFTER, images=portrait["panel"])
    drawing.add("PreviewImage", "Flow: where each part comes from", images=portrait["flow_picture"])
    if note:
        drawing.note("How to read it", note, 220)
    return saved


def portrait(drawing: Drawing) -> None:
    """Everything in one node."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Profile** = a photo of the person. **Style reference** = the picture whose pose, light and style you want. Press *Run*.",
    )
    drawing.stage("2 Portrait")
    node = drawing.add(
        "ICPortrait_Portrait",
        **models,
        profile_image=profile["IMAGE"],
        style_image=style["IMAGE"],
        method="nets",
    )
    drawing.note(
        "What to turn",
        f"{TURN} 1.\n\nStray lines in the face: `detail` down to 0.5.\n\nThe workflow `portrait_step_by_step` does the same with a node "
        "for each stage.",
        300,
    )
    saved = result_stage(
        drawing,
        node,
        "portrait",
        "The report compares the likeness to the profile before and after: after should be higher. The flow picture should be smooth "
        "in the face.",
    )
    turned = [(node, name) for name in ("seed", "noise_strength", "strength", "detail")]
    drawing.app([(profile, "image"), (style, "image"), *turned], saved)


def portrait_sd15(drawing: Drawing) -> None:
    """The portrait on SD1.5 with nets of one's own training."""
    drawing.stage("1 Models")
    checkpoint = drawing.add("CheckpointLoaderSimple", ckpt_name=CHECKPOINT)
    vision = drawing.add("CLIPVisionLoader", clip_name=CLIP_VISION)
    names = {f"{role}_file": f"{Path(CHECKPOINT).stem}_{role}_fp16.safetensors" for role in ("matching", "appearance")}
    nets = drawing.add("ICPortrait_LoadNets", **names)
    drawing.note(
        "Read me",
        "**Portrait with SD1.5** and nets that you trained as the pack's training page says. Choose your files in the three loaders; "
        f"nothing else needs a change.\n\n[{CHECKPOINT}]({CHECKPOINT_URL}), or the checkpoint you trained with, in `models/checkpoints`; "
        f"{CLIP_VISION_NOTE}; your two nets in `models/icportrait`: training writes them under these names.",
        300,
    )
    drawing.stage("2 Pictures")
    profile = drawing.add("LoadImage", PROFILE, image=PROFILE_FILE)
    style = drawing.add("LoadImage", STYLE, image=STYLE_FILE)
    drawing.note("Pictures", f"{samples(PROFILE_FILE, STYLE_FILE)}\n\n{CONSENT}", 160)
    drawing.stage("3 Portrait")
    node = drawing.add(
        "ICPortrait_Portrait",
        model=checkpoint["MODEL"],
        vae=checkpoint["VAE"],
        clip_vision=vision["CLIP_VISION"],
        nets=nets["nets"],
        profile_image=profile["IMAGE"],
        style_image=style["IMAGE"],
        method="nets",
        **SD15_SETTINGS,
    )
    drawing.note(
        "What to turn",
        f"{TURN} 2.\n\nNot enough memory: `crop_size` 384.",
        220,
    )
    result_stage(
        drawing,
        node,
        "portrait_sd15",
        "The flow picture should be smooth in the face: if it is not, the matching net needs more steps. The report compares the likeness "
        "to the profile before and after.",
        title="4 Result",
    )


def on_the_demo(prompt: dict) -> dict:
    """A workflow in API format with the demo bundle in the place of an SD1.5 checkpoint, its vision model and nets, and the widgets
    that fit it: so that a graph which wants files of one's own can be run without them."""
    places = {"CheckpointLoaderSimple": {0: 0, 2: 1}, "CLIPVisionLoader": {0: 2}, "ICPortrait_LoadNets": {0: 3}}
    replaced = {key: places[node["class_type"]] for key, node in prompt.items() if node["class_type"] in places}
    if not replaced:
        return prompt
    bundle = str(max(map(int, prompt)) + 1)
    changed = {
        bundle: {"class_type": "ICPortrait_LoadDemoBundle", "inputs": {}, "_meta": {"title": "Load Demo Bundle"}}
    }
    for key, node in prompt.items():
        if key in replaced:
            continue
        inputs = {
            name: [bundle, replaced[value[0]][value[1]]] if isinstance(value, list) and value[0] in replaced else value
            for name, value in node["inputs"].items()
        }
        if node["class_type"] == "ICPortrait_Portrait":
            inputs |= DEMO_SETTINGS
        changed[key] = node | {"inputs": inputs}
    return changed


def text_to_portrait(drawing: Drawing) -> None:
    """Prompt, style reference, portrait: as in the paper's comparisons. A face stands for the words until SD1.5 is there."""
    drawing.stage(STAGE_1)
    models = demo_models(drawing)
    profile = drawing.add("LoadImage", PROFILE, image=PROFILE_FILE)
    face = drawing.add("LoadImage", "Instead of words: somebody like this", image="icportrait_profile_3.jpg")
    drawing.note(
        "Read me",
        "**Text to portrait**: a base model paints the style reference from pure noise, then the person of the profile goes into it.\n\nThe "
        "demo bundle has **no text encoder**: its base model is asked by a picture, and stage 2 asks it for somebody like the one in "
        "the second picture. What it paints is soft, and nobody's photo. Words need SD1.5: stage 3 is ready, switched off, and says how to "
        f"change over.\n\n{samples(PROFILE_FILE, 'icportrait_profile_3.jpg')}",
        420,
    )
    drawing.stage("2 Style reference, from noise")
    aligned = detect_and_align(drawing, {"instead of words": face["IMAGE"]})["instead of words"]
    asked = drawing.add(
        "ICPortrait_EncodeProfile", profile_image=aligned["crop"], vae=models["vae"], clip_vision=models["clip_vision"]
    )
    drawing.column()
    empty = drawing.add("EmptyLatentImage", width=256, height=256)
    latent = drawing.add(
        "KSampler",
        model=models["model"],
        positive=asked["positive"],
        negative=asked["negative"],
        latent_image=empty["LATENT"],
        **FROM_NOISE,
    )
    style = drawing.add("VAEDecode", samples=latent["LATENT"], vae=models["vae"])
    drawing.column()
    drawing.add("PreviewImage", "Style reference", images=style["IMAGE"])
    drawing.note(
        "No face?",
        "One clear face is needed: otherwise take another `seed`. The demo base needs the sampler `lcm`; euler gives blotches.",
        140,
    )
    drawing.stage("3 With SD1.5: from words (switched off)")
    loader = sd15_loaders(drawing, CHECKPOINT)
    drawing.note("To change over", TO_WORDS, 480)
    drawing.column()
    positive = drawing.add(
        "CLIPTextEncode",
        "Prompt",
        bypassed=True,
        clip=loader["CLIP"],
        text="portrait photo of a person, head and shoulders, facing the camera, soft window light, 50mm",
    )
    negative = drawing.add(
        "CLIPTextEncode", "Negative prompt", bypassed=True, clip=loader["CLIP"], text="hat, hand, blurry, cropped"
    )
    empty = drawing.add("EmptyLatentImage", bypassed=True, width=512, height=512)
    latent = drawing.add(
        "KSampler",
        bypassed=True,
        model=loader["MODEL"],
        positive=positive["CONDITIONING"],
        negative=negative["CONDITIONING"],
        latent_image=empty["LATENT"],
        seed=7,
        cfg=7.0,
        sampler_name="euler",
        scheduler="normal",
    )
    drawing.column()
    words = drawing.add(
        "VAEDecode", "Style reference from words", bypassed=True, samples=latent["LATENT"], vae=loader["VAE"]
    )
    drawing.add("PreviewImage", "From words", bypassed=True, images=words["IMAGE"])
    drawing.stage("4 Portrait")
    node = drawing.add(
        "ICPortrait_Portrait",
        **models,
        profile_image=profile["IMAGE"],
        style_image=style["IMAGE"],
        noise_strength=0.7,
        method="nets",
    )
    drawing.stage("5 Result")
    drawing.add("SaveImage", RESULT, images=node["image"], filename_prefix="icportrait/text_to_portrait")
    drawing.add("PreviewAny", "Report", source=node["report"])


def refine(drawing: Drawing) -> None:
    """Another method's picture of the same person, brought nearer to the profile."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Refine** what another method made (InstantID, PuLID, a LoRA, a swap): load its picture as the style reference and a photo of "
        "the same person as the profile. Little noise and many style pixels keep the picture; only the likeness is worked on.",
        380,
    )
    drawing.stage("2 Refine")
    node = drawing.add(
        "ICPortrait_Portrait",
        "Refine",
        **models,
        profile_image=profile["IMAGE"],
        style_image=style["IMAGE"],
        noise_strength=0.4,
        share=0.5,
        color_match="mean_std",
        method="nets",
    )
    drawing.note(
        "How much",
        "`noise_strength` 0.3 is a touch, 0.5 a lot. `color_match` is on, because light and skin are meant to stay. When the report's "
        "second number is not above the first, the other method was better already.",
        200,
    )
    result_stage(drawing, node, "refine")


def flow_inspector(drawing: Drawing) -> None:
    """What the matching net finds, without painting anything."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Flow inspector**: which part of the profile goes where, before any painting. Quick: half a net, once.",
    )
    drawing.stage("2 Detect and align")
    crops = detect_and_align(drawing, {"profile": profile["IMAGE"], "style reference": style["IMAGE"]})
    drawing.stage("3 Encode")
    encoded, sampled = encode_and_sample(drawing, crops["profile"]["crop"], crops["style reference"]["crop"], models)
    drawing.add("PreviewImage", "What the net sees of the style", images=sampled["sampled_image"])
    for method, words in (("window", "refined"), ("paper", "plain best cell")):
        drawing.stage(f"{4 if method == 'window' else 5} Flow, {words}")
        flow = drawing.add(
            "ICPortrait_EstimateFlow",
            f"Estimate Flow: {method}",
            model=models["model"],
            nets=models["nets"],
            profile=encoded["profile"],
            style_image=crops["style reference"]["crop"],
            vae=models["vae"],
            method=method,
            sampled_image=sampled["sampled_image"],
        )
        drawing.add("PreviewImage", f"Flow: {method}", images=flow["flow_picture"])
        drawing.add("PreviewImage", f"Profile warped: {method}", images=flow["warped_profile"])
        title = RESULT if method == "window" else f"Matches: {method}"
        drawing.add("PreviewImage", title, images=flow["match_picture"])
        drawing.add("PreviewImage", f"Confidence: {method}", images=flow["confidence_picture"])
    drawing.note(
        "How to read it",
        "Lines lead from places in the style crop to where their content comes from. Good: neighboring lines run alike, eyes lead to eyes. "
        "Blue in the confidence picture: the net is unsure there, and takes little.",
        200,
    )


def extreme_light(drawing: Drawing) -> None:
    """Hard light: more style pixels keep it."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Extreme light**: colored, hard or very dark light lives in the pixels the nets see of the style reference. Compare 20 % of them, "
        "as trained, with 60 %.",
    )
    results = {}
    for number, share in ((2, 0.2), (3, 0.6)):
        drawing.stage(f"{number} Share {share:g}")
        results[share] = drawing.add(
            "ICPortrait_Portrait",
            f"Portrait, share {share:g}",
            **models,
            profile_image=profile["IMAGE"],
            style_image=style["IMAGE"],
            share=share,
            noise_strength=0.6,
            method="nets",
        )
        drawing.add("PreviewImage", f"Pixels seen, share {share:g}", images=results[share]["sampled_image"])
    drawing.note(
        "Which to take",
        "More pixels keep the light, and also more of the style's face. `color_match` stays off: it would pull the light flat. When the "
        "likeness suffers, raise `strength` before `noise_strength`.",
        200,
    )
    drawing.stage("4 Result")
    drawing.add("PreviewImage", "As trained: share 0.2", images=results[0.2]["image"])
    drawing.add("PreviewAny", "Report, share 0.2", source=results[0.2]["report"])
    drawing.add("SaveImage", RESULT, images=results[0.6]["image"], filename_prefix="icportrait/extreme_light")
    drawing.add("PreviewAny", "Report, share 0.6", source=results[0.6]["report"])


def chaining(drawing: Drawing) -> None:
    """The patched MODEL among stock nodes."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Chaining**: *Apply Portrait* gives an ordinary MODEL. Stock nodes go on working: LoRA, FreeU, a mask for inpainting, a "
        "ControlNet, any sampler, upscaling before stitching.",
    )
    drawing.stage("2 Patches of the model")
    lora = drawing.add(
        "LoraLoaderModelOnly",
        "LoRA (bypassed)",
        bypassed=True,
        model=models["model"],
        lora_name="my_lora_sd15.safetensors",
    )
    free = drawing.add("FreeU_V2", model=lora["MODEL"], b1=1.1, b2=1.15, s1=0.95, s2=0.8)
    drawing.note(
        "Bypassed nodes",
        "LoRA and ControlNet are bypassed (Ctrl+B switches them on), because their files must be made for SD1.5 and do not fit the demo "
        "bundle. Patches of the model come **before** *Apply Portrait*.",
        200,
    )
    drawing.stage("3 Detect and align")
    person, aligned = detect_and_align(
        drawing, {"profile": profile["IMAGE"], "style reference": style["IMAGE"]}
    ).values()
    drawing.stage("4 Encode and mask")
    encoded, sampled = encode_and_sample(drawing, person["crop"], aligned["crop"], models)
    latent = drawing.add("VAEEncode", pixels=aligned["crop"], vae=models["vae"])
    grown = drawing.add("GrowMask", mask=aligned["face_mask"], expand=16)
    masked = drawing.add("SetLatentNoiseMask", "Paint the face only", samples=latent["LATENT"], mask=grown["MASK"])
    drawing.stage("5 ControlNet (bypassed)")
    net = drawing.add("ControlNetLoader", bypassed=True, control_net_name="control_v11p_sd15_canny.safetensors")
    canny = drawing.add("Canny", bypassed=True, image=aligned["crop"])
    control = drawing.add(
        "ControlNetApplyAdvanced",
        bypassed=True,
        positive=encoded["positive"],
        negative=encoded["negative"],
        control_net=net["CONTROL_NET"],
        image=canny["IMAGE"],
        strength=0.5,
    )
    drawing.note(
        "The hint",
        "Make the hint from the **style crop**, in its size. The ControlNet sees the target half only.",
        140,
    )
    drawing.stage("6 Apply and sample")
    applied = drawing.add(
        "ICPortrait_Apply",
        model=free["MODEL"],
        nets=models["nets"],
        profile=encoded["profile"],
        sampled_image=sampled["sampled_image"],
        style_latent=latent["LATENT"],
    )
    sampler = drawing.add(
        "KSampler",
        model=applied["patched_model"],
        positive=control["positive"],
        negative=control["negative"],
        latent_image=masked["LATENT"],
        steps=CropSettings.steps,
        cfg=CropSettings.cfg,
        sampler_name=CropSettings.sampler,
        scheduler=CropSettings.scheduler,
        denoise=CropSettings.noise_strength,
    )
    drawing.stage("7 Upscale and stitch")
    decoded = drawing.add("VAEDecode", samples=sampler["LATENT"], vae=models["vae"])
    larger = drawing.add("ImageScaleBy", image=decoded["IMAGE"], upscale_method="lanczos", scale_by=2.0)
    stitched = drawing.add(
        "ICPortrait_StitchFace", canvas=style["IMAGE"], crop=larger["IMAGE"], stitch=aligned["stitch"]
    )
    drawing.add("SaveImage", RESULT, images=stitched["image"], filename_prefix="icportrait/chaining")


def customised_checkpoint(drawing: Drawing) -> None:
    """A base model that was trained on one person before: here the demo's with a LoRA."""
    models, profile, style = demo_models_and_pictures(
        drawing,
        "**Customised checkpoint**: a base model that was trained on photos of the person first (the paper's DreamBooth phase) knows "
        "more of them than one profile shows. The demo's knows the sample person through a LoRA: copy `bundle/"
        f"{PERSON_LORA}` of this pack into ComfyUI's `models/loras` and press *R*. It suits no other base model.",
        480,
    )
    drawing.stage("2 Trained on the person")
    lora = drawing.add("LoraLoaderModelOnly", model=models["model"], lora_name=PERSON_LORA)
    drawing.note(
        "To see what it does",
        "Switch it off (Ctrl+B) and run again. `python run.py tools person-lora` made it from twelve renders of the sample person; the training "
        "page says how to make yours.",
        160,
    )
    drawing.stage("3 Portrait")
    node = drawing.add(
        "ICPortrait_Portrait",
        **models | {"model": lora["MODEL"]},
        profile_image=profile["IMAGE"],
        style_image=style["IMAGE"],
        noise_strength=0.8,
        method="nets",
    )
    drawing.note(
        "Why more noise",
        "A base that knows the person can paint more by itself: `noise_strength` 0.8 instead of 0.6.",
        140,
    )
    result_stage(drawing, node, "customised_checkpoint", title="4 Result")
    drawing.stage("5 With SD1.5 (switched off)")
    sd15_loaders(drawing, CUSTOMISED)
    drawing.note("To change over", TO_CUSTOMISED, 420)


def batch_of_frames(drawing: Drawing) -> None:
    """Every frame of a clip."""
    profile, style = photo_pictures(
        drawing,
        "**Batch of frames**: the same person into each frame, by mesh. Here two frames are made from one picture; for a clip connect *Load "
        "Video* and *Get Video Components* instead.",
    )
    drawing.stage("2 Frames")
    mirrored = drawing.add("ImageFlip", image=style["IMAGE"], flip_method="y-axis: horizontally")
    frames = drawing.add("ImageBatch", image1=style["IMAGE"], image2=mirrored["IMAGE"])
    drawing.stage("3 Who goes where")
    faces = drawing.add("ICPortrait_DetectFaces", image=frames["IMAGE"], steady=STEADY)
    person = drawing.add("ICPortrait_AddProfile", images=profile["IMAGE"])
    assigned = drawing.add(
        "ICPortrait_AssignProfiles",
        image=frames["IMAGE"],
        faces=faces["faces"],
        profiles=person["people"],
        photograph="first",
    )
    drawing.stage("4 Paint")
    group = drawing.add(
        "ICPortrait_GroupPortrait", image=frames["IMAGE"], assignment=assigned["assignment"], on_error="skip"
    )
    drawing.note(
        "Clips",
        "`steady` of *Detect Faces* holds the meshes still from frame to frame. `photograph` is *first*: the same photo in all frames is "
        "steadier. With several people, take `method` *similarity* in *Assign Profiles*, because faces change places. Frames without the "
        "person come out as they were.\n\nWith nets for SD1.5: connect their four models to *Group Portrait*.",
        230,
    )
    drawing.stage("5 Result")
    drawing.add("PreviewImage", RESULT, images=group["result"])
    drawing.add("SaveAnimatedWEBP", images=group["result"], filename_prefix="icportrait/batch_of_frames")
    drawing.add("PreviewAny", "Status", source=group["status"])


def photo_pictures(drawing: Drawing, about: str, height: int = 330) -> tuple[Node, Node]:
    """Stage 1 of the templates that need no model: the profile, the style reference."""
    drawing.stage("1 Pictures")
    profile = drawing.add("LoadImage", PROFILE, image=PROFILE_FILE)
    style = drawing.add("LoadImage", STYLE, image=STYLE_FILE)
    drawing.note("Read me", f"{about}\n\n{samples(PROFILE_FILE, STYLE_FILE)}\n\n{CONSENT}", height)
    return profile, style


def photo_portrait(drawing: Drawing) -> None:
    """Two photographs, no model."""
    profile, style = photo_pictures(
        drawing,
        "**Photo portrait**: load a photo of the person and the picture whose pose and light you want, and press *Run*. No model is needed: a "
        "dense face mesh moves the photo into the pose, and the light is laid on it. SD1.5, SDXL or Flux can refine it: `photo_refine`.",
    )
    drawing.stage("2 Portrait")
    node = drawing.add("ICPortrait_Portrait", profile_image=profile["IMAGE"], style_image=style["IMAGE"])
    drawing.note(
        "What to turn",
        "`skin_tone` 0 is the person's own, 1 the style's. `light` down to 0.5: softer light. `shape` 0: the style's outline of the face. "
        "`expression`: whose eyes and mouth. All other widgets are the nets'.\n\nBest: a sharp photo, face free of hair, turned much as in "
        "the style reference (up to 40 degrees apart).",
        260,
    )
    saved = result_stage(
        drawing,
        node,
        "photo_portrait",
        "The report says what painted, warns when the heads are turned too far apart, and compares the likeness before and after.",
    )
    turned = [(node, name) for name in ("skin_tone", "light", "shape", "expression")]
    drawing.app([(profile, "image"), (style, "image"), *turned], saved)


def photo_refine(drawing: Drawing) -> None:
    """The mesh's picture refined by a checkpoint at low denoise."""
    profile, style = photo_pictures(
        drawing,
        "**Photo refine**: the portrait by mesh, then a checkpoint paints over it at low `denoise`: seams and light get its finish, and "
        "*Transfer Detail* brings the photo's fine detail back.",
    )
    drawing.stage("2 Detect and align")
    person, aligned = detect_and_align(
        drawing, {"profile": profile["IMAGE"], "style reference": style["IMAGE"]}, order="large-small"
    ).values()
    drawing.stage("3 Warp and relight")
    painted = drawing.add(
        "ICPortrait_WarpRelight",
        profile_crop=person["crop"],
        style_crop=aligned["crop"],
        profile_stitch=person["stitch"],
        style_stitch=aligned["stitch"],
    )
    drawing.add("PreviewImage", "By mesh alone", images=painted["image"])
    drawing.stage("4 Refine")
    models = demo_models(drawing)
    asked = drawing.add(
        "ICPortrait_EncodeProfile",
        profile_image=person["crop"],
        vae=models["vae"],
        clip_vision=models["clip_vision"],
    )
    latent = drawing.add("VAEEncode", pixels=painted["image"], vae=models["vae"])
    sampled = drawing.add(
        "KSampler",
        model=models["model"],
        positive=asked["positive"],
        negative=asked["negative"],
        latent_image=latent["LATENT"],
        seed=1,
        steps=CropSettings.steps,
        cfg=CropSettings.cfg,
        sampler_name=CropSettings.sampler,
        scheduler=CropSettings.scheduler,
        denoise=0.2,
    )
    decoded = drawing.add("VAEDecode", samples=sampled["LATENT"], vae=models["vae"])
    drawing.stage("5 With your checkpoint (switched off)")
    loader = drawing.add("CheckpointLoaderSimple", bypassed=True, ckpt_name=CHECKPOINT)
    for title, text in (("Prompt", "portrait photo of a person"), ("Negative prompt", "")):
        drawing.add("CLIPTextEncode", title, bypassed=True, clip=loader["CLIP"], text=text)
    drawing.note(
        "To change over",
        "The demo bundle stands in for your checkpoint, and only shows the way: it knows synthetic heads. Any family does (SD1.5, SDXL, "
        "Flux):\n\n1. Select this stage's nodes and press Ctrl+B; choose the checkpoint.\n2. Connect its "
        "MODEL and VAE and the prompts' CONDITIONING in stage 4, and delete *Load Demo Bundle* and *Encode Profile*.\n3. Set `crop_size` of "
        "both *Align Face* to 512 (SD1.5) or 1024 (SDXL, Flux), and `sampler_name` (euler), `steps` (20) and `cfg` as your checkpoint "
        "wants them. `denoise` 0.15 to 0.35.",
        330,
    )
    drawing.stage("6 Result")
    sharp = drawing.add(
        "ICPortrait_TransferDetail",
        crop=decoded["IMAGE"],
        flow=painted["flow"],
        profile_image=person["crop"],
        detail=0.7,
    )
    stitched = drawing.add(
        "ICPortrait_StitchFace",
        "Stitch: by mesh",
        canvas=style["IMAGE"],
        crop=painted["image"],
        stitch=aligned["stitch"],
        feather=0.0,
        face_mask=painted["mask"],
    )
    # The mesh's mask reaches far round the face; what the checkpoint painted is pasted in the face's shape only.
    stitched = drawing.add(
        "ICPortrait_StitchFace",
        "Stitch: the refined face",
        canvas=stitched["image"],
        crop=sharp["image"],
        stitch=aligned["stitch"],
    )
    drawing.add("SaveImage", RESULT, images=stitched["image"], filename_prefix="icportrait/photo_refine")
    drawing.add("PreviewAny", "Report", source=painted["message"])


MODEL_TYPES = {"model": "MODEL", "vae": "VAE", "clip_vision": "CLIP_VISION", "nets": "ICPORTRAIT_NETS"}


def novel_view_relight(drawing: Drawing) -> None:
    """The style reference from three sides in two lights, then the person into all of them (the paper's Fig. 6)."""
    profile, style = photo_pictures(
        drawing,
        "**Novel view and relight**: the style reference is turned and lit anew, then the person of the profile goes into every picture. The "
        "lights are made here from plain colors; load equirectangular pictures (twice as wide as high) for real ones. No model is needed; SD1.5 and "
        "its nets can paint the person instead: connect them to *Group Portrait*.",
        400,
    )
    drawing.stage("2 Two lights")
    room = drawing.add("EmptyImage", "Dim room", width=128, height=64, color=0x303030)
    lamps = []
    for title, color, x in (("Warm lamp", 0xFFD9A0, 24), ("Cool lamp", 0xB0D0FF, 76)):
        lamp = drawing.add("EmptyImage", title, width=28, height=28, color=color)
        lamps.append(
            drawing.add(
                "ImageCompositeMasked",
                f"{title} in the room",
                destination=room["IMAGE"],
                source=lamp["IMAGE"],
                x=x,
                y=10,
            )
        )
    drawing.column()
    maps = drawing.add("ImageBatch", image1=lamps[0]["IMAGE"], image2=lamps[1]["IMAGE"])
    drawing.note(
        "Where light comes from",
        "The map's middle is behind the person, its left and right edges meet behind the camera: a lamp at a quarter of the width shines from the "
        "left, at three quarters from the right. `rotation` of *Novel View* turns it all.",
        200,
    )
    drawing.stage("3 Views")
    views = drawing.add(
        "ICPortrait_NovelView",
        image=style["IMAGE"],
        yaw=-18.0,
        size=320,
        frames=4,
        yaw_end=18.0,
        environment=maps["IMAGE"],
    )
    drawing.column()
    drawing.add("PreviewImage", "Views before", images=views["grid"])
    drawing.add("PreviewImage", "Depth", images=views["depth"])
    drawing.stage("4 The person into all")
    faces = drawing.add("ICPortrait_DetectFaces", image=views["grid"])
    person = drawing.add("ICPortrait_AddProfile", images=profile["IMAGE"])
    drawing.column()
    assigned = drawing.add(
        "ICPortrait_AssignProfiles",
        image=views["grid"],
        faces=faces["faces"],
        profiles=person["people"],
        method="pairs",
        pairs=", ".join(f"{face}:0" for face in range(8)),
    )
    drawing.stage("5 Result")
    group = drawing.add(
        "ICPortrait_GroupPortrait", image=views["grid"], assignment=assigned["assignment"], on_error="skip"
    )
    drawing.column()
    drawing.add("PreviewImage", RESULT, images=group["result"])
    drawing.add("SaveImage", "Save", images=group["result"], filename_prefix="icportrait/novel_view_relight")
    drawing.add("PreviewAny", "Status", source=group["status"])


def one_face(drawing: Drawing) -> None:
    """Blueprint: the stages for one face, open to be changed, behind six inputs."""
    outside = drawing.take(**MODEL_TYPES, profile_image="IMAGE", style_image="IMAGE")
    drawing.stage("1 Detect and align")
    pictures = {name: outside[f"{name}_image"] for name in ("profile", "style")}
    aligned = detect_and_align(drawing, pictures, order="large-small")
    drawing.stage("2 Encode and match")
    profile, sampled = encode_and_sample(drawing, aligned["profile"]["crop"], aligned["style"]["crop"], outside)
    latent = drawing.add("VAEEncode", pixels=aligned["style"]["crop"], vae=outside["vae"])
    flow = drawing.add(
        "ICPortrait_EstimateFlow",
        model=outside["model"],
        nets=outside["nets"],
        profile=profile["profile"],
        style_image=aligned["style"]["crop"],
        vae=outside["vae"],
        sampled_image=sampled["sampled_image"],
    )
    drawing.stage("3 Inject, denoise, stitch")
    applied = drawing.add(
        "ICPortrait_Apply",
        model=outside["model"],
        nets=outside["nets"],
        profile=profile["profile"],
        sampled_image=sampled["sampled_image"],
        flow=flow["flow"],
    )
    sampler = drawing.add(
        "ICPortrait_ProgressiveSampler",
        model=applied["patched_model"],
        positive=profile["positive"],
        negative=profile["negative"],
        latent=latent["LATENT"],
    )
    drawing.column()
    decoded = drawing.add("VAEDecode", samples=sampler["samples"], vae=outside["vae"])
    sharp = drawing.add(
        "ICPortrait_TransferDetail", crop=decoded["IMAGE"], profile=profile["profile"], flow=flow["flow"]
    )
    stitched = drawing.add(
        "ICPortrait_StitchFace",
        canvas=outside["style_image"],
        crop=sharp["image"],
        stitch=aligned["style"]["stitch"],
    )
    drawing.give(image=stitched["image"], portrait_crop=sharp["image"], flow_picture=flow["flow_picture"])


def group(drawing: Drawing) -> None:
    """Blueprint: two people into a group picture, from left to right."""
    outside = drawing.take(**MODEL_TYPES, group_image="IMAGE", left_person="IMAGE", right_person="IMAGE")
    drawing.stage("1 Who is there")
    faces = drawing.add("ICPortrait_DetectFaces", image=outside["group_image"])
    drawing.column()
    people = drawing.add("ICPortrait_AddProfile", "Left person", images=outside["left_person"], name="left")
    people = drawing.add(
        "ICPortrait_AddProfile", "Right person", images=outside["right_person"], name="right", profiles=people["people"]
    )
    drawing.stage("2 Who goes where")
    assigned = drawing.add(
        "ICPortrait_AssignProfiles", image=outside["group_image"], faces=faces["faces"], profiles=people["people"]
    )
    drawing.stage("3 Paint")
    painted = drawing.add(
        "ICPortrait_GroupPortrait",
        **{name: outside[name] for name in MODEL_TYPES},
        image=outside["group_image"],
        assignment=assigned["assignment"],
    )
    drawing.give(image=painted["result"], mask=painted["mask"], panel=painted["panel"], status=painted["status"])


# By the names under which ComfyUI's node search offers them.
BLUEPRINTS: dict[str, Callable[[Drawing], None]] = {
    "IC-Portrait (one face)": one_face,
    "IC-Portrait (group)": group,
}
DESCRIPTIONS = {
    "IC-Portrait (one face)": "Puts the person of a photo into a picture, with the picture's pose and light: every stage, for one face.",
    "IC-Portrait (group)": "Puts people into a group picture, each onto their face, with the picture's poses and light.",
}
ALIASES = {
    "IC-Portrait (one face)": ("face swap", "portrait", "identity", "same person", "likeness"),
    "IC-Portrait (group)": ("group photo", "face swap", "several people", "family picture"),
}
EXAMPLES: dict[str, Callable[[Drawing], None]] = {
    example.__name__: example
    for example in (
        photo_portrait,
        photo_refine,
        novel_view_relight,
        portrait,
        portrait_sd15,
        text_to_portrait,
        refine,
        flow_inspector,
        extreme_light,
        chaining,
        customised_checkpoint,
        batch_of_frames,
    )
}


def draw(name: str, object_info: dict) -> dict:
    """One example in the form the editor saves."""
    drawing = Drawing(name, object_info)
    EXAMPLES[name](drawing)
    return drawing.workflow()


def draw_blueprint(name: str, object_info: dict) -> dict:
    """One blueprint in the form the editor saves."""
    drawing = Drawing(name, object_info, DESCRIPTIONS[name], ALIASES[name])
    BLUEPRINTS[name](drawing)
    return drawing.blueprint()


def write_blueprints(folder: Path, object_info: dict) -> list[Path]:
    """Write all blueprints to `folder`; returns their paths."""
    paths = []
    for name in BLUEPRINTS:
        paths.append(folder / f"{name}.json")
        text = json.dumps(draw_blueprint(name, object_info), indent=1, ensure_ascii=False)
        paths[-1].write_text(text + "\n", "utf-8")
    return paths


def write_examples(folder: Path, object_info: dict) -> list[Path]:
    """Write all examples to `folder`, and bring those drawn in the editor up to date; returns their paths."""
    paths = []
    for path in sorted(folder.glob("*.json")):
        if path.stem not in EXAMPLES:
            workflow = with_current_outputs(json.loads(path.read_text("utf-8")), object_info)
            for node in workflow["nodes"]:
                if node["type"] in object_info:
                    node["properties"] |= origin(node["type"])
            path.write_text(json.dumps(workflow, indent=1, ensure_ascii=False) + "\n", "utf-8")
            paths.append(path)
    for name in EXAMPLES:
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(draw(name, object_info), indent=1, ensure_ascii=False) + "\n", "utf-8")
    return paths
