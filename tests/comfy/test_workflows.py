"""The example workflows: readable by the editor's rules, valid for this ComfyUI, and run through its HTTP API."""

import io
import json

import numpy as np
import pytest
from PIL import Image, ImageFilter

from icportrait.tools import demo, workflow_api, workflow_drawing, workflow_examples
from icportrait.tools.comfy_server import PACK, WorkflowError

WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))


def load(path):
    return json.loads(path.read_text("utf-8"))


def portrait_prompt(server, profile="icportrait_profile.png", style="icportrait_style.png", steps=None):
    """workflows/portrait_step_by_step.json in API format with other pictures or fewer steps."""
    prompt = workflow_api.to_api(load(PACK / "workflows" / "portrait_step_by_step.json"), server.object_info)
    prompt[demo.node_titled(prompt, "Profile: the person")]["inputs"]["image"] = profile
    prompt[demo.node_titled(prompt, "Style reference: pose, light, style")]["inputs"]["image"] = style
    if steps:
        prompt[demo.node_titled(prompt, "Progressive Sampler")]["inputs"]["steps"] = steps
    return prompt


def picture(server, run, prompt, title):
    """What the node with this title showed, as an array."""
    image = run.outputs[demo.node_titled(prompt, title)]["images"][0]
    return np.asarray(Image.open(io.BytesIO(server.view(image))))


def as_loaded(server, name):
    """A picture of the input folder as Load Image gives it: ComfyUIs differ in the last bits of a JPEG."""
    load = {"class_type": "LoadImage", "inputs": {"image": name}}
    run = server.run_workflow(
        {"load": load, "shown": {"class_type": "PreviewImage", "inputs": {"images": ["load", 0]}}}
    )
    return np.asarray(Image.open(io.BytesIO(server.view(run.outputs["shown"]["images"][0]))))


def quickened(prompt):
    """One step instead of many, and the small detector: the graph stays what it is.

    A sampler that begins with pure noise keeps its steps: one gives no face.
    """
    for node in prompt.values():
        if isinstance(node["inputs"].get("steps"), int) and node["inputs"].get("denoise") != 1:
            node["inputs"]["steps"] = 1
        if "effort" in node["inputs"]:
            node["inputs"]["effort"] = "fast"
    return prompt


def test_all_examples_are_there():
    needed = {"portrait_step_by_step", *workflow_examples.EXAMPLES}
    assert needed <= {path.stem for path in WORKFLOWS}


@pytest.mark.parametrize("path", [*WORKFLOWS, *sorted((PACK / "subgraphs").glob("*.json"))], ids=lambda path: path.stem)
def test_the_editor_can_say_where_each_node_comes_from(path):
    saved = load(path)
    inner = [node for graph in saved.get("definitions", {}).get("subgraphs", []) for node in graph["nodes"]]
    project = (PACK / "pyproject.toml").read_text("utf-8")
    for node in inner or saved["nodes"]:
        if node["type"] in ("MarkdownNote", "Note", "Reroute", "PrimitiveNode"):
            continue
        found = node["properties"]
        ours = node["type"].startswith("ICPortrait_")
        assert found["cnr_id"] == ("ic-portrait" if ours else "comfy-core"), node["type"]
        assert f'name = "{found["cnr_id"]}"\nversion = "{found["ver"]}"' in project or not ours
    for graph in saved.get("definitions", {}).get("subgraphs", []):
        assert graph["description"] and graph["category"] == "IC-Portrait"
        assert len(saved["extra"]["BlueprintSearchAliases"]) >= 2


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_the_editor_can_say_where_published_files_come_from(path):
    """Only of nodes that are on: the editor asks for the files when it opens the workflow."""
    for node in load(path)["nodes"]:
        named = {value for value in node.get("widgets_values", []) if value in workflow_drawing.MODEL_FILES}
        found = node["properties"].get("models", [])
        assert {entry["name"] for entry in found} == (named if node["mode"] == 0 else set()), node["type"]
        assert all(entry["url"].startswith("https://") and entry["directory"] for entry in found)


