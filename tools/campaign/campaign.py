"""The campaign: runs what is asked for as long as there is time, goes on where the last one ended, and counts."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ...models.writing import replacing
from ...run import cache_folder
from ...training.core.comfy_runtime import start_comfy
from ..comfy_server import PACK
from . import kills, long_use

FIGURES = PACK / "docs" / "measurements" / "reliability.json"
KINDS = ("nodes", "net files", "picture folders", "shards", "command line", "face finder", "server")
"""Of `inputs.KINDS`, which this process does not import."""
CHUNK = 500
PATIENCE = 120
"""Seconds after which one input hangs."""
START = 300
COUNTS = ("inputs", "tracebacks", "silent", "hangs", "crashes")
RUNS, SHORT_RUNS = 300, 12
"""In one server; with the options that say how memory is used."""
WRITERS = ("saving", "data", "set-up")
STAGES = ("autoencoder", "base")
SHARES = {"inputs": 0.36, "kills": 0.37, "use": 0.27}
"""Of the time, where all parts are run."""


class Worker:
    """A process that runs one kind of input; started anew when it hangs or dies."""

    def __init__(self, kind: str, planted: bool = False):
        self.kind, self.planted = kind, planted
        self.process: subprocess.Popen | None = None

    def ask(self, number: int, patience: float = PATIENCE) -> tuple[str, str]:
        """(fine, silent, traceback, hangs or crashes; words) of one case."""
        if self.process is None:
            line = [sys.executable, "-m", "icportrait.tools.campaign.worker", self.kind, *["plant"] * self.planted]
            self.process = subprocess.Popen(
                line,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                start_new_session=True,  # so that a server of its own ends with it
            )
            if (said := self._line(START)) != "ready":
                self.stop()
                return "crashes", f"the worker did not start: {said}"
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()
        said = self._line(patience)
        if said:
            result, words = json.loads(said)
            return {"traceback": "tracebacks"}.get(result, result), words
        self.stop()
        return ("hangs", f"not done after {patience:g} s") if said is None else ("crashes", "the process died")

    def _line(self, patience: float) -> str | None:
        """The next line; empty when the process ended, None when the time is over."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self.process.stdout, selectors.EVENT_READ)
            return self.process.stdout.readline().strip() if waiting.select(patience) else None

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            if hasattr(os, "killpg"):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
            self.process = None


def try_inputs(
    kind: str, numbers: range, counts: dict, findings: list, planted: bool = False, end: float = 1e18
) -> int:
    """Run cases of one kind until `end`; adds to `counts` and `findings`. Returns how many were run."""
    worker, done = Worker(kind, planted), 0
    try:
        for number in numbers:
            result, words = worker.ask(number)
            counts["inputs"] += 1
            done += 1
            if result != "fine":
                counts[result] += 1
                findings.append(f"{kind} {number}, {result}: {words}")
            if time.monotonic() > end:
                break
    finally:
        worker.stop()
    return done


def campaign(minutes: float, fresh: bool = False, out: Path = FIGURES, only: str | None = None) -> dict:
    """Go on with the campaign for so many minutes, and write its figures.

    Args:
        fresh: begin anew instead of where the last one ended.
        only: one of `SHARES`, which has all the time; None: each its share.
    """
    place = cache_folder() / "campaign" / "state.json"
    if fresh:
        shutil.rmtree(place.parent, ignore_errors=True)
    state = _state(place)
    begun = time.monotonic()
    until = {}
    passed = 0.0
    for part, share in SHARES.items():
        passed += share if only is None else part == only
        until[part] = begun + 60 * minutes * passed

    def save() -> None:
        with replacing(place) as temporary:
            temporary.write_text(json.dumps(state, indent=1), "utf-8")

    while time.monotonic() < until["inputs"]:
        kind = min(KINDS, key=lambda name: state["next"][name])
        numbers = range(state["next"][kind], state["next"][kind] + CHUNK)
        state["next"][kind] += try_inputs(kind, numbers, state["kinds"][kind], state["findings"], end=until["inputs"])
        save()
        print(f"{kind}: {state['kinds'][kind]}", flush=True)
    start_comfy(cpu=True)
    while time.monotonic() < until["kills"]:
        _kill(state)
        save()
    offered = long_use.offered_options() if only in (None, "use") else ()
    for options in offered:  # most of the time for the first: growth shows late
        with tempfile.TemporaryDirectory(prefix="icportrait-campaign-") as base:
            left = max(60.0, until["use"] - time.monotonic())
            runs, seconds = (SHORT_RUNS, left) if options else (RUNS, max(60.0, left - 45 * len(offered)))
            state["uses"].append(long_use.use(Path(base), runs, seconds, options))
        save()
    state["seconds"] += round(time.monotonic() - begun)
    save()
    figures = summary(state)
    with replacing(out) as temporary:
        temporary.write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
    return figures


