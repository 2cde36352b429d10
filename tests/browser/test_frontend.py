"""The real editor in headless Chromium: templates, workflows, search, help, blueprints, running and previews.

Skipped when Chromium or Playwright is missing; `python run.py test` installs Chromium on Debian when it may. Screenshots
land in $ICPORTRAIT_SCREENSHOTS, else in pytest's temporary folder. With that variable set portraits are painted with all their
steps, so that the pictures can be shown; docs/architecture.md says how those of the README are made.

Written for ComfyUI 0.3.75 with its frontend 1.32.9. How it settles the editor's first start, and which console lines are the
editor's own noise, was found by running it without this pack (the last line of the noise with 0.33 and frontend 1.49.6).
"""

import json
import os
import shutil
from pathlib import Path

import pytest

from icportrait.tools import workflow_examples
from icportrait.tools.comfy_server import PACK, ComfyServer
from icportrait.tools.demo import copy_samples
from icportrait.tools.workflow_api import BYPASSED

CHROMIUM = os.environ.get("ICPORTRAIT_CHROMIUM") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
try:
    from playwright.sync_api import TimeoutError as PageTimeout
    from playwright.sync_api import sync_playwright
except ImportError:
    sync_playwright = None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sync_playwright is None, reason="playwright is not installed (requirements-test.txt)"),
    pytest.mark.skipif(
        CHROMIUM in (None, "none"), reason="no Chromium here: apt-get install chromium, or set ICPORTRAIT_CHROMIUM"
    ),
]

PATIENCE = 600_000  # milliseconds; a busy machine with two cores paints slowly
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync"]  # fmt: skip
SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.InstalledVersion": "1.32.9",
    "Comfy.Locale": "en",
    "Comfy.Workflow.Persist": False,
    "Comfy.VueNodes.Enabled": False,
    "Comfy.Graph.CanvasInfo": False,
    "Comfy.Minimap.Visible": False,  # it covers a corner of the screenshots
    "LiteGraph.Canvas.MinFontSizeForLOD": 0,  # names stay readable on screenshots of whole workflows
}
# The editor's own lines: they come without this pack too, "Error fetching" when it asks for a linked model's size without a network.
# Of a help page it asks for docs/<node id>/en.md before docs/<node id>.md, which is the page of all languages.
NOISE = ("favicon.ico", "user.css", "/api/userdata", "api.comfy.org", "huggingface.co", "Content Security Policy", "at onChange",
         "reading 'id'", "setting 'value'", "api/experiment", "stripe", "PrimeVue",
         "Error fetching file size", "graph accessed before initialization", "/en.md")  # fmt: skip
WORKFLOWS = sorted((PACK / "workflows").glob("*.json"))
OWN_FILES = {"portrait_sd15": {"ckpt_name", "clip_name", "matching_file", "appearance_file"}}
"""Workflows that name files only the artist has, and the widgets that do."""