@pytest.mark.parametrize("name", ["photo_portrait", "portrait"])
def test_app_mode_shows_widgets_that_exist_and_the_result(name):
    saved = load(PACK / "workflows" / f"{name}.json")
    nodes = {node["id"]: node for node in saved["nodes"]}
    shown = saved["extra"]["linearData"]
    assert [nodes[number]["type"] for number in shown["outputs"]] == ["SaveImage"]
    assert [nodes[number]["title"] for number, _ in shown["inputs"][:2]] == [
        workflow_examples.PROFILE,
        workflow_examples.STYLE,
    ]
    assert all(nodes[number]["mode"] == 0 for number, _ in shown["inputs"])


@pytest.mark.parametrize("name", workflow_examples.EXAMPLES)
def test_a_drawn_workflow_is_what_its_drawing_says(name, server):
    committed = workflow_api.to_api(load(PACK / "workflows" / f"{name}.json"), server.object_info)
    drawn = workflow_api.to_api(workflow_examples.draw(name, server.object_info), server.object_info)
    for node_id, node in drawn.items():
        if node["_meta"].get("title") in (None, server.object_info[node["class_type"]]["display_name"]):
            committed[node_id]["_meta"] = node["_meta"]  # ComfyUI's own name of a node, which may change
    assert committed == drawn, "draw it again: python run.py tools workflows"


@pytest.mark.parametrize("name", sorted({path.stem for path in WORKFLOWS} - {"portrait_step_by_step"}))
def test_it_runs_in_the_real_server(name, server):
    """The shipped graph on the sample pictures with the demo bundle; portrait_step_by_step is run by the demo below."""
    api = workflow_api.to_api(load(PACK / "workflows" / f"{name}.json"), server.object_info)
    prompt = quickened(workflow_examples.on_the_demo(api))
    run = server.run_workflow(prompt)
    result = picture(server, run, prompt, demo.RESULT)
    assert result.ndim == 3 and result.std() > 1
    for node_id, node in prompt.items():
        if node["class_type"] in ("PreviewImage", "SaveImage", "SaveAnimatedWEBP"):
            assert run.outputs[node_id]["images"], node["_meta"]["title"]
        if node["class_type"] == "PreviewAny":
            assert run.outputs[node_id]["text"][0], node["_meta"]["title"]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
class TestEachWorkflow:
    def test_is_valid_for_this_comfyui(self, path, server):
        api = workflow_examples.on_the_demo(workflow_api.to_api(load(path), server.object_info))
        assert workflow_api.problems(api, server.object_info) == []

    def test_calls_its_outputs_by_their_names(self, path, server):
        for node in load(path)["nodes"]:
            if node["type"] in server.object_info:
                names = server.object_info[node["type"]]["output_name"]
                if not node["type"].startswith("ICPortrait_"):  # a newer ComfyUI may have added outputs
                    names = names[: len(node["outputs"])]
                assert [entry["name"] for entry in node["outputs"]] == names, f"{node['type']} {node['id']}"

    def test_explains_itself(self, path):
        notes = [node["widgets_values"][0] for node in load(path)["nodes"] if node["type"] == "MarkdownNote"]
        assert notes and any("SD1.5" in note for note in notes)

    def test_names_a_value_for_every_widget(self, path, server):
        """A value too few would silently shift what the artist sees."""
        for node in load(path)["nodes"]:
            if node["type"] in workflow_api.ONLY_IN_EDITOR:
                continue
            specs = workflow_api.inputs_of(server.object_info[node["type"]])
            widgets = [name for name, spec in specs.items() if workflow_api.is_widget(spec)]
            assert len(node["widgets_values"]) >= len(widgets), f"{node['type']} {node['id']}"

    def test_has_its_nodes_in_titled_groups(self, path):
        workflow = load(path)
        stages = demo.stages_of(workflow)
        assert [node["id"] for node in workflow["nodes"] if str(node["id"]) not in stages] == []

    def test_links_agree_with_both_their_ends(self, path):
        workflow = load(path)
        nodes = {node["id"]: node for node in workflow["nodes"]}
        for number, origin, slot, target, entry, kind in workflow["links"]:
            assert number in nodes[origin]["outputs"][slot]["links"]
            assert nodes[target]["inputs"][entry]["link"] == number
            assert nodes[origin]["outputs"][slot]["type"] == kind

    def test_names_no_folder_of_a_machine(self, path):
        assert "/root" not in path.read_text() and "/home" not in path.read_text()


