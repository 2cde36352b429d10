"""One face onto one canvas, with painters that need no models."""

import pytest
import torch
from face_photos import astronaut, upright_face

from icportrait.models import painting
from icportrait.models.faces.alignment import AlignmentSettings, crop, placement_of
from icportrait.models.faces.stitching import StitchSettings, stitch
from icportrait.models.faces.types import Faces
from icportrait.models.painting import CropPair, CropResult, IdentityChange, identity_change, paint_face

SIZE = 64
FRAME = AlignmentSettings(crop_size=SIZE)


def noise(height: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(1, height, width, 3, generator=torch.Generator().manual_seed(seed))


def to_profile(pair: CropPair) -> CropResult:
    return CropResult(pair.profile)


class TestPaintFace:
    canvas, photo = noise(120, 160), noise(100, 90, 1)
    target, known = upright_face(80, 60, 20), upright_face(45, 50, 22)

    def painted(self, paint=to_profile, **options) -> painting.PaintedFace:
        return paint_face(self.canvas, self.target, self.photo, self.known, paint, FRAME, **options)

    def test_is_align_crop_paint_stitch(self):
        before = self.canvas.clone()
        result = self.painted(stitching=StitchSettings(color_match="mean_std"))
        placement = placement_of(self.target, 120, 160, FRAME)
        profile = crop(self.photo.movedim(-1, 1), placement_of(self.known, 100, 90, FRAME))
        style = crop(self.canvas.movedim(-1, 1), placement)
        canvas, mask = stitch(
            self.canvas[0].movedim(-1, 0), profile[0], placement, StitchSettings(color_match="mean_std")
        )
        assert torch.equal(result.canvas, canvas.movedim(0, -1)[None]) and torch.equal(result.mask, mask[None])
        assert torch.equal(result.pair.profile, profile.movedim(1, -1))
        assert torch.equal(result.pair.style, style.movedim(1, -1))
        assert torch.equal(result.crop.image, result.pair.profile)
        assert torch.equal(self.canvas, before)

    def test_outside_the_mask_no_bit_differs(self):
        result = self.painted()
        outside = result.mask == 0
        assert torch.equal(result.canvas[outside], self.canvas[outside]) and 0 < float(outside.float().mean()) < 1

    def test_a_painter_knows_the_landmarks_of_both_crops(self):
        pair = self.painted().pair
        for placement in (pair.profile_placement, pair.style_placement):
            marks = placement.landmarks
            assert len(marks) and marks.min() > 0 and marks.max() < SIZE

    def test_faces_of_few_pixels_come_with_a_warning(self):
        profile, style = self.painted().crop.notes
        assert profile.startswith("The face of the profile is only ") and "200 or more are better" in profile
        assert style.startswith("The face of the style reference is only ")
        canvas, photo = noise(600, 600), noise(600, 600, 1)
        large = upright_face(300, 300, 120)
        assert paint_face(canvas, large, photo, large, to_profile, FRAME).crop.notes == ()

    def test_half_precision_is_accepted(self):
        result = self.painted(lambda pair: CropResult(pair.profile.half()))
        assert result.crop.image.dtype == torch.float32 and result.canvas.dtype == torch.float32

    def test_an_occlusion_is_never_painted(self):
        hidden = torch.zeros(120, 160)
        hidden[:, :80] = 1
        result = self.painted(occlusion=hidden)
        assert torch.equal(result.canvas[:, :, :80], self.canvas[:, :, :80]) and result.mask.any()

    @pytest.mark.parametrize(
        ("paint", "sentence"),
        [
            (lambda pair: CropResult(pair.style * torch.nan), "the painted crop holds NaN pixels"),
            (lambda pair: CropResult(pair.style[:, ::2, ::2]), "crop"),
        ],
    )
    def test_bad_crops(self, paint, sentence):
        with pytest.raises(ValueError, match=sentence):
            self.painted(paint)

    def test_a_painters_error_comes_through(self):
        def fail(pair):
            raise InterruptedError

        with pytest.raises(InterruptedError):
            self.painted(fail)


class TestIdentityChange:
    def test_the_profile_itself_is_alike_and_nobody_is_nan(self):
        image, faces = astronaut()
        face = faces.frames[0][0]
        same = paint_face(image, face, image, face, lambda pair: CropResult(pair.style))
        change = identity_change(same, image, image)
        assert change.before == pytest.approx(1) and change.after > 0.8
        gone = paint_face(image, face, image, face, lambda pair: CropResult(torch.full_like(pair.style, 0.5)))
        # Deterministic, whatever a detector makes of a grey oval.
        nobody = Faces(*gone.stitched_crop.shape[1:3], ((),))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(painting.detection, "find_faces", lambda *_: nobody)
            lost = identity_change(gone, image, image)
        assert lost.before == pytest.approx(1) and lost.after != lost.after

    def test_in_words(self):
        assert IdentityChange(0.25, float("nan")).text() == (
            "Identity similarity to the profile: 0.250 in the style reference, unknown (no face could be read) in the result."
        )
