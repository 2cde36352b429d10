"""Shards: WebDataset tars of portrait pairs and triplets, written atomically and read without ever skipping a fault."""

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import webdataset

FORMAT_VERSION = 1
FLOW_UNIT = 64  # flow is stored as int16 in 1/64 px
PICTURES = ("target.webp", "profile.webp", "style.webp")
REQUIRED = ("target.webp", "profile.webp", "meta.json")


class ShardError(RuntimeError):
    """A shard that cannot be read; the message names the shard and the member."""


def encode_picture(picture, quality=95):
    """WebP bytes of an sRGB uint8 picture [H, W, 3]."""
    ok, data = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, int(quality)])
    if not ok:
        raise ValueError(f"could not encode a picture of shape {picture.shape}")
    return data.tobytes()


def decode_picture(data):
    """sRGB uint8 [H, W, 3] of encoded bytes."""
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise ValueError("not a readable picture")
    return np.ascontiguousarray(picture[..., ::-1])


def encode_truth(flow, visible, hair, face):
    """npz bytes (readable by np.load without pickle) of flow [2, H, W] in pixels and three uint8 masks [H, W].

    Masks are bit-packed along the width. Flow outside the visible region is kept, clipped to +-500 px.
    """
    flow16 = np.clip(np.rint(flow * FLOW_UNIT), -32000, 32000).astype(np.int16)
    out = io.BytesIO()
    # savez_compressed has one (slow) level of compression; an npz is a zip of npy files.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        arrays = {"flow": flow16, "size": np.array(flow16.shape[1:], np.int32)}
        arrays.update(
            {k: np.packbits(v.astype(bool), axis=-1) for k, v in (("visible", visible), ("hair", hair), ("face", face))}
        )
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            archive.writestr(
                zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0)), member.getvalue(), zipfile.ZIP_DEFLATED, 1
            )
    return out.getvalue()


def decode_truth(data):
    """dict of flow float32 [2, H, W] in pixels and visible, hair, face uint8 [H, W]."""
    with np.load(io.BytesIO(data), allow_pickle=False) as z:
        height, width = (int(v) for v in z["size"])
        out = {"flow": z["flow"].astype(np.float32) / FLOW_UNIT}
        for name in ("visible", "hair", "face"):
            out[name] = np.unpackbits(z[name], axis=-1)[:height, :width]
    return out


def write_shard(path, samples):
    """Write samples to a tar, under a temporary name first. Returns the number of samples.

    A sample is a dict with `__key__` and encoded bytes (or, for `meta.json`, a dict) under the member suffixes.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    count = 0
    try:
        with webdataset.TarWriter(str(temporary), encoder=False, mtime=0) as writer:
            for sample in samples:
                sample = dict(sample)
                if not isinstance(sample["meta.json"], bytes):
                    sample["meta.json"] = json.dumps(
                        sample["meta.json"], separators=(",", ":"), sort_keys=True
                    ).encode()
                writer.write(sample)
                count += 1
        os.replace(temporary, path)
    finally:
        if temporary.exists():
            temporary.unlink()
    return count


def raw_samples(path):
    """(key, {suffix: bytes}) of a tar, raising ShardError on anything odd."""
    key, members, last = None, {}, "(first member)"
    try:
        with tarfile.open(path, "r|") as tar:
            for info in tar:
                last = info.name
                if not info.isfile():
                    continue
                name, _, suffix = info.name.partition(".")
                data = tar.extractfile(info).read()
                if len(data) != info.size:
                    raise ShardError(f"{path}: {info.name}: truncated ({len(data)} of {info.size} bytes)")
                if key is not None and name != key:
                    yield key, members
                    members = {}
                key = name
                members[suffix] = data
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{path}: damaged after {last}: {error}") from error
    # A tar ends with two empty blocks; a file cut exactly between members lacks them and is otherwise silent.
    with open(path, "rb") as f:
        f.seek(0, os.SEEK_END)
        if f.tell() < 1024:
            raise ShardError(f"{path}: truncated: no end of archive")
        f.seek(-1024, os.SEEK_END)
        if f.read(1024).strip(b"\0"):
            raise ShardError(f"{path}: truncated after {last}: no end of archive")
    if key is None:
        raise ShardError(f"{path}: no samples")
    yield key, members


def decode_sample(path, key, members):
    """Decode the raw members of one sample; see `read_shards` for the result."""
    out = {"key": key, "shard": str(path)}
    for suffix in REQUIRED:
        if suffix not in members:
            raise ShardError(f"{path}: {key}.{suffix}: missing")
    for suffix, data in members.items():
        try:
            if suffix.endswith(".webp"):
                out[suffix[:-5]] = decode_picture(data)
            elif suffix == "truth.npz":
                out.update(decode_truth(data))
            elif suffix == "meta.json":
                out["meta"] = json.loads(data)
        except Exception as error:
            raise ShardError(f"{path}: {key}.{suffix}: {error}") from error
    version = out["meta"].get("format_version")
    if version != FORMAT_VERSION:
        raise ShardError(f"{path}: {key}.meta.json: format version {version}, this code reads {FORMAT_VERSION}")
    return out


def read_shards(paths, shuffle_seed=None):
    """Yield decoded samples of shards, in order or, with a seed, in shuffled order of shards.

    A sample is a dict: key, shard, target, profile and perhaps style (uint8 [H, W, 3] sRGB), flow (float32 [2, H, W], px,
    target <- profile), visible, hair, face (uint8 [H, W], of the target), meta (dict).
    """
    paths = [Path(p) for p in ([paths] if isinstance(paths, (str, Path)) else paths)]
    if not paths:
        raise ShardError("no shards given")
    if shuffle_seed is not None:
        order = np.random.default_rng(shuffle_seed).permutation(len(paths))
        paths = [paths[i] for i in order]
    for path in paths:
        if not path.exists():
            raise ShardError(f"{path}: no such shard")
        for key, members in raw_samples(path):
            yield decode_sample(path, key, members)


def validate_shards(paths):
    """All problems found, as a list of strings; empty means every sample of every shard decodes and makes sense."""
    problems, seen = [], {}
    for path in [Path(p) for p in paths]:
        try:
            for sample in read_shards([path]):
                key = sample["key"]
                if key in seen:
                    problems.append(f"{path}: {key}: also in {seen[key]}")
                seen[key] = path
                shape = sample["target"].shape
                for name in ("profile", "style"):
                    if name in sample and sample[name].shape != shape:
                        problems.append(f"{path}: {key}.{name}.webp: {sample[name].shape}, target is {shape}")
                if "flow" in sample and sample["flow"].shape[1:] != shape[:2]:
                    problems.append(f"{path}: {key}.truth.npz: flow {sample['flow'].shape}, target is {shape}")
                for name, camera in sample["meta"].get("cameras", {}).items():
                    if len(camera) != 25 or not np.isfinite(camera).all():
                        problems.append(f"{path}: {key}.meta.json: camera {name} is not 25 finite numbers")
        except ShardError as error:
            problems.append(str(error))
    return problems