class TestConversion:
    """The rules of the editor's own conversion, on graphs of stock nodes."""

    def graph(self, middle, mode=0):
        """EmptyImage -> `middle` -> SaveImage."""
        nodes = [
            {
                "id": 1,
                "type": "EmptyImage",
                "widgets_values": [64, 32, 1, 255],
                "inputs": [],
                "outputs": [{"type": "IMAGE"}],
            },
            {
                "id": 2,
                "mode": mode,
                "inputs": [{"name": "image", "type": "IMAGE", "link": 1}],
                "outputs": [{"type": "IMAGE"}],
            }
            | middle,
            {
                "id": 3,
                "type": "SaveImage",
                "title": "Out",
                "widgets_values": ["x"],
                "inputs": [{"name": "images", "type": "IMAGE", "link": 2}],
                "outputs": [],
            },
        ]
        return {"nodes": nodes, "links": [[1, 1, 0, 2, 0, "IMAGE"], [2, 2, 0, 3, 0, "IMAGE"]]}

    INVERT = {"type": "ImageInvert", "widgets_values": []}

    def test_widget_values_get_their_names_in_order(self, server):
        api = workflow_api.to_api(self.graph(self.INVERT), server.object_info)
        assert api["1"]["inputs"] == {"width": 64, "height": 32, "batch_size": 1, "color": 255}
        assert api["3"] == {
            "class_type": "SaveImage",
            "inputs": {"images": ["2", 0], "filename_prefix": "x"},
            "_meta": {"title": "Out"},
        }

    def test_a_bypassed_node_hands_its_input_on(self, server):
        api = workflow_api.to_api(self.graph(self.INVERT, mode=workflow_api.BYPASSED), server.object_info)
        assert "2" not in api and api["3"]["inputs"]["images"] == ["1", 0]

    def test_a_bypassed_node_keeps_positive_and_negative_apart(self, server):
        pair = [
            {"name": name, "type": "CONDITIONING", "link": link} for name, link in (("positive", 1), ("negative", 2))
        ]
        outputs = [{"type": "CONDITIONING"}, {"type": "CONDITIONING"}]
        plain = {"type": "CLIPTextEncode", "widgets_values": ["x"], "inputs": [], "outputs": outputs[:1]}
        nodes = [
            plain | {"id": 1},
            plain | {"id": 2},
            {"id": 3, "type": "ControlNetApplyAdvanced", "mode": 4, "inputs": pair, "outputs": outputs},
            {
                "id": 4,
                "type": "KSampler",
                "inputs": [entry | {"link": entry["link"] + 2} for entry in pair],
                "outputs": [],
            },
        ]
        links = [[1, 1, 0, 3, 0, "C"], [2, 2, 0, 3, 1, "C"], [3, 3, 0, 4, 0, "C"], [4, 3, 1, 4, 1, "C"]]
        inputs = workflow_api.to_api({"nodes": nodes, "links": links}, server.object_info)["4"]["inputs"]
        assert inputs["positive"] == ["1", 0] and inputs["negative"] == ["2", 0]

    def test_a_muted_node_cuts_the_link(self, server):
        api = workflow_api.to_api(self.graph(self.INVERT, mode=workflow_api.MUTED), server.object_info)
        assert "2" not in api and "images" not in api["3"]["inputs"]
        assert workflow_api.problems(api, server.object_info) == [
            "node 3 (SaveImage): required input 'images' is missing"
        ]

    def test_a_reroute_is_followed(self, server):
        reroute = {"type": "Reroute", "inputs": [{"name": "", "type": "*", "link": 1}]}
        api = workflow_api.to_api(self.graph(reroute), server.object_info)
        assert api["3"]["inputs"]["images"] == ["1", 0]

    def test_the_editors_own_widget_below_a_seed_is_skipped(self, server):
        node = {"id": 1, "type": "KSampler", "inputs": [], "outputs": []}
        node["widgets_values"] = [266, "randomize", 15, 8, "dpmpp_2m", "normal", 0.87]
        inputs = workflow_api.to_api({"nodes": [node], "links": []}, server.object_info)["1"]["inputs"]
        assert inputs == {
            "seed": 266,
            "steps": 15,
            "cfg": 8,
            "sampler_name": "dpmpp_2m",
            "scheduler": "normal",
            "denoise": 0.87,
        }

    def test_a_primitive_gives_its_value(self, server):
        graph = self.graph(self.INVERT)
        graph["nodes"].append(
            {"id": 4, "type": "PrimitiveNode", "widgets_values": [128, "fixed"], "outputs": [{"type": "INT"}]}
        )
        graph["nodes"][0]["inputs"] = [{"name": "width", "type": "INT", "widget": {"name": "width"}, "link": 9}]
        graph["links"].append([9, 4, 0, 1, 0, "INT"])
        assert workflow_api.to_api(graph, server.object_info)["1"]["inputs"]["width"] == 128

    def test_values_that_fit_no_widget_are_refused(self, server):
        graph = self.graph(self.INVERT | {"widgets_values": [1, 2]})
        with pytest.raises(workflow_api.ConversionError, match=r"node 2 \(ImageInvert\): 2 widget values too many"):
            workflow_api.to_api(graph, server.object_info)

    def test_an_unknown_node_is_named(self, server):
        with pytest.raises(workflow_api.ConversionError, match=r"node 2 \(NoSuchNode\)"):
            workflow_api.to_api(self.graph({"type": "NoSuchNode", "widgets_values": []}), server.object_info)

    def test_a_wrong_choice_and_a_wrong_type_are_found(self, server):
        api = {
            "1": {
                "class_type": "LatentUpscaleBy",
                "inputs": {"samples": ["2", 0], "upscale_method": "x", "scale_by": 1},
            },
            "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0}},
        }
        found = workflow_api.problems(api, server.object_info)
        assert len(found) == 2 and "wants LATENT, gets IMAGE" in found[0] and "cannot be 'x'" in found[1]


