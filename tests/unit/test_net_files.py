"""Net files: what is written comes back, and everything else ends in one clear sentence."""

import json
import os
import signal
import struct
import subprocess
import sys

import pytest
import torch
from child import child_environment
from safetensors.torch import save_file
from tiny_models import UNET, random_net

from icportrait.models import writing
from icportrait.models.nets import files as net_files
from icportrait.models.nets import portrait_net as nets

CONFIG = nets.net_config("matching", UNET | {"num_heads": 4, "num_head_channels": -1}, alpha=0.75, beta=0.125)
FACTS = {"steps": 200, "data": "heads", "license": "CC0-1.0", "objective": "paper"}


@pytest.fixture(scope="module")
def net() -> nets.PortraitNet:
    return random_net(CONFIG, 1)


@pytest.fixture
def path(tmp_path, net):
    path = tmp_path / "folder" / "matching.safetensors"
    net_files.save_net(path, net.state_dict(), CONFIG, FACTS, torch.float32)
    return path


def files(folder) -> list[str]:
    return sorted(os.listdir(folder))


class TestRoundTrip:
    def test_weights_config_and_facts(self, path, net):
        tensors, config, facts = net_files.load_net_file(path, "matching")
        assert config == CONFIG and facts == FACTS
        again = nets.build_net(config)
        again.load_state_dict(tensors, strict=True)
        assert again.state_dict().keys() == net.state_dict().keys()
        for (name, a), b in zip(again.state_dict().items(), net.state_dict().values(), strict=True):
            assert torch.equal(a, b), name

    def test_the_head_count_survives(self, path, net):
        """Tensor shapes do not tell it, so the rebuilt net must compute the same."""
        tensors, config, _ = net_files.load_net_file(path)
        again = nets.build_net(config)
        again.load_state_dict(tensors)
        generator = torch.Generator().manual_seed(3)
        x, context = torch.randn(1, 4, 8, 16, generator=generator), torch.randn(1, 1, 768, generator=generator)
        hint = torch.zeros(1, 32, 8, 16)
        with torch.no_grad():
            pairs = zip(
                again.residuals(x, torch.tensor([5]), context, hint),
                net.residuals(x, torch.tensor([5]), context, hint),
                strict=True,
            )
        assert all(torch.equal(a, b) for a, b in pairs)

    def test_is_saved_in_half_precision_by_default(self, tmp_path, net):
        net_files.save_net(tmp_path / "net.safetensors", net.state_dict(), CONFIG, FACTS)
        tensors, _, _ = net_files.load_net_file(tmp_path / "net.safetensors")
        for name, tensor in tensors.items():
            assert tensor.dtype == torch.float16
            assert torch.equal(tensor, net.state_dict()[name].half())

    def test_metadata_can_be_read_alone(self, path):
        metadata = net_files.read_metadata(path)
        expected = {"format": net_files.FORMAT, "config": CONFIG, "training": FACTS, "license": "CC0-1.0"}
        assert metadata == expected | {"dtype": "float32"}

    def test_is_a_plain_safetensors_file(self, path):
        """Any program can read the header: its length, then JSON whose metadata values are strings."""
        data = path.read_bytes()
        header = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
        assert json.loads(header["__metadata__"]["config"]) == CONFIG
        assert "input_blocks.0.0.weight" in header and "input_hint_block.14.bias" in header

    def test_views_and_transposed_tensors_are_written_as_they_look(self, tmp_path):
        base = torch.arange(12.0).reshape(3, 4)
        net_files.save_tensors(tmp_path / "x.safetensors", {"t": base.T, "part": base[:, 1:3].clone()}, {})
        tensors, _ = net_files.read_tensors(tmp_path / "x.safetensors")
        assert torch.equal(tensors["t"], base.T) and torch.equal(tensors["part"], base[:, 1:3])

    def test_metadata_of_other_programs_stay_strings(self, tmp_path):
        save_file({"a": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={"title": "not {json", "steps": "7"})
        assert net_files.read_metadata(tmp_path / "x.safetensors") == {"title": "not {json", "steps": 7}


class TestBadFiles:
    """One sentence that names the file, from both ways of reading."""

    @staticmethod
    def refused(path, match: str):
        for read in (net_files.load_net_file, net_files.read_metadata):
            with pytest.raises(ValueError, match=match) as error:
                read(path)
            assert str(path) in str(error.value) and "\n" not in str(error.value)

    @pytest.mark.parametrize("share", [0.0, 0.0001, 0.001, 0.3, 0.99])
    def test_truncated(self, path, share):
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        self.refused(path, "not a readable safetensors file")

    def test_corrupt_header(self, path):
        data = bytearray(path.read_bytes())
        data[20:60] = b"\xff" * 40
        path.write_bytes(data)
        self.refused(path, "not a readable safetensors file")

    def test_pickled_checkpoint(self, tmp_path):
        torch.save({"weight": torch.zeros(3)}, tmp_path / "net.safetensors")
        self.refused(tmp_path / "net.safetensors", "not a readable safetensors file")

    def test_text(self, tmp_path):
        (tmp_path / "net.safetensors").write_text("<html>404: not found</html>")
        self.refused(tmp_path / "net.safetensors", "not a readable safetensors file")

    def test_missing(self, tmp_path):
        self.refused(tmp_path / "absent.safetensors", "does not exist")

    def test_a_folder(self, tmp_path):
        self.refused(tmp_path, "not a readable safetensors file")

    def test_another_programs_safetensors(self, tmp_path):
        save_file({"weight": torch.zeros(3)}, tmp_path / "lora.safetensors")
        with pytest.raises(ValueError, match="lora.safetensors is not an IC-Portrait net"):
            net_files.load_net_file(tmp_path / "lora.safetensors")

    def test_a_newer_format(self, tmp_path):
        path = tmp_path / "new.safetensors"
        net_files.save_tensors(path, {"a": torch.zeros(1)}, {"format": "icportrait-net-2", "config": CONFIG})
        with pytest.raises(ValueError, match="not an IC-Portrait net.*icportrait-net-1"):
            net_files.load_net_file(path)

    def test_the_other_role(self, path):
        with pytest.raises(ValueError, match="holds the matching net, but the appearance net is wanted"):
            net_files.load_net_file(path, "appearance")


class TestAtomicWrite:
    def test_leaves_no_temporary_file(self, path):
        assert files(path.parent) == ["matching.safetensors"]

    def test_a_failure_keeps_the_old_file(self, path, monkeypatch):
        before = path.read_bytes()

        def fails(*_):
            raise OSError("the disk went away")

        monkeypatch.setattr(writing.os, "replace", fails)
        with pytest.raises(OSError, match="went away"):
            net_files.save_tensors(path, {"a": torch.zeros(1)}, {})
        assert path.read_bytes() == before
        assert files(path.parent) == ["matching.safetensors"]

    def test_equal_files_are_equal_byte_for_byte(self, tmp_path):
        """safetensors itself writes metadata in another order each time."""
        metadata = {name: {"value": name} for name in "format config training license base data steps".split()}
        for number in range(8):
            net_files.save_tensors(tmp_path / f"{number}", {"b": torch.ones(3), "a": torch.zeros(2, 2)}, metadata)
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1
        tensors, found = net_files.read_tensors(tmp_path / "0")
        assert set(found) == {*metadata, "dtype"} and torch.equal(tensors["b"], torch.ones(3))

    @pytest.mark.skipif(os.name == "nt", reason="modes are POSIX's")
    def test_others_may_read_it_as_any_new_file(self, path):
        (path.parent / "plain").touch()
        assert path.stat().st_mode == (path.parent / "plain").stat().st_mode

    def test_what_a_killed_writer_left_is_removed_by_the_next(self, path, tmp_path_factory):
        code = (
            "import os, pathlib\n"
            "from icportrait.models.writing import replacing\n"
            f"with replacing({str(path)!r}) as temporary:\n"
            "    temporary.write_bytes(b'half a file')\n"
            "    os._exit(9)\n"
        )
        environment = child_environment(tmp_path_factory.mktemp("pack"))
        assert subprocess.run([sys.executable, "-c", code], timeout=120, env=environment).returncode == 9
        alive = path.parent / f".other.safetensors.{writing._MACHINE}-{os.getppid()}.part"
        elsewhere = path.parent / ".other.safetensors.another_machine-999999999.part"
        older = path.parent / ".index.json.999999999.part"
        for left in (alive, elsewhere, older):
            left.touch()
        assert len(files(path.parent)) == 5
        net_files.save_tensors(path, {"a": torch.ones(1)}, {})
        assert set(files(path.parent)) == {alive.name, elsewhere.name, path.name}

    def test_what_the_library_itself_leaves_when_killed_is_removed_too(self, path, monkeypatch):
        """safetensors writes a file of its own name beside the one it is asked for."""
        left = []

        def killed(tensors, temporary, metadata):
            left.append(temporary.with_name(".tmpAbCdEf"))
            left[0].touch()
            raise KeyboardInterrupt

        monkeypatch.setattr(net_files, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            net_files.save_tensors(path, {"a": torch.zeros(1)}, {})
        assert left[0].parent != path.parent and files(path.parent) == [path.name]

    def test_metadata_that_are_no_json_fail_before_anything_is_written(self, path):
        before = path.read_bytes()
        with pytest.raises(TypeError):
            net_files.save_tensors(path, {"a": torch.zeros(1)}, {"config": {1, 2}})
        assert path.read_bytes() == before
        assert files(path.parent) == ["matching.safetensors"]

    @pytest.mark.skipif(not hasattr(signal, "SIGXFSZ"), reason="needs a limit on file sizes")
    def test_a_full_disk_is_an_oserror(self, tmp_path, tmp_path_factory):
        """A limit on the file's size stands in for the full disk; set in a process of its own, as it cannot be lifted."""
        path = tmp_path / "net.safetensors"
        net_files.save_tensors(path, {"a": torch.ones(1)}, {})
        before = path.read_bytes()
        code = (
            "import resource, signal, sys, torch\n"
            "from icportrait.models.nets import files as net_files\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
            "try:\n"
            f"    net_files.save_tensors({str(path)!r}, {{'a': torch.zeros(100_000)}}, {{}})\n"
            "except OSError as error:\n"
            "    sys.exit(0 if 'could not be written' in str(error) else 3)\n"
            "sys.exit(4)\n"
        )
        assert (
            subprocess.run(
                [sys.executable, "-c", code], timeout=300, env=child_environment(tmp_path_factory.mktemp("pack"))
            ).returncode
            == 0
        )
        assert path.read_bytes() == before
        assert files(tmp_path) == ["net.safetensors"]
