"""Command-line options of `measure matching`, `evaluate` and `study`. Imports nothing heavy."""

import argparse
from pathlib import Path

STUDIES = (
    "annealing",
    "flow-steps",
    "sampling",
    "noise",
    "sampler",
    "side",
    "tap",
    "extreme-light",
    "refine",
    "detail",
)
METHOD_NAMES = ("style unchanged", "paste by landmarks", "paste by flow", "embedding only", "ic-portrait")


def _models(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--bundle", type=Path, default=None, help="bundle folder; default: the one shipped")
    parser.add_argument("--base", type=Path, default=None, help="SD1.5 checkpoint instead of a bundle")
    parser.add_argument("--vision", type=Path, default=None, help="CLIP ViT-L/14 vision model, with --base")
    parser.add_argument(
        "--nets", type=Path, default=None, help="folder with matching.safetensors and appearance.safetensors"
    )


def _sampling(parser: argparse.ArgumentParser) -> None:
    text = "; default: the node's"
    parser.add_argument("--seed", type=int, default=0, help="decides kept pixels and all noise")
    parser.add_argument("--steps", type=int, default=None, help="sampling steps a round" + text)
    parser.add_argument("--cfg", type=float, default=None, help="classifier-free guidance" + text)
    parser.add_argument("--noise-strength", type=float, default=None, help="how far the style crop is noised" + text)
    parser.add_argument("--share", type=float, default=None, help="kept share of style pixels" + text)
    parser.add_argument("--rounds", type=int, default=None, help="rounds of progressive inference" + text)


def add_measure_matching(commands) -> None:
    """`icportrait measure matching`."""
    parser = commands.add_parser(
        "matching", help="flow of the matching net on held-out heads: gains, baselines, sweeps"
    )
    _models(parser)
    parser.add_argument("--data", type=Path, default=None, help="held-out shards; default: rendered into --work")
    parser.add_argument("--work", type=Path, default=Path("measure_work"), help="folder for held-out renders")
    parser.add_argument("--identities", type=int, default=24, help="held-out identities")
    parser.add_argument("--styles", type=int, default=1, help="pairs an identity, in different scenes")
    parser.add_argument("--sweep", action="store_true", help="also sweep window, temperature, prior, smoothness, draws")
    parser.add_argument("--out", type=Path, default=None, help="JSON to write")


def add_evaluate(commands) -> None:
    """`icportrait evaluate`."""
    text = "the paper's protocol on held-out heads or photographs: similarity, light, pose, baselines, one HTML report"
    parser = commands.add_parser("evaluate", help=text, description=text)
    _models(parser)
    _sampling(parser)
    parser.add_argument("--data", type=Path, default=None, help="folder of held-out shards")
    parser.add_argument(
        "--photos", type=Path, default=None, help="folder with profiles/<person>/*.jpg and styles/*.jpg"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the report; also what a repeated run resumes from"
    )
    parser.add_argument("--identities", type=int, default=None, help="use the first so many people; default: all")
    parser.add_argument(
        "--styles", type=int, default=None, help="style references a person; default: all photographs, 1 for heads"
    )
    parser.add_argument("--methods", nargs="+", choices=METHOD_NAMES, default=None, help="default: all")
    parser.add_argument("--size", type=int, default=256, help="crop side of photographs in px; 512 for SD1.5")
    parser.add_argument(
        "--landmarks-68", action="store_true", help="measure expression too (landmark model for non-commercial use)"
    )
    parser.add_argument(
        "--insightface",
        type=Path,
        nargs="*",
        default=None,
        help="folders of insightface packs; default: models/insightface",
    )


def add_study(commands) -> None:
    """`icportrait study NAME`."""
    text = "one of the paper's studies: a figure (PNG) and a table (JSON)"
    parser = commands.add_parser("study", help=text, description=text)
    parser.add_argument("name", choices=STUDIES)
    _models(parser)
    _sampling(parser)
    parser.add_argument("--data", type=Path, required=True, help="folder of held-out shards")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/measurements"), help="folder of <name>.png and <name>.json"
    )
    parser.add_argument("--work", type=Path, default=Path("study_work"), help="results so far; a repeated run resumes")
    parser.add_argument("--identities", type=int, default=6, help="held-out identities")
    parser.add_argument("--values", type=float, nargs="+", default=None, help="override the values that are swept")
    parser.add_argument(
        "--snapshots", type=Path, default=None, help="flow-steps: folder of matching nets <step>.safetensors"
    )
    parser.add_argument("--seeds", type=int, default=3, help="sampling: seeds for the stability of a result")
