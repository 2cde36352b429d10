"""Detail transfer: what is fine comes from the profile, what is coarse and what disagrees stays."""

import math

import pytest
import torch

from icportrait.models.method.detail import RADIUS, transfer_detail
from icportrait.models.types import Flow

SIZE = 128
WIDE = RADIUS * SIZE  # sigma in pixels


def flow(dx: float = 0.0, confidence: float = 1.0) -> Flow:
    offsets = torch.zeros(1, 2, 16, 16)
    offsets[:, 0] = dx
    return Flow(offsets, torch.full((1, 1, 16, 16), confidence), SIZE, SIZE)


def slope() -> torch.Tensor:
    """A soft picture: light from the left."""
    return torch.linspace(0.7, 0.3, SIZE).expand(1, 3, SIZE, SIZE).movedim(1, -1).clone()


def with_lines(picture: torch.Tensor, height: float = 0.1) -> torch.Tensor:
    """One-pixel lines every 16 pixels."""
    picture = picture.clone()
    picture[:, :, 8::16] += height
    return picture


def test_fine_lines_arrive_and_light_stays():
    painted = slope()
    dark_profile = with_lines(slope().flip(2) * 0.5)  # lit from the other side
    result, share = transfer_detail(painted, dark_profile, flow())
    contrast = result[0, 64, 8:-8:16] - (result[0, 64, 4:-12:16] + result[0, 64, 12:-4:16]) / 2
    assert (contrast > 0.05).all(), "the lines are there"
    off = (result - painted)[:, :, 2::16].abs().max()
    assert off < 0.02, "between them the painted light is unchanged"
    assert share.shape == (1, SIZE, SIZE) and share.min() > 0.5


def test_the_flow_moves_the_lines():
    result, _ = transfer_detail(slope(), with_lines(slope()), flow(dx=0.5))  # half a cell of 8 px
    change = (result - slope())[0, 64, 16:-16].mean(dim=-1)
    assert {int(place + 16) % 16 for place in (change > 0.03).nonzero()} == {4}


def test_nothing_where_the_flow_is_unsure():
    painted = slope()
    result, share = transfer_detail(painted, with_lines(painted), flow(confidence=0.0))
    assert torch.equal(share, torch.zeros_like(share))
    torch.testing.assert_close(result, painted)


def test_strength_zero_is_bit_identical():
    painted = torch.rand(2, SIZE, SIZE, 3)
    result, share = transfer_detail(painted, torch.rand(1, SIZE, SIZE, 3), flow(), strength=0)
    assert torch.equal(result, painted) and share.shape == (2, SIZE, SIZE) and not share.any()


def test_an_outline_that_is_only_in_the_profile_is_not_embossed():
    painted = torch.full((1, SIZE, SIZE, 3), 0.5)
    edge = painted.clone()
    edge[:, :, SIZE // 2 :] = 0.05  # hair against a wall
    near, _ = transfer_detail(painted, edge, flow())
    everywhere, _ = transfer_detail(painted, edge, flow(), tolerance=math.inf)
    embossed = [float((result - painted).abs().max()) for result in (near, everywhere)]
    assert embossed[1] > 0.1 and embossed[0] < 0.5 * embossed[1]


def test_an_outline_that_both_have_is_sharpened():
    step = torch.full((1, SIZE, SIZE, 3), 0.6)
    step[:, :, SIZE // 2 :] = 0.2
    soft = torch.nn.functional.avg_pool2d(step.movedim(-1, 1), (1, 5), 1, (0, 2), count_include_pad=False).movedim(
        1, -1
    )
    result, _ = transfer_detail(soft, step, flow())
    inside = slice(8, -8)
    assert (result - step)[:, :, inside].abs().mean() < 0.75 * (soft - step)[:, :, inside].abs().mean()


def test_a_batch_gets_detail_from_one_profile():
    painted = torch.cat((slope(), slope() * 0.8))
    result, share = transfer_detail(painted, with_lines(slope()), flow())
    assert result.shape == painted.shape and share.shape == (2, SIZE, SIZE)
    for index in range(2):
        alone, _ = transfer_detail(painted[index : index + 1], with_lines(slope()), flow())
        torch.testing.assert_close(result[index : index + 1], alone)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"strength": 1.5}, "strength of detail must lie in 0 .. 1"),
        ({"strength": math.nan}, "strength of detail must lie in 0 .. 1"),
        ({"radius": 0.0}, "radius must lie above 0"),
        ({"radius": 0.2}, "radius must lie above 0"),
        ({"profile": torch.rand(1, 64, 64, 3)}, "profile crop is 64 x 64 pixels, but the painted crop 128 x 128"),
        ({"picture": torch.rand(1, 256, 256, 3)}, "painted crop 256 x 256"),
    ],
)
def test_bad_input_is_one_sentence(changes, sentence):
    given = {"picture": slope(), "profile": slope(), "flow": flow()} | changes
    with pytest.raises(ValueError, match=sentence):
        transfer_detail(**given)
