"""The command line: `icportrait data | train | curves | customise | export | measure | evaluate | study | demo | workflows | thumbnails
| person-lora | help-pictures`.

Every preset value can be overridden by an option of the same name; `--help` of a stage explains each.
"""

import argparse
import dataclasses
import json
import logging
import sys
from pathlib import Path

from .core.comfy_runtime import start_comfy

PRESET_TEXT = (
    "Each option overrides one number of the preset; what the presets say stands in brackets. sd15 is the paper's recipe "
    "(section 4), demo the small bundle's."
)
HELD_OUT_SAMPLES = 128  # read for validation: eight a person


def add_worker_options(parser: argparse.ArgumentParser) -> None:
    """How work is shared."""
    parser.add_argument("--workers", type=int, default=2, help="local processes")
    parser.add_argument(
        "--ray",
        metavar="ADDRESS",
        default=None,
        help="share the work over the machines of a running Ray cluster (`auto`: the one this machine belongs to) "
        "instead of local processes; all must see --out under the same path",
    )


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    # Settings classes are imported here because their module needs ComfyUI on the path.
    from ..models.method.detail import STRENGTH as DETAIL
    from ..models.portrait import CropSettings
    from .data.folders.faces import FilterSettings
    from .data.folders.write import PairSettings
    from .options import add_field_options, add_preset_options, add_settings_options
    from .tasks.customise import LORA_LR, PAPER, CustomiseSettings

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
    add_worker_options(heads)
    folder = data.add_parser(
        "folder",
        help="pairs from your own pictures: a folder a person, photographs and videos",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    folder.add_argument("pictures", type=Path, help="folder that holds a folder of pictures or videos for each person")
    folder.add_argument("--out", type=Path, required=True, help="folder of the shards and of report.json")
    add_field_options(folder, FilterSettings)
    add_field_options(folder, PairSettings)
    add_worker_options(folder)
    sheet = data.add_parser("sheet", help="contact sheet of some shards")
    sheet.add_argument("shards", type=Path, nargs="+")
    sheet.add_argument("--out", type=Path, required=True, help="PNG to write")
    sheet.add_argument("--rows", type=int, default=8)
    pictures = data.add_parser("demo-pictures", help="render the sample pictures of the demo")
    pictures.add_argument("--out", type=Path, required=True, help="folder to write them to")
    validate = data.add_parser("validate", help="find truncated or corrupt shard members and name them")
    validate.add_argument("shards", type=Path, nargs="+")

    train = commands.add_parser("train", help="train a stage; repeat the command to resume").add_subparsers(
        dest="stage", required=True
    )
    about = {
        "autoencoder": "the demo's 8x autoencoder (`train base` runs it first when it is missing)",
        "base": "the demo's UNet and vision encoder from nothing (SD1.5 runs skip this)",
        "recogniser": "the face recogniser of the identity loss (beyond the paper; before `train appearance --identity-weight`)",
        "hint": "a start for the hint block of both nets (beyond the paper; optional, before `train matching`)",
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
        part.add_argument(
            "--size", type=int, default=None, help="train on pictures of this side only; default: the preset's phases"
        )
        part.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = torch's choice")
        if stage not in ("autoencoder", "hint"):
            part.add_argument(
                "--validation", type=Path, default=None, help="folder of held-out shards to look at while training"
            )
        if stage in ("matching", "appearance"):
            part.add_argument("--name", default=stage, help="subfolder of the run, for variants side by side")
            part.add_argument(
                "--init",
                type=Path,
                default=None,
                help=f"net file to begin with ({stage} net for the same UNet, also a bundle's) instead of the UNet's copy",
            )
        if stage in ("hint", "matching", "appearance"):
            part.add_argument("--base", type=Path, default=None, help="SD1.5 checkpoint (sd15 preset)")
            part.add_argument("--vision", type=Path, default=None, help="CLIP ViT-L/14 vision model (sd15 preset)")
        if stage == "appearance":
            part.add_argument("--matching", default="matching", help="subfolder of the matching net to use")
        add_preset_options(part.add_argument_group("what the preset says", PRESET_TEXT), stage)

    text = "draw what training with --validation found against steps, several runs or variants in one chart"
    curves = commands.add_parser("curves", help=text, description=text)
    curves.add_argument(
        "folders",
        type=Path,
        nargs="+",
        metavar="FOLDER",
        help="stage folders with a validation.jsonl, e.g. runs/demo/appearance runs/demo/appearance_t08",
    )
    curves.add_argument("--out", type=Path, required=True, help="PNG to write")
    curves.add_argument("--json", type=Path, default=None, help="JSON to write: the numbers drawn")

    text = "train the UNet on photographs of one person (the paper's DreamBooth phase: whole UNet, lr 2e-6, batch 1)"
    person = commands.add_parser("customise", help=text, description=text)
    person.add_argument("photos", type=Path, help="folder of photographs or videos of the person")
    person.add_argument(
        "--out",
        type=Path,
        required=True,
        help="checkpoint or LoRA to write (.safetensors); for the demo base without --rank, folder of the new bundle",
    )
    person.add_argument("--base", type=Path, default=None, help="SD1.5 checkpoint (.safetensors); default: the demo's")
    person.add_argument("--vision", type=Path, default=None, help="CLIP ViT-L/14 vision model, with --base")
    person.add_argument("--bundle", type=Path, default=None, help="bundle to customise; default: the one shipped")
    person.add_argument(
        "--run", type=Path, default=None, help="folder of the training's checkpoints; default: beside --out"
    )
    person.add_argument("--prior", type=Path, default=None, help="shards of other people, to keep what the base can do")
    person.add_argument("--prior-limit", type=int, default=500, help="use so many samples of --prior [default 500]")
    add_settings_options(person.add_argument_group("training", f"A LoRA's default --lr is {LORA_LR:g}."), PAPER)
    add_settings_options(person.add_argument_group("customisation"), CustomiseSettings())
    add_settings_options(
        person.add_argument_group("photographs", "With --base the default --size is 512."), FilterSettings()
    )

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
    bundle.add_argument("--steps", type=int, default=None, help="sampling steps; default: the node's")
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

    faces = measure.add_parser(
        "faces",
        help="finding, assigning and group painting: on a group photograph and on held-out heads",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    faces.add_argument("--bundle", type=Path, default=None, help="bundle folder; none: the one shipped")
    faces.add_argument("--work", type=Path, default=Path("measure_work"), help="folder for pictures to look at")
    faces.add_argument(
        "--photograph", type=Path, default=None, help="group photograph; none: t1.jpg of the package insightface"
    )
    faces.add_argument(
        "--insightface", type=Path, nargs="*", default=[], help="folders that hold an insightface model pack"
    )
    faces.add_argument("--identities", type=int, default=50, help="held-out people; 8 for a quick check")
    faces.add_argument(
        "--effort",
        choices=("fast", "normal", "small faces"),
        default="normal",
        help="of the search, as in Detect Faces",
    )
    faces.add_argument(
        "--steps", type=int, default=CropSettings.steps, help="sampling steps a face; 2 for a quick check"
    )
    faces.add_argument(
        "--detail",
        type=float,
        default=DETAIL,
        help="of the photo's fine detail, as in Group Portrait; 0 = the paper's method",
    )
    faces.add_argument("--crop-size", type=int, default=256, help="side of the painted crops in pixels")
    faces.add_argument("--seed", type=int, default=0)
    faces.add_argument("--out", type=Path, default=None, help="JSON to write")

    limits = measure.add_parser(
        "thresholds", help="what the fixed limits of finding, comparing and pasting faces rest on"
    )
    limits.add_argument("--identities", type=int, default=24, help="held-out rendered people; 4 for a quick check")
    limits.add_argument("--seed", type=int, default=0)
    limits.add_argument("--out", type=Path, default=None, help="JSON to write")

    files = measure.add_parser("files", help="size and number of weights of a bundle's files")
    files.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the one shipped")
    files.add_argument("--out", type=Path, default=None, help="JSON to write")

    from .evaluation.options import add_evaluate, add_measure_matching, add_study

    add_measure_matching(measure)
    add_evaluate(commands)
    add_study(commands)

    speed = measure.add_parser("data", help="speed of the head generator and exactness of its flow")
    speed.add_argument("--groups", type=int, default=8, help="groups rendered against the clock")
    speed.add_argument("--identities", type=int, default=6, help="identities a group")
    speed.add_argument("--scenes", type=int, default=4, help="scenes a group")
    speed.add_argument("--size", type=int, default=256, help="picture side in pixels")
    speed.add_argument("--workers", type=int, default=2, help="local processes")
    speed.add_argument("--flow-people", type=int, default=12, help="people whose views are paired to check the flow")
    speed.add_argument("--seed", type=int, default=0)
    speed.add_argument("--out", type=Path, default=None, help="JSON to write")

    flops = measure.add_parser("flops", help="cost of full-size SD1.5 training steps, counted without running them")
    flops.add_argument("--size", type=int, default=512, help="side of one view in pixels")
    flops.add_argument("--share", type=float, default=0.3, help="share of a card's peak that is assumed to be reached")
    flops.add_argument("--out", type=Path, default=None, help="JSON to write")

    better = measure.add_parser("customise", help="identity on unseen views before and after customising the demo base")
    better.add_argument("--identities", type=int, default=2, help="held-out people")
    better.add_argument("--photos", type=int, default=6, help="photographs of each")
    better.add_argument("--unseen", type=int, default=6, help="unseen views of each")
    better.add_argument("--size", type=int, default=256, help="picture side in pixels")
    better.add_argument("--steps", type=int, default=PAPER.steps, help="training steps")
    better.add_argument("--lr", type=float, default=PAPER.lr, help="learning rate (the paper: 2e-6)")
    better.add_argument("--rank", type=int, default=0, help="0 = the whole UNet; above 0 = a LoRA of this rank")
    better.add_argument("--seed", type=int, default=0)
    better.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the one shipped")
    better.add_argument("--work", type=Path, default=Path("customise_work"), help="folder for renders and training")
    better.add_argument("--out", type=Path, default=None, help="JSON to write")

    demo = commands.add_parser(
        "demo", help="run workflows/portrait_step_by_step.json in the real ComfyUI with the demo bundle"
    )
    demo.add_argument("--out", type=Path, default=Path("demo_output"))
    demo.add_argument("--seed", type=int, default=None)

    commands.add_parser("workflows", help="draw workflows/ and subgraphs/ again")
    thumbnails = commands.add_parser("thumbnails", help="run the example workflows and write their .jpg pictures")
    thumbnails.add_argument("names", nargs="*", help="workflows without .json; default: all")
    lora = commands.add_parser(
        "person-lora",
        help="train and measure the LoRA of the sample person anew, for the bundle's base: after every change of the base",
    )
    lora.add_argument("--bundle", type=Path, default=None, help="bundle whose base it is for; default: the one shipped")
    lora.add_argument("--out", type=Path, default=None, help="file to write; default: into the bundle")
    lora.add_argument(
        "--work",
        type=Path,
        default=None,
        help="folder for renders, training and customise.png; default: a temporary one",
    )
    lora.add_argument("--json", type=Path, default=None, help="JSON to write: the figures")
    pictures = commands.add_parser(
        "help-pictures", help="run every node and write the pictures of the help pages and the README"
    )
    pictures.add_argument(
        "--steps", type=int, default=CropSettings.steps, help="sampling steps; 1 for a quick look; default: the nodes'"
    )
    return parser


def run_data(arguments: argparse.Namespace) -> int:
    if arguments.data == "heads":
        from .data.heads.generate import generate_shards

        keys = ("groups", "first_group", "identities", "scenes", "size", "seed", "workers", "ray")
        generate_shards(arguments.out, **{key: getattr(arguments, key) for key in keys})
    elif arguments.data == "folder":
        from .data.folders.faces import FilterSettings
        from .data.folders.write import PairSettings, report_text, write_folders
        from .options import from_fields

        filters, pairing = from_fields(FilterSettings, arguments), from_fields(PairSettings, arguments)
        report = write_folders(
            arguments.pictures, arguments.out, filters, pairing, arguments.workers, ray=arguments.ray
        )
        print(report_text(report))
    elif arguments.data == "sheet":
        from .data.contact_sheet import contact_sheet

        contact_sheet(arguments.shards, arguments.out, arguments.rows)
    elif arguments.data == "demo-pictures":
        from ..tools.demo_pictures import write_demo_pictures

        print("\n".join(str(path) for path in write_demo_pictures(arguments.out)))
    else:
        from .data.shards import validate_shards

        problems = validate_shards(arguments.shards)
        print("\n".join(problems) or f"{len(arguments.shards)} shards, no problem found.")
        return 1 if problems else 0
    return 0


def run_train(arguments: argparse.Namespace) -> int:
    import torch
    from accelerate import PartialState

    from . import stages
    from .options import overridden, overridden_task_options

    # The first mention of the processes decides: without `cpu`, several on machines without a GPU would each run alone.
    PartialState(cpu=not torch.cuda.is_available())
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    shards = stages.shards_in(arguments.data)
    loop, conditioning, options = stages.preset(arguments.preset, arguments.stage)
    loop = overridden(loop, arguments)
    options = overridden_task_options(arguments.stage, options, arguments)
    if arguments.stage == "autoencoder":
        stages.train_autoencoder(arguments.run, _load(shards, None, arguments.limit), loop, options)
        return 0
    if arguments.stage == "base":
        vae_loop, _, vae_options = stages.preset(arguments.preset, "autoencoder")
        if not (arguments.run / "autoencoder" / "vae.safetensors").exists():
            stages.train_autoencoder(arguments.run, _load(shards, None, arguments.limit), vae_loop, vae_options)
    elif arguments.stage in ("matching", "appearance"):
        conditioning = overridden(conditioning, arguments)
    from_data_alone = {"base": stages.train_base, "recogniser": stages.train_recogniser}
    phases = stages.phases(arguments.preset, arguments.stage, loop.steps)
    for size, last_step in [(arguments.size, loop.steps)] if arguments.size else phases:
        samples = _load(shards, size, arguments.limit)
        held_out = None
        if arguments.validation is not None:
            held_out = _load(stages.shards_in(arguments.validation), size, HELD_OUT_SAMPLES)
        phase = dataclasses.replace(loop, steps=last_step, schedule_steps=loop.schedule_steps or loop.steps)
        if arguments.stage in from_data_alone:
            from_data_alone[arguments.stage](arguments.run, samples, phase, options, held_out)
            continue
        base = _base(arguments)
        if arguments.stage == "hint":
            stages.train_hint(arguments.run, samples, base, phase, options)
        elif arguments.stage == "matching":
            stages.train_matching(
                arguments.run,
                arguments.name,
                samples,
                base,
                phase,
                conditioning,
                options,
                held_out,
                arguments.init,
            )
        else:
            stages.train_appearance(
                arguments.run,
                arguments.name,
                arguments.matching,
                samples,
                base,
                phase,
                conditioning,
                options,
                held_out,
                arguments.init,
            )
    return 0


def _load(shards: list[Path], size: int | None, limit: int | None):
    from .data.samples import SampleSet

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


def run_curves(arguments: argparse.Namespace) -> int:
    from .evaluation.curves import draw_curves

    draw_curves(arguments.folders, arguments.out, arguments.json)
    print(arguments.out)
    return 0


def run_customise(arguments: argparse.Namespace) -> int:
    from ..models.nets import bundle as bundles
    from . import stages
    from .data.folders.faces import FilterSettings
    from .data.samples import SampleSet
    from .options import overridden
    from .tasks.customise import LORA_LR, PAPER, CustomiseSettings, customise

    settings = overridden(CustomiseSettings(), arguments)
    loop = overridden(dataclasses.replace(PAPER, lr=LORA_LR) if settings.rank else PAPER, arguments)
    filters = overridden(FilterSettings(size=256 if arguments.base is None else 512), arguments)
    prior = None
    if arguments.prior is not None:
        prior = SampleSet(stages.shards_in(arguments.prior), filters.size, arguments.prior_limit)
    bundle = arguments.bundle or bundles.FOLDER
    places = (arguments.photos, arguments.out, arguments.base, arguments.vision, bundle)
    made, drops = customise(*places, filters, loop, settings, prior, arguments.run)
    print("\n".join([*(f"left out {d.name}: {d.reason} ({d.detail})" for d in drops), str(made)]))
    return 0


def run_export(arguments: argparse.Namespace) -> int:
    from .stages import export_bundle

    sizes = export_bundle(arguments.run, arguments.out, arguments.matching, arguments.appearance)
    for name, size in sizes.items():
        print(f"{name:28s} {size / 2**20:6.1f} MiB")
    print(f"{'total':28s} {sum(sizes.values()) / 2**20:6.1f} MiB")
    return 0


def run_measure(arguments: argparse.Namespace) -> int:
    if arguments.measure == "faces":
        from .evaluation.measure.faces import measure_faces as measure
        from .evaluation.measure.faces import print_table as show
    elif arguments.measure == "thresholds":
        from .evaluation.measure.thresholds import measure_thresholds as measure
        from .evaluation.measure.thresholds import print_figures as show
    elif arguments.measure == "files":
        from .evaluation.measure.files import measure_files as measure
        from .evaluation.measure.files import print_figures as show
    elif arguments.measure == "matching":
        from .evaluation.measure.matching import measure_matching as measure
        from .evaluation.measure.matching import print_table as show
    elif arguments.measure == "data":
        from .evaluation.measure.data import measure_data as measure
        from .evaluation.measure.data import print_figures as show
    elif arguments.measure == "customise":
        from .evaluation.measure.customise import measure_customise as measure
        from .evaluation.measure.customise import print_figures as show
    elif arguments.measure == "flops":
        from .evaluation.measure.flops import measure_flops as measure
        from .evaluation.measure.flops import print_figures as show
    else:
        from .evaluation.measure.bundle import measure_bundle as measure
        from .evaluation.measure.bundle import print_table as show

    figures = measure(arguments)
    show(figures)
    _write_json(figures, arguments.out)
    return 0


def _write_json(figures: dict, path: Path | None) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(figures, indent=1) + "\n")


def run_evaluate(arguments: argparse.Namespace) -> int:
    from .evaluation.evaluate import evaluate, print_table

    print_table(evaluate(arguments))
    print(f"\n{arguments.out / 'report.html'}")
    return 0


def run_study(arguments: argparse.Namespace) -> int:
    from .evaluation.studies import run

    for path in run(arguments):
        print(path)
    return 0


def run_demo(arguments: argparse.Namespace) -> int:
    from ..tools.demo import run_demo as demo

    return demo(arguments.out, arguments.seed)


def run_workflows(arguments: argparse.Namespace) -> int:
    import tempfile

    from ..tools.comfy_server import PACK, ComfyServer
    from ..tools.workflow_examples import write_blueprints, write_examples

    with tempfile.TemporaryDirectory(prefix="icportrait-workflows-") as base, ComfyServer(Path(base)) as server:
        paths = write_examples(PACK / "workflows", server.object_info)
        paths += write_blueprints(PACK / "subgraphs", server.object_info)
    print("\n".join(map(str, paths)))
    return 0


def run_thumbnails(arguments: argparse.Namespace) -> int:
    from ..tools.thumbnails import write_thumbnails

    write_thumbnails(arguments.names)
    return 0


def run_person_lora(arguments: argparse.Namespace) -> int:
    from ..models.nets import bundle as bundles
    from ..tools.demo import PERSON_LORA
    from ..tools.person_lora import make_person_lora
    from .evaluation.measure.customise import print_figures

    bundle = arguments.bundle or bundles.FOLDER
    out = arguments.out or bundle / PERSON_LORA
    figures = make_person_lora(bundle, out, arguments.work)
    print_figures(figures)
    _write_json(figures, arguments.json)
    print(out)
    return 0


def run_help_pictures(arguments: argparse.Namespace) -> int:
    from ..tools.help_pictures import write_help_pictures

    write_help_pictures(steps=arguments.steps)
    return 0


def main(argv: list[str] | None = None) -> int:
    """Entry point; a bad input ends in one sentence and exit code 1, not in a traceback."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    argv = sys.argv[1:] if argv is None else argv
    try:
        start_comfy()
        arguments = build_parser().parse_args(argv)
        run = {
            "data": run_data,
            "train": run_train,
            "curves": run_curves,
            "customise": run_customise,
            "export": run_export,
            "measure": run_measure,
            "evaluate": run_evaluate,
            "study": run_study,
            "demo": run_demo,
            "workflows": run_workflows,
            "thumbnails": run_thumbnails,
            "person-lora": run_person_lora,
            "help-pictures": run_help_pictures,
        }
        return run[arguments.command](arguments)
    except (ValueError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and type(error) is RuntimeError and "ComfyUI" not in str(error):
            raise
        print(f"icportrait: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
