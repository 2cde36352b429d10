"""Pasting back onto the running canvas."""

import numpy as np
import pytest
import torch
from face_photos import group, upright_face

from icportrait.models.faces.alignment import AlignmentSettings, crop, placement_of
from icportrait.models.faces.resampling import transform
from icportrait.models.faces.stitching import (
    StitchSettings,
    crop_mask,
    face_mask,
    face_outline,
    feathered,
    match_colors,
    stitch,
)
from icportrait.models.faces.types import Face


def photograph(face: int = 0, size: int = 512):
    """Canvas [3, H, W], crop [3, S, S] and placement of one face of the group photograph."""
    image, faces = group()
    canvas = image[0].permute(2, 0, 1).contiguous()
    placement = placement_of(faces.frames[0][face], *canvas.shape[1:], AlignmentSettings(crop_size=size))
    return canvas, crop(canvas[None], placement)[0], placement


def made_up(seed: int = 0, size: int = 128, canvas: int = 200):
    generator = torch.Generator().manual_seed(seed)
    placement = placement_of(upright_face(100, 80, 25), canvas, canvas, AlignmentSettings(crop_size=size))
    return torch.rand(3, canvas, canvas, generator=generator), torch.rand(3, size, size, generator=generator), placement


def psnr(a, b, mask):
    return float(-10 * torch.log10(((a - b) ** 2).mean(0)[mask > 0.5].mean() + 1e-12))


class TestRoundTrip:
    @pytest.mark.parametrize("face", range(6))
    def test_nothing_generated(self, face):
        """Issue 3: at least 45 dB inside at 512-px crops. The plain paste reaches it; with keep_detail it is (almost) exact."""
        canvas, cut, placement = photograph(face)
        plain, mask = stitch(canvas, cut, placement, StitchSettings(keep_detail=False))
        kept, _ = stitch(canvas, cut, placement)
        assert psnr(plain, canvas, mask) >= 45
        assert psnr(kept, canvas, mask) >= 100
        assert mask.max() > 0.99

    def test_a_new_face_does_not_get_the_old_detail(self):
        """keep_detail must not draw the old face's edges over a changed crop."""
        canvas, cut, placement = photograph(
            size=64
        )  # a small crop carries little: the canvas has much detail of its own
        other = (1 - cut).clamp(0, 1)
        with_detail, mask = stitch(canvas, other, placement)
        without, _ = stitch(canvas, other, placement, StitchSettings(keep_detail=False))
        assert psnr(with_detail, without, mask) > 45


class TestOutside:
    @pytest.mark.parametrize("method", ["off", "mean_std", "reinhard"])
    def test_bit_identical_where_the_mask_is_zero(self, method):
        canvas, generated, placement = made_up()
        before = canvas.clone()
        result, mask = stitch(canvas, generated, placement, StitchSettings(color_match=method))
        outside = mask == 0
        assert 0.2 < outside.float().mean() < 0.98
        assert torch.equal(result[:, outside], before[:, outside])
        assert not torch.equal(result[:, ~outside], before[:, ~outside])
        assert torch.equal(canvas, before), "the input was changed"

    def test_values_outside_0_to_1_stay_outside_the_mask(self):
        canvas, generated, placement = made_up()
        canvas[:, :5] = 1.5
        result, mask = stitch(canvas, generated, placement)
        assert mask[:5].max() == 0 and torch.equal(result[:, :5], canvas[:, :5])

    def test_opacity_zero_and_full_occlusion_do_nothing(self):
        canvas, generated, placement = made_up()
        result, mask = stitch(canvas, generated, placement, StitchSettings(opacity=0.0))
        assert torch.equal(result, canvas) and mask.max() == 0
        result, mask = stitch(canvas, generated, placement, occlusion=torch.ones(200, 200))
        assert torch.equal(result, canvas) and mask.max() == 0

    def test_empty_mask_does_nothing(self):
        canvas, generated, placement = made_up()
        result, _ = stitch(canvas, generated, placement, mask=torch.zeros(128, 128))
        assert torch.equal(result, canvas)

    def test_crop_wholly_outside_the_canvas(self):
        canvas = torch.rand(3, 200, 200)
        placement = placement_of(upright_face(900, 900, 25), 200, 200, AlignmentSettings(crop_size=64))
        result, mask = stitch(canvas, torch.rand(3, 64, 64), placement)
        assert torch.equal(result, canvas) and mask.max() == 0

    def test_face_at_the_edge(self):
        canvas = torch.rand(3, 200, 200, generator=torch.Generator().manual_seed(0))
        placement = placement_of(upright_face(5, 100, 30), 200, 200, AlignmentSettings(crop_size=128))
        result, mask = stitch(canvas, torch.zeros(3, 128, 128), placement)
        assert mask[:, :20].max() > 0.9 and torch.equal(result[:, mask == 0], canvas[:, mask == 0])


