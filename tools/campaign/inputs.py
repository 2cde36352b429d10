"""Bad input by kind: each case is drawn from its number, run, and judged.

An outcome is `fine` (a good result, or refused in one sentence), `silent` (bad input taken, or a result that is no good),
`traceback` (any other exception). What must be refused is known by how the case was made, not guessed from the result.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import io
import json
import math
import random
import shutil
import struct
import tempfile
import traceback
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from comfy_api.latest import io as node_io
from PIL import Image

from ... import nodes as pack
from ...models.errors import UserError
from ...models.faces.detection import DetectionSettings, find_faces
from ...models.faces.types import Face, Faces
from ...models.method import encoding
from ...models.method.matching import estimate_flow
from ...models.method.pixel_sampling import sample_pixels
from ...models.nets import bundle, loading
from ...models.pictures.files import read_picture
from ...training import cli
from ...training.data import shards
from ...training.data.folders.pictures import pictures_of
from ...training.data.samples import SampleSet
from . import served

SIDE = 128


@dataclass(frozen=True)
class Case:
    """One input."""

    text: str
    """What is wrong with it, for the report."""
    run: Callable[[], object]
    must_refuse: bool = False
    judge: Callable[[object], str] = lambda _: ""
    """What is wrong with a result; empty when it is good."""


def outcome(kind: str, number: int) -> tuple[str, str]:
    """(fine, silent or traceback; words for the report) of one case."""
    case = KINDS[kind](random.Random(f"{kind} {number}"))
    try:
        with torch.inference_mode():
            result = case.run()
    except UserError as refusal:
        return _judged_sentence(case, str(refusal))
    except ValueError as refusal:
        names = tuple(node.define_schema().display_name for node in pack.NODES)
        if kind == "nodes" and str(refusal).startswith(names):
            return _judged_sentence(case, str(refusal))
        return "traceback", f"{case.text}: {traceback.format_exc(limit=-3)}"
    except Exception:
        return "traceback", f"{case.text}: {traceback.format_exc(limit=-3)}"
    if case.must_refuse:
        return "silent", f"{case.text}: was taken"
    wrong = case.judge(result)
    return ("silent", f"{case.text}: {wrong}") if wrong else ("fine", "")


def _judged_sentence(case: Case, sentence: str) -> tuple[str, str]:
    good = 10 < len(sentence) < 1500 and "Traceback" not in sentence
    return ("fine", "") if good else ("silent", f"{case.text}: the refusal says {sentence!r}")


# ------------------------------------------------------------------------------------------------ nodes


@functools.cache
def _parts() -> dict:
    """Good values for every wire, made once from the demo's bundle and sample pictures."""
    model, vae, vision, nets = bundle.load_bundle()
    pictures = [
        torch.from_numpy(read_picture(bundle.FOLDER / f"icportrait_{name}.png").copy()).float()[None] / 255
        for name in ("profile", "style")
    ]
    profile_picture, style_picture = pictures
    found = [find_faces(picture, DetectionSettings(effort="fast")) for picture in pictures]
    aligned = [
        pack.align.AlignFace.execute(picture, faces, 0, SIDE, "ffhq", 1.0, 0.0, 0.0, 180.0, "error").args
        for picture, faces in zip(pictures, found, strict=True)
    ]
    profile = encoding.encode_profile(aligned[0][0], vae, vision)
    style_latent = encoding.encode_picture(vae, aligned[1][0], "style crop")
    sampled, _ = sample_pixels(aligned[1][0], 0.2, torch.Generator().manual_seed(0))
    flow = estimate_flow(model, nets, profile, style_latent, sampled, 100, "window", 0)
    people = pack.profiles.AddProfile.execute(profile_picture, "Anna", "fast").args[0]
    assignment = pack.assign.AssignProfiles.execute(style_picture, found[1], people, "order", "", 0.4, "first").args[0]
    positive, negative = encoding.conditionings(profile)
    return {
        "model": model, "vae": vae, "clip_vision": vision, "nets": nets, "profile": profile, "flow": flow,
        "image": style_picture, "canvas": style_picture, "faces": found[1], "crop": aligned[1][0],
        "profile_crop": aligned[0][0], "style_crop": aligned[1][0], "profile_stitch": aligned[0][1],
        "style_stitch": aligned[1][1], "stitch": aligned[1][1], "style_image": aligned[1][0],
        "profile_image": aligned[0][0], "sampled_image": sampled, "latent": {"samples": style_latent},
        "style_latent": {"samples": style_latent}, "positive": positive, "negative": negative,
        "profiles": people, "images": profile_picture, "assignment": assignment, "image_a": aligned[0][0],
        "image_b": aligned[1][0], "environment": torch.full((1, 16, 32, 3), 0.5),
        "bounding_boxes": [[{"x": 8.0, "y": 8.0, "width": 90.0, "height": 90.0}]],
        "face_landmarks": {"frames": [[]], "image_size": tuple(style_picture.shape[1:3])},
        "mask": torch.ones(1, *style_picture.shape[1:3]), "occlusion_mask": torch.ones(1, *style_picture.shape[1:3]),
        "face_mask": torch.ones(1, SIDE, SIDE), "hair_mask": torch.ones(1, SIDE, SIDE),
        "region": torch.ones(1, SIDE, SIDE), "photo": profile_picture,
    }  # fmt: skip


