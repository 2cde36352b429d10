"""Damaged and foreign net files: every key of the metadata is checked, and every weight, before anything is built."""

import json
import shutil

import pytest
import safetensors.torch
import torch
from tiny_models import portrait_setup

from icportrait.models.nets import bundle, loading, portrait_config
from icportrait.models.nets import files as net_files

LOADERS = {
    "base": bundle.load_base,
    "vae": bundle.load_vae,
    "vision": bundle.load_vision,
    "matching": lambda path: loading.load_net(path, "matching"),
    "appearance": lambda path: loading.load_net(path, "appearance"),
}


@pytest.fixture
def folder(tmp_path):
    """A private copy of the tiny bundle."""
    return shutil.copytree(portrait_setup().folder, tmp_path / "bundle")


def refused(path, change, words=None):
    """Write the file with `change(tensors, metadata)` as another program would, and expect a sentence that names it."""
    tensors, metadata = net_files.read_tensors(path)
    change(tensors, metadata)
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in metadata.items()}
    path.write_bytes(safetensors.torch.save(tensors, texts))
    with pytest.raises(ValueError, match=words) as caught:
        LOADERS[path.stem](path)
    assert path.name in str(caught.value) and "\n" not in str(caught.value)


def keys_of(config, before=()):
    """Every place in a nested config."""
    for name, value in config.items():
        yield (*before, name)
        if isinstance(value, dict):
            yield from keys_of(value, (*before, name))


def check_vae(config, source):
    portrait_config.check_fields(config, portrait_config.AUTOENCODER, source)
    portrait_config.check_fields(config["ddconfig"], portrait_config.DDCONFIG, source)


CHECKS = {
    "base": portrait_config.check_unet_config,
    "vae": check_vae,
    "vision": lambda config, source: portrait_config.check_fields(config, portrait_config.VISION, source),
    "matching": portrait_config.check_net_config,
}


def places():
    folder = portrait_setup().folder
    for name in CHECKS:
        config = net_files.read_metadata(folder / f"{name}.safetensors")["config"]
        for place in keys_of(config):
            yield pytest.param(name, config, place, id=f"{name}-{'.'.join(place)}")


def changed(config, place, change):
    """A deep copy with `change(inner config, key)` made at a place."""
    copied = json.loads(json.dumps(config))
    inner = copied
    for name in place[:-1]:
        inner = inner[name]
    change(inner, place[-1])
    return copied


@pytest.mark.parametrize("name, config, place", places())
def test_a_foreign_or_missing_value_at_any_place(name, config, place):
    check = CHECKS[name]
    check(config, "file")
    for value in ("foreign", -7, [[]], {"a": 1}, 1e99, 10**9, float("nan")):
        if place[-1] == "torch_dtype" and isinstance(value, str):
            continue
        with pytest.raises(ValueError, match=f"{place[-1]}|lacks"):
            check(changed(config, place, lambda inner, key, value=value: inner.update({key: value})), "file")
    if place[-1] not in ("adm_in_channels", "fine_tap", "gate"):
        with pytest.raises(ValueError, match=f"lacks {place[-1]}"):
            check(changed(config, place, lambda inner, key: inner.pop(key)), "file")


@pytest.mark.parametrize("name", LOADERS)
class TestAnyFile:
    def test_one_nan_or_infinity(self, folder, name):
        for bad in (float("nan"), float("inf")):

            def spoil(tensors, _, bad=bad):
                tensors[sorted(tensors)[3]].view(-1)[0] = bad

            shutil.copy(portrait_setup().folder / f"{name}.safetensors", folder)
            refused(folder / f"{name}.safetensors", spoil, "NaN or infinite weights")

    @pytest.mark.parametrize("dtype", [torch.int32, torch.float64, torch.bfloat16])
    def test_other_dtypes(self, folder, name, dtype):
        def one(tensors, _):
            first = sorted(tensors)[0]
            tensors[first] = tensors[first].to(dtype)

        def all_of_them(tensors, _):
            tensors.update({key: value.to(dtype) for key, value in tensors.items()})

        path = folder / f"{name}.safetensors"
        refused(path, one, "weights of one kind")
        shutil.copy(portrait_setup().folder / path.name, folder)
        refused(path, all_of_them, "weights of one kind|labelled")

    def test_an_unknown_key(self, folder, name):
        refused(folder / f"{name}.safetensors", lambda _, found: found["config"].update(later=1), "does not know")

    def test_metadata_nested_without_end(self, folder, name):
        refused(folder / f"{name}.safetensors", lambda _, found: found.update(config="[" * 50_000), "config")

    def test_no_config_or_format(self, folder, name):
        path = folder / f"{name}.safetensors"
        refused(path, lambda _, found: found.pop("format"))
        shutil.copy(portrait_setup().folder / path.name, folder)
        refused(path, lambda _, found: found.update(config=None))

    def test_no_tensors(self, folder, name):
        refused(folder / f"{name}.safetensors", lambda tensors, _: tensors.clear(), "no tensors|format")


class TestTogether:
    def test_taps(self, folder):
        path = folder / "matching.safetensors"
        for values in ({"tap": 12}, {"tap": 5, "fine_tap": 5}, {"tap": 2, "fine_tap": 4}):
            shutil.copy(portrait_setup().folder / path.name, folder)
            refused(path, lambda _, found, values=values: found["config"].update(values), "tap")

    def test_lists_and_heads_that_contradict_each_other(self, folder):
        path = folder / "base.safetensors"
        for values in (
            {"channel_mult": [1, 2, 3]},
            {"transformer_depth": [1, 1]},
            {"model_channels": 33},
            {"num_heads": 0, "num_head_channels": 0},
            {"num_heads": 7, "num_head_channels": -1},
        ):
            shutil.copy(portrait_setup().folder / path.name, folder)
            refused(path, lambda _, found, values=values: found["config"].update(values))

    def test_the_encoders_two_configurations(self, folder):
        beside = folder / "vision.json"
        for text in ("", "{}", "null", "[" * 50_000, beside.read_text().replace("64", "32")):
            beside.write_text(text)
            with pytest.raises(ValueError, match=r"vision\.json"):
                bundle.load_vision(folder / "vision.safetensors")

    def test_facts_of_another_kind_are_no_facts(self, folder):
        path = folder / "matching.safetensors"
        tensors, metadata = net_files.read_tensors(path)
        for facts in (None, [], "text", {"data": 7}):
            net_files.save_tensors(path, tensors, metadata | {"training": facts})
            assert loading.load_net(path, "matching").data == ""


def test_files_of_before_the_label_still_load(folder):
    """The bundle that ships has no `dtype` in its metadata."""
    path = folder / "matching.safetensors"
    tensors, metadata = net_files.read_tensors(path)
    del metadata["dtype"]
    path.write_bytes(safetensors.torch.save(tensors, {name: json.dumps(value) for name, value in metadata.items()}))
    loading.load_net(path, "matching")
    bundle.load_bundle()
