"""Shards: round trip, damage is named, never skipped."""

import io
import tarfile

import cv2
import numpy as np
import pytest

from icportrait.training.data import shards
from icportrait.training.data.contact_sheet import GREY, contact_sheet, warp_profile

META = {
    "format_version": shards.FORMAT_VERSION,
    "identity": {"target": 1, "style": 2},
    "scene": {"target": 1, "profile": 0, "style": 1},
}


def make_sample(key="a0", size=32):
    """An encoded sample, and what was encoded: picture, flow, masks."""
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
        "meta.json": META | {"cameras": {"target": [0.0] * 25}},
    }
    return sample, picture, flow, masks


def write(path, *samples, **members):
    """Write samples (default: one) with members replaced ("target_webp") or, if None, left out."""
    out = []
    for sample in samples or (make_sample()[0],):
        sample = sample | {name.replace("_", "."): data for name, data in members.items()}
        out.append({name: data for name, data in sample.items() if data is not None})
    assert shards.write_shard(path, out) == len(out)
    return path


def test_round_trip(tmp_path):
    sample, picture, flow, masks = make_sample()
    path = write(tmp_path / "x.tar", sample, sample | {"__key__": "a1"})
    back = list(shards.read_shards([path]))
    assert [b["key"] for b in back] == ["a0", "a1"]
    assert np.abs(back[0]["flow"] - flow).max() <= 0.5 / 64 + 1e-4
    for name, mask in zip(("visible", "hair", "face"), masks):
        assert np.array_equal(back[0][name], mask)
    assert np.abs(back[0]["target"].astype(int) - picture).mean() < 4
    assert shards.validate_shards([path]) == []
    assert [p.name for p in tmp_path.iterdir()] == ["x.tar"]


def test_odd_width_masks(tmp_path):
    sample, _, _, masks = make_sample(size=29)
    assert np.array_equal(next(shards.read_shards(write(tmp_path / "x.tar", sample)))["hair"], masks[1])


def test_far_flow_is_clipped():
    masks = [np.zeros((4, 4), np.uint8)] * 3
    back = shards.decode_truth(shards.encode_truth(np.full((2, 4, 4), -1e9, np.float32), *masks))
    assert (back["flow"] == -500).all()


def test_style_and_truth_are_optional(tmp_path):
    path = write(tmp_path / "x.tar", style_webp=None, truth_npz=None)
    (back,) = shards.read_shards(path)
    assert "style" not in back and "flow" not in back
    assert shards.validate_shards([path]) == []


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
def test_truncated_shard_is_named(tmp_path, keep):
    path = write(tmp_path / "cut.tar", *[make_sample(f"a{i}")[0] for i in range(4)])
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(shards.ShardError, match=r"cut\.tar.*a\d"):
        list(shards.read_shards([path]))
    assert len(shards.validate_shards([path])) == 1


def test_cut_between_members_is_named(tmp_path):
    path = write(tmp_path / "cut.tar")
    data = path.read_bytes().rstrip(b"\0")
    path.write_bytes(data + b"\0" * (-len(data) % 512))
    with pytest.raises(shards.ShardError, match=r"cut\.tar: truncated after a0\..*: no end of archive"):
        list(shards.read_shards([path]))


@pytest.mark.parametrize("data", [b"", b"not a tar" * 300])
def test_no_tar_is_named(tmp_path, data):
    (tmp_path / "bad.tar").write_bytes(data)
    with pytest.raises(shards.ShardError, match=r"bad\.tar"):
        list(shards.read_shards(tmp_path / "bad.tar"))


def test_missing_shard_is_named(tmp_path):
    with pytest.raises(shards.ShardError, match=r"gone\.tar: no such shard"):
        list(shards.read_shards([tmp_path / "gone.tar"]))
    with pytest.raises(shards.ShardError, match="no shards given"):
        list(shards.read_shards([]))


@pytest.mark.parametrize("name", ["profile_webp", "truth_npz", "meta_json"])
def test_corrupt_member_is_named(tmp_path, name):
    path = write(tmp_path / "bad.tar", **{name: b"RIFFnonsense"})
    with pytest.raises(shards.ShardError, match=rf"bad\.tar: a0\.{name.replace('_', '.')}"):
        list(shards.read_shards([path]))


def test_missing_member_is_named(tmp_path):
    path = write(tmp_path / "bad.tar", profile_webp=None)
    with pytest.raises(shards.ShardError, match=r"a0\.profile\.webp: missing"):
        list(shards.read_shards([path]))


