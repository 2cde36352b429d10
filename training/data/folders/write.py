"""Folders of people to shards: the pairs of each person, and a report of what was dropped and why."""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ....models.errors import UserError
from ....models.writing import replacing
from ..shards import FORMAT_VERSION, encode_picture, write_shard
from ..workers import run_tasks
from .faces import AlignedFace, Drop, FilterSettings, counts, usable_faces
from .pictures import identity_folders, pictures_of

GENERATOR_VERSION = 1


@dataclass(frozen=True)
class PairSettings:
    """Which pictures of a person become pairs, and how videos are cut."""

    min_gap: float = 6.0
    """Least angle in degrees between the two heads: near-equal pictures (neighbouring frames) teach nothing."""
    max_gap: float = 60.0
    """Largest angle in degrees: beyond it the two views share hardly any skin."""
    pairs_per_picture: int = 4
    """At most so many profiles for each target picture, drawn at random."""
    frame_seconds: float = 0.5
    """A frame of a video is taken every so many seconds."""
    max_frames: int = 200
    """At most so many frames of one video."""
    seed: int = 0


def pose_gap(a: AlignedFace, b: AlignedFace) -> float:
    """Angle in degrees between two heads' turns (yaw and pitch; roll is undone by aligning)."""
    return float(np.hypot(a.pose[0] - b.pose[0], a.pose[1] - b.pose[1]))


def choose_pairs(faces: list[AlignedFace], settings: PairSettings) -> list[tuple[int, int]]:
    """(target, profile) by index; every picture is a target with up to `pairs_per_picture` profiles of a fitting gap."""
    rng = np.random.default_rng([settings.seed, len(faces)])
    pairs = []
    for i, target in enumerate(faces):
        fitting = [
            j
            for j, profile in enumerate(faces)
            if j != i and settings.min_gap <= pose_gap(target, profile) <= settings.max_gap
        ]
        chosen = rng.permutation(fitting)[: settings.pairs_per_picture] if fitting else []
        pairs += [(i, int(j)) for j in sorted(chosen)]
    return pairs


def samples_of(identity: str, faces: list[AlignedFace], pairs: list[tuple[int, int]]):
    """The encoded samples of one person; docs/data.md says what is in them."""
    encoded = {i: encode_picture(faces[i].picture) for pair in pairs for i in pair}
    slug = file_name(identity)
    for number, (i, j) in enumerate(pairs):
        both = {"target": faces[i], "profile": faces[j]}
        yield {
            "__key__": f"{slug}-{number:05d}",
            "target.webp": encoded[i],
            "profile.webp": encoded[j],
            "meta.json": {
                "format_version": FORMAT_VERSION,
                "generator": "folders",
                "generator_version": GENERATOR_VERSION,
                "identity": {"target": identity},
                "scene": {role: face.name for role, face in both.items()},
                "pose": {role: [round(v, 2) for v in face.pose] for role, face in both.items()},
                "landmarks5": {role: np.round(face.landmarks, 2).tolist() for role, face in both.items()},
                "sharpness": {role: round(face.sharpness, 5) for role, face in both.items()},
            },
        }


def file_name(identity: str) -> str:
    """An identity's name as part of a file name: letters, digits, dash and underscore."""
    return re.sub(r"[^\w-]+", "_", identity).strip("_") or "person"


def _write_identity(task) -> None:
    """One person: `folders-<name>.tar` (when there are pairs), then `folders-<name>.json`, which says that it is done."""
    folder, shard, report, filters, pairing = task
    pictures = pictures_of(folder, pairing.frame_seconds, pairing.max_frames)
    names: list[str] = []

    def counted():
        for picture in pictures:
            names.append(picture.name)
            yield picture

    faces, drops = usable_faces(counted(), filters)
    pairs = choose_pairs(faces, pairing)
    used = {i for pair in pairs for i in pair}
    for i, face in enumerate(faces):
        if i not in used:
            text = (
                f"no other picture of this person is turned {pairing.min_gap:g} to {pairing.max_gap:g} degrees from it"
            )
            drops.append(Drop(face.name, "no partner", text))
    if pairs:
        write_shard(shard, samples_of(folder.name, faces, pairs))
    facts = {
        "settings": _settings(filters, pairing),
        "pictures": len(names),
        "kept": len(used),
        "pairs": len(pairs),
        "dropped": [asdict(drop) for drop in drops],
    }
    with replacing(report) as temporary:
        temporary.write_text(json.dumps(facts, indent=1), "utf-8")


