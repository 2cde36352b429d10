"""A custom node for the server of `chaining.py`: the face detector of Impact-Pack's FaceDetailer, finding one given box. No detector's
weights are needed then. ComfyUI loads this file by itself, so it imports nothing of the pack."""

import numpy as np


class _FixedBox:
    def __init__(self, box: tuple[int, int, int, int]):
        self.box = np.array(box)

    def setAux(self, text):
        pass

    def detect(self, image, threshold, dilation, crop_factor, drop_size=1, detailer_hook=None):
        from impact.core import SEG
        from impact.utils import dilate_mask, make_crop_region

        height, width = image.shape[1:3]
        left, top, right, bottom = self.box
        x1, y1, x2, y2 = region = make_crop_region(width, height, self.box, crop_factor)
        mask = np.zeros((height, width), np.float32)
        mask[top:bottom, left:right] = 1
        mask = dilate_mask(mask, dilation)[y1:y2, x1:x2]
        return (height, width), [SEG(None, mask, 1.0, region, self.box, "face", None)]


class FixedBox:
    """Gives the detector, and a CLIP that is none: FaceDetailer asks for one, and uses it for wildcards only."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {side: ("INT", {"default": 0}) for side in ("left", "top", "right", "bottom")}}

    RETURN_TYPES = ("BBOX_DETECTOR", "CLIP")
    FUNCTION = "make"
    CATEGORY = "test"

    def make(self, left, top, right, bottom):
        return _FixedBox((left, top, right, bottom)), None


NODE_CLASS_MAPPINGS = {"ChainingFixedBox": FixedBox}
