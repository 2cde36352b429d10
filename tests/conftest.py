"""Fixtures for all tests: the real ComfyUI in this process, the real ComfyUI as a server, and real photographs.

`python run.py test` sets everything up. By hand: `COMFYUI_PATH=... pytest -c tests/pytest.ini tests`.
"""

import asyncio
import hashlib
import importlib.util
import inspect
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
# Before torch is imported: nets this small run no faster on several threads, and far slower where something else wants the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# ComfyUI runs with --cpu here, and many tests compare bits: what trains beside it must not find a GPU either.
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _load_pack() -> None:
    """Make this clone importable as `icportrait`, whatever an installed package of that name may be."""
    spec = importlib.util.spec_from_file_location(
        "icportrait", REPOSITORY / "__init__.py", submodule_search_locations=[str(REPOSITORY)]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["icportrait"] = module
    spec.loader.exec_module(module)


def _settle_comfyui() -> None:
    """Put ComfyUI on the path and settle its options, before any test module imports a part of it.

    ComfyUI reads its command line once, on the first import; without --cpu it would look for a GPU then.
    """
    from icportrait.run import find_comfyui

    root = find_comfyui(REPOSITORY)
    if root is None:
        pytest.exit("ComfyUI was not found: run `python run.py test`, or set COMFYUI_PATH.", returncode=4)
    os.environ["COMFYUI_PATH"] = str(root)
    sys.path.insert(0, str(root))
    base = tempfile.mkdtemp(prefix="icportrait-tests-")
    for name in ("models", "input", "output", "temp", "user", "custom_nodes"):
        os.makedirs(os.path.join(base, name))
    arguments = sys.argv
    sys.argv = ["main.py", "--cpu", "--use-pytorch-cross-attention", "--base-directory", base, "--disable-api-nodes"]
    try:
        import comfy.options

        comfy.options.enable_args_parsing()
        import comfy.cli_args  # noqa: F401 (parses now)

        # Before `nodes` and `execution`: they put ComfyUI/comfy on the path, whose utils.py would hide this package.
        import utils.extra_config
        import utils.install_util  # noqa: F401
    finally:
        sys.argv = arguments


_load_pack()
_settle_comfyui()


class InProcessComfy:
    """ComfyUI's own executor in this process, with its extra nodes and this pack's."""

    def __init__(self):
        import execution
        import nodes
        import server

        self.loop = asyncio.new_event_loop()
        self.execution = execution
        self.server = server.PromptServer(self.loop)
        self.loop.run_until_complete(nodes.init_extra_nodes(init_custom_nodes=False, init_api_nodes=False))
        import icportrait.nodes as pack

        self.pack_nodes = {node.GET_SCHEMA().node_id: node for node in pack.NODES}
        nodes.NODE_CLASS_MAPPINGS.update(self.pack_nodes)
        self.node_classes = nodes.NODE_CLASS_MAPPINGS
        self._count = 0
        self.executor = None
        self.forget()

    def forget(self) -> None:
        """Drop everything the executor has cached."""
        make = self.execution.PromptExecutor
        # An older ComfyUI knows no limits beside the kind of cache.
        known = "cache_args" in inspect.signature(make).parameters
        limits = {"cache_args": {"lru": 0, "ram": 0.0, "ram_inactive": 0.0}} if known else {}
        self.executor = make(self.server, cache_type=self.execution.CacheType.CLASSIC, **limits)

    def run(self, prompt: dict) -> dict:
        """Validate and execute a graph in API format. Returns {node id: its ui outputs}.

        Raises RuntimeError with ComfyUI's own message when it is refused or fails.
        """
        self._count += 1
        name = f"test-{self._count}"
        valid, error, outputs, node_errors = self.loop.run_until_complete(
            self.execution.validate_prompt(name, prompt, None)
        )
        if not valid:
            raise RuntimeError(f"{error['message']}: {node_errors}")
        self.loop.run_until_complete(self.executor.execute_async(prompt, name, {}, outputs))
        if not self.executor.success:
            failures = [data for event, data in self.executor.status_messages if event == "execution_error"]
            raise RuntimeError(failures[0]["exception_message"] if failures else str(self.executor.status_messages))
        return self.executor.history_result["outputs"]


@pytest.fixture(scope="session", autouse=True)
def _each_picture_searched_once():
    """dlib's detector takes seconds a picture, and the tests show it a few photographs many times: its answers are kept."""
    from icportrait.models.faces import dlib_backend

    real, answers = dlib_backend.detect, {}

    def detect(rgb):
        key = rgb.shape, hashlib.sha256(rgb.tobytes()).digest()
        if key not in answers:
            answers[key] = real(rgb)
        return list(answers[key])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dlib_backend, "detect", detect)
        yield


@pytest.fixture(scope="session")
def comfy():
    """The real ComfyUI in this process (CPU): `.run(prompt)`, `.node_classes`, `.pack_nodes`, `.forget()`."""
    return InProcessComfy()


@pytest.fixture(scope="session")
def server(tmp_path_factory, group_photo_path, astronaut_path):
    """A real ComfyUI process that serves this pack on a free port; see tools/comfy_server.py for its methods.

    Its input folder holds the demo's sample pictures, group_photo.jpg, astronaut.png and no_face.png.
    """
    from PIL import Image

    from icportrait.tools.comfy_server import ComfyServer
    from icportrait.tools.demo import copy_samples

    base = tmp_path_factory.mktemp("server")
    copy_samples(base)
    shutil.copy(group_photo_path, base / "input" / "group_photo.jpg")
    shutil.copy(astronaut_path, base / "input" / "astronaut.png")
    Image.new("RGB", (256, 256), (90, 120, 60)).save(base / "input" / "no_face.png")
    with ComfyServer(base, cpu=True) as running:
        yield running


def _packaged(package: str, *parts: str) -> Path:
    """A file inside an installed package, found without importing the package."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.submodule_search_locations[0], *parts) if spec else None
    if path is None or not path.is_file():
        pytest.fail(f"the photograph {parts[-1]} of the package {package} is missing; run `python run.py test`")
    return path


def _picture(path: Path):
    """float32 `[1, H, W, 3]`, sRGB in [0, 1]: ComfyUI's IMAGE."""
    import numpy as np
    import torch
    from PIL import Image

    return torch.from_numpy(np.asarray(Image.open(path).convert("RGB"), dtype=np.float32) / 255.0)[None]


@pytest.fixture(scope="session")
def group_photo_path() -> Path:
    """A real photograph with six faces, 1280 x 886."""
    return _packaged("insightface", "data", "images", "t1.jpg")


@pytest.fixture(scope="session")
def astronaut_path() -> Path:
    """A real portrait photograph, 512 x 512, one face."""
    return _packaged("skimage", "data", "astronaut.png")


@pytest.fixture
def group_photo(group_photo_path):
    """`group_photo_path` as IMAGE."""
    return _picture(group_photo_path)


@pytest.fixture
def astronaut(astronaut_path):
    """`astronaut_path` as IMAGE."""
    return _picture(astronaut_path)
