"""The hint block's start: it learns what the UNet's first layer gives for a picture's clean latents."""

import pytest
import torch
from tiny_training import UNET, random_base, sample_set

from icportrait.models.nets import portrait_net as nets
from icportrait.training.core.settings import LoopSettings
from icportrait.training.stages.base_models import Base
from icportrait.training.stages.hint import start_from_hint, train_hint
from icportrait.training.tasks.hint import HintSettings, HintTask


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return sample_set(tmp_path_factory.mktemp("hint"))


def test_wanted_features_are_the_first_layers_without_its_bias(samples):
    unet = random_base()[0]
    task = HintTask(samples, unet, UNET, HintSettings(sampled=0.0), crop=32)
    items = task.items(3, 2)
    pixels, wanted = task.draw(3, items)
    first = unet.input_blocks[0][0]
    for row, (_, key) in enumerate(items):
        with torch.no_grad():
            whole = first(samples.latents[key][None].float())[0] - first.bias[:, None, None]
        picture = samples.pictures[key].movedim(-1, 0).float() / 255
        found = [
            (y, x)
            for y in range(5)
            for x in range(5)
            if torch.equal(pixels[row], picture[:, 8 * y : 8 * y + 32, 8 * x : 8 * x + 32])
        ]
        assert len(found) == 1
        y, x = found[0]
        assert torch.allclose(wanted[row], whole[:, y : y + 4, x : x + 4], atol=1e-5)


@pytest.mark.parametrize("sampled", [0.0, 1.0])
def test_sampled_crops_come_at_their_rate(samples, sampled):
    task = HintTask(samples, random_base()[0], UNET, HintSettings(sampled=sampled))
    black = torch.cat([task.draw(step, task.items(step, 4))[0] for step in range(3)]).eq(0).all(dim=1).float().mean()
    assert (black > 0.75) == bool(sampled)


def test_it_learns_and_both_nets_start_from_it(samples, tmp_path):
    unet, _ = random_base()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    task = HintTask(samples, unet, UNET, HintSettings(sampled=0.0))
    first = task(0, task.items(0, 4))[0].item()
    assert first == pytest.approx(1.0)  # the last layer is zero: nothing explained
    loop = LoopSettings(steps=60, batch=4, lr=5e-3)
    run = tmp_path / "run"
    base = Base(unet, UNET, None, None, "tiny")
    train_hint(run, samples, base, loop, HintSettings(sampled=0.0))
    net = nets.build_net(nets.net_config("matching", UNET))
    assert start_from_hint(run, net)
    with torch.no_grad():
        pixels, wanted = task.draw(1, task.items(1, 4))
        left = (net.encode_hint(pixels) - wanted).pow(2).mean() / wanted.pow(2).mean()
    assert left < 0.7
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())
    assert not start_from_hint(tmp_path, net)