# Nodes whose good run takes seconds are given inputs that must be refused only.
_SLOW = ("ICPortrait_Portrait", "ICPortrait_GroupPortrait", "ICPortrait_AddProfile", "ICPortrait_IdentitySimilarity",
         "ICPortrait_SelectFaces", "ICPortrait_WarpRelight", "ICPortrait_MeshFlow")  # fmt: skip
_FAST_VALUES = {"steps": 1, "rounds": 1, "crop_size": SIDE, "effort": "fast", "backend": "mediapipe", "method": None}


def _usual(schema) -> dict:
    """Inputs with which a node works."""
    values = {}
    for entry in schema.inputs:
        if isinstance(entry, node_io.WidgetInput):
            value = getattr(entry, "default", None)
            wanted = _FAST_VALUES.get(entry.id)
            if wanted is not None and not (isinstance(entry, node_io.Combo.Input) and wanted not in entry.options):
                value = wanted
            values[entry.id] = entry.options[0] if value is None and isinstance(entry, node_io.Combo.Input) else value
        elif not entry.optional:
            values[entry.id] = _parts()[entry.id]
    if schema.node_id == "ICPortrait_Portrait":
        values |= {name: _parts()["image"] for name in ("profile_image", "style_image")}
    return {name: [value] for name, value in values.items()} if schema.is_input_list else values


def _bad_number(rng: random.Random, entry) -> object:
    return rng.choice(
        [entry.min - rng.randint(1, 9), entry.max + rng.randint(1, 9), math.nan, math.inf, -math.inf, "7", [], True]
    )


def _bad_image(rng: random.Random, image: torch.Tensor) -> tuple[object, bool]:
    """(value, whether it must be refused)."""
    spoiled = image.clone()
    spoiled[0, rng.randrange(image.shape[1]), rng.randrange(image.shape[2]), rng.randrange(3)] = rng.choice(
        [math.nan, math.inf]
    )
    return rng.choice(
        [
            (spoiled, True), (image.numpy(), True), ("picture.png", True), ({}, True), (image[0, 0], True),
            (image[..., None], True), (image[:0], True), (image[:, :0], True), (torch.zeros(1, 64, 64, 7), True),
            (image.half(), False), (image * 3 - 1, False), (torch.cat([image, image[..., :1]], dim=-1), False),
            ((image * 255).byte(), True),
        ]
    )  # fmt: skip


