"""Lists typed into text fields: pairs of face and person, numbers and prompts by face."""

from __future__ import annotations

import re
from collections.abc import Sequence

from ..errors import UserError


def parse_pairs(text: str, faces: Sequence[int], names: Sequence[str]) -> dict[int, int]:
    """{face: person} from explicit pairs "0:Anna, 2:1"; a person is a name (upper or lower case) or a number.

    Args:
        faces: the numbers of the faces that are there.
        names: of the people, who are numbered from 0.

    Raises:
        UserError: no pair, something else, a face or person that is not there, or a face named twice.
    """
    numbers = {name.lower(): number for number, name in enumerate(names)}
    parts = [part.strip() for part in re.split(r"[,;\n]", text) if part.strip()]
    if not parts:
        raise UserError("pairs is empty: write face:person, for example 0:Anna, 2:Ben")
    wanted: dict[int, int] = {}
    for part in parts:
        match = re.fullmatch(r"(\d+)\s*[:=]\s*(.*)", part)
        if not match:
            raise UserError(f'"{part[:40]}" is not a pair; write face:person, for example 0:1, 2:0')
        face, name = int(match[1]), match[2]
        person = int(name) if re.fullmatch(r"\d+", name) else numbers.get(name.lower())
        if person is None:
            raise UserError(f'"{part[:40]}" names {name[:40]!r}, the profiles are: {", ".join(names)}')
        if face not in faces:
            known = ", ".join(map(str, sorted(set(faces)))) or "none"
            raise UserError(f'"{part[:40]}" names face {face}, the faces are: {known}')
        if person >= len(names):
            known = ", ".join(f"{number} {name}" for number, name in enumerate(names))
            raise UserError(f'"{part[:40]}" names person {person}, there are {len(names)}: {known}')
        if face in wanted:
            raise UserError(f"face {face} is named twice")
        wanted[face] = person
    return wanted


def numbers_for_faces(
    given: Sequence[float], text: str, faces: int, name: str, low: float, high: float, *, step: int = 0
) -> list:
    """A number for each face.

    Args:
        faces: how many places are needed, see `GroupAssignment.places`.
        given: one number for all, or a list with one for each; the last one also holds for the faces after it.
        text: "1, , 0.5" goes before `given`; an empty place keeps `given`'s. Numbers beyond the faces are not used.
        step: added for each face when one number stands for all: seeds differ from face to face then.

    Raises:
        UserError: something that is no number, or out of range.
    """
    if len(given) == 1:
        span = int(high) + 1 if step else 0
        values = [(given[0] + step * face) % span if step else given[0] for face in range(faces)]
    else:
        values = [given[min(face, len(given) - 1)] for face in range(faces)]
    kind = int if step else float
    for face, part in enumerate(re.split(r"[,;\n]", text)):
        if not part.strip():
            continue
        try:
            value = kind(part)
        except ValueError:
            what = "a whole number" if step else "a number"
            raise UserError(
                f'{name}: "{part.strip()}" is not {what}; write one for each face, for example 1, , 2'
            ) from None
        if face < faces:
            values[face] = value
    for face, value in enumerate(values):
        if not low <= value <= high:
            raise UserError(f"{name}: face {face} has {value:g}, it must lie between {low:g} and {high:g}")
    return values


def prompts_for_faces(given: Sequence[str], faces: int) -> list[str]:
    """Words for each face; "" for none.

    Args:
        given: a list with one for each (the last one also holds for the faces after it), or one text: a single line holds for all
            faces, of several lines each goes to one face number, and the faces after the last get none.
        faces: how many places are needed, see `GroupAssignment.places`.
    """
    if len(given) == 1 and len(given[0].splitlines()) > 1:
        lines = given[0].splitlines()
        return [lines[face].strip() if face < len(lines) else "" for face in range(faces)]
    return [given[min(face, len(given) - 1)].strip() for face in range(faces)]