# The search of frontend 1.32, and of 1.49.
SEARCH_BOX = ".comfy-vue-node-search-container input, input[aria-controls=results-list]"
# The list of the first shows only what is in view: scroll through it until the name comes by.
FIND_OPTION = """async name => {
    for (const end = Date.now() + 60000; Date.now() < end;) {
        const options = [...document.querySelectorAll('.p-autocomplete-option, [data-testid=result-item]')];
        if (options.some(option => option.textContent.includes(name))) return true;
        const list = document.querySelector('.p-autocomplete-overlay .p-virtualscroller')
            ?? document.querySelector('.p-autocomplete-list-container');
        if (list) list.scrollTop = list.scrollTop + list.clientHeight >= list.scrollHeight - 2 ? 0 : list.scrollTop + list.clientHeight;
        await new Promise(resolve => setTimeout(resolve, 300));
    }
    return false;
}"""
READY = "() => window.app?.graph && app.extensionManager && !app.extensionManager.spinner"
OPEN = """async ([workflow, name]) => {
    await app.loadGraphData(workflow, true, true, name);
    const nodes = [];
    const walk = graph => { for (const node of graph.nodes) { nodes.push(node); if (node.subgraph) walk(node.subgraph); } };
    walk(app.graph);
    const missing = nodes.filter(n => !n.subgraph && !(n.type in LiteGraph.registered_node_types)).map(n => n.type);
    const wrong = [];
    for (const node of nodes) for (const widget of node.widgets ?? []) {
        let values = widget.options?.values;
        if (typeof values === 'function') values = values(widget, node);
        if (widget.type === 'combo' && Array.isArray(values) && !values.includes(widget.value))
            wrong.push({node: node.type, mode: node.mode, widget: widget.name, value: widget.value});
    }
    return {count: nodes.length, missing, wrong};
}"""
RUN = """async () => {
    for (const key of Object.keys(app.nodeOutputs)) delete app.nodeOutputs[key];
    const ended = new Promise(resolve => {
        for (const kind of ['execution_success', 'execution_error', 'execution_interrupted'])
            app.api.addEventListener(kind, event => resolve([kind, event.detail]));
    });
    await app.queuePrompt(0);
    const refused = app.lastNodeErrors ?? {};
    if (Object.keys(refused).length) return ['refused', refused];
    return await ended;
}"""
FIT = "() => { app.canvas.ds.reset(); app.extensionManager.command.execute('Comfy.Canvas.FitView') }"
# The editor loads a node's pictures when it draws the node, so the view has to be there.
SHOWS_PICTURE = """id => {
    const node = app.graph.getNodeById(id);
    app.canvas.centerOnNode(node);
    return node.imgs?.[0]?.naturalWidth > 0;
}"""
QUICK = """() => {
    for (const node of app.graph.nodes) for (const widget of node.widgets ?? []) {
        // A sampler that begins with pure noise keeps its steps: two give no face.
        const fromNoise = node.widgets.some(other => other.name === 'denoise' && other.value === 1);
        if (widget.name === 'steps' && !fromNoise) widget.value = 2;
        if (widget.name === 'effort') widget.value = 'fast';
    }
}"""


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory) -> Path:
    """Folder for pictures of the page."""
    given = os.environ.get("ICPORTRAIT_SCREENSHOTS")
    folder = Path(given) if given else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    """A ComfyUI with this pack and settings that show an empty canvas at once."""
    base = tmp_path_factory.mktemp("browser")
    copy_samples(base)
    with ComfyServer(base, cpu=True, options=("--preview-method", "latent2rgb")) as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def page(browser, comfyui):
    """A fresh page of the editor; `page.complaints` holds the console's errors that are not the editor's own noise."""
    settings = comfyui.base / "user" / "default" / "comfy.settings.json"
    settings.parent.mkdir(parents=True, exist_ok=True)
    settings.write_text(json.dumps(SETTINGS), "utf-8")
    context = browser.new_context(viewport={"width": 1600, "height": 900})
    context.add_init_script("localStorage.setItem('vueNodesBannerDismissed', 'true')")
    page = context.new_page()
    page.set_default_timeout(120_000)
    page.complaints = []

    def complain(text: str, address: str = "") -> None:
        if not any(sign in text + address for sign in NOISE):
            page.complaints.append(f"{text} {address}".strip())

    page.on("pageerror", lambda error: complain(str(error)))
    page.on("console", lambda line: line.type == "error" and complain(line.text, line.location.get("url", "")))
    page.goto(comfyui.url)
    page.wait_for_function(READY)
    page.wait_for_selector(".p-blockui-mask", state="hidden")
    page.evaluate("() => app.graph.clear()")  # newer editors begin with an example
    yield page
    context.close()


def shoot(page, path: Path) -> None:
    """A screenshot of all nodes that are open."""
    page.evaluate(FIT)
    page.wait_for_timeout(1000)  # the view glides there
    page.screenshot(path=path, quality=80)


def opened(page, path: Path) -> dict:
    """Open a workflow file; what the page found in it."""
    return page.evaluate(OPEN, [json.loads(path.read_text("utf-8")), path.stem])


def test_templates_are_listed_with_their_pictures(page, screenshots):
    page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    page.get_by_text("ComfyUI-IC-Portrait", exact=True).first.click()
    for path in WORKFLOWS:
        card = page.get_by_test_id(f"template-workflow-{path.stem}")
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first.element_handle()
        page.wait_for_function("image => image.naturalWidth > 0", arg=picture)
    page.screenshot(path=screenshots / "templates.jpg", quality=80)


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflow_opens_complete(page, path, screenshots):
    found = opened(page, path)
    assert found["count"] == len(json.loads(path.read_text("utf-8"))["nodes"])
    assert found["missing"] == []
    # What is switched off may name files that only the artist has.
    wrong = {entry["widget"] for entry in found["wrong"] if entry["mode"] != BYPASSED}
    assert wrong == OWN_FILES.get(path.stem, set())
    shoot(page, screenshots / f"workflow_{path.stem}.jpg")
    assert page.complaints == []


def test_a_broken_workflow_would_be_noticed(page, tmp_path):
    workflow = json.loads((PACK / "workflows" / "portrait.json").read_text("utf-8"))
    for node in workflow["nodes"]:
        if node["type"] == "ICPortrait_Portrait":
            values = node["widgets_values"]
            values[values.index("off")] = "no such choice"  # of color_match
        if node["type"] == "PreviewAny":
            node["type"] = "NoSuchNode"
    path = tmp_path / "broken.json"
    path.write_text(json.dumps(workflow))
    found = opened(page, path)
    assert found["missing"] == ["NoSuchNode"]
    assert [entry["value"] for entry in found["wrong"]] == ["no such choice"]


