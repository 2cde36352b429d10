"""What `run.py tools chaining --packs` gives nodes that want a file: the files fit the demo base, the graphs hang together."""

import comfy.controlnet
import comfy.utils
import pytest
import torch

from icportrait.models.nets.bundle import FOLDER, read_base
from icportrait.tools.chaining_graphs import FILE, GRAPHS, write_files

PLAIN = {"bundle", "person", "style", "encoded", "latent", "applied"}  # nodes that every graph has


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    (folder / "custom_nodes").mkdir()
    write_files(folder)
    return folder


@pytest.fixture(scope="module")
def unet():
    return read_base(FOLDER / "base.safetensors")[0]


def test_comfyui_loads_the_controlnet_whole_with_the_bases_encoder(base, unet):
    path = base / "models" / "controlnet" / FILE
    written = comfy.utils.load_torch_file(str(path))
    loaded = comfy.controlnet.load_controlnet(str(path)).control_model.state_dict()
    assert loaded.keys() == written.keys()
    assert all(torch.equal(loaded[name].float(), written[name]) for name in written)
    own = {name for name in written if not name.startswith(("input_hint_block", "zero_convs", "middle_block_out"))}
    assert own == {name for name in unet if name.startswith(("time_embed", "input_blocks", "middle_block"))}
    assert all(torch.equal(written[name], unet[name].float()) for name in own)


def test_the_ip_adapter_fits_every_cross_attention(base, unet):
    written = comfy.utils.load_torch_file(str(base / "models" / "ipadapter" / FILE))
    shapes = {tensor.shape for name, tensor in written.items() if name.startswith("ip_adapter.")}
    assert shapes == {
        tensor.shape for name, tensor in unet.items() if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    }


@pytest.mark.parametrize("name", GRAPHS)
def test_every_wire_leads_to_a_node(name):
    graph = GRAPHS[name]
    inputs = [value for _, given in graph.nodes.values() for value in given.values()]
    ends = {wire[0] for wire in [*inputs, *graph.wires.values()] if isinstance(wire, list)}
    assert ends <= PLAIN | graph.nodes.keys()
    assert not PLAIN & graph.nodes.keys()
