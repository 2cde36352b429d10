"""`--init`: a net file's weights instead of the UNet's copy."""

import json

import pytest
import torch
from test_training_objectives import loud
from tiny_training import UNET, random_base, random_matching, sample_set

from icportrait.models.nets import portrait_net as nets
from icportrait.models.nets.files import read_metadata, save_net
from icportrait.training.core.settings import LoopSettings
from icportrait.training.stages.appearance import train_appearance
from icportrait.training.stages.base_models import Base
from icportrait.training.stages.matching import train_matching
from icportrait.training.tasks.appearance import AppearanceSettings
from icportrait.training.tasks.matching import MatchingSettings

NO_CHANGE = LoopSettings(steps=1, batch=2, lr=0.0)


def net_file(path, role: str, unet: dict = UNET, **config):
    """A float16 file of random weights that says it was trained for 70 steps."""
    config = nets.net_config(role, unet, **config)
    net = nets.build_net(config)
    loud(net, 21)
    save_net(path, net.state_dict(), config, {"steps": 70, "license": "CC0-1.0"})
    return net


def trained(run, role: str, samples, init, loop=NO_CHANGE):
    unet, vision = random_base()
    base = Base(unet, UNET, None, vision, "tiny")
    arguments = (samples, base, loop)
    if role == "matching":
        return train_matching(run, "net", *arguments, MatchingSettings(objective="paper"), init=init)
    if not (run / "matching" / "net.safetensors").exists():
        net, config = random_matching()
        save_net(run / "matching" / "net.safetensors", net.state_dict(), config, {})
    settings = AppearanceSettings(beta=0.3, gate=True)
    return train_appearance(run, "net", "matching", *arguments, settings, init=init)


@pytest.fixture
def samples(tmp_path):
    return sample_set(tmp_path)


@pytest.mark.parametrize("role", ["matching", "appearance"])
def test_training_begins_with_the_files_weights(tmp_path, samples, role):
    """Half-precision weights, other settings of eq. 7 than the new run's; the new file says where it came from."""
    theirs = net_file(tmp_path / "bundle.safetensors", role, alpha=0.5)
    task = trained(tmp_path / "run", role, samples, tmp_path / "bundle.safetensors")
    for name, tensor in theirs.state_dict().items():
        assert torch.equal(task.net.get_parameter(name), tensor.half().float()), name
    written = read_metadata(tmp_path / "run" / "net" / "net.safetensors")
    assert written["training"]["init"] == {"file": "bundle.safetensors", "steps": 70, "license": "CC0-1.0"}
    assert written["config"]["gate"] is (role == "appearance") and written["config"]["alpha"] == 1.0
    facts = json.loads((tmp_path / "run" / "net" / "settings.json").read_text())["facts"]
    assert facts["init"] == written["training"]["init"]


def test_without_it_the_net_is_the_unets_copy(tmp_path, samples):
    task = trained(tmp_path / "run", "appearance", samples, None)
    assert task.net.middle_block_out[0].weight.eq(0).all()
    assert "init" not in read_metadata(tmp_path / "run" / "net" / "net.safetensors")["training"]


def test_a_checkpoint_goes_before_the_file(tmp_path, samples):
    """Else a resumed run would begin anew."""
    net_file(tmp_path / "start.safetensors", "appearance")
    settings = {"batch": 2, "lr": 1e-3}
    whole = trained(tmp_path / "a", "appearance", samples, tmp_path / "start.safetensors", LoopSettings(4, **settings))
    for steps in (2, 4):
        loop = LoopSettings(steps, **settings)
        parts = trained(tmp_path / "b", "appearance", samples, tmp_path / "start.safetensors", loop)
    for name, parameter in whole.net.named_parameters():
        assert torch.equal(parameter, parts.net.get_parameter(name)), name


def test_a_file_that_does_not_fit_is_refused(tmp_path, samples):
    net_file(tmp_path / "matching.safetensors", "matching")
    with pytest.raises(ValueError, match="holds the matching net, but the appearance net is wanted"):
        trained(tmp_path / "run", "appearance", samples, tmp_path / "matching.safetensors")
    net_file(tmp_path / "wide.safetensors", "appearance", UNET | {"model_channels": 64})
    with pytest.raises(ValueError, match="another UNet than this run's: model_channels 64 instead of 32"):
        trained(tmp_path / "run", "appearance", samples, tmp_path / "wide.safetensors")
    with pytest.raises(ValueError, match="gone.safetensors does not exist"):
        trained(tmp_path / "run", "appearance", samples, tmp_path / "gone.safetensors")