class TestThroughHttp:
    """workflows/portrait_step_by_step.json with real photographs in a running ComfyUI."""

    @pytest.fixture(scope="class")
    def photographs(self, server):
        prompt = portrait_prompt(server, "group_photo.jpg", "astronaut.png", steps=4)
        # The mask as a picture, to know which pixels may differ.
        stitch = demo.node_titled(prompt, "Stitch Face")
        prompt["901"] = {"class_type": "MaskToImage", "inputs": {"mask": [stitch, 1]}}
        prompt["902"] = {
            "class_type": "PreviewImage",
            "inputs": {"images": ["901", 0]},
            "_meta": {"title": "Stitch mask"},
        }
        return prompt, server.run_workflow(prompt)

    def test_ends_in_success(self, photographs, server):
        prompt, run = photographs
        status = server.history(run.prompt_id)["status"]
        assert status["status_str"] == "success" and status["completed"]
        kinds = [kind for kind, _ in status["messages"]]
        assert kinds[-1] == "execution_success" and "execution_error" not in kinds

    def test_shows_every_picture_of_the_panel(self, photographs, server):
        prompt, run = photographs
        sizes = {title: picture(server, run, prompt, title).shape for title in demo.PANEL}
        assert sizes.pop(demo.RESULT) == (512, 512, 3)  # the astronaut's
        assert set(sizes.values()) == {(256, 256, 3)}

    def test_changes_nothing_outside_the_mask(self, photographs, server, astronaut_path):
        prompt, run = photographs
        result = picture(server, run, prompt, demo.RESULT)
        before = np.asarray(Image.open(astronaut_path).convert("RGB"))
        mask = Image.fromarray(picture(server, run, prompt, "Stitch mask")).convert("L")
        # The picture of the mask has 8 bits: a few pixels more hold what rounds to 0.
        inside = np.asarray(mask.filter(ImageFilter.MaxFilter(9))) > 0
        assert 0.005 < inside.mean() < 0.5
        assert np.array_equal(result[~inside], before[~inside])
        assert not np.array_equal(result[inside], before[inside])

    def test_gives_similarities_of_real_faces(self, photographs):
        prompt, run = photographs
        style = demo.number_of(run, demo.node_titled(prompt, "identity_style"))
        assert 0.0 < style < 0.5  # two different people

    def test_another_seed_gives_another_picture_and_the_same_seed_the_same(self, photographs, server):
        prompt, run = photographs
        first = picture(server, run, prompt, demo.RESULT)
        changed = json.loads(json.dumps(prompt))
        demo.with_seed(changed, 12345)
        assert not np.array_equal(first, picture(server, server.run_workflow(changed), changed, demo.RESULT))
        # The executor only keeps the last run, so everything that depends on the seed is computed anew.
        again = server.run_workflow(prompt)
        assert demo.node_titled(prompt, "Progressive Sampler") in again.seconds
        assert np.array_equal(first, picture(server, again, prompt, demo.RESULT))

    def test_cancel_works_within_one_step(self, server):
        prompt = portrait_prompt(server, "group_photo.jpg", "astronaut.png", steps=200)
        sampler = demo.node_titled(prompt, "Progressive Sampler")
        steps_after = []

        def cancel_at_step_2(kind, data):
            if kind == "progress" and data["node"] == sampler:
                if data["value"] == 2:
                    server.interrupt()
                if data["value"] > 2:
                    steps_after.append(data["value"])

        with pytest.raises(WorkflowError, match=f"interrupted in node {sampler}"):
            server.run_workflow(prompt, cancel_at_step_2)
        assert len(steps_after) <= 1

    def test_a_picture_without_a_face_ends_in_one_clear_sentence(self, server):
        prompt = portrait_prompt(server, "no_face.png", "astronaut.png")
        prompt[demo.node_titled(prompt, "Detect: profile")]["inputs"]["effort"] = "fast"
        with pytest.raises(WorkflowError, match="Align Face.*face"):
            server.run_workflow(prompt)