def _bad_mask(rng: random.Random, mask: torch.Tensor) -> tuple[object, bool]:
    height, width = mask.shape[1:]
    return rng.choice(
        [
            (mask * math.nan, True), (mask.numpy(), True), ("mask", True), (mask[:, :0], True), (mask.expand(7, -1, -1), True),
            (torch.ones(1, height, 3 * width), True), (mask[:, None, None], True), (torch.zeros(1, 64, 64), False),
            (mask * 0, False), (torch.ones(1, height // 2, width // 2), False), (mask[0], False), (mask.half(), False),
        ]
    )  # fmt: skip


def _bad_latent(rng: random.Random, latent: dict) -> tuple[object, bool]:
    samples = latent["samples"]
    return rng.choice(
        [
            ({}, True), ({"samples": None}, True), (samples, True), ({"samples": samples * math.nan}, True),
            ({"samples": samples[:, :3]}, True), ({"samples": samples[0]}, True), ({"samples": samples[:0]}, True),
            ({"samples": samples.half()}, False), ({"samples": samples.double()}, False),
        ]
    )  # fmt: skip


def _bad_list(rng: random.Random, good: object) -> object:
    """Something like BOUNDING_BOX or FACE_LANDMARKS, broken at one place."""
    broken = copy.deepcopy(good)
    bad = rng.choice([None, "x", math.nan, math.inf, [], {}, b"", -5, object()])
    if isinstance(broken, dict):
        broken["frames" if rng.random() < 0.7 else "image_size"] = rng.choice(
            [[[bad]], [bad], bad, [[{"bbox_xyxy": bad}]]]
        )
        return broken
    if rng.random() < 0.5:
        return rng.choice([[[bad]], [bad, bad, bad], bad if bad not in ([], None) else "x", [[{"x": 1}]]])
    broken[0][0][rng.choice(["x", "y", "width", "height"])] = bad if bad not in (-5,) else 1e9
    return broken


def nodes(rng: random.Random) -> Case:
    """A node with one input spoiled, called as a link or another pack would call it."""
    parts = _parts()
    node = rng.choice([node for node in pack.NODES if not node.__name__.startswith("Load")])
    schema = node.GET_SCHEMA()
    entry = rng.choice(schema.inputs)
    must_refuse = True
    if isinstance(entry, node_io.Int.Input | node_io.Float.Input):
        value = _bad_number(rng, entry)
    elif isinstance(entry, node_io.Combo.Input):
        value = rng.choice(["zzz", 3, ["x"], ""])
    elif isinstance(entry, node_io.WidgetInput):
        value = rng.choice([7, ["x"], {}, b"x"])
    elif isinstance(entry, node_io.Image.Input):
        value, must_refuse = _bad_image(rng, parts[entry.id])
    elif isinstance(entry, node_io.Mask.Input):
        value, must_refuse = _bad_mask(rng, parts[entry.id])
    elif isinstance(entry, node_io.Latent.Input):
        value, must_refuse = _bad_latent(rng, parts[entry.id])
    elif entry.id in ("bounding_boxes", "face_landmarks"):
        value = _bad_list(rng, parts[entry.id])
    elif entry.io_type.startswith("ICPORTRAIT_"):
        value = rng.choice([7, "text", {}, [], torch.zeros(1), object()])
    else:  # ComfyUI's own objects are its own nodes' to check
        return nodes(rng)
    if not must_refuse and schema.node_id in _SLOW:
        return nodes(rng)
    inputs = _usual(schema) | {entry.id: [value] if schema.is_input_list else value}

    def judge(result) -> str:
        bad = [
            index
            for index, value in enumerate(result.args)
            if isinstance(value, torch.Tensor) and not torch.isfinite(value).all()
        ]
        return f"outputs {bad} are not finite" if bad else ""

    return Case(
        f"{schema.node_id}.{entry.id} = {str(value)[:80]!r}", lambda: node.execute(**inputs), must_refuse, judge
    )


# ------------------------------------------------------------------------------------------------ files


@functools.cache
def _folder() -> Path:
    """A folder for files, removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="icportrait-campaign-")
    _kept.append(folder)
    return Path(folder.name)


_kept: list = []

LOADERS: dict[str, Callable[[Path], object]] = {
    "base": bundle.load_base,
    "vae": bundle.load_vae,
    "vision": bundle.load_vision,
    "matching": lambda path: loading.load_net(path, "matching"),
    "appearance": lambda path: loading.load_net(path, "appearance"),
}


def _spoiled_bytes(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    what = rng.choice(["cut", "flipped", "zeros", "doubled", "empty", "random"])
    place = rng.randrange(max(1, len(data)))
    if what == "cut":
        return data[:place], f"cut at {place}"
    if what == "flipped":
        place = rng.randrange(min(len(data), 4000))
        return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[
            place + 1 :
        ], f"bit flipped at {place}"
    if what == "zeros":
        return data[:place] + bytes(min(999, len(data) - place)) + data[place + 999 :], f"zeros at {place}"
    if what == "doubled":
        return data + data[place:], "longer than it says"
    return (b"", "empty") if what == "empty" else (rng.randbytes(rng.randrange(5000)), "random bytes")


def net_files(rng: random.Random) -> Case:
    """A file of the bundle with its metadata, tensors or bytes spoiled."""
    name = rng.choice(list(LOADERS))
    source = bundle.FOLDER / f"{name}.safetensors"
    path = _folder() / source.name
    shutil.copy(bundle.FOLDER / "vision.json", _folder())
    with safetensors.safe_open(str(source), "pt") as file:
        metadata = {key: json.loads(value) for key, value in file.metadata().items()}
    what = rng.choice(["bytes", "format", "config", "value", "missing", "nan", "dtype", "tensor"])
    if what == "bytes":
        data, text = _spoiled_bytes(rng, source.read_bytes())
        path.write_bytes(data)
        must = len(data) != source.stat().st_size
        return Case(f"{name}: {text}", lambda: LOADERS[name](path), must)
    tensors = safetensors.torch.load_file(source)
    if what == "format":
        metadata["format"] = rng.choice(["icportrait-net-9", "", None, 7, {}])
    elif what == "config" or "config" not in metadata and what in ("value", "missing"):
        metadata["config"] = rng.choice([None, 7, [], "text", {}, {"role": name}, {"unet": {}}])
    elif what in ("value", "missing"):
        inner = metadata["config"]
        if "unet" in inner and rng.random() < 0.6:
            inner = inner["unet"]
        key = rng.choice([key for key in inner if key not in ("gate", "fine_tap", "adm_in_channels", "torch_dtype")])
        if what == "missing":
            del inner[key]
        else:
            inner[key] = rng.choice([None, "foreign", -7, [[1]], {"a": 1}, 1e99, 10**9])
    elif what == "nan":
        key = rng.choice(sorted(tensors))
        tensors[key] = tensors[key].clone()
        tensors[key].view(-1)[rng.randrange(tensors[key].numel())] = rng.choice([math.nan, math.inf])
    elif what == "dtype":
        for key in rng.choice([sorted(tensors), [rng.choice(sorted(tensors))]]):
            tensors[key] = tensors[key].to(rng.choice([torch.int32, torch.float64, torch.uint8]))
    else:
        key = rng.choice(sorted(tensors))
        tensor = tensors.pop(key)
        if rng.random() < 0.7:
            tensors[rng.choice([key + ".foreign", "x", key])] = torch.cat([tensor.flatten(), tensor.flatten()])
    texts = {key: json.dumps(value) for key, value in metadata.items()}
    path.write_bytes(safetensors.torch.save(tensors, texts))
    return Case(f"{name}: {what}", lambda: LOADERS[name](path), must_refuse=True)


def _good_pictures() -> list[bytes]:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 30, 3), dtype=np.uint8))
    found = []
    for form in ("PNG", "JPEG", "WEBP", "BMP", "TIFF"):
        data = io.BytesIO()
        picture.save(data, form)
        found.append(data.getvalue())
    return found


def folders(rng: random.Random) -> Case:
    """A folder with a picture that is spoiled, huge, or no file at all."""
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    data = rng.choice(_good_pictures())
    name = f"a{rng.choice(['.png', '.jpg', '.webp', '.bmp', '.tif', '.mp4'])}"
    what = rng.choice(["bytes", "huge", "folder", "other"])
    if what == "huge":
        side = rng.choice([2**14, 30_000, 2**31 - 1])
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = b"IHDR" + header
        data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + bytes(99)
    elif what == "bytes":
        data, _ = _spoiled_bytes(rng, data)
    if what == "folder":
        (folder / name).mkdir()
        (folder / "b.png").write_bytes(data)
    else:
        (folder / name).write_bytes(data)

    def judge(pictures) -> str:
        for one in pictures:
            if (one.rgb is None) == (one.problem == ""):
                return f"{one.name} comes with picture and problem, or neither"
            if one.rgb is not None and (one.rgb.ndim != 3 or one.rgb.dtype != np.uint8 or what == "huge"):
                return f"{one.name} was read as {one.rgb.shape}"
        return ""

    def read():
        with contextlib.suppress(UserError):
            read_picture(folder / name)
        try:
            return list(pictures_of(folder))
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    return Case(f"{name}: {what}", read, judge=judge)


@functools.cache
def good_shard() -> bytes:
    """Two samples with pictures, truth and meta data."""
    rng, side = np.random.default_rng(0), 64
    flow, ones = np.zeros((2, side, side), np.float32), np.ones((side, side), np.uint8)
    samples = [
        {
            "__key__": f"s{i}",
            **{f"{role}.webp": shards.encode_picture(rng.integers(0, 255, (side, side, 3), dtype=np.uint8), 101) for role in ("target", "profile")},
            "truth.npz": shards.encode_truth(flow, ones, ones * 0, ones),
            "meta.json": {
                "format_version": shards.FORMAT_VERSION,
                "identity": {"target": f"p{i}", "profile": f"p{i}"},
                "scene": {"target": f"b{i}", "profile": f"a{i}"},
                "cameras": {},
            },
        }
        for i in range(2)
    ]  # fmt: skip
    path = _folder() / "good.tar"
    shards.write_shard(path, samples)
    return path.read_bytes()


def training_shards(rng: random.Random) -> Case:
    """A shard with its bytes or one sample's members spoiled, read as training reads it."""
    path = _folder() / "spoiled.tar"
    if rng.random() < 0.5:
        data, text = _spoiled_bytes(rng, good_shard())
        path.write_bytes(data)
        must = text.startswith("random") or text == "empty"
        return Case(f"shard: {text}", lambda: SampleSet([path]), must)
    (_folder() / "good.tar").write_bytes(good_shard())
    samples = [{"__key__": key, **members} for key, members in shards.raw_samples(_folder() / "good.tar")]
    one = rng.choice(samples)
    member, must = rng.choice([name for name in one if name != "__key__"]), True
    if member == "meta.json":
        meta = json.loads(one[member])
        meta[rng.choice(["format_version", "identity", "scene"])] = rng.choice([None, 99, "x", [], {"profile": 3}])
        one[member] = rng.choice([json.dumps(meta).encode(), b"null", b"[]", b"{", b"\xff"])
    elif rng.random() < 0.3:
        del one[member]
        must = member != "truth.npz"  # photographs have none
    else:
        one[member] = rng.choice([b"", b"x", rng.randbytes(200), one[member][: len(one[member]) // 2]])
    shards.write_shard(path, samples) if all("meta.json" in sample for sample in samples) else path.write_bytes(b"")
    return Case(f"shard: {member} of {one['__key__']}", lambda: SampleSet([path]), must)


# ------------------------------------------------------------------------------------------------ command line

_COMMANDS = (
    "data validate BAD", "data validate GONE", "data sheet BAD --out FILE", "data sheet GONE --out OUT", "data folder GONE --out OUT",
    "data folder EMPTY --out OUT", "data folder EMPTY --out FILE/x",
    "data heads --out OUT --size SIZE",
    "data heads --out OUT --groups NUMBER", "curves EMPTY --out OUT", "curves BADCURVES --out OUT", "curves GONE --out OUT",
    "customise GONE --out OUT", "customise EMPTY --out OUT", "customise EMPTY --out OUT --base BAD", "export --run GONE --out OUT",
    "export --run EMPTY --out FILE", "measure files --bundle GONE", "measure files --bundle EMPTY", "measure faces --photograph BAD",
    "measure bundle --steps NUMBER", "evaluate --data GONE --out OUT", "evaluate --photos EMPTY --out OUT", "evaluate --data EMPTY --out FILE",
    "study noise --data EMPTY --out OUT", "study nothing --data EMPTY --out OUT", "study noise --data GONE --out OUT",
    "train matching --run OUT --data GONE", "train base --run FILE --data EMPTY", "train base --run OUT --data EMPTY --steps NUMBER",
    "train autoencoder --run OUT --data BAD --batch NUMBER", "train hint --run OUT --data EMPTY", "train nothing",
    "train matching --run OUT --data EMPTY --threads NUMBER", "train appearance --preset sd15 --base BAD --vision BAD --run OUT --data EMPTY",
)  # fmt: skip


def commands(rng: random.Random) -> Case:
    """A call of the command line that cannot work."""
    folder = Path(tempfile.mkdtemp(dir=_folder()))
    (folder / "empty").mkdir()
    (folder / "file").write_text("a file")
    (folder / "bad.tar").write_bytes(rng.randbytes(rng.randrange(3000)))
    curves = folder / "curves"
    curves.mkdir()
    (curves / "validation.jsonl").write_text(
        rng.choice(["{", "null\n", "[1]\n", '{"step": "x"}\n', "\x00\n", '{"step": 1}\n7\n'])
    )
    number = str(rng.choice([0, -3, -64, "x", 1e99, "nan"]))
    places = {"BAD": "bad.tar", "GONE": "gone", "OUT": "out", "EMPTY": "empty", "FILE": "file", "BADCURVES": "curves"}
    words = []
    for word in rng.choice(_COMMANDS).split():
        first, slash, rest = word.partition("/")
        word = str(folder / places[first]) + slash + rest if first in places else word
        words.append(
            number if word == "NUMBER" else str(rng.choice([0, -64, 8, 63, 72, 10**6, "x"])) if word == "SIZE" else word
        )

    def run():
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
                code = cli.main(words)
        except SystemExit as end:
            code = end.code
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return code, said.getvalue()

    def judge(result) -> str:
        code, said = result
        if words[:2] == ["data", "validate"] and code == 1:
            return ""  # it reports what it found
        if code != 2:
            return f"exit code {code}"
        last = said.strip().splitlines()[-1] if said.strip() else ""
        return "" if "Traceback" not in said and last else f"it says {said[-200:]!r}"

    return Case(" ".join(words), run, judge=judge)


# ------------------------------------------------------------------------------------------------ face finder


def _strange_points(rng: random.Random, count: int, far: float) -> tuple[tuple[float, float], ...]:
    """Landmarks on a line, in two places, in one, or anywhere."""
    ends = [(rng.uniform(-far, far), rng.uniform(-far, far)) for _ in range(2)]
    along = rng.choice([lambda i: i / count, lambda i: round(i / count), lambda i: 0])
    if rng.random() < 0.3:
        return tuple((rng.uniform(-far, far), rng.uniform(-far, far)) for _ in range(count))
    (x0, y0), (x1, y1) = ends
    return tuple((x0 + along(i) * (x1 - x0), y0 + along(i) * (y1 - y0)) for i in range(count))


def faces(rng: random.Random) -> Case:
    """A picture of strange size and content for the face finder, or faces of strange places for what comes after it."""
    height, width = (rng.choice([1, 2, 3, 7, 33, 64, 150, 300]) for _ in range(2))
    noise = torch.Generator().manual_seed(rng.randrange(2**31))
    picture = rng.choice(
        [
            torch.rand(1, height, width, 3, generator=noise), torch.ones(1, height, width, 3), torch.zeros(1, height, width, 3),
            torch.full((1, height, width, 3), 1e30), torch.rand(1, height, width, 3, generator=noise).round(),
            torch.linspace(-5, 5, width).expand(1, height, 3, width).movedim(-1, -2),
        ]
    )  # fmt: skip
    if rng.random() < 0.5:
        far = rng.choice([1e-3, 1.0, 50.0, 1e4, 1e9])
        box = tuple(rng.uniform(-far, far) for _ in range(2))
        box = (*box, box[0] + rng.choice([0.0, 1e-6, 3.0, far]), box[1] + rng.choice([0.0, 1e-6, 3.0, far]))
        layout = rng.choice(["none", "mediapipe", "ibug_68"])
        face = Face(box, _strange_points(rng, {"none": 0, "mediapipe": 478, "ibug_68": 68}[layout], far), layout)
        found = Faces(height, width, ((face,),))
        size = rng.choice([64, 128])

        def place():
            crop, stitch, *_ = pack.align.AlignFace.execute(
                picture, found, 0, size, "ffhq", 1.0, 0.0, 0.0, 180.0, "error"
            ).args
            inputs = (picture, crop, stitch, 0.08, "off", 1.0, 1.0, True, "as masked")
            return crop, *pack.stitch.StitchFace.execute(*inputs).args

        def whole(result) -> str:
            return "" if all(torch.isfinite(value).all() for value in result) else "pictures that are not finite"

        def refused():
            try:
                return place()
            except ValueError as error:
                raise UserError(str(error)) from error

        return Case(f"a face ({layout}) at {face.box} of {width}x{height}", refused, judge=whole)

    def judge(result) -> str:
        for face in (face for frame in result.frames for face in frame):
            numbers = np.array([*face.box, *face.points.ravel(), face.score])
            if not np.isfinite(numbers).all():
                return "a face that is not finite"
            if face.side < 1 or min(face.box[2], width) - max(face.box[0], 0) <= 0:
                return f"a face outside the picture: {face.box}"
        return "" if result.message else "no message"

    settings = DetectionSettings(backend="mediapipe", effort=rng.choice(["fast", "normal"]))
    return Case(f"{width}x{height} of strange pixels", lambda: find_faces(picture, settings), judge=judge)


def through_server(rng: random.Random) -> Case:
    """A prompt with one value or link spoiled, queued in a real ComfyUI."""
    text, prompt, must_refuse = served.spoiled(rng)
    return Case(text, lambda: served.run(prompt), must_refuse)


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "nodes": nodes,
    "net files": net_files,
    "picture folders": folders,
    "shards": training_shards,
    "command line": commands,
    "face finder": faces,
    "server": through_server,
}


# ------------------------------------------------------------------------------------------------ planted faults


def plant(kind: str, set_attribute: Callable[[object, str, object], None]) -> None:
    """Put a fault of this kind into the product, as it might come back; the campaign must find it.

    Args:
        set_attribute: `setattr`, or something that undoes it again.
    """
    from ...models.faces import detection
    from ...models.nets import files
    from ...nodes import common
    from ...training.commands import curves, data
    from ...training.data.folders import pictures

    def nothing(*_, **__):
        return None

    if kind == "nodes":
        set_attribute(common, "check_widgets", nothing)
    elif kind == "net files":
        for module in (files, bundle):
            set_attribute(module, "check_tensors", nothing)
    elif kind == "picture folders":
        set_attribute(pictures, "check_picture_size", nothing)
        set_attribute(pictures, "_picture", lambda path, name: pictures.Picture(name, None))
    elif kind == "shards":
        set_attribute(SampleSet, "__init__", nothing)
    elif kind == "command line":
        for module in (curves, data):
            set_attribute(module, "main", lambda _: 1 / 0)
    elif kind == "face finder":
        real = detection.finder.find

        def far(rgb, effort):
            points = np.full((478, 3), math.nan)
            _, looks = real(rgb, effort)
            return [
                dataclasses.make_dataclass("Found", ["points", "score", "box"])(points, 1.0, (math.nan,) * 4)
            ], looks

        set_attribute(detection.finder, "find", far)
    elif kind == "server":
        set_attribute(served, "PLANTED", True)
    else:
        raise ValueError(kind)
