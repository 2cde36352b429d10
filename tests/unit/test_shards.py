"""Shards: round trip, damage is named, never skipped."""

import numpy as np
import pytest

from icportrait.training.data import shards


def _sample(key="a0", size=32):
    rng = np.random.default_rng(3)
    y, x = np.mgrid[0:size, 0:size] / size
    picture = (np.stack([x, y, 1 - x], -1) * 255).astype(np.uint8)
    flow = rng.uniform(-60, 60, (2, size, size)).astype(np.float32)
    masks = [(rng.random((size, size)) < 0.5).astype(np.uint8) for _ in range(3)]
    data = shards.encode_picture(picture)
    sample = {
        "__key__": key,
        "target.webp": data,
        "profile.webp": data,
        "style.webp": data,
        "truth.npz": shards.encode_truth(flow, *masks),
        "meta.json": {"format_version": shards.FORMAT_VERSION, "cameras": {"target": [0.0] * 25}},
    }
    return sample, picture, flow, masks


def test_round_trip(tmp_path):
    sample, picture, flow, masks = _sample()
    path = tmp_path / "x.tar"
    assert shards.write_shard(path, [sample, dict(sample, __key__="a1")]) == 2
    back = list(shards.read_shards([path]))
    assert [b["key"] for b in back] == ["a0", "a1"]
    assert np.abs(back[0]["flow"] - flow).max() <= 0.5 / 64 + 1e-4
    for name, mask in zip(("visible", "hair", "face"), masks):
        assert np.array_equal(back[0][name], mask)
    assert np.abs(back[0]["target"].astype(int) - picture).mean() < 4
    assert shards.validate_shards([path]) == []
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_odd_width_masks(tmp_path):
    sample, _, _, masks = _sample(size=29)
    path = tmp_path / "x.tar"
    shards.write_shard(path, [sample])
    assert np.array_equal(next(shards.read_shards(path))["hair"], masks[1])


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_shard_is_named(tmp_path, keep):
    path = tmp_path / "cut.tar"
    shards.write_shard(path, [_sample(f"a{i}")[0] for i in range(4)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(shards.ShardError, match=r"cut\.tar.*a\d"):
        list(shards.read_shards([path]))
    assert len(shards.validate_shards([path])) == 1


def test_corrupt_member_is_named(tmp_path):
    sample, *_ = _sample()
    path = tmp_path / "bad.tar"
    shards.write_shard(path, [dict(sample, **{"profile.webp": b"RIFFnonsense"})])
    with pytest.raises(shards.ShardError, match=r"bad\.tar.*a0\.profile\.webp"):
        list(shards.read_shards([path]))


def test_missing_member_is_named(tmp_path):
    sample, *_ = _sample()
    del sample["profile.webp"]
    path = tmp_path / "bad.tar"
    shards.write_shard(path, [sample])
    with pytest.raises(shards.ShardError, match=r"a0\.profile\.webp: missing"):
        list(shards.read_shards([path]))


def test_failed_write_leaves_nothing(tmp_path):
    def broken():
        yield _sample()[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        shards.write_shard(tmp_path / "x.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_shuffle_keeps_everything(tmp_path):
    paths = []
    for i in range(5):
        paths.append(tmp_path / f"{i}.tar")
        shards.write_shard(paths[-1], [_sample(f"k{i}")[0]])
    keys = [s["key"] for s in shards.read_shards(paths, shuffle_seed=1)]
    assert sorted(keys) == [f"k{i}" for i in range(5)] and keys != sorted(keys)
