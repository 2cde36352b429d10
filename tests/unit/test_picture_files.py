"""Picture files of people: every kind that cameras and programs write, and those that would fill the memory."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from icportrait.models.pictures.files import MOST_PIXELS, check_picture_size, read_picture
from icportrait.training.data.folders.pictures import pictures_of


def huge_png(path, width, height):
    """A small PNG that says it is this large; rows of zeros compress a thousandfold."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")
    )
    return path


@pytest.mark.parametrize("side", [12_000, 30_000, 2**31 - 1])
def test_more_pixels_than_any_camera_has(tmp_path, side):
    path = huge_png(tmp_path / "huge.png", side, side)
    for read in (check_picture_size, read_picture):
        with pytest.raises(ValueError, match=r"huge\.png .* pixels.*; scale it down first"):
            read(path)
    (picture,) = pictures_of(tmp_path)
    assert picture.rgb is None and "scale it down first" in picture.problem


def test_the_limit_itself_passes(tmp_path):
    check_picture_size(huge_png(tmp_path / "large.png", 2**14, MOST_PIXELS // 2**14))


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "grey16.png")
    read = read_picture(tmp_path / "grey16.png")
    assert read.shape == (64, 64, 3) and np.abs(read[..., 0] - values / 257).max() <= 1


def test_alpha_lies_on_white_and_exif_turns(tmp_path):
    Image.new("RGBA", (4, 6), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    assert (read_picture(tmp_path / "clear.png") == 255).all()
    turned = Image.new("RGB", (4, 6))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    assert read_picture(tmp_path / "turned.jpg").shape == (4, 6, 3)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(40), b"\xff\xd8\xff\xe0" + bytes(9)])
def test_what_is_no_picture(tmp_path, data):
    (tmp_path / "bad.png").write_bytes(data)
    with pytest.raises(ValueError, match=r"bad\.png cannot be read as a picture"):
        read_picture(tmp_path / "bad.png")
