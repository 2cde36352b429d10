"""The path without nets at the nodes: photographs, hard input, and what takes the flow."""

import numpy as np
import pytest
import torch
from tiny_models import portrait_setup

from icportrait.models.faces import detection, identity
from icportrait.models.faces.steadying import steadied
from icportrait.models.faces.types import Faces, Placements
from icportrait.models.methods import HEADS, choose_method
from icportrait.models.types import LoadedNet, PortraitNets
from icportrait.nodes import align, detail, detect, mesh, portrait, stitch

FIXED = {"seed": 3, "steps": 1, "cfg": 1.0, "noise_strength": 0.5, "strength": 1.0, "share": 0.2, "crop_size": 128}
MESH = {"skin_tone": 0.25, "light": 1.0, "shape": 1.0, "expression": "profile"}


def named(node, **inputs) -> dict:
    """The node's outputs by their names."""
    with torch.inference_mode():
        output = node.execute(**inputs)
    return dict(zip([entry.id for entry in node.define_schema().outputs], output.args, strict=True))


def aligned(picture: torch.Tensor, size: int = 256) -> dict:
    """The largest face, cut out."""
    with torch.inference_mode():
        faces = detect.DetectFaces.execute(picture, "large-small", "normal", 0.3, 0, "auto", "5 points").args[0]
        cut = align.AlignFace.execute(picture, faces, 0, size, "ffhq", 1.0, 0.0, 0.0, 180.0, "error")
    return dict(zip(["crop", "stitch", "face_mask", "message"], cut.args, strict=True))


@pytest.fixture
def man(group_photo):
    """The third face from the left, alone."""
    return group_photo[:, 180:480, 400:680]


def whole(profile, style, **changes) -> dict:
    return named(portrait.Portrait, profile_image=profile, style_image=style, **(FIXED | changes))


class TestPortrait:
    def test_without_any_model(self, man, astronaut):
        result = whole(man, astronaut)
        assert result["report"].startswith("Painted by mesh: model, vae, clip_vision, nets not connected.")
        assert result["portrait_crop"].shape == (1, 512, 512, 3)  # not crop_size: the picture's own
        outside = result["stitch_mask"] == 0
        assert torch.equal(result["image"][outside], astronaut[outside])
        assert result["similarity"] > result["style_similarity"] + 0.15
        for name in ("sampled_image", "flow_picture", "warped_profile"):
            assert result[name].shape == (1, 512, 512, 3)
        assert 0.1 < float((result["sampled_image"].sum(-1) > 0).float().mean()) < 0.25

    def test_the_largest_of_several_is_taken_and_said(self, group_photo, astronaut):
        assert "The profile shows 6 faces: the largest is taken." in whole(group_photo, astronaut)["report"]

    def test_a_face_too_small(self, man, astronaut):
        small = torch.nn.functional.interpolate(man.movedim(-1, 1), size=(42, 39), mode="area").movedim(1, -1)
        with pytest.raises(ValueError, match=r"Portrait: .*(no face was found|pixels wide; at least 24 are needed)"):
            whole(small, astronaut)

    @pytest.mark.parametrize("channels", [1, 2, 4])
    def test_grey_and_alpha(self, man, astronaut, channels):
        picture = torch.cat([man, torch.ones_like(man[..., :1])], dim=-1)
        picture = picture if channels == 4 else picture.mean(dim=-1, keepdim=True).expand(-1, -1, -1, channels)
        result = whole(picture, astronaut)
        assert result["image"].shape == astronaut.shape and "Painted by mesh" in result["report"]

    def test_a_batch_of_profiles(self, man, astronaut):
        with pytest.raises(ValueError, match="the profile must be one picture|The profile must be one picture"):
            whole(man.repeat(2, 1, 1, 1), astronaut)

    def test_a_back_of_a_head_or_a_landscape(self, man):
        with pytest.raises(ValueError, match="In the style reference, no face was found"):
            whole(man, torch.rand(1, 200, 300, 3, generator=torch.Generator().manual_seed(0)))

    def test_nets_asked_for_but_not_connected(self, man, astronaut):
        with pytest.raises(ValueError, match="method nets needs model, vae, clip_vision, nets connected"):
            whole(man, astronaut, method="nets")


