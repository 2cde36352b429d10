"""The command line: `icportrait data | train | export | measure | demo | workflows | thumbnails`.

Every preset value can be overridden by an option of the same name; `--help` of a stage explains each.
"""

import argparse
import dataclasses
import json
import logging
import re
import sys
from pathlib import Path

from .comfy_runtime import start_comfy


def field_help(owner: type) -> dict[str, str]:
    """The docstring under each field of a dataclass, by field name."""
    import inspect

    pairs = re.findall(
        r"^    (\w+):[^\n]*\n    \"\"\"(.+?)\"\"\"", inspect.getsource(owner), flags=re.MULTILINE | re.DOTALL
    )
    return {name: " ".join(text.split()) for name, text in pairs}


def add_override_options(parser: argparse.ArgumentParser, owner: type) -> None:
    """One option a dataclass field, default = what the preset says."""
    texts = field_help(owner)
    for field in dataclasses.fields(owner):
        kind = {"int": int, "float": float, "str": str}.get(getattr(field.type, "__name__", field.type), str)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            type=kind,
            default=None,
            help=texts.get(field.name, "").replace("%", "%%") or None,
        )


def overridden(settings, arguments: argparse.Namespace):
    """The preset's settings with the options that were given."""
    given = {
        f.name: getattr(arguments, f.name)
        for f in dataclasses.fields(settings)
        if getattr(arguments, f.name, None) is not None
    }
    return dataclasses.replace(settings, **given)


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    # Settings classes are imported here because their module needs ComfyUI on the path.
    from .conditioning import ConditioningSettings
    from .loop import LoopSettings

    parser = argparse.ArgumentParser(
        prog="icportrait", description="Data, training, export, measurement and demo of IC-Portrait."
    )
    commands = parser.add_subparsers(dest="command", required=True)

    data = commands.add_parser("data", help="make and look at training data").add_subparsers(dest="data", required=True)
    heads = data.add_parser("heads", help="render synthetic heads: pairs and triplets with exact flow")
    heads.add_argument("--out", type=Path, required=True, help="folder of the shards")
    heads.add_argument(
        "--groups", type=int, default=734, help="groups to render; 734 x 48 samples = the paper's 35,200 pairs"
    )
    heads.add_argument(
        "--first-group", type=int, default=0, help="first group; 1,000,000 and above are held out by convention"
    )
    heads.add_argument("--identities", type=int, default=6, help="identities a group")
    heads.add_argument("--scenes", type=int, default=4, help="scenes (camera, light, expression) a group")
    heads.add_argument("--size", type=int, default=256, help="picture side in pixels")
    heads.add_argument("--seed", type=int, default=0)
    heads.add_argument("--workers", type=int, default=2, help="local processes")
    sheet = data.add_parser("sheet", help="contact sheet of some shards")
    sheet.add_argument("shards", type=Path, nargs="+")
    sheet.add_argument("--out", type=Path, required=True, help="PNG to write")
    sheet.add_argument("--rows", type=int, default=8)
    pictures = data.add_parser("demo-pictures", help="render the two sample pictures of the demo")
    pictures.add_argument("--out", type=Path, required=True, help="folder to write them to")
    validate = data.add_parser("validate", help="find truncated or corrupt shard members and name them")
    validate.add_argument("shards", type=Path, nargs="+")

    train = commands.add_parser("train", help="train a stage; repeat the command to resume").add_subparsers(
        dest="stage", required=True
    )
    about = {
        "autoencoder": "the demo's 8x autoencoder (`train base` runs it first when it is missing)",
        "base": "the demo's UNet and vision encoder from nothing (SD1.5 runs skip this)",
        "matching": "the matching net (paper: 200 steps, lr 1e-5, batch 16)",
        "appearance": "the appearance net (paper: 20,000 steps, lr 1e-5, batch 16), matching net frozen",
    }
    for stage, text in about.items():
        part = train.add_parser(
            stage, help=text, description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        part.add_argument(
            "--run", type=Path, required=True, help="folder of the run: checkpoints, logs, finished stages"
        )
        part.add_argument("--data", type=Path, required=True, help="folder of shards")
        part.add_argument(
            "--preset",
            choices=("demo", "sd15"),
            default="demo",
            help="demo: the small bundle; sd15: the paper's recipe",
        )
        part.add_argument("--limit", type=int, default=None, help="use only the first so many samples")
        part.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's choice")
        add_override_options(part, LoopSettings)
        if stage in ("autoencoder", "base"):
            continue
        part.add_argument("--name", default=stage, help="subfolder of the run, for variants side by side")
        part.add_argument("--base", type=Path, default=None, help="SD1.5 checkpoint (sd15 preset)")
        part.add_argument("--vision", type=Path, default=None, help="CLIP ViT-L/14 vision model (sd15 preset)")
        add_override_options(part, ConditioningSettings)
        if stage == "matching":
            part.add_argument(
                "--objective",
                choices=("paper", "flow"),
                default=None,
                help="paper: eq. 3; flow: exact-flow supervision",
            )
            part.add_argument("--tap", type=int, default=None, help="encoder block that feeds the cost volume")
        else:
            part.add_argument("--matching", default="matching", help="subfolder of the matching net to use")
            part.add_argument("--alpha", type=float, default=None, help="annealing rate of eq. 7")
            part.add_argument("--beta", type=float, default=None, help="base weight of eq. 7")
            part.add_argument(
                "--profile-weight", type=float, default=None, help="loss weight of the profile half; 1 = eq. 3"
            )
            part.add_argument("--face-weight", type=float, default=None, help="loss weight of face cells; 1 = eq. 3")

    export = commands.add_parser("export", help="write a run's nets as the demo bundle")
    export.add_argument("--run", type=Path, required=True)
    export.add_argument("--out", type=Path, required=True, help="bundle folder")
    export.add_argument("--matching", default="matching", help="subfolder of the matching net")
    export.add_argument("--appearance", default="appearance", help="subfolder of the appearance net")

    measure = commands.add_parser("measure", help="measure and print a table").add_subparsers(
        dest="measure", required=True
    )
    bundle = measure.add_parser("bundle", help="flow, identity and light of a bundle on held-out heads")
    bundle.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the one shipped")
    bundle.add_argument("--data", type=Path, default=None, help="held-out shards; default: rendered into --work")
    bundle.add_argument(
        "--work", type=Path, default=Path("measure_work"), help="folder for held-out renders and pictures"
    )
    bundle.add_argument("--identities", type=int, default=24, help="held-out identities")
    bundle.add_argument("--steps", type=int, default=20, help="sampling steps")
    bundle.add_argument("--cfg", type=float, default=None, help="classifier-free guidance; default: the node's")
    bundle.add_argument(
        "--strength", type=float, default=None, help="noise strength of progressive inference; default: the node's"
    )
    bundle.add_argument("--share", type=float, default=None, help="kept share of style pixels; default: the node's")
    bundle.add_argument(
        "--paper-matching", type=Path, default=None, help="also report this net, trained by the paper's objective"
    )
    bundle.add_argument("--out", type=Path, default=None, help="JSON to write")
    bundle.add_argument("--seed", type=int, default=0)

    demo = commands.add_parser(
        "demo", help="run workflows/portrait_step_by_step.json in the real ComfyUI with the demo bundle"
    )
    demo.add_argument("--out", type=Path, default=Path("demo_output"))
    demo.add_argument("--seed", type=int, default=None)

    commands.add_parser("workflows", help="draw workflows/ and subgraphs/ again")
    thumbnails = commands.add_parser("thumbnails", help="run the example workflows and write their .jpg pictures")
    thumbnails.add_argument("names", nargs="*", help="workflows without .json; default: all whose models are there")
    return parser


def run_data(arguments: argparse.Namespace) -> int:
    if arguments.data == "heads":
        from .data.heads.generate import generate_shards

        keys = ("groups", "first_group", "identities", "scenes", "size", "seed", "workers")
        generate_shards(arguments.out, **{key: getattr(arguments, key) for key in keys})
    elif arguments.data == "sheet":
        from .data.contact_sheet import contact_sheet

        contact_sheet(arguments.shards, arguments.out, arguments.rows)
    elif arguments.data == "demo-pictures":
        from .data.demo_pictures import write_demo_pictures

        print("\n".join(str(path) for path in write_demo_pictures(arguments.out)))
    else:
        from .data.shards import validate_shards

        problems = validate_shards(arguments.shards)
        print("\n".join(problems) or f"{len(arguments.shards)} shards, no problem found.")
        return 1 if problems else 0
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    import torch

    from . import stages

    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    shards = stages.shards_in(arguments.data)
    loop, conditioning, options = stages.preset(arguments.preset, arguments.stage)
    loop = overridden(loop, arguments)
    if arguments.stage == "autoencoder":
        stages.train_autoencoder(arguments.run, _load(shards, None, arguments.limit), loop, options)
        return 0
    if arguments.stage == "base":
        vae_loop, _, vae_options = stages.preset(arguments.preset, "autoencoder")
        if not (arguments.run / "autoencoder" / "vae.safetensors").exists():
            stages.train_autoencoder(arguments.run, _load(shards, None, arguments.limit), vae_loop, vae_options)
    else:
        conditioning = overridden(conditioning, arguments)
        for name in ("objective", "tap", "alpha", "beta", "profile_weight", "face_weight"):
            if getattr(arguments, name, None) is not None:
                options[name] = getattr(arguments, name)
    for size, last_step in stages.phases(arguments.preset, arguments.stage, loop.steps):
        samples = _load(shards, size, arguments.limit)
        phase = dataclasses.replace(loop, steps=last_step, schedule_steps=loop.schedule_steps or loop.steps)
        if arguments.stage == "base":
            stages.train_base(arguments.run, samples, phase, options)
            continue
        base = _base(arguments)
        if arguments.stage == "matching":
            stages.train_matching(arguments.run, arguments.name, samples, base, phase, conditioning, options)
        else:
            stages.train_appearance(
                arguments.run, arguments.name, arguments.matching, samples, base, phase, conditioning, options
            )
    return 0


def _load(shards: list[Path], size: int | None, limit: int | None):
    from .samples import SampleSet

    samples = SampleSet(shards, size, limit)
    people = len({sample.identity for sample in samples.samples})
    print(
        f"{len(samples)} samples, {len(samples.pictures)} pictures of {size or 'full'} px, {people} identities",
        flush=True,
    )
    return samples


def _base(arguments: argparse.Namespace):
    from . import stages

    if arguments.preset != "sd15":
        return stages.load_demo_base(arguments.run)
    if arguments.base is None or arguments.vision is None:
        raise ValueError(
            "The sd15 preset needs --base (an SD1.5 checkpoint) and --vision (a CLIP ViT-L/14 vision model)."
        )
    return stages.load_sd15_base(arguments.base, arguments.vision)


def run_export(arguments: argparse.Namespace) -> int:
    from .stages import export_bundle

    sizes = export_bundle(arguments.run, arguments.out, arguments.matching, arguments.appearance)
    for name, size in sizes.items():
        print(f"{name:28s} {size / 2**20:6.1f} MiB")
    print(f"{'total':28s} {sum(sizes.values()) / 2**20:6.1f} MiB")
    return 0


def run_measure(arguments: argparse.Namespace) -> int:
    from .measure_bundle import measure_bundle, print_table

    figures = measure_bundle(arguments)
    print_table(figures)
    if arguments.out is not None:
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(figures, indent=1) + "\n")
    return 0


