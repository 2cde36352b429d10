import importlib.util, pytest

spec = importlib.util.spec_from_file_location("h", "/work/main/tests/comfy/test_help.py")
h = importlib.util.module_from_spec(spec)
spec.loader.exec_module(h)
real = h.page_text
M = [
    ("test_inputs_are_those_of_the_schema", "ICPortrait_SamplePixels", "default 0.2", "default 0.3"),
    ("test_inputs_are_those_of_the_schema", "ICPortrait_SamplePixels", "0 to 1, ", "0 to 2, "),
    ("test_inputs_are_those_of_the_schema", "ICPortrait_Apply", "- **alpha**", "- **alfa**"),
    (
        "test_inputs_are_those_of_the_schema",
        "ICPortrait_StitchFace",
        "(on or off, default on)",
        "(on or off, default off)",
    ),
    ("test_inputs_are_those_of_the_schema", "ICPortrait_Apply", "(LATENT, optional)", "(LATENT)"),
    ("test_outputs_are_those_of_the_schema", "ICPortrait_Portrait", "- **report** (text)", "- **reports** (text)"),
    ("test_each_choice_is_explained", "ICPortrait_StitchFace", "`reinhard`", "reinhard"),
    ("test_page_has_its_title_and_sections", "ICPortrait_Portrait", "# Portrait\n", "# Portraits\n"),
    ("test_page_has_its_title_and_sections", "ICPortrait_Portrait", "## In the paper", "## Paper"),
]


@pytest.mark.parametrize("m", M, ids=str)
def test_mutant(m, monkeypatch):
    name, node, a, b = m
    text = real(node)
    assert a in text
    getattr(h, name)(node)
    monkeypatch.setattr(h, "page_text", lambda n: real(n).replace(a, b))
    with pytest.raises(AssertionError):
        getattr(h, name)(node)


def test_italics(comfy, monkeypatch):
    monkeypatch.setattr(h, "page_text", lambda n: real(n).replace("*Stitch Face*", "*Stitch Faces*"))
    with pytest.raises(AssertionError):
        h.test_other_nodes_are_called_by_their_names("ICPortrait_AlignFace", comfy)
