"""What a user installs: the package list, and requirements that leave his torch alone."""

import os
import re
import sys

import pytest
import yaml

from icportrait.models.nets.files import read_tensors
from icportrait.tools.comfy_server import PACK
from icportrait.tools.demo import PERSON_LORA
from icportrait.tools.person_lora import fingerprint

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


@pytest.fixture(scope="module")
def project():
    return tomllib.loads((PACK / "pyproject.toml").read_text("utf-8"))


def requirements(name):
    lines = (PACK / name).read_text("utf-8").splitlines()
    return [line.strip() for line in lines if line.strip() and not line.startswith("#")]


def test_every_folder_of_code_is_listed_as_a_package(project):
    folders = [path.parent for room in ("models", "nodes", "training") for path in (PACK / room).rglob("__init__.py")]
    names = {".".join(("icportrait", *folder.relative_to(PACK).parts)) for folder in folders}
    assert set(project["tool"]["setuptools"]["packages"]) == names | {"icportrait"}


def test_the_packs_requirements_never_touch_what_comfyui_brings():
    for line in requirements("requirements.txt"):
        name, bound = re.fullmatch(r"([A-Za-z0-9._-]+)(>=[0-9.]+)", line).groups()  # lower bounds only
        assert name not in ("torch", "torchvision", "torchaudio", "numpy", "safetensors", "transformers", "pillow")


def test_no_list_pins_torch():
    for name in ("requirements-train.txt", "requirements-test.txt"):
        assert not [line for line in requirements(name) if line.startswith("torch")]


def test_the_registrys_rules(project):
    assert "comfyui" not in project["project"]["name"].lower()
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["project"]["version"])
    assert project["project"]["scripts"]["icportrait"] == "icportrait.training.cli:main"
    assert {"PublisherId", "DisplayName", "requires-comfyui"} <= set(project["tool"]["comfy"])


def test_the_registrys_archive_holds_what_an_artist_needs():
    left_out = (PACK / ".comfyignore").read_text("utf-8").split()
    assert {".ci/", ".github/", "tests/"} <= set(left_out)
    needed = [
        "__init__.py",
        "requirements.txt",
        "README.md",
        "LICENSE",
        "docs/model_card.md",
        "docs/pictures/result.jpg",
    ]
    needed += [f"{folder}/" for folder in ("nodes", "models", "bundle", "locales", "web", "workflows", "subgraphs")]
    assert all((PACK / name).exists() for name in needed)
    assert not [name for name in needed for folder in left_out if name.startswith(folder)]


def test_the_repositorys_host_tests_and_publishes():
    flows = {name: (PACK / f".github/workflows/{name}.yml").read_text("utf-8") for name in ("test", "publish")}
    jobs = {name: next(iter(yaml.safe_load(text)["jobs"].values()))["steps"] for name, text in flows.items()}
    (command,) = [step["run"] for step in jobs["test"] if "run" in step]
    assert os.access(PACK / command, os.X_OK)
    action = jobs["publish"][-1]
    assert action["uses"].startswith("Comfy-Org/publish-node-action@")
    assert action["with"]["personal_access_token"] == "${{ secrets.REGISTRY_ACCESS_TOKEN }}"
    assert all(yaml.safe_load(text)["permissions"] == {"contents": "read"} for text in flows.values())


def test_comfyui_can_read_it():
    from comfy_config import config_parser

    config = config_parser.extract_node_configuration(str(PACK))
    assert config.project.name == "ic-portrait" and config.project.license.text == "GPL-3.0-or-later"
    assert config.project.supported_comfyui_version == ">=0.3.64"


def test_the_licence_is_the_whole_gpl():
    text = (PACK / "LICENSE").read_text("utf-8")
    assert "GNU GENERAL PUBLIC LICENSE" in text and "Version 3" in text and "END OF TERMS AND CONDITIONS" in text


class TestBundle:
    """What ships in bundle/."""

    FOLDER = PACK / "bundle"

    def test_is_small(self):
        assert sum(path.stat().st_size for path in self.FOLDER.iterdir()) <= 72 * 2**20

    def test_the_sample_persons_lora_is_free_and_fits_the_base(self):
        path = self.FOLDER / PERSON_LORA
        _, metadata = read_tensors(path)
        assert metadata["format"] == "icportrait-lora-1" and metadata["license"] == "CC0-1.0"
        made_for = metadata["training"]["base_sha256"]
        assert made_for == fingerprint(self.FOLDER / "base.safetensors"), "another base: run.py tools person-lora"
