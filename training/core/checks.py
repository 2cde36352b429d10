"""Checks of numbers that people give as options."""

from ...models.errors import UserError


def at_least(least: float, **values: float | None) -> None:
    """Every value that is given (not None) is `least` or more; names are those of the options, with underscores.

    Raises:
        UserError: one is smaller; the message names the option.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}; {value} was given.")
