"""The paper's studies: `icportrait study NAME` writes `<name>.png` and `<name>.json`. One study a file."""

import importlib

from ....models.errors import UserError
from ..options import STUDIES
from .common import Study, finish, open_study


def run(arguments) -> list:
    """Run the study of `arguments.name`; returns the paths written.

    Raises:
        UserError: an unknown study, or data that do not do.
    """
    import torch

    if arguments.name not in STUDIES:
        raise UserError(f"Unknown study {arguments.name!r}; choose one of {', '.join(STUDIES)}.")
    module = importlib.import_module(f".{arguments.name.replace('-', '_')}", __name__)
    with torch.inference_mode():
        study = open_study(arguments)
        table, figure = module.study(study)
    return finish(study, table, figure)


__all__ = ["Study", "run"]