def run_demo(arguments: argparse.Namespace) -> int:
    from .demo import run_demo as demo

    return demo(arguments.out, arguments.seed)


def run_workflows(arguments: argparse.Namespace) -> int:
    import tempfile

    from .comfy_server import PACK, ComfyServer
    from .workflow_examples import write_blueprints, write_examples

    with tempfile.TemporaryDirectory(prefix="icportrait-workflows-") as base, ComfyServer(Path(base)) as server:
        paths = write_examples(PACK / "workflows", server.object_info)
        paths += write_blueprints(PACK / "subgraphs", server.object_info)
    print("\n".join(map(str, paths)))
    return 0


def run_thumbnails(arguments: argparse.Namespace) -> int:
    from .thumbnails import write_thumbnails

    write_thumbnails(arguments.names)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; a bad input ends in one sentence and exit code 1, not in a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    argv = sys.argv[1:] if argv is None else argv
    try:
        start_comfy()
        arguments = build_parser().parse_args(argv)
        run = {"data": run_data, "train": run_train, "export": run_export, "measure": run_measure, "demo": run_demo}
        run.update(workflows=run_workflows, thumbnails=run_thumbnails)
        return run[arguments.command](arguments)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is RuntimeError and "ComfyUI" not in str(error):
            raise
        print(f"icportrait: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