@pytest.mark.parametrize("path", [p for p in WORKFLOWS if p.stem not in OWN_FILES], ids=lambda path: path.stem)
def test_workflow_runs_from_the_page_and_shows_its_pictures(page, path, screenshots):
    page.set_viewport_size({"width": 1100 if path.stem == "portrait" else 1600, "height": 900})
    opened(page, path)
    if not os.environ.get("ICPORTRAIT_SCREENSHOTS"):
        page.evaluate(QUICK)
    page.set_default_timeout(PATIENCE)
    kind, detail = page.evaluate(RUN)
    assert kind == "execution_success", detail
    showing = [
        node["id"]
        for node in json.loads(path.read_text("utf-8"))["nodes"]
        if node["mode"] == 0 and node["type"] in ("SaveImage", "PreviewImage", "SaveAnimatedWEBP")
    ]
    assert showing
    for number in showing:
        page.wait_for_function(SHOWS_PICTURE, arg=number)
    shoot(page, screenshots / f"{path.stem}_done.jpg")
    assert page.complaints == []


@pytest.mark.parametrize(
    ("words", "node"),
    [
        ("portrait", "Portrait"),
        ("face", "Detect Faces"),
        ("align", "Align Face"),
        ("similarity", "Identity Similarity"),
        ("group", "Group Portrait"),
        ("flow", "Estimate Flow"),
        ("stitch", "Stitch Face"),
        ("profile", "Add Profile"),
        ("one face", "IC-Portrait (one face)"),
    ],
)
def test_search_finds_nodes_by_the_words_artists_use(page, words, node):
    box = page.locator(SEARCH_BOX).first
    for _ in range(20):  # a busy machine may take a double click for two single ones
        page.mouse.dblclick(800, 450)
        try:
            box.wait_for(timeout=5000)
            break
        except PageTimeout:
            page.keyboard.press("Escape")
    box.fill(words)
    assert page.evaluate(FIND_OPTION, node)


HELP_IS_THERE = """name => {
    const page = document.querySelector('.node-help-content');
    return page?.textContent.includes('Common mistakes') && page.querySelector(`img[src$="/docs/pictures/${name}.jpg"]`)?.naturalWidth > 0;
}"""


def open_help(page, node_id: str) -> None:
    """As an artist does: click a node, then the *i* above it."""
    button = page.get_by_test_id("info-button")
    page.evaluate("() => app.canvas.deselectAll()")
    button.wait_for(state="hidden")  # that of the node before
    page.evaluate(
        """name => {
            app.graph.clear();
            const node = LiteGraph.createNode(name);
            node.pos = [700, 200];
            app.graph.add(node);
            app.canvas.draw(true, true);
        }""",
        node_id,
    )
    x, y = page.evaluate(
        "() => { const node = app.graph.nodes[0]; return app.canvasPosToClientPos([node.pos[0] + 60, node.pos[1] - 12]) }"
    )
    for patience in (5_000, 10_000, 120_000):  # on a busy machine a click may meet buttons that are just being drawn
        page.mouse.click(x, y)
        try:
            button.click(timeout=patience)
            page.wait_for_function(HELP_IS_THERE, arg=node_id, timeout=patience)
            return
        except PageTimeout:
            page.evaluate("() => app.canvas.deselectAll()")
    raise AssertionError(f"the help page of {node_id} did not open")


def test_help_pages_open_with_their_pictures(page, screenshots):
    for node_id in sorted(path.stem for path in (PACK / "web" / "docs").glob("*.md")):
        open_help(page, node_id)
    open_help(page, "ICPortrait_Portrait")
    text = page.locator(".node-help-content").inner_text()
    assert "When to use it" in text and "crop_size" in text
    page.screenshot(path=screenshots / "help.jpg", quality=80)
    assert page.complaints == []


@pytest.mark.parametrize("name", workflow_examples.BLUEPRINTS)
def test_blueprint_opens_and_flattens(page, name, screenshots):
    path = PACK / "subgraphs" / f"{name}.json"
    found = opened(page, path)
    (inside,) = json.loads(path.read_text("utf-8"))["definitions"]["subgraphs"]
    assert found["missing"] == [] and found["count"] == 1 + len(inside["nodes"])
    flat = page.evaluate("async () => (await app.graphToPrompt()).output")
    assert {node["class_type"] for node in flat.values()} == {node["type"] for node in inside["nodes"]}
    assert page.complaints == []  # going inside, for the screenshot, makes the editor complain about itself
    page.evaluate("() => { const [node] = app.graph.nodes; app.canvas.openSubgraph(node.subgraph, node) }")
    shoot(page, screenshots / f"blueprint_{'group' if 'group' in name else 'one_face'}.jpg")
