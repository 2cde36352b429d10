"""Old names of nodes reach ComfyUI where it has the API for it, and nothing fails where it has not."""

import asyncio
from types import SimpleNamespace

import icportrait.nodes
from icportrait.nodes import renames

OLD = {"new_node_id": "ICPortrait_Portrait", "old_node_id": "ICPortrait_Old", "old_widget_ids": ["seed", "steps"]}


class Api:
    """ComfyUI's, as far as `register_renames` calls it (comfy_extras/nodes_replacements.py of ComfyUI 0.33)."""

    def __init__(self, taken):
        self.taken = taken

    @property
    def node_replacement(self):
        return self

    async def register(self, replacement):
        self.taken.append(replacement)


def test_a_rename_is_registered(monkeypatch):
    taken = []
    latest = SimpleNamespace(io=SimpleNamespace(NodeReplace=lambda **fields: fields), ComfyAPI=lambda: Api(taken))
    monkeypatch.setattr(renames, "latest", latest)
    asyncio.run(renames.register_renames([OLD]))
    assert taken == [OLD]


def test_an_older_comfyui_is_left_alone(monkeypatch):
    monkeypatch.setattr(renames, "latest", SimpleNamespace(io=SimpleNamespace()))
    asyncio.run(renames.register_renames([OLD]))


def test_the_real_comfyui_takes_what_there_is():
    asyncio.run(icportrait.nodes.ICPortraitExtension().on_load())


def test_each_rename_leads_to_a_node_of_the_pack():
    ids = {node.GET_SCHEMA().node_id for node in icportrait.nodes.NODES}
    assert {rename["new_node_id"] for rename in renames.RENAMES} <= ids
    assert not {rename["old_node_id"] for rename in renames.RENAMES} & ids
