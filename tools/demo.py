"""The demo in the real ComfyUI, without a window: workflows/photo_portrait.json on two pictures of yours or the samples in bundle/; with
--nets the paper's method, workflows/portrait_step_by_step.json, on the samples.

Writes `result.png`, `panel.png` and `report.json`. Everything shown comes out of the workflow's own nodes: pictures from
the preview and save nodes by their titles, stages are the workflow's groups.
"""

import argparse
import io
import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..models.errors import UserError
from ..run import SetupError
from .comfy_server import PACK, ComfyServer, Run, WorkflowError
from .workflow_api import to_api

WORKFLOW = PACK / "workflows" / "portrait_step_by_step.json"
PHOTO_WORKFLOW = PACK / "workflows" / "photo_portrait.json"
SAMPLES = PACK / "bundle"
PICTURES = (".png", ".jpg", ".jpeg", ".webp")
PERSON_LORA = "icportrait_person_lora.safetensors"
# Titles of nodes in the workflow.
PROFILE, STYLE = "Profile: the person", "Style reference: pose, light, style"
RESULT = "Result"
BEFORE_AFTER, REPORT = "Before and after", "Report"
PANEL = (
    "Panel: profile",
    "Panel: style reference",
    "Panel: sampled pixels",
    "Panel: flow",
    "Panel: profile warped by the flow",
    RESULT,
)
SIMILARITIES = ("identity_style", "identity_result")


def copy_samples(base: Path) -> None:
    """Copy what the workflows load into ComfyUI's folders in `base`: the sample pictures and the sample person's LoRA."""
    pictures, loras = base / "input", base / "models" / "loras"
    for folder in (pictures, loras):
        folder.mkdir(parents=True, exist_ok=True)
    for path in sorted(SAMPLES.iterdir()) if SAMPLES.is_dir() else ():
        if path.suffix.lower() in PICTURES:
            shutil.copy(path, pictures)
        elif path.name == PERSON_LORA:
            shutil.copy(path, loras)


def stages_of(workflow: dict) -> dict[str, str]:
    """{node id: title of the group it lies in}."""
    stages = {}
    for node in workflow["nodes"]:
        x, y = node["pos"]
        for group in workflow["groups"]:
            left, top, width, height = group["bounding"]
            if left <= x <= left + width and top <= y <= top + height:
                stages[str(node["id"])] = group["title"]
    return stages


def with_seed(prompt: dict, seed: int | None) -> int:
    """Set every seed of the graph to `seed`, in place; None leaves them. Returns the sampler's seed."""
    used = 0
    for node in prompt.values():
        if isinstance(node["inputs"].get("seed"), int):
            if seed is not None:
                node["inputs"]["seed"] = seed
            used = node["inputs"]["seed"]
    return used


def node_titled(prompt: dict, title: str) -> str:
    """Id of the node with that title. Raises UserError when there is none."""
    for node_id, node in prompt.items():
        if node.get("_meta", {}).get("title") == title:
            return node_id
    raise UserError(f"The workflow has no node titled '{title}', whose picture or number is needed.")


class ProgressLine:
    """Shows which stage runs: a bar on a terminal, a line a stage elsewhere."""

    def __init__(self, prompt: dict, stages: dict[str, str]):
        self.stages, self.total, self.done, self.stage = stages, len(prompt), 0, ""
        self.start = time.monotonic()

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "execution_cached":
            self.done += len(data.get("nodes", []))
        elif kind == "executing":
            self.show(data.get("node"), 0.0)
            self.done += 1
        elif kind == "progress" and data.get("max"):
            self.show(data.get("node"), data["value"] / data["max"] - 1)

    def show(self, node: str | None, part: float) -> None:
        share = min(1.0, max(0.0, (self.done + part) / self.total))
        stage = self.stages.get(str(node), "") if node else "done"
        if sys.stdout.isatty():
            bar = "#" * round(30 * share)
            end = "\n" if node is None else "\r"
            print(
                f"  [{bar:<30}] {share:4.0%} {time.monotonic() - self.start:4.0f} s  {stage:<30}", end=end, flush=True
            )
        elif stage != self.stage and stage:
            print(f"  {share:4.0%} {time.monotonic() - self.start:4.0f} s  {stage}", flush=True)
        self.stage = stage