class TestMask:
    def test_it_is_the_face_and_not_the_box(self):
        for index in range(6):
            _, _, placement = photograph(index, 256)
            mask = face_mask(placement)
            assert 0.1 < float(mask.mean()) < 0.5
            eyes = placement.landmarks[:4].mean(axis=0).round().astype(int)
            assert mask[eyes[1], eyes[0]] == 1
            assert mask[0].max() == 0
            pasted = crop_mask(placement, StitchSettings())
            assert max(float(e.max()) for e in (pasted[0], pasted[-1], pasted[:, 0], pasted[:, -1])) == 0

    def test_forehead_and_chin_are_inside(self):
        placement = placement_of(upright_face(100, 100, 40), 300, 300)
        outline = transform(face_outline(placement.face), placement.matrix)
        eyes = placement.landmarks[:4, 1].mean()
        eye_distance = 40 * placement.scale
        assert eyes - outline[:, 1].min() > 0.7 * eye_distance
        assert outline[:, 1].max() - eyes > 1.5 * eye_distance

    def test_known_68_points_decide_the_jaw(self):
        """A wide jaw must be inside though the average head's is narrower."""
        points = np.tile((100.0, 110.0), (68, 1))
        points[36:42], points[42:48], points[48], points[54] = (80, 100), (120, 100), (85, 140), (115, 140)
        points[30], points[33], points[8], points[4], points[12] = (
            (100, 120),
            (100, 128),
            (100, 175),
            (20, 150),
            (180, 150),
        )
        face = Face((20, 50, 180, 180), tuple(map(tuple, points)), "ibug_68")
        assert (face_outline(face) == (20, 150)).all(axis=1).any()

    def test_box_only_gives_an_oval(self):
        mask = face_mask(placement_of(Face((60, 60, 140, 140)), 200, 200, AlignmentSettings(crop_size=128)))
        assert mask[64, 64] == 1 and mask[2, 2] == 0

    def test_feather_is_monotone_and_centred_on_the_edge(self):
        mask = torch.zeros(64, 64)
        mask[:, 32:] = 1
        soft = feathered(mask, 16)
        row = soft[32, 8:46]
        assert (row.diff() >= 0).all() and abs(float(soft[32, 31:33].mean()) - 0.5) < 0.02
        assert soft[32, 22] == 0 and soft[32, 42] == 1

    def test_a_mask_that_touches_the_border_fades_there(self):
        soft = feathered(torch.ones(64, 64), 8)
        assert soft[0].max() == 0 and soft[:, -1].max() == 0 and soft[32, 32] == 1

    def test_hair_switch(self):
        _, _, placement = made_up()
        hair = torch.zeros(128, 128)
        hair[:60] = 1
        area = {
            choice: float(crop_mask(placement, StitchSettings(hair=choice), hair_mask=hair).sum())
            for choice in ("as masked", "keep the picture's", "bring the crop's")
        }
        assert area["keep the picture's"] < area["as masked"] < area["bring the crop's"]
        with pytest.raises(ValueError, match="needs a hair mask"):
            crop_mask(placement, StitchSettings(hair="bring the crop's"))

    def test_occlusion_is_taken_out(self):
        canvas, generated, placement = made_up()
        hand = torch.zeros(200, 200)
        hand[:, :100] = 1
        result, mask = stitch(canvas, generated, placement, occlusion=hand)
        assert mask[:, :100].max() == 0 and mask[:, 100:].max() > 0.9
        assert torch.equal(result[:, :, :100], canvas[:, :, :100])


