"""What nets say about their licence and data."""

import pytest
from tiny_training import UNET, random_base, sample_set

from icportrait.models.nets.files import load_net_file, read_metadata
from icportrait.training.core.settings import LoopSettings
from icportrait.training.stages.base_models import DEMO_BASE, Base
from icportrait.training.stages.facts import training_facts
from icportrait.training.stages.matching import train_matching
from icportrait.training.tasks.matching import MatchingSettings

LOOP = LoopSettings(steps=1, batch=2, tracker="none")


@pytest.mark.parametrize(
    "generators,base,start,data,license_",
    [
        (["heads"], DEMO_BASE, None, "icportrait heads", "CC0-1.0"),
        (["heads"], "dream.safetensors", None, "icportrait heads", "that of the base dream.safetensors"),
        (["folders"], DEMO_BASE, None, "photographs", "that of the data (photographs)"),
        (
            ["folders", "heads"],
            "dream.safetensors",
            None,
            "photographs and icportrait heads",
            "that of the base dream.safetensors and of the data (photographs)",
        ),
        (
            ["heads"],
            DEMO_BASE,
            {"file": "n.safetensors", "license": "x"},
            "icportrait heads",
            "that of the net n.safetensors",
        ),
        (["heads"], DEMO_BASE, {"file": "n.safetensors", "license": "CC0-1.0"}, "icportrait heads", "CC0-1.0"),
    ],
)
def test_licence_and_data_are_those_of_base_shards_and_start(tmp_path, generators, base, start, data, license_):
    samples = sample_set(tmp_path)
    samples.generators = generators
    facts = training_facts(LOOP, samples, base, start)
    assert (facts["data"], facts["license"]) == (data, license_)


def test_a_net_of_ones_own_base_is_written_in_half_precision_with_a_name_that_tells(tmp_path):
    samples = sample_set(tmp_path)
    samples.generators = ["folders"]
    unet, vision = random_base()
    base = Base(unet, UNET, None, vision, "dream.safetensors")
    train_matching(tmp_path / "run", "matching", samples, base, LOOP, MatchingSettings(objective="paper"))
    path = tmp_path / "run" / "matching" / "dream_matching_fp16.safetensors"
    tensors, _, training = load_net_file(path, "matching")
    assert {str(tensor.dtype) for tensor in tensors.values()} == {"torch.float16"}
    assert training["data"] == "photographs" and "CC0" not in training["license"]
    assert (
        read_metadata(path)["license"]
        == training["license"]
        == "that of the base dream.safetensors and of the data (photographs)"
    )
