"""The face nodes: contracts, batches, bad input."""

import inspect
import math

import numpy as np
import pytest
import torch
from face_photos import astronaut, group

from icportrait.models.faces.types import Face, Faces, Placements
from icportrait.nodes.align import AlignFace
from icportrait.nodes.detect import DetectFaces
from icportrait.nodes.similarity import IdentitySimilarity
from icportrait.nodes.stitch import StitchFace

NODES = (DetectFaces, AlignFace, StitchFace, IdentitySimilarity)


def defaults(node, **given):
    """The node's widget defaults, with `given` on top."""
    inputs = node.define_schema().inputs
    return {i.id: i.default for i in inputs if getattr(i, "default", None) is not None} | given


def run(node, **given):
    with torch.inference_mode():
        return node.execute(**defaults(node, **given)).args


class TestContracts:
    ids = ("ICPortrait_DetectFaces", "ICPortrait_AlignFace", "ICPortrait_StitchFace", "ICPortrait_IdentitySimilarity")

    def test_ids(self):
        assert tuple(node.define_schema().node_id for node in NODES) == self.ids

    @pytest.mark.parametrize("node", NODES)
    def test_everything_is_explained_and_fits(self, node):
        schema = node.define_schema()
        assert len(schema.description) > 40 and schema.category.startswith("IC-Portrait/")
        assert all(i.tooltip for i in [*schema.inputs, *schema.outputs])
        parameters = list(inspect.signature(node.execute).parameters)
        assert [i.id for i in schema.inputs] == parameters
        optional = [i.optional for i in schema.inputs]
        assert optional == sorted(optional), "optional inputs come last"
        node.GET_SCHEMA()  # ComfyUI's own check, ids unique between inputs and outputs among them

    def test_widget_order_is_frozen(self):
        """Saved workflows store widgets by position: append, never insert."""
        order = {node.__name__: [i.id for i in node.define_schema().inputs] for node in NODES}
        assert order["DetectFaces"][:7] == [
            "image",
            "order",
            "effort",
            "min_confidence",
            "max_faces",
            "backend",
            "landmarks",
        ]
        assert order["AlignFace"][2:10] == [
            *("face_index", "crop_size", "template", "scale", "offset_x", "offset_y", "max_rotation", "on_no_face")
        ]
        assert order["StitchFace"][3:9] == [
            "feather",
            "color_match",
            "color_strength",
            "opacity",
            "keep_detail",
            "hair",
        ]


class TestDetect:
    def test_photograph(self):
        image, _ = astronaut()
        faces, count, preview, message = run(DetectFaces, image=image[:, 20:220, 120:320])
        assert (
            count == 1
            and isinstance(faces, Faces)
            and preview.shape == (1, 200, 200, 3)
            and "backend MediaPipe" in message
        )

    def test_mask_goes_without_search(self):
        mask = torch.zeros(1, 64, 64)
        mask[0, 10:40, 10:40] = 1
        faces, count, _, message = run(DetectFaces, image=torch.rand(2, 64, 64, 3), mask=mask)
        assert count == 2 and len(faces.frames) == 2 and "given by MASK" in message

    def test_errors_name_the_node(self):
        with pytest.raises(ValueError, match="^Detect Faces: image has 1 NaN"):
            run(DetectFaces, image=torch.full((1, 1, 1, 3), float("nan")))
        with pytest.raises(ValueError, match="^Detect Faces: order must be one of"):
            run(DetectFaces, image=torch.zeros(1, 4, 4, 3), order="zzz")

    def test_cancel_comes_through(self, monkeypatch):
        import comfy.model_management as management

        management.interrupt_current_processing(True)
        try:
            with pytest.raises(management.InterruptProcessingException):
                run(DetectFaces, image=torch.zeros(1, 64, 64, 3), bounding_boxes=[[]])
        finally:
            management.interrupt_current_processing(False)