class TestGroupPortrait:
    """workflows/group_portrait.json as it ships: six people on its sample picture, three of them replaced."""

    STEPS = 2
    # Pixels on the noses of the six faces of bundle/icportrait_group.jpg, read off the picture.
    NOSES = ((205, 170), (378, 195), (548, 170), (737, 200), (912, 165), (1092, 200))

    @pytest.fixture(scope="class")
    def group(self, server):
        prompt = workflow_api.to_api(load(PACK / "workflows" / "group_portrait.json"), server.object_info)
        node = demo.node_titled(prompt, "Group Portrait")
        prompt[node]["inputs"]["steps"] = self.STEPS
        prompt["901"] = {"class_type": "MaskToImage", "inputs": {"mask": [node, 1]}}
        prompt["902"] = {
            "class_type": "PreviewImage",
            "inputs": {"images": ["901", 0]},
            "_meta": {"title": "Paste mask"},
        }
        return prompt, server.run_workflow(prompt)

    def words(self, group, title):
        prompt, run = group
        return run.outputs[demo.node_titled(prompt, title)]["text"][0]

    def test_three_people_are_painted_and_three_left_alone(self, group):
        frame, method = self.words(group, "Status of each frame").splitlines()
        assert frame == "frame 0: 3 painted (0 Ben, 2 Carl, 4 Anna), 3 left alone"
        assert method == "Painted by nets, as chosen."
        assert "3 of 6 faces get a person" in self.words(group, "Reasons")

    def test_nothing_outside_the_mask_changes(self, group, server):
        before = as_loaded(server, "icportrait_group.jpg")
        after = picture(server, group[1], group[0], demo.RESULT)
        mask = Image.fromarray(picture(server, group[1], group[0], "Paste mask")).convert("L")
        # The picture of the mask has 8 bits: a few pixels more hold what rounds to 0.
        inside = np.asarray(mask.filter(ImageFilter.MaxFilter(9))) > 0
        assert np.array_equal(after[~inside], before[~inside])
        on_face = [bool(inside[y, x]) for x, y in self.NOSES]
        assert on_face == [True, False] * 3
        changed = [
            float(np.abs(after[y - 9 : y + 10, x - 9 : x + 10] * 1.0 - before[y - 9 : y + 10, x - 9 : x + 10]).max())
            for x, y in self.NOSES
        ]
        assert [amount > 2 for amount in changed] == on_face and [changed[k] for k in (1, 3, 5)] == [0, 0, 0]

    def test_one_progress_bar_counts_all_faces(self, group):
        prompt, run = group
        node = demo.node_titled(prompt, "Group Portrait")
        seen = [data for kind, data in run.messages if kind == "progress" and data["node"] == node]
        assert {data["max"] for data in seen} == {3 * self.STEPS}
        values = [data["value"] for data in seen]
        assert values == sorted(values) and values[-1] == 3 * self.STEPS

    def test_cancel_between_faces(self, group, server):
        prompt = json.loads(json.dumps(group[0]))
        node = demo.node_titled(prompt, "Group Portrait")
        prompt[node]["inputs"]["seed"] = 99  # else nothing is left to do
        after = []

        def cancel_after_one_face(kind, data):
            if kind == "progress" and data["node"] == node:
                if data["value"] == self.STEPS:
                    server.interrupt()
                after.append(data["value"])

        with pytest.raises(WorkflowError, match=f"interrupted in node {node}"):
            server.run_workflow(prompt, cancel_after_one_face)
        assert max(after) < 3 * self.STEPS

    def test_a_prompt_without_clip_is_one_sentence(self, group, server):
        prompt = json.loads(json.dumps(group[0]))
        prompt[demo.node_titled(prompt, "Group Portrait")]["inputs"]["prompts"] = "oil painting"
        with pytest.raises(WorkflowError, match="Group Portrait: face 0 has a prompt, but no CLIP is connected"):
            server.run_workflow(prompt)