def _kill(state: dict) -> None:
    """One kill of each kind of writer, two writers of one file, a full disk, a read-only folder, and a training."""
    number, counts = state["next"]["kills"], state["kills"]
    state["next"]["kills"] += 1
    with tempfile.TemporaryDirectory(prefix="icportrait-campaign-") as work:
        for kind in WRITERS:
            _count(state, kind, number, kills.killed_writer(kind, number, Path(work) / kind))
        _count(state, "full disk", number, kills.full_disk(number, Path(work) / "full"), kills_made=0)
        _count(state, "read-only folder", number, kills.read_only(number, Path(work) / "read-only"), kills_made=0)
        _count(state, "two writers", number, kills.two_writers(number, Path(work) / "two"), kills_made=2)
    stage = STAGES[number % len(STAGES)]
    work = cache_folder() / "campaign" / "training"
    made, problems, same = kills.killed_training(stage, number, work)
    _count(state, stage, number, problems, made)
    counts["resumes"] += 1
    counts["bit_exact"] += same
    print(f"kills: {counts}", flush=True)


def _count(state: dict, kind: str, number: int, problems: list[str], kills_made: int = 1) -> None:
    state["kills"]["kills"] += kills_made
    state["kills"]["lost"] += bool(problems)
    state["findings"] += [f"{kind} {number}: {problem}" for problem in problems]


def _state(place: Path) -> dict:
    if place.is_file():
        return json.loads(place.read_text("utf-8"))
    return {
        "next": dict.fromkeys([*KINDS, "kills"], 0),
        "kinds": {kind: dict.fromkeys(COUNTS, 0) for kind in KINDS},
        "kills": {"kills": 0, "lost": 0, "resumes": 0, "bit_exact": 0},
        "uses": [],
        "findings": [],
        "seconds": 0,
    }


def summary(state: dict) -> dict:
    """What docs/measurements/reliability.json holds."""
    totals = {name: sum(counts[name] for counts in state["kinds"].values()) for name in COUNTS}
    uses = state["uses"]
    return {
        **totals,
        "kills": state["kills"]["kills"],
        "lost": state["kills"]["lost"],
        "resumes": state["kills"]["resumes"],
        "bit_exact_resumes": state["kills"]["bit_exact"],
        "runs": sum(use["runs"] for use in uses),
        "runs_cancelled": sum(use["cancelled"] for use in uses),
        "runs_failed_as_asked": sum(use["failed"] for use in uses),
        "run_tracebacks": sum(use["tracebacks"] for use in uses),
        "run_hangs": sum(use["hangs"] for use in uses),
        "growth_mb": max((use["growth_mb"] for use in uses if use["growth_mb"] is not None), default=None),
        "vanilla_identical": all(use["vanilla_identical"] for use in uses) if uses else None,
        "minutes": round(state["seconds"] / 60, 1),
        "by_kind": state["kinds"],
        "uses": uses,
        "findings": state["findings"][-40:],
    }


def print_figures(figures: dict) -> None:
    """The totals as lines."""
    for name, value in figures.items():
        if not isinstance(value, dict | list):
            print(f"{name:22s} {value}")
    for finding in figures["findings"][-10:]:
        print(finding)
