"""Loading the bundle and net files: what is loaded is what was written, and anything else is refused clearly."""

import json
import shutil

import pytest
import torch
from tiny_models import UNET, VAE, VISION, portrait_setup, random_net, random_unet, write_bundle, write_nets

from icportrait.models.nets import bundle, loading
from icportrait.models.nets import files as net_files
from icportrait.models.nets import portrait_net as nets


@pytest.fixture
def folder(tmp_path):
    """A private copy of the tiny bundle."""
    return shutil.copytree(portrait_setup().folder, tmp_path / "bundle")


def rewrite(path, change):
    """Apply `change(tensors, metadata)` to a safetensors file."""
    tensors, metadata = net_files.read_tensors(path)
    change(tensors, metadata)
    net_files.save_tensors(path, tensors, metadata)


class TestLoaded:
    def test_base_computes_what_the_written_unet_computes(self, folder):
        model = bundle.load_base(folder / "base.safetensors")
        x, t, context = torch.randn(1, 4, 8, 8), torch.tensor([300.0]), torch.randn(1, 1, 768)
        with torch.inference_mode():
            expected = random_unet(UNET, 1)(x, t, context=context)
            assert torch.equal(model.model.diffusion_model(x, t, context=context), expected)

    def test_base_has_the_heads_of_the_file_not_those_of_sd15(self, folder):
        model = bundle.load_base(folder / "base.safetensors")
        assert model.model.diffusion_model.middle_block[1].transformer_blocks[0].attn1.heads == 96 // 32
        assert model.model.latent_format.scale_factor == 0.18215

    @pytest.mark.parametrize("role", nets.ROLES)
    def test_nets_compute_what_was_written(self, folder, role):
        loaded = loading.load_net(folder / f"{role}.safetensors", role)
        config = nets.net_config(role, UNET, alpha=1.0, beta=0.25)
        assert loaded.config == config
        written = random_net(config, 11 + nets.ROLES.index(role))
        inputs = torch.randn(1, 4, 8, 16), torch.tensor([300.0]), torch.randn(1, 1, 768)
        with torch.inference_mode():
            results = [
                net.residuals(*inputs, net.encode_hint(torch.ones(1, 3, 64, 128))) for net in (written, loaded.module)
            ]
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))

    def test_vae_and_vision_have_sd15s_interfaces(self):
        setup = portrait_setup()
        with torch.inference_mode():
            latent = setup.vae.encode(setup.style_image)
            assert latent.shape == (1, 4, 8, 8)
            assert setup.vae.decode(latent).shape == (1, 64, 64, 3)
            assert setup.clip_vision.encode_image(setup.style_image)["image_embeds"].shape == (1, 768)

    def test_half_precision_files_load_where_ComfyUI_wants_single(self, folder):
        rewrite(
            folder / "matching.safetensors",
            lambda tensors, _: tensors.update({k: v.half() for k, v in tensors.items()}),
        )
        loaded = loading.load_net(folder / "matching.safetensors", "matching")
        assert loaded.dtype == torch.float32  # on a CPU
        assert next(loaded.module.parameters()).dtype == torch.float32


class TestRefused:
    def test_missing_files_are_all_named(self, folder):
        (folder / "vae.safetensors").unlink()
        (folder / "vision.json").unlink()
        with pytest.raises(ValueError, match=r"lacks vae.safetensors, vision.json"):
            bundle.load_bundle(folder)

    @pytest.mark.parametrize("name", ["base", "vae", "vision", "matching", "appearance"])
    @pytest.mark.parametrize("damage", ["truncated", "text", "empty"])
    def test_damaged_files_are_named(self, folder, name, damage):
        path = folder / f"{name}.safetensors"
        whole = path.read_bytes()
        path.write_bytes({"truncated": whole[: len(whole) // 2], "text": b"not a model" * 99, "empty": b""}[damage])
        with pytest.raises(ValueError, match=rf"{name}\.safetensors.* is not a readable safetensors file"):
            bundle.load_bundle(folder)

    @pytest.mark.parametrize("name", ["base", "vae", "vision", "matching", "appearance"])
    @pytest.mark.parametrize("change", ["missing", "unexpected", "shape"])
    def test_tensors_that_do_not_fit_are_named(self, folder, name, change):
        def edit(tensors, _):
            key = next(key for key, tensor in sorted(tensors.items()) if tensor.ndim > 1)
            if change == "missing":
                tensors.pop(key)
            elif change == "unexpected":
                tensors["extra.weight"] = torch.zeros(1)
            else:
                tensors[key] = torch.zeros(3, 5)

        rewrite(folder / f"{name}.safetensors", edit)
        with pytest.raises(ValueError, match=rf"{name}\.safetensors"):
            bundle.load_bundle(folder)

    def test_swapped_roles(self, folder):
        with pytest.raises(ValueError, match="holds the appearance net, but the matching net is wanted"):
            loading.load_portrait_nets(folder / "appearance.safetensors", folder / "matching.safetensors")

    def test_nets_of_two_widths(self, folder, tmp_path):
        _, other = write_nets(tmp_path / "other", UNET | {"model_channels": 64})
        with pytest.raises(ValueError, match="different UNets: model_channels is 32 .* 64"):
            loading.load_portrait_nets(folder / "matching.safetensors", other)

    def test_a_foreign_safetensors_file(self, folder):
        rewrite(folder / "base.safetensors", lambda _, metadata: metadata.clear())
        with pytest.raises(ValueError, match="is not an IC-Portrait base model"):
            bundle.load_base(folder / "base.safetensors")
        rewrite(folder / "matching.safetensors", lambda _, metadata: metadata.clear())
        with pytest.raises(ValueError, match="is not an IC-Portrait net"):
            loading.load_net(folder / "matching.safetensors", "matching")
        rewrite(folder / "vae.safetensors", lambda _, metadata: metadata.clear())
        with pytest.raises(ValueError, match="is not an IC-Portrait autoencoder"):
            bundle.load_vae(folder / "vae.safetensors")


def test_the_layout_written_here_is_the_one_documented(tmp_path):
    folder = write_bundle(tmp_path / "bundle")
    assert sorted(path.name for path in folder.iterdir()) == sorted(bundle.FILES)
    assert net_files.read_metadata(folder / "vae.safetensors")["config"] == VAE
    assert json.loads((folder / "vision.json").read_text()) == VISION
