"""The command line: `icportrait VERB ...`; `icportrait VERB --help` explains each option.

A verb is a module of `training/commands`, imported only when it is called, as most of them load torch.
"""

import argparse
import importlib
import logging
import signal
import sys
from collections.abc import Callable

from ..models.errors import UserError
from .core.comfy_runtime import start_comfy
from .core.interrupts import Interrupted

VERBS = {
    "data": "make and inspect training data",
    "train": "train a stage; repeat the command to resume",
    "curves": "draw what training with --validation found against steps",
    "customise": "train the UNet on photographs of one person",
    "export": "write a run's nets as the demo bundle",
    "measure": "measure and print a table",
    "evaluate": "the paper's protocol on held-out heads or photographs: one HTML report",
    "study": "one of the paper's studies: a figure and a table",
}


def exit_code(run: Callable[[], int], name: str) -> int:
    """What `run` returns; 2 and one sentence on stderr for a `UserError` or a file that cannot be used; 128 + the signal's
    number after Ctrl-C and SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return run()
    except (UserError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except Interrupted as stop:
        print(f"{name}: {stop}", file=sys.stderr)
        return 128 + stop.number
    except KeyboardInterrupt:
        print(f"{name}: stopped.", file=sys.stderr)
        return 128 + signal.SIGINT


def main(argv: list[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="icportrait",
        description="Data, training, export and measurement of IC-Portrait.",
        epilog="\n".join(f"  {verb:10s} {text}" for verb, text in VERBS.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("verb", choices=VERBS, metavar="VERB", help="one of those below; VERB --help lists its options")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the verb")
    parsed = parser.parse_args(argv)

    def run() -> int:
        start_comfy()  # before the verb's module, which may import ComfyUI
        return importlib.import_module(f".commands.{parsed.verb}", __package__).main(parsed.arguments)

    return exit_code(run, "icportrait")


if __name__ == "__main__":
    sys.exit(main())
