"""Checks of numbers that people give as options."""

from ...models.errors import UserError
from ...models.method.encoding import GRID

LARGEST_SIDE = 4096
"""Of a picture that is rendered or trained on, in pixels; Align Face ends there too."""


def at_least(least: float, **values: float | None) -> None:
    """Every value that is given (not None) is `least` or more; names are those of the options, with underscores.

    Raises:
        UserError: one is smaller; the message names the option.
    """
    for name, value in values.items():
        if value is not None and not value >= least:  # also refuses NaN
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}; {value} was given.")


def shares(**values: float) -> None:
    """Every value is a share from 0 to 1; names as for `at_least`.

    Raises:
        UserError: one is not; the message names the option.
    """
    for name, value in values.items():
        if not 0 <= value <= 1:
            raise UserError(f"--{name.replace('_', '-')} must lie from 0 to 1; {value} was given.")


def picture_sides(**values: int | None) -> None:
    """Every value that is given (not None) is a side in pixels that the nets can take; names as for `at_least`.

    Raises:
        UserError: one is not; the message names the option.
    """
    for name, value in values.items():
        if value is not None and not (GRID <= value <= LARGEST_SIDE and value % GRID == 0):
            raise UserError(
                f"--{name.replace('_', '-')} must be a multiple of {GRID} from {GRID} to {LARGEST_SIDE} px; {value} was given."
            )