class TestAlignAndStitch:
    def test_one_face_there_and_back(self):
        image, faces = group()
        before = image.clone()
        crop, stitch, mask, message = run(AlignFace, image=image, faces=faces, face_index=3)
        assert crop.shape == (1, 256, 256, 3) and mask.shape == (1, 256, 256) and message == ""
        assert isinstance(stitch, Placements) and mask.max() == 1
        result, pasted = run(StitchFace, canvas=image, crop=1 - crop, stitch=stitch)
        assert result.shape == image.shape and pasted.shape == (1, 886, 1280)
        outside = pasted[0] == 0
        assert torch.equal(result[0][outside], image[0][outside]) and not torch.equal(result, image)
        assert torch.equal(image, before)

    def test_every_face_of_one_picture_lands_on_one_canvas(self):
        image, faces = group()
        crops, stitch, *_ = run(AlignFace, image=image, faces=faces, face_index=-1)
        assert crops.shape[0] == 6
        result, pasted = run(StitchFace, canvas=image, crop=torch.zeros_like(crops), stitch=stitch)
        assert result.shape == image.shape
        for face in faces.frames[0]:
            x, y = np.array(face.landmarks).mean(axis=0).astype(int)
            assert pasted[0, y, x] > 0.99 and result[0, y, x].max() < 0.01

    def test_a_scaled_crop_is_accepted(self):
        image, faces = group()
        crop, stitch, mask, _ = run(AlignFace, image=image, faces=faces)
        double = torch.nn.functional.interpolate(crop.permute(0, 3, 1, 2), scale_factor=2, mode="bilinear").permute(
            0, 2, 3, 1
        )
        result, _ = run(StitchFace, canvas=image, crop=double, stitch=stitch, face_mask=mask)
        assert (result - image).abs().mean() < 1e-3

    def test_frames_without_the_face_pass_through(self):
        generator = torch.Generator().manual_seed(0)
        clip = torch.rand(3, 100, 140, 3, generator=generator)
        face = Face((40, 30, 90, 80))
        faces = Faces(100, 140, ((face,), (), (face,)))
        with pytest.raises(ValueError, match="^Align Face: no face was found in frame 1 .*pass through"):
            run(AlignFace, image=clip, faces=faces, crop_size=64)
        crop, stitch, mask, message = run(AlignFace, image=clip, faces=faces, crop_size=64, on_no_face="pass through")
        assert crop.shape == (3, 64, 64, 3) and mask[1].max() == 0 and message.startswith("frame 1: passed through")
        result, pasted = run(StitchFace, canvas=clip, crop=torch.zeros_like(crop), stitch=stitch)
        assert torch.equal(result[1], clip[1]) and pasted[1].max() == 0
        assert not torch.equal(result[0], clip[0]) and not torch.equal(result[2], clip[2])

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"face_index": 9}, "face 9 was asked for, but frame 0 .* has 6"),
            ({"image": torch.zeros(1, 10, 10, 3)}, "the image is 10x10, the faces were found on 1280x886"),
            ({"faces": "faces"}, "faces must come from Detect Faces"),
            ({"crop_size": 100}, "multiple of 64"),
            ({"template": "zzz"}, "template must be one of"),
            ({"on_no_face": "zzz"}, "on_no_face must be one of"),
        ],
    )
    def test_bad_align_input(self, change, sentence):
        image, faces = group()
        with pytest.raises(ValueError, match=f"^Align Face: .*{sentence}"):
            run(AlignFace, **({"image": image, "faces": faces} | change))

    def test_bad_stitch_input(self):
        image, faces = group()
        crop, stitch, *_ = run(AlignFace, image=image, faces=faces, crop_size=64)
        for change, sentence in (
            ({"crop": torch.zeros(2, 64, 64, 3)}, "2 crops came for 1 placements"),
            ({"crop": torch.zeros(1, 64, 32, 3)}, "must be square"),
            ({"canvas": torch.zeros(2, 886, 1280, 3)}, "2 canvases came for 1 crops"),
            ({"canvas": torch.zeros(1, 9, 9, 3)}, "the canvas is 9x9"),
            ({"stitch": None}, "stitch must come from Align Face"),
            ({"occlusion_mask": torch.ones(1, 9, 9)}, "occlusion_mask is 9x9"),
            ({"color_match": "zzz"}, "color_match must be one of"),
        ):
            with pytest.raises(ValueError, match=f"^Stitch Face: .*{sentence}"):
                run(StitchFace, **({"canvas": image, "crop": crop, "stitch": stitch} | change))


class TestMasks:
    """ComfyUI's Load Image gives 64 x 64 zeros for a picture without alpha."""

    EMPTY = torch.zeros(1, 64, 64)

    def test_an_empty_one_is_none(self):
        image, faces = group()
        _, count, _, message = run(DetectFaces, image=image, mask=self.EMPTY)
        assert count == 6 and "MediaPipe" in message
        crop, stitch, *_ = run(AlignFace, image=image, faces=faces, crop_size=64)
        inputs = {"canvas": image, "crop": 1 - crop, "stitch": stitch}
        plain = run(StitchFace, **inputs)
        for name in ("face_mask", "occlusion_mask", "hair_mask"):
            assert all(map(torch.equal, run(StitchFace, **inputs, **{name: self.EMPTY}), plain)), name
        bald = run(StitchFace, **inputs, hair_mask=self.EMPTY, hair="keep the picture's")
        assert all(map(torch.equal, bald, plain))

    def test_one_of_the_same_proportions_is_scaled(self):
        image, faces = group()
        small = torch.zeros(1, 443, 640)
        small[0, 100:200, 300:400] = 1
        found, *_ = run(DetectFaces, image=image, mask=small)
        ((face,),) = found.frames
        assert face.box == (600, 200, 800, 400)
        crop, stitch, *_ = run(AlignFace, image=image, faces=faces, crop_size=64)
        inputs = {"canvas": image, "crop": 1 - crop, "stitch": stitch}
        _, pasted = run(StitchFace, **inputs, occlusion_mask=torch.ones(1, 443, 640))
        assert not pasted.any()
        _, half = run(StitchFace, **inputs, face_mask=(torch.arange(16) < 8).float().expand(1, 16, 16))
        _, same = run(StitchFace, **inputs, face_mask=(torch.arange(64) < 32).float().expand(1, 64, 64))
        assert (half - same).abs().mean() < 1e-3 and same.any()

    @pytest.mark.parametrize("size", [(640, 443), (64, 64)])
    def test_one_of_other_proportions_is_refused_with_both_sizes(self, size):
        image, _ = group()
        sentence = f"^Detect Faces: mask is {size[1]}x{size[0]}, its picture 1280x886"
        with pytest.raises(ValueError, match=sentence):
            run(DetectFaces, image=image, mask=torch.ones(1, *size))


class TestSimilarity:
    def test_same_other_and_none(self):
        image, _ = astronaut()
        person = image[:, 20:220, 120:320]
        nobody = torch.zeros_like(person)
        similarity, text, annotated = run(
            IdentitySimilarity, image_a=person, image_b=torch.cat([person, nobody]), effort="fast"
        )
        assert similarity == pytest.approx(1, abs=1e-6) and "1 pairs without a face" in text
        assert annotated.shape[0] == 1 and annotated.shape[3] == 3

    def test_no_face_is_nan(self):
        nobody = torch.zeros(1, 96, 96, 3)
        similarity, text, _ = run(IdentitySimilarity, image_a=nobody, image_b=nobody, effort="fast")
        assert math.isnan(similarity) and "no face" in text