def picture_of(server: ComfyServer, run: Run, node_id: str):
    """The first picture a node showed or saved, as a PIL image. Raises WorkflowError when it showed none."""
    from PIL import Image

    images = run.outputs.get(node_id, {}).get("images")
    if not images:
        raise WorkflowError(f"node {node_id} gave no picture")
    return Image.open(io.BytesIO(server.view(images[0]))).convert("RGB")


def number_of(run: Run, node_id: str) -> float | None:
    """The number a PreviewAny node showed; None for NaN (a face that could not be read)."""
    text = run.outputs.get(node_id, {}).get("text", ["nan"])[0]
    value = float(text)
    return None if math.isnan(value) else round(value, 4)


def panel(pictures: dict, similarities: dict):
    """All pictures side by side, each under its title, with the similarities, as a PIL image."""
    import numpy as np
    import torch
    from PIL import Image

    from ..models.pictures.panels import labelled_panel

    notes = dict(zip(("Panel: style reference", RESULT), (similarities[name] for name in SIMILARITIES), strict=True))
    items = []
    for title, image in pictures.items():
        label = title.removeprefix("Panel: ").lower()
        if title in notes:
            label += " (identity " + ("unknown)" if notes[title] is None else f"{notes[title]:.2f})")
        items.append((label, torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)))
    joined = labelled_panel(items, height=320)[0]
    return Image.fromarray((joined * 255).round().clamp(0, 255).to(torch.uint8).numpy())


def seconds_by_stage(run: Run, stages: dict[str, str]) -> dict[str, float]:
    """Time of each stage, in the order of their titles, which start with a number."""
    seconds = {}
    for node_id, spent in run.seconds.items():
        stage = stages.get(node_id, "other")
        seconds[stage] = seconds.get(stage, 0.0) + spent
    return {stage: round(seconds[stage], 2) for stage in sorted(seconds)}


def versions_of(server: ComfyServer) -> dict[str, str]:
    """Versions of what ran, as the server itself reports them."""
    system = server.get("/system_stats")["system"]
    found = re.search(r'^version = "(.+)"', (PACK / "pyproject.toml").read_text("utf-8"), re.MULTILINE)
    return {
        "icportrait": found.group(1) if found else "unknown",
        "comfyui": system.get("comfyui_version", "unknown"),
        "torch": system.get("pytorch_version", "unknown"),
        "python": system.get("python_version", "unknown").split()[0],
        "device": server.get("/system_stats")["devices"][0]["name"],
    }


@contextmanager
def sample_server(cpu: bool | None) -> Iterator[tuple[Path, ComfyServer]]:
    """A running ComfyUI with the samples in its folders, which lie in a temporary folder of its own; (that folder, the server)."""
    with tempfile.TemporaryDirectory(prefix="icportrait-demo-", ignore_cleanup_errors=True) as folder:
        base = Path(folder)
        copy_samples(base)
        print("Starting ComfyUI ...", flush=True)
        with ComfyServer(base, cpu) as server:
            yield base, server


def run_demo(out: Path, seed: int | None = None, cpu: bool | None = None) -> int:
    """Run the paper's method step by step on the samples and write its files to `out`.

    Args:
        out: folder for result.png, panel.png and report.json; created.
        seed: for every node that takes one; None = those in the workflow.
        cpu: force the CPU; None = when torch sees no GPU.

    Returns:
        exit code 0.

    Raises:
        UserError: ComfyUI did not start, or refused or failed the workflow.
    """
    started = time.monotonic()
    workflow = json.loads(WORKFLOW.read_text("utf-8"))
    stages = stages_of(workflow)
    with sample_server(cpu) as (base, server):
        seconds = {"0 Start ComfyUI": round(time.monotonic() - started, 2)}
        prompt = to_api(workflow, server.object_info)
        used_seed = with_seed(prompt, seed)
        titles = {title: node_titled(prompt, title) for title in (*PANEL, *SIMILARITIES)}
        print(f"Running {WORKFLOW.name} ...", flush=True)
        run = server.run_workflow(prompt, ProgressLine(prompt, stages))
        seconds.update(seconds_by_stage(run, stages))
        pictures = {title: picture_of(server, run, titles[title]) for title in PANEL}
        similarities = {name: number_of(run, titles[name]) for name in SIMILARITIES}
        versions = versions_of(server)
    seconds["total"] = round(time.monotonic() - started, 2)
    out.mkdir(parents=True, exist_ok=True)
    pictures[RESULT].save(out / "result.png")
    panel(pictures, similarities).save(out / "panel.png")
    report = {**similarities, "seed": used_seed, "seconds": seconds, "versions": versions}
    write_report(report, out)
    print_summary(report, out)
    return 0


