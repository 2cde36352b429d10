"""Checks of single values; the sentences name the value as the person who set it knows it."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real

from .errors import UserError


def check_number(name: str, value, low: float, high: float) -> None:
    """Raises UserError where `value` is no number from `low` to `high`, NaN among them."""
    if not isinstance(value, Real) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"{name} must be a number between {low:g} and {high:g}; {_short(value)} came")


def check_whole(name: str, value, low: int, high: int) -> None:
    """Raises UserError where `value` is no whole number from `low` to `high`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or not low <= value <= high:
        raise UserError(f"{name} must be a whole number between {low} and {high}; {_short(value)} came")


def check_option(name: str, value, options: Sequence[str]) -> None:
    """Raises UserError where `value` is none of `options`."""
    if not isinstance(value, str) or value not in options:
        raise UserError(f"{name} must be one of: {', '.join(options)}; {_short(value)} came")


def _short(value) -> str:
    text = repr(value) if value is None or isinstance(value, str | int | float) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
