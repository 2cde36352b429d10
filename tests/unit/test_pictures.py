"""Pictures for people."""

import pytest
import torch
from face_photos import group

from icportrait.models.faces.types import Face, Faces
from icportrait.models.pictures.faces import draw_faces, overlay_mask
from icportrait.models.pictures.flow import confidence_to_color, flow_to_color, match_lines
from icportrait.models.pictures.panels import before_after, labelled_panel


def flow_of(dx: float, dy: float) -> torch.Tensor:
    return torch.tensor([dx, dy])[None, :, None, None]


class TestFlow:
    def test_published_colours(self):
        """Directions of the Middlebury wheel: right is red, left is cyan-blue; no motion is white."""
        right, left, none = (flow_to_color(flow_of(dx, 0), max_flow=1)[0, 0, 0] for dx in (1.0, -1.0, 0.0))
        assert torch.allclose(right, torch.tensor([1.0, 0.0, 0.0]), atol=0.2) and right[0] == 1
        assert left[0] < 0.05 and left[2] > 0.9
        assert none.tolist() == [1, 1, 1]

    def test_down_and_up_differ(self):
        down, up = (flow_to_color(flow_of(0, dy), max_flow=1)[0, 0, 0] for dy in (1.0, -1.0))
        assert down[0] > 0.95 and down[1] > 0.8 and down[2] < 0.05  # yellow
        assert up[2] > 0.9 and up[1] < 0.05  # violet

    def test_half_the_length_is_half_the_colour(self):
        full, half = (flow_to_color(flow_of(dx, 0), max_flow=2)[0, 0, 0] for dx in (2.0, 1.0))
        assert torch.allclose(half, (1 + full) / 2, atol=1 / 255)  # 8 bits

    def test_longest_vector_sets_the_scale(self):
        flow = torch.randn(1, 2, 4, 4, generator=torch.Generator().manual_seed(0))
        assert torch.allclose(flow_to_color(flow), flow_to_color(flow * 7), atol=1 / 255)

    def test_size_repeats_cells_and_nan_is_black(self):
        flow = torch.zeros(1, 2, 2, 2)
        flow[0, 0, 0, 0] = float("nan")
        picture = flow_to_color(flow, (8, 6))
        assert picture.shape == (1, 8, 6, 3) and picture[0, :4, :3].max() == 0 and picture[0, 4:].min() == 1

    def test_legend_is_drawn_in_its_corner_only(self):
        flow = torch.zeros(1, 2, 100, 100)
        plain, legend = flow_to_color(flow, max_flow=5.0), flow_to_color(flow, max_flow=5.0, legend=True)
        assert torch.equal(plain[:, :60, :60], legend[:, :60, :60]) and not torch.equal(plain, legend)

    def test_longer_than_the_scale_is_darker(self):
        within, beyond = (flow_to_color(flow_of(dx, 0), max_flow=2)[0, 0, 0] for dx in (2.0, 5.0))
        assert torch.allclose(beyond, 0.75 * within, atol=1e-6)

    def test_the_longest_vector_is_never_white(self):
        """torchvision's 8 bits can wrap round at full length, by rounding."""
        angle = torch.linspace(0, 6.28, 2000)
        flow = 13.7 * torch.stack([angle.cos(), angle.sin()])[None, :, None]
        assert flow_to_color(flow).amin(-1).max() < 0.02

    def test_bad_shape(self):
        with pytest.raises(ValueError, match="batch, 2, height, width"):
            flow_to_color(torch.zeros(1, 3, 4, 4))


class TestConfidence:
    def test_sure_is_brighter_than_unsure(self):
        picture = confidence_to_color(torch.linspace(0, 1, 9).reshape(1, 1, 1, 9))
        brightness = picture.mean(-1)[0, 0]
        assert torch.all(brightness[1:] > brightness[:-1])
        assert picture[0, 0, 0, 2] == picture[0, 0, 0].max() and picture[0, 0, -1, 2] == picture[0, 0, -1].min()

    def test_cells_are_repeated_and_the_legend_stays_below(self):
        confidence = torch.zeros(1, 1, 4, 4)
        plain, legend = (confidence_to_color(confidence, (128, 128), legend=on) for on in (False, True))
        assert plain.shape == (1, 128, 128, 3)
        assert torch.allclose(plain[:, :96], legend[:, :96], atol=1 / 255)  # text is drawn in 8 bits
        assert not torch.allclose(plain[:, 96:], legend[:, 96:], atol=1 / 255)