def load_upright(path: Path):
    """Any picture as an 8-bit RGB PIL image, see `read_picture`. Raises UserError as it does."""
    from PIL import Image

    from ..models.pictures.files import read_picture

    return Image.fromarray(read_picture(path))


def run_photo_demo(
    out: Path, profile: Path | None = None, style: Path | None = None, seed: int | None = None, cpu: bool | None = None
) -> int:
    """Paint the person of one picture into another and write the files to `out`.

    Args:
        profile, style: pictures; None takes the sample's.
        out, seed, cpu: as in `run_demo`.

    Returns:
        exit code 0.

    Raises:
        UserError: an unreadable picture; ComfyUI did not start, or refused or failed the workflow.
    """
    started = time.monotonic()
    workflow = json.loads(PHOTO_WORKFLOW.read_text("utf-8"))
    pictures = {PROFILE: profile, STYLE: style}
    images = {title: load_upright(path) for title, path in pictures.items() if path is not None}
    with sample_server(cpu) as (base, server):
        seconds = {"0 Start ComfyUI": round(time.monotonic() - started, 2)}
        prompt = to_api(workflow, server.object_info)
        used_seed = with_seed(prompt, seed)
        for number, (title, image) in enumerate(images.items()):
            image.save(base / "input" / f"demo_{number}.png")
            prompt[node_titled(prompt, title)]["inputs"]["image"] = f"demo_{number}.png"
        print(f"Running {PHOTO_WORKFLOW.name} ...", flush=True)
        run = server.run_workflow(prompt, ProgressLine(prompt, stages_of(workflow)))
        seconds.update(seconds_by_stage(run, stages_of(workflow)))
        result, before_after = (picture_of(server, run, node_titled(prompt, title)) for title in (RESULT, BEFORE_AFTER))
        words = run.outputs[node_titled(prompt, REPORT)]["text"][0]
        versions = versions_of(server)
    seconds["total"] = round(time.monotonic() - started, 2)
    out.mkdir(parents=True, exist_ok=True)
    result.save(out / "result.png")
    before_after.save(out / "panel.png")
    report = {"report": words.splitlines(), "seed": used_seed, "seconds": seconds, "versions": versions}
    write_report(report, out)
    print(f"\n{words}")
    print_seconds_and_files(report, out)
    return 0


def write_report(report: dict, out: Path) -> None:
    """`report.json` in `out`."""
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def print_summary(report: dict, out: Path) -> None:
    """What a person wants to know at the end."""
    print("\nIdentity similarity to the profile (1 - distance of face embeddings):")
    for name, text in zip(SIMILARITIES, ("style reference", "result"), strict=True):
        value = report[name]
        print(f"  {text:<18}" + ("no face could be read" if value is None else f"{value:6.3f}"))
    print_seconds_and_files(report, out)


def print_seconds_and_files(report: dict, out: Path) -> None:
    """How long it took, and where the files are."""
    print("Seconds by stage:")
    for stage, seconds in report["seconds"].items():
        print(f"  {stage:<24}{seconds:7.1f}")
    print("Files:")
    for name in ("result.png", "panel.png", "report.json"):
        print(f"  {(out / name).resolve()}")


def main(arguments: list[str] | None = None) -> int:
    """Entry point of `python run.py demo`."""
    parser = argparse.ArgumentParser(prog="run.py demo", description="Make a portrait in the real ComfyUI.")
    parser.add_argument(
        "--out", type=Path, default=Path("demo_output"), help="folder for the files (default: demo_output)"
    )
    parser.add_argument("--profile", type=Path, help="photo of the person (default: the sample head)")
    parser.add_argument("--style", type=Path, help="picture whose pose and light are wanted (default: the sample head)")
    parser.add_argument("--nets", action="store_true", help="the paper's method step by step, on the sample heads")
    parser.add_argument("--seed", type=int, help="seed of every node (default: those in the workflow)")
    parser.add_argument("--cpu", action="store_true", help="do not use a GPU")
    options = parser.parse_args(arguments)
    if options.nets and (options.profile or options.style):
        parser.error("the demo nets know synthetic heads only: --nets takes no pictures")
    try:
        if options.nets:
            return run_demo(options.out, options.seed, options.cpu or None)
        return run_photo_demo(options.out, options.profile, options.style, options.seed, options.cpu or None)
    except (UserError, SetupError) as error:
        print(f"The demo failed: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
