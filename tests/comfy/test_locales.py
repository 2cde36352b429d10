"""locales/<language>/nodeDefs.json: every node, input and output has its name and its words in every language.

English is what the Python schema says; renew it with `ICPORTRAIT_RENEW=1 python run.py test tests/comfy/test_locales.py`.
The other languages are written by hand: a new input needs its line in each of them.
"""

import json
import os
import re

import pytest

import icportrait.nodes
from icportrait.tools.comfy_server import PACK

FOLDER = PACK / "locales"
TRANSLATED = ("zh", "ja", "fr")
OWN_SCRIPT = {"zh": "[\u4e00-\u9fff]", "ja": "[\u3040-\u30ff\u4e00-\u9fff]"}
# Words that are the same everywhere.
UNTRANSLATED = {"VAE", "CFG", "CLIP Vision", "alpha", "beta", "sigmas"}


def words_of(entry) -> dict:
    """Name and tooltip of one input or output, as the editor wants them."""
    return {"name": entry.display_name or entry.id, "tooltip": entry.tooltip}


def english() -> dict:
    """nodeDefs.json as the schemas say it."""
    found = {}
    for node in icportrait.nodes.NODES:
        schema = node.GET_SCHEMA()
        texts = {"display_name": schema.display_name, "description": schema.description}
        if schema.inputs:
            texts["inputs"] = {entry.id: words_of(entry) for entry in schema.inputs}
        if schema.outputs:
            texts["outputs"] = {str(index): words_of(entry) for index, entry in enumerate(schema.outputs)}
        found[schema.node_id] = texts
    return found


def read(language: str) -> dict:
    return json.loads((FOLDER / language / "nodeDefs.json").read_text("utf-8"))


def leaves(texts: dict, path: tuple = ()) -> dict:
    """{(node, "inputs", name, "tooltip"): text} of the whole tree."""
    found = {}
    for key, value in texts.items():
        found |= leaves(value, (*path, key)) if isinstance(value, dict) else {(*path, key): value}
    return found


def test_english_is_the_schema():
    if os.environ.get("ICPORTRAIT_RENEW"):
        path = FOLDER / "en" / "nodeDefs.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(english(), indent=1, ensure_ascii=False) + "\n", "utf-8")
    assert read("en") == english(), "renew it, see the top of this file"


@pytest.mark.parametrize("language", TRANSLATED)
def test_nothing_is_missing_and_nothing_is_left_over(language):
    wanted, there = leaves(english()), leaves(read(language))
    assert sorted(wanted.keys() - there.keys()) == [], f"write these into locales/{language}/nodeDefs.json"
    assert sorted(there.keys() - wanted.keys()) == [], f"delete these from locales/{language}/nodeDefs.json"
    assert [path for path, text in there.items() if not text.strip()] == []


@pytest.mark.parametrize("language", TRANSLATED)
def test_it_is_translated(language):
    there, source = leaves(read(language)), leaves(english())
    for path, text in there.items():
        if path[-1] in ("tooltip", "description"):
            assert text != source[path], path
        if language in OWN_SCRIPT and text not in UNTRANSLATED:
            assert re.search(OWN_SCRIPT[language], text), (path, text)


@pytest.mark.parametrize("language", TRANSLATED)
def test_node_names_are_unique(language):
    names = [node["display_name"] for node in read(language).values()]
    assert len(set(names)) == len(names)


def test_the_server_hands_them_to_the_editor(server):
    served = server.get("/api/i18n")
    for language in ("en", *TRANSLATED):
        assert served[language]["nodeDefs"]["ICPortrait_Portrait"] == read(language)["ICPortrait_Portrait"]