def _settings(filters: FilterSettings, pairing: PairSettings) -> dict:
    return {**asdict(filters), **asdict(pairing)}


def _done(report: Path, shard: Path, settings: dict) -> bool:
    """Whether a person was finished by an earlier run with these settings."""
    try:
        facts = json.loads(report.read_text("utf-8"))
    except (OSError, json.JSONDecodeError):
        return False
    return facts["settings"] == settings and (shard.exists() or not facts["pairs"])


def write_folders(
    root: Path | str,
    out_dir: Path | str,
    filters: FilterSettings = FilterSettings(),
    pairing: PairSettings = PairSettings(),
    workers: int = 1,
    progress: bool = True,
    ray: str | None = None,
) -> dict:
    """Write one shard a person (a folder of `root`), and `report.json` beside them.

    People who were finished with the same settings are kept as they are, so an interrupted run resumes.

    Returns:
        the report: settings, totals, drops by reason, and for each person pictures, kept, pairs and every drop.

    Raises:
        UserError: nothing to read, two folders of one name, or no pair in all folders; the message says why.
    """
    out = Path(out_dir).absolute()
    out.mkdir(parents=True, exist_ok=True)
    settings, tasks, places = _settings(filters, pairing), [], {}
    for folder in identity_folders(root):
        name = file_name(folder.name)
        if name in (file_name(other) for other in places):
            raise UserError(f"Two folders of {root} give one file name, {name}: rename one of them.")
        shard, report = out / f"folders-{name}.tar", out / f"folders-{name}.json"
        places[folder.name] = report
        if not _done(report, shard, settings):
            shard.unlink(missing_ok=True)  # of other settings
            tasks.append((folder.absolute(), shard, report, filters, pairing))
    done = len(places) - len(tasks)
    with tqdm(total=len(places), initial=done, unit="person", disable=not progress, desc="folders") as bar:
        run_tasks(_write_identity, tasks, workers, ray, bar)
    people = {name: json.loads(report.read_text("utf-8")) for name, report in places.items()}
    dropped = [Drop(**drop) for facts in people.values() for drop in facts["dropped"]]
    report = {
        "settings": settings,
        "people": len(people),
        **{key: sum(facts[key] for facts in people.values()) for key in ("pictures", "kept", "pairs")},
        "dropped_by_reason": counts(dropped),
        "by_person": {
            name: {key: facts[key] for key in ("pictures", "kept", "pairs", "dropped")}
            for name, facts in people.items()
        },
    }
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    if not report["pairs"]:
        why = ", ".join(f"{n} x {reason}" for reason, n in report["dropped_by_reason"].items()) or "no pictures"
        raise UserError(
            f"No pair was made from {report['pictures']} pictures of {root} ({why}); see {out}/report.json."
        )
    return report


def report_text(report: dict, lines: int = 40) -> str:
    """The report for people: totals, then drops one a line, at most `lines` of them."""
    text = [
        f"{report['people']} people, {report['pictures']} pictures: {report['kept']} used in {report['pairs']} pairs",
        *(f"  dropped {number:5d}: {reason}" for reason, number in sorted(report["dropped_by_reason"].items())),
    ]
    drops = [(name, drop) for name, facts in report["by_person"].items() for drop in facts["dropped"]]
    text += [f"  {name}/{drop['name']}: {drop['reason']} ({drop['detail']})" for name, drop in drops[:lines]]
    if len(drops) > lines:
        text.append(f"  ... and {len(drops) - lines} more in report.json")
    return "\n".join(text)
