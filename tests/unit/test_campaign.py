"""The short version of the campaign, and its oracles: a fault planted into the product is found, of each kind."""

import os
import sys
import time

import pytest

from icportrait.tools.campaign import campaign, inputs, kills, long_use

FEW = {
    "nodes": 60,
    "net files": 40,
    "picture folders": 60,
    "shards": 40,
    "command line": 40,
    "face finder": 12,
    "server": 20,
}
# How many cases a planted fault has to show itself in.
UNTIL_FOUND = {**dict.fromkeys(FEW, 60), "command line": 120, "server": 20}


@pytest.mark.parametrize("kind", FEW)
def test_no_bad_input_is_taken_in_silence_or_ends_in_a_traceback(kind):
    found = [(number, *inputs.outcome(kind, number)) for number in range(FEW[kind])]
    assert [entry for entry in found if entry[1] != "fine"] == []


@pytest.mark.parametrize("kind", FEW)
def test_a_planted_fault_is_found(kind, monkeypatch):
    inputs.plant(kind, monkeypatch.setattr)
    assert any(inputs.outcome(kind, number)[0] != "fine" for number in range(UNTIL_FOUND[kind]))


def test_a_case_is_decided_by_its_number():
    import random

    for number in (3, 4):
        texts = {inputs.KINDS["nodes"](random.Random(f"nodes {number}")).text for _ in range(2)}
        assert len(texts) == 1


class Stub(campaign.Worker):
    """A worker whose process does what its code says instead of importing the product."""

    code = ""

    def ask(self, number, patience=1.0):
        import subprocess

        if self.process is None:
            line = [sys.executable, "-c", self.code]
            self.process = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return super().ask(number, patience)


@pytest.mark.parametrize(
    "code, result",
    [
        ("input(); import time; time.sleep(60)", "hangs"),
        ("input(); import os; os._exit(9)", "crashes"),
        ('input(); print(\'["traceback", "words"]\')', "tracebacks"),
        ('input(); print(\'["silent", "words"]\')', "silent"),
    ],
)
def test_hangs_and_crashes_are_counted_and_the_worker_starts_anew(code, result, monkeypatch):
    monkeypatch.setattr(Stub, "code", code)
    monkeypatch.setattr(campaign, "Worker", Stub)
    monkeypatch.setattr(Stub, "ask", lambda self, number, ask=Stub.ask: ask(self, number, 5.0))
    counts, findings, begun = dict.fromkeys(campaign.COUNTS, 0), [], time.monotonic()
    assert campaign.try_inputs("nodes", range(1), counts, findings) == 1
    assert counts["inputs"] == 1 and counts[result] == 1 and result in findings[0]
    assert time.monotonic() - begun < 60


@pytest.mark.parametrize("kind", campaign.WRITERS)
def test_a_killed_writer_loses_nothing_and_a_planted_one_is_caught(kind, tmp_path):
    assert kills.killed_writer(kind, 0, tmp_path / "good") == []
    assert any(kills.killed_writer(kind, number, tmp_path / "bad", planted=True) for number in range(4))


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on file sizes")
def test_a_full_disk_loses_nothing_and_a_planted_loss_is_caught(tmp_path):
    assert kills.full_disk(1, tmp_path / "good") == []
    assert kills.full_disk(1, tmp_path / "bad", planted=True)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_read_only_folder_loses_nothing_and_a_planted_write_is_caught(tmp_path):
    for name in ("good", "bad"):
        (tmp_path / name).mkdir()
    if os.getuid() == 0:  # others cannot write there whatever the product does
        assert kills.read_only(1, tmp_path / "bad" / "folder", planted=True)
    assert kills.read_only(1, tmp_path / "good" / "folder") == []


def test_two_writers_of_one_file_lose_nothing_and_planted_ones_are_caught(tmp_path):
    assert kills.two_writers(0, tmp_path / "good") == []
    assert any(kills.two_writers(number, tmp_path / "bad", planted=True) for number in range(4))


def test_one_part_alone_has_all_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(campaign, "start_comfy", lambda **_: None)
    monkeypatch.setattr(campaign, "_kill", lambda state: pytest.fail("a kill"))
    monkeypatch.setattr(campaign.long_use, "use", lambda *_: pytest.fail("a use"))

    def tried(kind, numbers, counts, findings, end):
        counts["inputs"] += 1
        time.sleep(0.05)
        return 1

    monkeypatch.setattr(campaign, "try_inputs", tried)
    figures = campaign.campaign(0.01, out=tmp_path / "out.json", only="inputs")
    assert figures["inputs"] > 5 and figures["runs"] == 0


def test_the_summary_counts_every_part():
    counts = dict.fromkeys(campaign.COUNTS, 1)
    use = {
        "runs": 3,
        "cancelled": 1,
        "failed": 1,
        "tracebacks": 0,
        "hangs": 0,
        "growth_mb": 2.5,
        "vanilla_identical": False,
    }
    state = {
        "kinds": dict.fromkeys(campaign.KINDS, counts),
        "kills": {"kills": 5, "lost": 1, "resumes": 2, "bit_exact": 1},
        "uses": [use, use | {"growth_mb": 1.0, "vanilla_identical": True}],
        "findings": ["one"],
        "seconds": 90,
    }
    figures = campaign.summary(state)
    assert figures["inputs"] == len(campaign.KINDS) and figures["lost"] == 1 and figures["bit_exact_resumes"] == 1
    assert figures["runs"] == 6 and figures["growth_mb"] == 2.5 and figures["vanilla_identical"] is False
    assert set(campaign.KINDS) == set(inputs.KINDS) == set(FEW)


class TestGrowth:
    """Memory that rises while caches fill, then sways by what each run needs."""

    sizes = [1000 + min(number, 50) * 5 + number * 37 % 90 for number in range(300)]

    def test_what_fills_caches_is_none(self):
        assert long_use.growth(self.sizes) < 5

    @pytest.mark.parametrize("leak_mb", [0.1, 8])
    def test_a_leak_is(self, leak_mb):
        leaking = [size + leak_mb * number for number, size in enumerate(self.sizes)]
        assert long_use.growth(leaking) > 100 * leak_mb

    def test_too_few_runs_tell_nothing(self):
        assert long_use.growth(self.sizes[:37]) is None
