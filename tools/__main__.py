"""`python run.py tools ...`: what maintains the repository's own pictures, workflows and files. Not in the packaged command line."""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from ..training.cli import exit_code
from ..training.core.checks import at_least
from ..training.core.comfy_runtime import start_comfy
from ..training.core.paths import InputFolder, OutputFile, OutputFolder


@dataclass(frozen=True, kw_only=True)
class Workflows:
    """Draw workflows/ and subgraphs/ again."""

    def run(self) -> int:
        from .comfy_server import PACK, ComfyServer
        from .workflow_examples import write_blueprints, write_examples

        with tempfile.TemporaryDirectory(prefix="icportrait-workflows-") as base, ComfyServer(Path(base)) as server:
            paths = write_examples(PACK / "workflows", server.object_info)
            paths += write_blueprints(PACK / "subgraphs", server.object_info)
        print("\n".join(map(str, paths)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Thumbnails:
    """Run the example workflows and write their .jpg pictures."""

    names: Positional[tuple[str, ...]] = ()
    """Workflows without .json; default: all."""

    def run(self) -> int:
        from .thumbnails import write_thumbnails

        write_thumbnails(list(self.names))
        return 0


@dataclass(frozen=True, kw_only=True)
class HelpPictures:
    """Run every node and write the pictures of the help pages and the README."""

    steps: int | None = None
    """Sampling steps; 1 for a quick look; default: the nodes'."""

    def __post_init__(self):
        at_least(1, steps=self.steps)

    def run(self) -> int:
        from .help_pictures import write_help_pictures

        write_help_pictures(**({} if self.steps is None else {"steps": self.steps}))
        return 0


@dataclass(frozen=True, kw_only=True)
class PersonLora:
    """Train and measure the LoRA of the sample person anew, for the bundle's base: after every change of the base."""

    bundle: InputFolder | None = None
    """Bundle whose base it is for; default: the one shipped."""
    out: OutputFile | None = None
    """File to write; default: into the bundle."""
    work: OutputFolder | None = None
    """Folder for renders, training and customise.png; default: a temporary one."""
    json: OutputFile | None = None
    """JSON to write: the figures."""

    def run(self) -> int:
        from ..models.nets import bundle as bundles
        from ..training.commands.parsing import write_json
        from ..training.evaluation.measure.customise import print_figures
        from .demo import PERSON_LORA
        from .person_lora import make_person_lora

        bundle = self.bundle or bundles.FOLDER
        out = self.out or bundle / PERSON_LORA
        figures = make_person_lora(bundle, out, self.work)
        print_figures(figures)
        write_json(figures, self.json)
        print(out)
        return 0


@dataclass(frozen=True, kw_only=True)
class DemoPictures:
    """Render the sample pictures of the demo."""

    out: OutputFolder
    """Folder to write them to."""

    def run(self) -> int:
        from .demo_pictures import write_demo_pictures

        print("\n".join(str(path) for path in write_demo_pictures(self.out)))
        return 0


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """Bad input, kills and long use, counted into docs/measurements/reliability.json; repeat the command to go on."""

    minutes: float = 30.0
    """How long this part of the campaign goes on."""
    fresh: bool = False
    """Begin anew."""
    only: Literal["inputs", "kills", "use"] | None = None
    """Spend the time on one part."""
    out: OutputFile | None = None
    """JSON to write; default: docs/measurements/reliability.json."""

    def __post_init__(self):
        at_least(0.1, minutes=self.minutes)

    def run(self) -> int:
        from .campaign.campaign import FIGURES, campaign, print_figures

        print_figures(campaign(self.minutes, self.fresh, self.out or FIGURES, self.only))
        return 0


@dataclass(frozen=True, kw_only=True)
class Chaining:
    """Measure how Apply Portrait gets on with every node that patches a MODEL: docs/measurements/chaining.json."""

    packs: InputFolder | None = None
    """Folder of other people's packs to measure instead of ComfyUI's own nodes, among them nodes that want a file of theirs."""
    out: OutputFile | None = None
    """JSON to write; default: docs/measurements/chaining.json, for packs chaining_packs.json, which keeps what it holds of others."""

    def run(self) -> int:
        from .chaining import measure_chaining, print_figures

        print_figures(measure_chaining(self.packs, self.out))
        return 0


TOOLS = {
    "chaining": Chaining,
    "campaign": Campaign,
    "workflows": Workflows,
    "thumbnails": Thumbnails,
    "help-pictures": HelpPictures,
    "person-lora": PersonLora,
    "demo-pictures": DemoPictures,
}


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""

    def run() -> int:
        from ..training.commands.parsing import parse_choice

        tool = parse_choice(TOOLS, sys.argv[1:] if argv is None else argv, "run.py tools")
        start_comfy()  # before modules that import ComfyUI
        return tool.run()

    return exit_code(run, "run.py tools")


if __name__ == "__main__":
    sys.exit(main())