@pytest.mark.parametrize(
    "meta,said",
    [
        (b"null", "meta.json: a NoneType, not a dictionary"),
        (META | {"cameras": None}, "meta.json: cameras is no dictionary"),
        (META | {"landmarks5": {"target": [[float("nan"), 1]] * 5}}, "landmarks5 target is not 5 x 2 finite numbers"),
        (META | {"scene": {"target": 1}}, "no scene of the profile"),
    ],
)
def test_meta_that_makes_no_sense_is_named(tmp_path, meta, said):
    path = write(tmp_path / "bad.tar", meta_json=meta)
    (problem,) = shards.validate_shards([path])
    assert "bad.tar: a0.meta.json" in problem and said in problem
    with pytest.raises(shards.ShardError, match="bad.tar: a0.meta.json"):
        list(shards.read_shards(path))


def _npz(**arrays) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def test_a_flow_of_another_type_is_named(tmp_path):
    masks = dict.fromkeys(shards.MASKS, np.zeros((32, 4), np.uint8))
    flow = np.full((2, 32, 32), np.nan, np.float32)
    path = write(tmp_path / "bad.tar", truth_npz=_npz(flow=flow, size=np.array([32, 32]), **masks))
    assert "bad.tar: a0.truth.npz: flow is float32" in shards.validate_shards([path])[0]


@pytest.mark.parametrize("names", [("a.meta.json", "a.meta.json"), ("a.meta.json", "b.meta.json", "a.target.webp")])
def test_what_comes_twice_is_named(tmp_path, names):
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.size = 2
            tar.addfile(info, io.BytesIO(b"{}"))
    with pytest.raises(shards.ShardError, match=f"x.tar: {names[-1]}: a second time"):
        list(shards.raw_samples(tmp_path / "x.tar"))


@pytest.mark.parametrize("folder", ["./", "./a.b/", "a/"])
def test_the_names_that_tar_writes_for_a_folder_are_read(tmp_path, folder):
    write(tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar") as plain, tarfile.open(tmp_path / "y.tar", "w") as tar:
        for info in plain:
            data = plain.extractfile(info)
            info.name = folder + info.name
            tar.addfile(info, data)
    (sample,) = shards.read_shards(tmp_path / "y.tar")
    assert sample["key"] == folder.removeprefix("./") + "a0"


def test_a_link_is_not_passed_over(tmp_path):
    path = tmp_path / "link.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("a0.target.webp")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(info)
    assert "link.tar: a0.target.webp: a link or device" in shards.validate_shards([path])[0]


def test_other_format_version_is_refused(tmp_path):
    path = write(tmp_path / "new.tar", meta_json={"format_version": shards.FORMAT_VERSION + 1})
    with pytest.raises(shards.ShardError, match=r"a0\.meta\.json: format version 2, this code reads 1"):
        list(shards.read_shards([path]))


def test_validate_lists_every_problem(tmp_path):
    camera = META | {"cameras": {"target": [0.0] * 24}}
    small = make_sample(size=16)[0]["profile.webp"]
    one = write(tmp_path / "one.tar", profile_webp=small, meta_json=camera)
    two = write(tmp_path / "two.tar")
    problems = shards.validate_shards([one, two])
    assert len(problems) == 2
    assert "a0.profile.webp: (16, 16, 3), target is (32, 32, 3)" in problems[0]
    assert "two.tar: a0: also in" in problems[1]
    (problem,) = shards.validate_shards([write(tmp_path / "three.tar", meta_json=camera)])
    assert "camera target is not 25 finite numbers" in problem


def test_failed_write_leaves_nothing(tmp_path):
    def broken():
        yield make_sample()[0]
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        shards.write_shard(tmp_path / "x.tar", broken())
    assert list(tmp_path.iterdir()) == []


def test_shuffle_keeps_everything(tmp_path):
    paths = [write(tmp_path / f"{i}.tar", make_sample(f"k{i}")[0]) for i in range(5)]
    keys = [s["key"] for s in shards.read_shards(paths, shuffle_seed=1)]
    assert sorted(keys) == [f"k{i}" for i in range(5)] and keys != sorted(keys)
    assert [s["key"] for s in shards.read_shards(paths, shuffle_seed=1)] == keys


def test_warp_takes_the_profile_where_the_flow_points():
    profile = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    flow = np.zeros((2, 8, 8), np.float32)
    flow[0], flow[1] = 2, 1
    visible = np.zeros((8, 8), np.uint8)
    visible[3, 4] = 1
    warped = warp_profile({"profile": profile, "flow": flow, "visible": visible})
    assert (warped[3, 4] == profile[4, 6]).all()
    assert (warped[visible == 0] == GREY).all()


def test_contact_sheet(tmp_path):
    samples = [make_sample(f"a{i}")[0] for i in range(5)]
    del samples[2]["style.webp"], samples[2]["truth.npz"]
    sheet = contact_sheet(write(tmp_path / "x.tar", *samples), tmp_path / "sheet.png", rows=2, every=2)
    picture = cv2.imread(str(sheet))
    assert picture.shape == (64, 160, 3)
    assert (picture[32:, 64:] == GREY).all() and not (picture[:32, 64:] == GREY).all()
