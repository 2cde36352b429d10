"""Shards: WebDataset tars of portrait pairs and triplets, written atomically and read without ever skipping a fault."""

import functools
import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
import webdataset

from ...models.errors import UserError
from ...models.writing import replacing

FORMAT_VERSION = 1
FLOW_UNIT = 64  # flow is stored as int16 in 1/64 px
FLOW_LIMIT = 500 * FLOW_UNIT
MASKS = ("visible", "hair", "face")
END_OF_TAR = 1024  # a tar ends with two blocks of 512 zero bytes
REMEMBERED = 64  # pictures kept decoded while a shard is read: a group's 24 come in 48 samples
REQUIRED = ("target.webp", "profile.webp", "meta.json")


class ShardError(UserError):
    """A shard that cannot be read; the message names the shard and the member."""


def encode_picture(picture: np.ndarray, quality: int = 95) -> bytes:
    """WebP bytes of an sRGB uint8 picture `[H, W, 3]`; quality 1..100."""
    ok, data = cv2.imencode(".webp", np.ascontiguousarray(picture[..., ::-1]), [cv2.IMWRITE_WEBP_QUALITY, int(quality)])
    if not ok:
        raise UserError(f"could not encode a picture of shape {picture.shape}")
    return data.tobytes()


def decode_picture(data: bytes) -> np.ndarray:
    """sRGB uint8 `[H, W, 3]` of encoded bytes.

    Raises:
        UserError: not a picture.
    """
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if picture is None:
        raise UserError("not a readable picture")
    return np.ascontiguousarray(picture[..., ::-1])


def encode_truth(flow: np.ndarray, visible: np.ndarray, hair: np.ndarray, face: np.ndarray) -> bytes:
    """npz bytes (np.load reads them without pickle) of flow `[2, H, W]` in pixels and three uint8 masks `[H, W]`.

    Flow is rounded to 1/64 px and clipped to +-500 px, also where nothing is visible. Masks are bit-packed along the
    width.
    """
    flow16 = np.clip(np.rint(flow * FLOW_UNIT), -FLOW_LIMIT, FLOW_LIMIT).astype(np.int16)
    arrays = {"flow": flow16, "size": np.array(flow16.shape[1:], np.int32)}
    for name, mask in zip(MASKS, (visible, hair, face)):
        arrays[name] = np.packbits(mask.astype(bool), axis=-1)
    out = io.BytesIO()
    # An npz is a zip of npy files. np.savez_compressed would take the slow level 6 and today's date.
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, array in arrays.items():
            member = io.BytesIO()
            np.lib.format.write_array(member, array, allow_pickle=False)
            info = zipfile.ZipInfo(name + ".npy", (1980, 1, 1, 0, 0, 0))
            archive.writestr(info, member.getvalue(), zipfile.ZIP_DEFLATED, 1)
    return out.getvalue()