class TestRule:
    def nets(self, data):
        net = LoadedNet(None, {}, torch.float32, data)
        return PortraitNets(net, net)

    @pytest.mark.parametrize(
        ("wanted", "data", "model", "name"),
        [
            ("auto", "photographs", 1, "nets"),
            ("auto", "", 1, "nets"),
            ("auto", HEADS, 1, "mesh"),
            ("auto", "photographs", None, "mesh"),
            ("nets", HEADS, 1, "nets"),
            ("mesh", "photographs", 1, "mesh"),
        ],
    )
    def test_what_paints(self, wanted, data, model, name):
        assert choose_method(wanted, self.nets(data), model=model).name == name

    def test_an_unknown_one(self):
        with pytest.raises(ValueError, match="method must be one of"):
            choose_method("x", None)


class TestWarpRelight:
    def test_stitched_it_is_what_portrait_gives(self, man, astronaut):
        person, place = aligned(man, 512), aligned(astronaut, 512)
        painted = named(
            mesh.WarpRelight,
            profile_crop=person["crop"],
            style_crop=place["crop"],
            profile_stitch=person["stitch"],
            style_stitch=place["stitch"],
            **MESH,
        )
        with torch.inference_mode():
            image, _ = stitch.StitchFace.execute(
                astronaut, painted["image"], place["stitch"], 0.0, "off", 1.0, 1.0, True, "as masked", painted["mask"]
            ).args
        assert torch.equal(image, whole(man, astronaut)["image"])

    def test_crops_alone_of_two_sizes_and_a_batch(self, man, astronaut):
        person, place = aligned(man, 512)["crop"], aligned(astronaut, 256)["crop"]
        one = named(mesh.WarpRelight, profile_crop=person, style_crop=place, **MESH)
        assert one["image"].shape == place.shape and one["mask"].shape == (1, 256, 256)
        two = named(mesh.WarpRelight, profile_crop=person, style_crop=torch.cat([place, place.flip(2)]), **MESH)
        assert two["image"].shape == (2, 256, 256, 3)
        assert torch.equal(two["image"][:1], one["image"])

    def test_frames_without_a_face_go_through(self, man, astronaut):
        person, place = aligned(man), aligned(astronaut)
        crops = torch.cat([place["crop"], torch.zeros_like(place["crop"])])
        places = Placements((*place["stitch"].items, None))
        painted = named(mesh.WarpRelight, profile_crop=person["crop"], style_crop=crops, style_stitch=places, **MESH)
        assert torch.equal(painted["image"][1], crops[1]) and not painted["mask"][1].any()
        assert "crop 1: passed through" in painted["message"]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            (lambda a, b: (a.repeat(2, 1, 1, 1), b), "the profile must be one crop; a batch of 2 came"),
            (lambda a, b: (a, b[:, :200]), "must be square"),
            (lambda a, b: (torch.full_like(a, 0.5), b), "in the profile crop, no face was found"),
        ],
    )
    def test_bad_input(self, man, astronaut, change, words):
        person, place = change(aligned(man)["crop"], aligned(astronaut)["crop"])
        with pytest.raises(ValueError, match=f"^Warp and Relight: .*{words}"):
            named(mesh.WarpRelight, profile_crop=person, style_crop=place, **MESH)


class TestMeshFlow:
    @pytest.fixture
    def crops(self, man, astronaut):
        return aligned(man, 128), aligned(astronaut, 128)

    def flow(self, crops, **changes) -> dict:
        inputs = {"expression": "profile", "shape": 1.0} | changes
        return named(mesh.MeshFlow, profile_crop=crops[0]["crop"], style_crop=crops[1]["crop"], **inputs)

    def test_leads_landmarks_to_landmarks(self, crops):
        result = self.flow(crops, profile_stitch=crops[0]["stitch"], style_stitch=crops[1]["stitch"])
        assert result["flow"].offsets.shape == (1, 2, 128, 128) and "degrees apart" in result["message"]
        person, place = (one["stitch"].items[0].landmarks for one in crops)
        errors = []
        for point in (1, 133, 362, 61, 291):  # nose, inner corners of the eyes, corners of the mouth
            x, y = place[point].astype(int)
            errors.append(np.hypot(*(place[point] + result["flow"].offsets[0, :, y, x].numpy() - person[point])))
        assert np.mean(errors) < 0.15 * np.hypot(*(place[33] - place[263]))

    def test_transfer_detail_takes_it_with_a_plain_picture(self, crops):
        flow = self.flow(crops)["flow"]
        result = named(
            detail.TransferDetail,
            crop=crops[1]["crop"],
            flow=flow,
            detail=1.0,
            radius=0.01,
            profile_image=crops[0]["crop"],
        )
        assert not torch.equal(result["image"], crops[1]["crop"]) and float(result["mask"].mean()) > 0.01
        with pytest.raises(ValueError, match="connect profile or profile_image"):
            named(detail.TransferDetail, crop=crops[1]["crop"], flow=flow, detail=1.0, radius=0.01)

    def test_apply_takes_it(self, crops):
        from icportrait.models.method import encoding
        from icportrait.models.method.injection import Settings, apply_portrait

        setup = portrait_setup()
        with torch.inference_mode():
            profile = encoding.encode_profile(crops[0]["crop"], setup.vae, setup.clip_vision)
            flow = self.flow(crops)["flow"]
            patched = apply_portrait(
                setup.model, setup.nets, profile, crops[1]["crop"], Settings(strength=1.0, seed=1), flow
            )
        assert patched is not setup.model

    def test_a_batch_of_styles(self, crops):
        twice = {"crop": crops[1]["crop"].repeat(2, 1, 1, 1)}
        with pytest.raises(ValueError, match="Mesh Flow: a flow is of one style crop; a batch of 2 came"):
            self.flow((crops[0], twice))