class TestDemo:
    """What `python run.py demo` does after set-up, on the shipped bundle and sample pictures."""

    def test_writes_result_panel_and_report(self, tmp_path, capsys):
        assert demo.main(["--nets", "--out", str(tmp_path), "--seed", "3", "--cpu"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["seed"] == 3
        assert set(report) == {"identity_style", "identity_result", "seed", "seconds", "versions"}
        assert {"icportrait", "comfyui", "torch", "python", "device"} <= set(report["versions"])
        assert "unknown" not in report["versions"].values()
        groups = [group["title"] for group in load(PACK / "workflows" / "portrait_step_by_step.json")["groups"]]
        assert list(report["seconds"]) == ["0 Start ComfyUI", *groups, "total"]
        assert sum(s for stage, s in report["seconds"].items() if stage != "total") <= report["seconds"]["total"] + 0.1
        panel = Image.open(tmp_path / "panel.png")
        assert panel.width > 5 * 320 and panel.height > 320
        assert Image.open(tmp_path / "result.png").mode == "RGB"
        printed = capsys.readouterr().out
        for needed in (
            "Identity similarity",
            "Seconds by stage",
            str(tmp_path / "panel.png"),
            "6 Inject, denoise, detail",
        ):
            assert needed in printed

    def test_two_pictures_of_yours(self, tmp_path, capsys, astronaut_path, group_photo_path):
        turned = Image.open(astronaut_path).convert("L").rotate(90, expand=True)
        exif = turned.getexif()
        exif[0x0112] = 6  # shown turned by 90 degrees clockwise
        turned.save(tmp_path / "profile.jpg", exif=exif)
        style = np.asarray(Image.open(group_photo_path).convert("L"), np.uint16)[60:460, 440:840] * 257
        Image.fromarray(style).save(tmp_path / "style.png")
        pictures = ["--profile", str(tmp_path / "profile.jpg"), "--style", str(tmp_path / "style.png")]
        assert demo.main([*pictures, "--out", str(tmp_path), "--cpu"]) == 0
        report = json.loads((tmp_path / "report.json").read_text())
        assert report["report"][0].startswith("Painted by mesh")
        assert Image.open(tmp_path / "result.png").size == (400, 400)
        assert "Identity similarity" in capsys.readouterr().out

    def test_a_file_that_is_no_picture(self, tmp_path, capsys):
        (tmp_path / "x.png").write_text("x")
        assert demo.main(["--profile", str(tmp_path / "x.png"), "--out", str(tmp_path), "--cpu"]) == 1
        assert "cannot be read as a picture" in capsys.readouterr().err

    def test_a_failure_is_one_sentence_and_exit_code_1(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
        assert demo.main(["--out", str(tmp_path / "out"), "--cpu"]) == 1
        assert "COMFYUI_PATH" in capsys.readouterr().err


class TestBlueprints:
    """subgraphs/*.json, which the editor's node search offers. The page itself opens them in tests/browser."""

    @pytest.mark.parametrize("name", workflow_examples.BLUEPRINTS)
    def test_the_file_is_what_the_drawing_says(self, name, server):
        committed = json.loads((PACK / "subgraphs" / f"{name}.json").read_text("utf-8"))
        assert committed == workflow_examples.draw_blueprint(name, server.object_info), (
            "draw it again: python run.py tools workflows"
        )

    def test_the_server_offers_them(self, server):
        offered = server.get("/api/global_subgraphs")
        assert {entry["name"] for entry in offered.values()} == set(workflow_examples.BLUEPRINTS)

    @pytest.mark.parametrize("name", workflow_examples.BLUEPRINTS)
    def test_its_inside_runs(self, name, server):
        """The subgraph with loaders on its input wires and previews on its output wires."""
        (inside,) = load(PACK / "subgraphs" / f"{name}.json")["definitions"]["subgraphs"]
        loader = {"id": 901, "type": "ICPortrait_LoadDemoBundle", "inputs": [], "outputs": [], "widgets_values": []}
        extra = [loader]
        sources = dict(zip(workflow_examples.MODEL_TYPES, ((901, slot) for slot in range(4))))
        for number, entry in enumerate(inside["inputs"][4:]):
            file = "icportrait_style.png" if number == len(inside["inputs"]) - 5 else "icportrait_profile.png"
            file = "group_photo.jpg" if entry["name"] == "group_image" else file
            extra.append(
                {"id": 910 + number, "type": "LoadImage", "inputs": [], "outputs": [], "widgets_values": [file]}
            )
            sources[entry["name"]] = (910 + number, 0)
        links = []
        for link in inside["links"]:
            if link["origin_id"] == -10:
                link["origin_id"], link["origin_slot"] = sources[inside["inputs"][link["origin_slot"]]["name"]]
            links.append(list(link.values()))
        shown = next(link for link in inside["links"] if link["target_id"] == -20 and link["target_slot"] == 0)
        result = {"name": "images", "type": "IMAGE", "link": shown["id"]}
        extra.append({"id": 920, "title": demo.RESULT, "type": "PreviewImage", "inputs": [result], "outputs": []})
        prompt = workflow_api.to_api({"nodes": inside["nodes"] + extra, "links": links}, server.object_info)
        run = server.run_workflow(quickened(prompt))
        assert picture(server, run, prompt, demo.RESULT).std() > 1
