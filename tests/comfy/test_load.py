"""The pack inside the real ComfyUI: it loads without an error line, and its nodes keep what they promise."""

import inspect
import subprocess

from icportrait.tools import comfy_server

FAILURES = ("IMPORT FAILED", "Cannot import", "Error while calling comfy_entrypoint", "Skip ", "Traceback")

# The ids are in saved workflows: none may ever vanish or be renamed.
EXPECTED = {
    "ICPortrait_AlignFace",
    "ICPortrait_Apply",
    "ICPortrait_DetectFaces",
    "ICPortrait_EncodeProfile",
    "ICPortrait_EstimateFlow",
    "ICPortrait_IdentitySimilarity",
    "ICPortrait_LoadDemoBundle",
    "ICPortrait_LoadNets",
    "ICPortrait_Portrait",
    "ICPortrait_ProgressiveNoise",
    "ICPortrait_ProgressiveSampler",
    "ICPortrait_SamplePixels",
    "ICPortrait_StitchFace",
    "ICPortrait_TransferDetail",
}


def start_and_quit(base, pack=None):
    """All that ComfyUI prints while it loads its custom nodes. Its exit code says nothing about them."""
    comfy_server.prepare_base(base)
    if pack is not None:
        (base / "custom_nodes" / "ComfyUI-IC-Portrait").unlink()
        (base / "custom_nodes" / "ComfyUI-IC-Portrait").symlink_to(pack, target_is_directory=True)
    line = comfy_server.command(base, "--quick-test-for-ci", cpu=True)
    done = subprocess.run(line, capture_output=True, text=True, env=comfy_server.child_variables(), timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout + done.stderr


def failure_lines(text):
    return [line for line in text.splitlines() if any(sign in line for sign in FAILURES)]


def test_loads_without_an_error_line(tmp_path):
    text = start_and_quit(tmp_path)
    assert failure_lines(text) == [], text[-4000:]
    assert "seconds: " + str(tmp_path / "custom_nodes" / "ComfyUI-IC-Portrait") in text


def test_a_broken_pack_would_be_noticed(tmp_path):
    """Guards the test above: ComfyUI exits with 0 either way."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "__init__.py").write_text("import no_such_module_at_all\n")
    assert failure_lines(start_and_quit(tmp_path / "base", broken))


def test_all_nodes_are_served(server):
    ours = {name for name in server.object_info if name.startswith("ICPortrait_")}
    assert EXPECTED <= ours


def test_the_served_nodes_are_those_in_the_list(server, comfy):
    assert {name for name in server.object_info if name.startswith("ICPortrait_")} == set(comfy.pack_nodes)


def schemas(comfy):
    return [(node, node.define_schema()) for node in comfy.pack_nodes.values()]


def test_ids_are_prefixed_and_unique(comfy):
    import icportrait.nodes as pack

    ids = [node.define_schema().node_id for node in pack.NODES]
    assert len(ids) == len(set(ids))
    assert all(name.startswith("ICPortrait_") for name in ids)


def test_display_names_are_unique_and_categories_ours(comfy):
    names = [schema.display_name for _, schema in schemas(comfy)]
    assert len(names) == len(set(names)) and all(names)
    assert {schema.category.split("/")[0] for _, schema in schemas(comfy)} == {"IC-Portrait"}


def test_each_node_has_a_description(server):
    for name, info in server.object_info.items():
        if name.startswith("ICPortrait_"):
            assert len(info["description"]) > 20, name


def test_each_input_and_output_has_a_tooltip(comfy):
    missing = []
    for _, schema in schemas(comfy):
        missing += [f"{schema.node_id}.{entry.id}" for entry in [*schema.inputs, *schema.outputs] if not entry.tooltip]
    assert missing == []


def test_execute_takes_exactly_the_inputs_of_the_schema(comfy):
    for node, schema in schemas(comfy):
        parameters = inspect.signature(node.execute).parameters
        assert list(parameters) == [entry.id for entry in schema.inputs], schema.node_id
        for entry in schema.inputs:
            has_default = parameters[entry.id].default is not inspect.Parameter.empty
            assert has_default == bool(entry.optional), f"{schema.node_id}.{entry.id}: optional and default disagree"