def decode_truth(data: bytes) -> dict[str, np.ndarray]:
    """flow float32 `[2, H, W]` in pixels; visible, hair and face uint8 `[H, W]` in 0, 1.

    Raises:
        UserError: an array of another type or shape.
        Exception: whatever numpy raises for bytes that are no such archive.
    """
    with np.load(io.BytesIO(data), allow_pickle=False) as z:
        arrays = {name: z[name] for name in ("size", "flow", *MASKS)}
    height, width = (int(v) for v in arrays["size"])
    if arrays["flow"].dtype != np.int16 or arrays["flow"].shape != (2, height, width):
        raise UserError(f"flow is {arrays['flow'].dtype} {arrays['flow'].shape}, not int16 {(2, height, width)}")
    out = {"flow": arrays["flow"].astype(np.float32) / FLOW_UNIT}
    for name in MASKS:
        if arrays[name].shape != (height, -(-width // 8)):
            raise UserError(f"{name} is {arrays[name].shape}, not {(height, -(-width // 8))}")
        out[name] = np.unpackbits(arrays[name], axis=-1)[:, :width]
    return out


def write_shard(path: Path | str, samples: Iterable[dict]) -> int:
    """Write samples to a tar, under a hidden temporary name first; nothing is left if it fails.

    Args:
        samples: dicts of `__key__` and, under the members' suffixes, encoded bytes (for `meta.json` also a dict).

    Returns:
        the number of samples.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with replacing(path) as temporary, webdataset.TarWriter(str(temporary), encoder=False, mtime=0) as writer:
        for sample in samples:
            sample = dict(sample)
            if not isinstance(sample["meta.json"], bytes):
                text = json.dumps(sample["meta.json"], separators=(",", ":"), sort_keys=True)
                sample["meta.json"] = text.encode()
            writer.write(sample)
            count += 1
    return count


def raw_samples(path: Path | str) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Yield (key, {suffix: bytes}) of a tar, in order and undecoded.

    Raises:
        ShardError: not a tar, cut short, damaged, empty, with a link or device inside, or with a sample or a member twice.
            Samples before the damage have been yielded by then.
    """
    key, members, last, ended = None, {}, "(first member)", set()
    try:
        with tarfile.open(path, "r|") as tar:
            for info in tar:
                last = info.name
                if info.isdir():
                    continue
                if not info.isfile():
                    raise ShardError(f"{path}: {info.name}: a link or device, not a file")
                folder, slash, file = info.name.removeprefix("./").rpartition("/")  # a folder's name may hold dots
                name, _, suffix = file.partition(".")
                name = folder + slash + name
                data = tar.extractfile(info).read()
                if len(data) != info.size:
                    raise ShardError(f"{path}: {info.name}: truncated ({len(data)} of {info.size} bytes)")
                if key is not None and name != key:
                    yield key, members
                    ended.add(key)
                    members = {}
                if name in ended or suffix in members:
                    raise ShardError(f"{path}: {info.name}: a second time")
                key = name
                members[suffix] = data
    except (tarfile.TarError, EOFError, OSError) as error:
        raise ShardError(f"{path}: damaged after {last}: {error}") from error
    # A file cut exactly between members is otherwise silent.
    with open(path, "rb") as f:
        f.seek(0, os.SEEK_END)
        if f.tell() < END_OF_TAR:
            raise ShardError(f"{path}: truncated: no end of archive")
        f.seek(-END_OF_TAR, os.SEEK_END)
        if f.read(END_OF_TAR).strip(b"\0"):
            raise ShardError(f"{path}: truncated after {last}: no end of archive")
    if key is None:
        raise ShardError(f"{path}: no samples")
    yield key, members


def decode_sample(path: Path | str, key: str, members: dict[str, bytes], picture=decode_picture) -> dict:
    """Decode and check the raw members of one sample; see `read_shards` for the result. Members of other names are ignored.

    Args:
        picture: decodes a picture's bytes; one that remembers saves work where pictures recur.

    Raises:
        ShardError: a member is missing, unreadable, of another format version, or makes no sense.
    """
    out = {"key": key, "shard": str(path)}
    for suffix in REQUIRED:
        if suffix not in members:
            raise ShardError(f"{path}: {key}.{suffix}: missing")
    for suffix, data in members.items():
        try:
            if suffix.endswith(".webp"):
                out[suffix[:-5]] = picture(data)
            elif suffix == "truth.npz":
                out.update(decode_truth(data))
            elif suffix == "meta.json":
                out["meta"] = json.loads(data)
        except Exception as error:
            told = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise ShardError(f"{path}: {key}.{suffix}: {told}") from error
    for doubt in _doubts(out):
        raise ShardError(f"{path}: {key}{doubt}")
    return out


def _doubts(sample):
    """What makes no sense in a decoded sample: strings after its key."""
    meta = sample["meta"]
    if not isinstance(meta, dict):
        yield f".meta.json: a {type(meta).__name__}, not a dictionary"
        return
    version = meta.get("format_version")
    if version != FORMAT_VERSION:
        yield f".meta.json: format version {version}, this code reads {FORMAT_VERSION}"
        return
    shape = sample["target"].shape
    for name in ("profile", "style"):
        if name in sample and sample[name].shape != shape:
            yield f".{name}.webp: {sample[name].shape}, target is {shape}"
    if "flow" in sample and sample["flow"].shape[1:] != shape[:2]:
        yield f".truth.npz: flow {sample['flow'].shape}, target is {shape}"
    for name in ("cameras", "landmarks5", "identity", "scene"):
        if not isinstance(meta.get(name, {}), dict):
            yield f".meta.json: {name} is no dictionary"
            return
    for name, roles in (("identity", ("target", "style")), ("scene", ("target", "profile", "style"))):
        for role in roles:
            if role in sample and not isinstance(meta.get(name, {}).get(role), str | int):
                yield f".meta.json: no {name} of the {role}"
                return
    for name, camera in meta.get("cameras", {}).items():
        if not _finite(camera, (25,)):
            yield f".meta.json: camera {name} is not 25 finite numbers"
    for name, points in meta.get("landmarks5", {}).items():
        if not _finite(points, (5, 2)):
            yield f".meta.json: landmarks5 {name} is not 5 x 2 finite numbers"


def _finite(values, shape: tuple[int, ...]) -> bool:
    try:
        array = np.asarray(values, np.float64)
    except (TypeError, ValueError):
        return False
    return array.shape == shape and bool(np.isfinite(array).all())


def read_shards(paths: Iterable[Path | str] | Path | str, shuffle_seed: int | None = None) -> Iterator[dict]:
    """Yield decoded samples of shards, in order or, with a seed, in shuffled order of shards.

    Yields:
        dicts of key, shard (its path), target, profile and perhaps style (uint8 `[H, W, 3]` sRGB), perhaps flow
        (float32 `[2, H, W]`, px, target <- profile) with visible, hair and face (uint8 `[H, W]`, of the target), and
        meta (dict); docs/data.md says what is in it.

    Raises:
        ShardError: no shards, or one that is missing or damaged; nothing is ever skipped.
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
        yield from (decode_sample(path, key, members) for key, members in raw_samples(path))


def validate_shards(paths: Iterable[Path | str]) -> list[str]:
    """The first problem of each sample; empty means that all decode and make sense and that no key comes twice.

    After damage to the tar itself the rest of a shard is not read.
    """
    problems, seen = [], {}
    decode = functools.lru_cache(REMEMBERED)(decode_picture)
    for path in [Path(p) for p in paths]:
        try:
            for key, members in raw_samples(path):
                if key in seen:
                    problems.append(f"{path}: {key}: also in {seen[key]}")
                seen[key] = path
                try:
                    decode_sample(path, key, members, decode)
                except ShardError as error:
                    problems.append(str(error))
        except ShardError as error:
            problems.append(str(error))
    return problems