class TestRunningCanvas:
    def test_three_overlapping_faces_all_stay(self):
        """Pain point of other packs: each paste started from the original picture, so only the last face survived."""
        canvas = torch.full((3, 300, 400), 0.5)
        masks, running = [], canvas
        for index, x in enumerate((120, 180, 240)):
            placement = placement_of(upright_face(x, 120, 30), 300, 400, AlignmentSettings(crop_size=128))
            color = torch.zeros(3, 128, 128)
            color[index] = 1
            running, mask = stitch(running, color, placement)
            masks.append(mask)
        assert (masks[0] * masks[1]).max() > 0, "the test needs overlapping faces"
        for index in range(3):
            mine = (masks[index] == 1) & (torch.stack(masks[index + 1 :]).amax(0) == 0 if index < 2 else True)
            assert mine.any() and torch.allclose(running[index, mine], torch.ones(()), atol=1e-4)
        nobody = torch.stack(masks).amax(0) == 0
        assert torch.equal(running[:, nobody], canvas[:, nobody])


class TestColors:
    @pytest.mark.parametrize("method", ["mean_std", "reinhard"])
    def test_a_colour_drift_is_undone(self, method):
        """A VAE-like drift (gain, shift, cast) on a photographed face: nearly all of it goes."""
        _, cut, placement = photograph(5, 256)
        weight = crop_mask(placement, StitchSettings())
        drifted = (cut * 0.9 + torch.tensor([0.06, 0.0, -0.03])[:, None, None]).clamp(0, 1)
        mended = match_colors(drifted, cut, weight, method).clamp(0, 1)
        error = lambda picture: float(((picture - cut).abs().mean(0) * weight).sum() / weight.sum())  # noqa: E731
        assert error(mended) < 0.35 * error(drifted)

    @pytest.mark.parametrize("method", ["mean_std", "reinhard"])
    def test_what_lies_outside_the_mask_has_no_say(self, method):
        _, cut, placement = photograph(5, 128)
        weight = crop_mask(placement, StitchSettings())
        reference = torch.where(weight > 0, cut, torch.zeros_like(cut))
        a, b = (match_colors(cut * 0.8, r, weight, method) for r in (cut, reference))
        assert torch.allclose(a, b, atol=1e-5)

    @pytest.mark.parametrize("method", ["mean_std", "reinhard"])
    def test_equal_colours_stay(self, method):
        _, cut, placement = photograph(2, 128)
        weight = crop_mask(placement, StitchSettings())
        assert (match_colors(cut, cut, weight, method) - cut).abs().max() < 0.01

    def test_neutral_settings_return_the_crop_itself(self):
        picture, weight = torch.rand(3, 8, 8), torch.ones(8, 8)
        assert match_colors(picture, picture.flip(1), weight, "off") is picture
        assert match_colors(picture, picture.flip(1), weight, "reinhard", 0.0) is picture
        assert match_colors(picture, picture.flip(1), weight * 0, "reinhard") is picture

    @pytest.mark.parametrize("method", ["mean_std", "reinhard"])
    def test_flat_crop_stays_finite(self, method):
        flat, weight = torch.zeros(3, 8, 8), torch.ones(8, 8)
        assert torch.isfinite(match_colors(flat, torch.rand(3, 8, 8), weight, method)).all()


class TestBadInput:
    def test_sizes_are_named(self):
        canvas, generated, placement = made_up()
        with pytest.raises(ValueError, match="the crop is 64x64, the placement says 128x128"):
            stitch(canvas, torch.zeros(3, 64, 64), placement)
        with pytest.raises(ValueError, match="the canvas is 100x200, the face was found on 200x200"):
            stitch(canvas[:, :, :100], generated, placement)
        with pytest.raises(ValueError, match="occlusion mask is 5x5"):
            stitch(canvas, generated, placement, occlusion=torch.zeros(5, 5))
        with pytest.raises(ValueError, match="face mask is 5x5"):
            stitch(canvas, generated, placement, mask=torch.zeros(5, 5))

    @pytest.mark.parametrize("bad", [{"feather": -0.1}, {"opacity": 2.0}, {"color_match": "zzz"}, {"hair": "zzz"}])
    def test_settings(self, bad):
        with pytest.raises(ValueError, match="must"):
            StitchSettings(**bad)