class TestMatchLines:
    def drawn(self, dx=0.0, dy=0.0, sure=1.0, size=64, **changes):
        offsets = torch.tensor([dx, dy])[None, :, None, None].expand(1, 2, 8, 8)
        black = torch.zeros(1, size, size, 3)
        return match_lines(black, black, offsets, torch.full((1, 1, 8, 8), sure), **changes)[0]

    def test_a_line_leads_from_its_place_to_its_match(self):
        picture = self.drawn(dx=1.0, dy=2.0, points=1)  # from the cell (4, 4) to (5, 6): pixels 36, 36 and 44, 52
        gap = picture.shape[1] - 128
        lit = picture.amax(-1) > 0.3
        lit[:, 64 : 64 + gap] = False
        assert lit[36, 36] and lit[52, 64 + gap + 44]
        rows, columns = lit.nonzero().T
        assert (rows.min() >= 33) and (rows.max() <= 55) and (columns.min() >= 33) and (columns.max() <= 64 + gap + 47)

    def test_a_match_outside_ends_at_the_edge(self):
        picture = self.drawn(dx=100.0, points=1)
        assert picture[36, -1].max() > 0.3

    def test_unsure_matches_are_grey(self):
        def color(picture):
            return (picture[36, 36].max() - picture[36, 36].min()).item()

        assert color(self.drawn(points=1)) > 0.2 and color(self.drawn(points=1, sure=0.2)) == 0

    def test_inputs_are_not_touched_and_sizes_must_agree(self):
        style = torch.zeros(1, 64, 64, 3)
        with pytest.raises(ValueError, match="one size"):
            match_lines(style, torch.zeros(1, 32, 64, 3), torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8))
        match_lines(style, style, torch.zeros(1, 2, 8, 8), torch.ones(1, 1, 8, 8))
        assert style.max() == 0


def test_before_and_after_carry_their_figures():
    picture = torch.zeros(1, 256, 256, 3)
    panel = before_after(picture, picture, picture, 0.31, 0.62)
    assert panel.shape[0] == 1 and panel.shape[2] == 3 * (256 + 4)
    other = before_after(picture, picture, picture, 0.31, float("nan"))
    changed = (panel - other).abs().amax(-1)[0].nonzero()
    assert len(changed) and changed[:, 1].min() >= 2 * 260  # only the last title


class TestFaces:
    def test_every_face_is_marked_and_the_input_is_not_touched(self):
        image, faces = group()
        before = image.clone()
        drawn = draw_faces(image, faces)
        assert torch.equal(image, before) and drawn.shape == image.shape
        changed = (drawn - image).abs().amax(-1)[0] > 0.1
        for face in faces.frames[0]:
            x, y = face.landmarks[0]
            assert changed[int(y), int(x)], "a landmark is not drawn"
            assert changed[int(face.box[3]) - 1, int(face.centre[0])], "a box is not drawn"
        assert changed.float().mean() < 0.05

    def test_numbers_differ(self):
        blank = torch.zeros(1, 100, 200, 3)
        a, b = Face((10, 40, 60, 90)), Face((110, 40, 160, 90))
        one = draw_faces(blank, Faces(100, 200, ((a, b),)))
        two = draw_faces(blank, Faces(100, 200, ((b, a),)))
        assert not torch.equal(one, two)

    def test_faces_outside_and_tiny_pictures(self):
        assert draw_faces(torch.zeros(1, 1, 1, 3), Faces(1, 1, ((Face((-5, -5, 9, 9)),),))).shape == (1, 1, 1, 3)


def test_overlay():
    image, mask = torch.zeros(1, 4, 4, 3), torch.zeros(1, 4, 4)
    mask[0, 0, 0] = 1
    result = overlay_mask(image, mask, (1.0, 0.0, 0.0), 0.5)
    assert result[0, 0, 0].tolist() == [0.5, 0, 0] and result[0, 1:].max() == 0 and image.max() == 0
    assert overlay_mask(image, torch.ones(1, 8, 8)).shape == image.shape


class TestPanel:
    def test_layout(self):
        panel = labelled_panel(
            [("a", torch.ones(1, 10, 20, 3)), ("b", torch.zeros(50, 50)), ("c", torch.ones(4, 4, 3))],
            height=64,
            columns=2,
        )
        assert panel.shape[0] == 1 and panel.shape[3] == 3
        assert panel.shape[2] == (128 + 4) + (64 + 4)
        assert 0 <= panel.min() and panel.max() <= 1

    def test_titles_are_drawn(self):
        picture = torch.zeros(32, 200, 3)
        assert not torch.equal(labelled_panel([("profile", picture)]), labelled_panel([("result", picture)]))

    def test_empty(self):
        with pytest.raises(ValueError, match="at least one picture"):
            labelled_panel([])

    def test_title_size_is_free_of_the_height(self):
        picture = torch.zeros(1, 64, 200, 3)
        small, large = (labelled_panel([("x", picture)], height=64, title_size=size) for size in (12, 30))
        assert large.shape[1] - small.shape[1] == 30 - 12