def test_a_group_with_its_people_changed_round(comfy, group_photo):
    """Six faces, each painted by its right neighbour's: every one is most like whom it got."""
    from icportrait.nodes import assign, group_portrait, profiles

    faces = detection.find_faces(group_photo)
    assert faces.count == 6
    people = None
    with torch.inference_mode():
        for number in range(6):
            x0, _, x1, _ = box = faces.frames[0][(number + 1) % 6].box
            middle, reach = ((x0 + x1) / 2, (box[1] + box[3]) / 2), int(0.9 * (x1 - x0))
            left, top = (max(0, int(value) - reach) for value in middle)
            photo = group_photo[:, top : int(middle[1]) + reach, left : int(middle[0]) + reach]
            people = profiles.AddProfile.execute(photo, f"P{number}", "fast", people).args[0]
        assignment = assign.AssignProfiles.execute(group_photo, faces, people, "order", "", 0.3, "first").args[0]
        fixed = FIXED | {"on_error": "error"}
        result = group_portrait.GroupPortrait.execute(image=group_photo, assignment=assignment, **fixed).args
        assert "6 painted" in result[4] and "Painted by mesh" in result[4]
        own = [identity.embedding(group_photo[0], face) for face in faces.frames[0]]
        painted = [identity.embedding(result[0][0], face) for face in detection.find_faces(result[0]).frames[0]]
    alike = np.array([[identity.similarity(one, other) for other in own] for one in painted])
    assert alike.argmax(axis=1).tolist() == [1, 2, 3, 4, 5, 0]


class TestSteady:
    def clip(self, noise: float, frames: int = 24) -> tuple[Faces, np.ndarray]:
        """A face that wanders, its points read with noise; and its true points `[frames, N, 2]`."""
        rng = np.random.default_rng(0)
        from face_photos import upright_face

        truth, found = [], []
        for number in range(frames):
            face = upright_face(60 + 3 * number, 80 + 10 * np.sin(number / 6), 30)
            truth.append(face.points)
            points = face.points + rng.normal(0, noise, face.points.shape)
            found.append((type(face)(face.box, tuple(map(tuple, points.tolist())), face.layout),))
        return Faces(200, 300, tuple(found)), np.stack(truth)

    def test_noise_goes_and_motion_stays(self):
        faces, truth = self.clip(1.0)
        smooth = np.stack([frame[0].points for frame in steadied(faces, 2.0).frames])
        raw = np.stack([frame[0].points for frame in faces.frames])
        assert abs(smooth - truth).mean() < 0.6 * abs(raw - truth).mean()
        assert abs(np.diff(smooth, 2, axis=0)).mean() < 0.2 * abs(np.diff(raw, 2, axis=0)).mean()

    def test_without_noise_an_even_motion_is_kept_to_the_ends(self):
        faces, truth = self.clip(0.0)
        smooth = np.stack([frame[0].points for frame in steadied(faces, 2.0).frames])
        assert abs(smooth - truth)[..., 0].max() < 1e-6 and abs(smooth - truth).max() < 1.5

    def test_a_cut_is_no_motion(self):
        faces, _ = self.clip(0.0)
        cut = Faces(200, 300, (faces.frames[0], faces.frames[0], faces.frames[20], faces.frames[20]))
        for before, after in zip(cut.frames, steadied(cut, 2.0).frames, strict=True):
            assert np.allclose(before[0].points, after[0].points)

    def test_off_is_off(self):
        faces, _ = self.clip(1.0)
        assert steadied(faces, 0.0) is faces
