"""Shards to samples: pictures held once, flow and masks at the latents' cells, latents encoded once."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from child import child_environment
from tiny_training import smooth_picture, write_shard

from icportrait.training.data import shards
from icportrait.training.data.samples import SampleSet
from icportrait.training.stages.sample_sets import encode_samples, stored_samples


def shard_of(folder, flow, visible, hair, face, keys=("a",)):
    size = face.shape[0]
    picture = shards.encode_picture(smooth_picture(1, size, size))
    samples = [
        {
            "__key__": key,
            "target.webp": picture,
            "profile.webp": picture,
            "truth.npz": shards.encode_truth(flow, visible, hair, face),
            "meta.json": {
                "format_version": shards.FORMAT_VERSION,
                "identity": {"target": "p", "profile": "p"},
                "scene": {"target": "b", "profile": "a"},
            },
        }
        for key in keys
    ]
    shards.write_shard(folder / "x.tar", samples)
    return folder / "x.tar"


def masks(size: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    blocks = (random.random((3, size // 8, size // 8)) < 0.7).astype(np.uint8)
    fine = np.kron(blocks, np.ones((1, 8, 8), np.uint8))
    fine[:, 3, 5] ^= 1  # one odd pixel, off every cell centre
    return list(fine)


@pytest.mark.parametrize("scale", [1, 2])
def test_flow_and_masks_at_cell_centres(tmp_path, scale):
    """Against loops over the full picture: a cell's flow is that of the four pixels around its centre, in pixels of
    the picture that is used; the face is an area share; valid means visible and not hair."""
    stored = 64
    y, x = np.mgrid[0:stored, 0:stored].astype(np.float32)
    flow = np.stack((0.25 * x - 5, 0.5 * y + 0.125 * x)).astype(np.float32)
    visible, hair, face = masks(stored)
    samples = SampleSet([shard_of(tmp_path, flow, visible, hair, face)], size=stored // scale)
    sample = samples.samples[0]
    cell = 8 * scale
    count = stored // cell
    assert sample.flow.shape == (2, count, count)
    for j in range(count):
        for i in range(count):
            top, left = j * cell + cell // 2 - 1, i * cell + cell // 2 - 1
            for channel in (0, 1):
                four = [flow[channel, top + b, left + a] for a in (0, 1) for b in (0, 1)]
                assert sample.flow[channel, j, i].item() == pytest.approx(sum(four) / 4 / scale, abs=1 / 64)
            seen = all(visible[top + b, left + a] and not hair[top + b, left + a] for a in (0, 1) for b in (0, 1))
            assert bool(sample.visible[j, i]) == seen
            area = face[j * cell : (j + 1) * cell, i * cell : (i + 1) * cell].mean()
            assert sample.face[j, i].item() == pytest.approx(area, abs=1e-6)


def test_a_picture_of_several_samples_is_held_once(tmp_path):
    flow = np.zeros((2, 64, 64), np.float32)
    samples = SampleSet([shard_of(tmp_path, flow, *masks(64), keys=("a", "b", "c"))])
    assert len(samples) == 3 and set(samples.pictures) == {"p@b", "p@a"}


def test_styles_and_identities(tmp_path):
    samples = SampleSet([write_shard(tmp_path / "x.tar", people=2, styles=True)])
    assert [(s.target, s.profile, s.style) for s in samples.samples] == [
        ("p0@b0", "p0@a0", "x0@b0"),
        ("p1@b1", "p1@a1", "x1@b1"),
    ]
    assert [s.identity for s in samples.samples] == ["p0", "p1"]
    images = samples.images(["p1@b1", "x0@b0"])
    assert images.shape == (2, 3, 64, 64) and images.dtype == torch.float32
    assert torch.equal(images[0], samples.pictures["p1@b1"].movedim(-1, 0).float() / 255)


def test_the_synthetic_flow_is_exact(tmp_path):
    """The data the other tests train on: target(x, y) = profile(x + dx, y + dy) wherever it says visible."""
    for record in shards.read_shards(write_shard(tmp_path / "x.tar")):
        dx, dy = (int(v) for v in record["flow"][:, 0, 0])
        y, x = np.nonzero(record["visible"])
        error = record["target"][y, x].astype(int) - record["profile"][y + dy, x + dx]
        assert len(x) == 56 * 56 and np.abs(error).max() <= 2
        assert np.abs(record["target"].astype(int) - record["profile"]).mean() > 10


def test_limit_and_missing_samples(tmp_path):
    path = write_shard(tmp_path / "x.tar")
    assert len(SampleSet([path], limit=3)) == 3
    with pytest.raises(ValueError, match="No samples"):
        SampleSet([])


def test_a_size_that_does_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="64 px cannot be scaled to 48 px"):
        SampleSet([write_shard(tmp_path / "x.tar")], size=48)


class CountingVae(torch.nn.Module):
    def __init__(self, factor: float = 1.0):
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(factor))
        self.seen = 0

    def encode(self, images):
        assert images.min() >= -1 and images.max() <= 1 and images.min() < 0
        self.seen += len(images)
        return self.factor * torch.nn.functional.avg_pool2d(images, 8).repeat(1, 2, 1, 1)[:, :4]


def test_latents_are_encoded_once_in_model_scale(tmp_path):
    samples = SampleSet([write_shard(tmp_path / "x.tar", people=3)])
    vae = CountingVae()
    samples.encode_latents(vae, scale=0.5, batch=4)
    assert vae.seen == len(samples.pictures) == len(samples.latents) == 6
    samples.encode_latents(vae, scale=0.5)
    assert vae.seen == 6
    for key, latent in samples.latents.items():
        image = samples.images([key]) * 2 - 1
        wanted = 0.5 * torch.nn.functional.avg_pool2d(image, 8)[0]
        assert latent.shape == (4, 8, 8)
        assert torch.allclose(latent[:3].float(), wanted, atol=4e-3)


class TestStored:
    """Decoded into files of the run's folder, which are mapped, not read."""

    def stored(self, folder, *paths, size=None, limit=None):
        return stored_samples(folder / "run", list(paths), size, limit)

    def test_holds_what_a_set_in_memory_holds(self, tmp_path):
        paths = [write_shard(tmp_path / f"{name}.tar", people=3, styles=True) for name in "ab"]
        for limit in (None, 2, 4):
            kept, held = self.stored(tmp_path, *paths, size=32, limit=limit), SampleSet(paths, 32, limit)
            assert kept.pictures.keys() == held.pictures.keys() and kept.profiles == held.profiles
            assert all(torch.equal(kept.pictures[key], held.pictures[key]) for key in held.pictures)
            assert len(kept.samples) == len(held.samples) == (limit or 6)
            for one, other in zip(kept.samples, held.samples, strict=True):
                assert (one.key, one.target, one.style) == (other.key, other.target, other.style)
                assert all(torch.equal(getattr(one, n), getattr(other, n)) for n in ("flow", "visible", "face"))

    def test_a_shard_that_changes_is_decoded_anew(self, tmp_path):
        path = write_shard(tmp_path / "a.tar", people=2)
        assert len(self.stored(tmp_path, path)) == 2
        write_shard(path, people=3)
        assert len(self.stored(tmp_path, path)) == 3

    def test_latents_are_those_of_size_encoder_and_picture(self, tmp_path):
        """Cached by id alone they would be those of the first size, encoder and data."""
        path, seen = write_shard(tmp_path / "a.tar", people=2), []

        def latents(size, factor=1.0):
            vae = CountingVae(factor)
            samples = self.stored(tmp_path, path, size=size)
            encode_samples(samples, vae)
            seen.append(vae.seen)
            for key, latent in samples.latents.items():
                image = samples.images([key]) * 2 - 1
                wanted = factor * 0.18215 * torch.nn.functional.avg_pool2d(image, 8)[0]
                assert torch.allclose(latent[:3].float(), wanted, atol=4e-3), (size, factor)
            return samples.latents

        assert latents(64)["p0@b0"].shape == (4, 8, 8) and latents(32)["p0@b0"].shape == (4, 4, 4)
        latents(64)
        latents(64, 2.0)
        shards.write_shard(path, [s | {"target.webp": s["profile.webp"]} for s in raw(path)])
        latents(64, 2.0)
        assert seen == [4, 4, 0, 4, 4]

    @pytest.mark.parametrize(
        "member,data,said",
        [
            ("truth.npz", b"nothing", "s0.truth.npz"),
            ("meta.json", b"{}", "s0.meta.json: format version None"),
            ("target.webp", b"nothing", "s0.target.webp: not a readable picture"),
            ("profile.webp", shards.encode_picture(smooth_picture(1, 32, 32)), "s0.profile.webp: (32, 32, 3)"),
        ],
    )
    def test_training_refuses_what_validation_finds(self, tmp_path, member, data, said):
        path = write_shard(tmp_path / "a.tar", people=1)
        shards.write_shard(path, [sample | {member: data} for sample in raw(path)])
        (problem,) = shards.validate_shards([path])
        with pytest.raises(shards.ShardError) as refused:
            SampleSet([path])
        assert said in problem and str(refused.value) == problem and "a.tar" in problem

    def test_other_pictures_of_one_name_are_refused(self, tmp_path):
        """The first would be trained on in the place of the second."""
        self.write(tmp_path / "x.tar", "s", 1, 2)
        with pytest.raises(shards.ShardError, match="x.tar: s1.target.webp: another picture of this shard is p@b"):
            SampleSet([tmp_path / "x.tar"])
        for number, name in enumerate("xy"):
            self.write(tmp_path / f"{name}.tar", name, number)
        with pytest.raises(shards.ShardError, match="y.tar: another shard has another picture that is p@b"):
            SampleSet([tmp_path / "x.tar", tmp_path / "y.tar"])

    @staticmethod
    def write(path, key: str, *seeds: int):
        """One sample a seed, all pictures of the same names."""
        meta = {
            "format_version": shards.FORMAT_VERSION,
            "identity": {"target": "p"},
            "scene": {"target": "b", "profile": "b"},
        }
        pictures = [shards.encode_picture(smooth_picture(seed, 64, 64)) for seed in seeds]
        samples = [
            {
                "__key__": key + (str(number) if len(seeds) > 1 else ""),
                "target.webp": data,
                "profile.webp": data,
                "meta.json": meta,
            }
            for number, data in enumerate(pictures)
        ]
        shards.write_shard(path, samples)

    def test_pictures_of_mixed_sizes_are_refused(self, tmp_path):
        paths = [write_shard(tmp_path / "a.tar"), write_shard(tmp_path / "b.tar", size=128)]
        with pytest.raises(ValueError, match="must have one size: .*a.tar has 64 px, .*b.tar 128 px"):
            SampleSet(paths)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_memory_does_not_grow_with_the_pictures(self, tmp_path):
        """Of 40 and of 400 samples with pictures of 256 px (0.4 MB a sample in memory), all of them read."""
        code = (
            "import sys; from pathlib import Path; from icportrait.training.core.comfy_runtime import start_comfy; start_comfy()\n"
            "from icportrait.training.stages.sample_sets import stored_samples\n"
            "run, shards = Path(sys.argv[1]), sorted(Path(sys.argv[1]).glob('*.tar'))\n"
            "def held(): return int(open('/proc/self/status').read().split('RssAnon:')[1].split()[0])\n"
            "for repeat in range(2):\n"
            "  for limit in (40, 400):\n"
            "    samples = stored_samples(run, shards, None, limit)\n"
            "    total = sum(int(samples.pictures[s.profile].sum()) + int(s.face.sum()) for s in samples.samples)\n"
            "    print(held())\n"
        )
        first = write_shard(tmp_path / "0.tar", people=40, size=256)
        for i in range(1, 10):
            (tmp_path / f"{i}.tar").write_bytes(first.read_bytes())
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=250,
            env=child_environment(tmp_path),
        )
        assert done.returncode == 0, done.stderr[-2000:]
        few, many = map(int, done.stdout.split()[2:])
        assert abs(many - few) < 4000  # kB; 140,000 if they were held


def raw(path):
    """The undecoded samples of a shard, as `write_shard` takes them."""
    return [{"__key__": key, **members} for key, members in shards.raw_samples(path)]
