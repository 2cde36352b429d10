"""The group nodes, with faces made up by hand and tiny random models: the plumbing, not the likeness."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from face_photos import upright_face
from tiny_models import portrait_setup, text_encoder

from icportrait.models import portrait
from icportrait.models.faces.types import Face, Faces
from icportrait.models.groups.assignment import assign
from icportrait.models.groups.types import Person, Photograph, Profiles
from icportrait.models.painting import CropResult
from icportrait.nodes import assign as assign_node
from icportrait.nodes import common, group_portrait, profiles, select

HEIGHT, WIDTH = 200, 320


def noise(seed: int, frames: int = 1) -> torch.Tensor:
    return torch.rand(frames, HEIGHT, WIDTH, 3, generator=torch.Generator().manual_seed(seed))


def faces_at(*xs: float, **changes) -> tuple[Face, ...]:
    """Upright faces, the k-th with the k-th unit embedding."""
    made = (upright_face(x, 90, 24) for x in xs)
    return tuple(
        Face(f.box, f.landmarks, f.layout, 1.0, embedding=tuple(np.eye(128)[k].tolist())) for k, f in enumerate(made)
    )


def people(count: int) -> Profiles:
    face = upright_face(60, 50, 30)
    return Profiles(
        tuple(
            Person(
                f"P{k}",
                (
                    Photograph(
                        torch.rand(1, 120, 120, 3, generator=torch.Generator().manual_seed(k)),
                        Face(face.box, face.landmarks, face.layout, embedding=tuple(np.eye(128)[k].tolist())),
                    ),
                ),
            )
            for k in range(count)
        )
    )


def named(node, *arguments, **changes) -> dict:
    """The node's outputs by their names."""
    with torch.inference_mode():
        output = node.execute(*arguments, **changes)
    return dict(zip([entry.id for entry in node.define_schema().outputs], output.args, strict=True))


class TestSelectFaces:
    def run(self, faces, **changes):
        arguments = {"numbers": "all", "min_size": 0, "max_size": 0, "min_confidence": 0.0, "min_similarity": 0.4}
        return named(select.SelectFaces, noise(0, len(faces.frames)), faces, **arguments | changes)

    def test_numbers_in_the_order_typed_and_the_rest(self):
        faces = Faces(HEIGHT, WIDTH, (faces_at(50, 120, 190, 260),))
        result = self.run(faces, numbers="3, 0-1")
        assert [f.centre[0] for f in result["chosen"].frames[0]] == [260, 50, 120]
        assert [f.centre[0] for f in result["rest"].frames[0]] == [190]
        assert result["count"] == 3 and result["message"].startswith("3 of 4 faces chosen\n3, 0, 1")
        assert result["preview"].shape == (1, HEIGHT, WIDTH, 3)

    def test_size_and_confidence(self):
        small, large = upright_face(60, 90, 12), upright_face(200, 90, 40)
        unsure = Face((100, 100, 130, 130), score=0.2)
        faces = Faces(HEIGHT, WIDTH, ((small, large, unsure),))
        assert self.run(faces, min_size=60)["chosen"].frames == ((large,),)
        assert self.run(faces, max_size=60)["rest"].frames == ((large,),)
        assert self.run(faces, min_confidence=0.5)["rest"].frames == ((unsure,),)

    def test_likeness_to_a_photo(self, monkeypatch):
        found = people(2).people[1].photographs
        monkeypatch.setattr(select, "photographs_of", lambda *_, **__: found)
        faces = Faces(HEIGHT, WIDTH, (faces_at(50, 120, 190), faces_at(50)))
        result = self.run(faces, photo=noise(1))
        assert result["chosen"].frames == ((faces.frames[0][1],), ()) and result["rest"].count == 3
        assert "frame 0: 1 (similarity 1.00)" in result["message"] and "frame 1: none" in result["message"]

    def test_bad_numbers_are_one_sentence(self):
        with pytest.raises(ValueError, match=r"^Select Faces: face 9 was asked for, there are 1"):
            self.run(Faces(HEIGHT, WIDTH, (faces_at(50),)), numbers="9")

    def test_no_faces(self):
        assert self.run(Faces(HEIGHT, WIDTH, ((),)))["count"] == 0


class TestAddProfile:
    def test_no_face_is_one_sentence(self):
        with pytest.raises(ValueError, match=r"^Add Profile: no face was found"):
            named(profiles.AddProfile, torch.full((1, 64, 64, 3), 0.5), "Anna", "fast")

    def test_chains(self, monkeypatch):
        made = iter(people(3).people)
        monkeypatch.setattr(profiles, "photographs_of", lambda *_: next(made).photographs)
        first = named(profiles.AddProfile, noise(0), "Anna", "fast")
        second = named(profiles.AddProfile, noise(1), "", "fast", first["people"])
        third = named(profiles.AddProfile, noise(2), "ANNA", "fast", second["people"])
        assert third["people"].names == ("Anna", "person 1")
        assert "person 0 of 2: Anna, 2 photographs" in third["message"]
        assert "photographs 0 and 1 of Anna look like different people" in third["message"]


class TestAssignProfiles:
    def run(self, faces, profiles, **changes):
        arguments = {"method": "order", "pairs": "", "threshold": 0.4, "photograph": "nearest pose"}
        return named(assign_node.AssignProfiles, noise(0, len(faces.frames)), faces, profiles, **arguments | changes)

    @pytest.mark.parametrize(
        ("changes", "wanted"),
        [
            ({}, [0, 1, None]),
            ({"method": "pairs", "pairs": "2:P0, 0:1"}, [1, None, 0]),
            ({"method": "similarity"}, [0, 1, None]),
        ],
    )
    def test_methods(self, changes, wanted):
        result = self.run(Faces(HEIGHT, WIDTH, (faces_at(60, 150, 240),)), people(2), **changes)
        assert [entry.person for entry in result["assignment"].frames[0]] == wanted
        assert result["count"] == 2 and "2 of 3 faces get a person" in result["report"]
        assert result["preview"].shape == (1, HEIGHT, WIDTH, 3)

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [({"method": "x"}, "method must be one of"), ({"method": "pairs"}, "Assign Profiles: pairs is empty")],
    )
    def test_bad(self, changes, sentence):
        with pytest.raises(ValueError, match=sentence):
            self.run(Faces(HEIGHT, WIDTH, (faces_at(60),)), people(1), **changes)


class TestGroupPortrait:
    def run(self, canvas, assignment, **changes):
        setup = portrait_setup()
        arguments = {
            "seed": [3],
            "steps": [1],
            "cfg": [1.0],
            "noise_strength": [0.5],
            "strength": [1.0],
            "share": [0.2],
            "crop_size": [128],
            "on_error": ["error"],
        } | changes
        return named(
            group_portrait.GroupPortrait,
            [setup.model],
            [setup.vae],
            [setup.clip_vision],
            [setup.nets],
            image=[canvas],
            assignment=[assignment],
            **arguments,
        )

    def assignment(self, canvas, frames, count, **options):
        return assign(canvas, Faces(HEIGHT, WIDTH, tuple(frames)), people(count), "order", **options)[0]

    def test_two_faces_on_the_running_canvas(self):
        canvas = noise(1)
        copy, state = canvas.clone(), torch.get_rng_state()
        group = self.assignment(canvas, [faces_at(80, 150, 250)], 2)
        result = self.run(canvas, group)
        assert torch.equal(canvas, copy) and torch.equal(torch.get_rng_state(), state)
        assert result["result"].shape == canvas.shape and result["crops"].shape == (2, 128, 128, 3)
        outside = result["mask"] == 0
        assert torch.equal(result["result"][outside], canvas[outside]) and 0.02 < float((~outside).float().mean()) < 0.6
        assert "2 painted (0 P0, 1 P1), 1 left alone" in result["status"]
        again = self.run(canvas, group)
        assert torch.equal(again["result"], result["result"])

    def test_each_face_has_its_own_numbers(self, monkeypatch):
        seen = []

        def paint(model, vae, clip_vision, nets, profile_crop, style_crop, settings, callback, prompt):
            seen.append((settings.seed, settings.strength, settings.noise_strength))
            assert prompt is None
            callback(0, None, None, 1)
            return CropResult(style_crop)

        monkeypatch.setattr(group_portrait, "paint_crop", paint)
        monkeypatch.setattr(common.latent_preview, "get_previewer", lambda *_: None)
        canvas = noise(2)
        group = self.assignment(canvas, [faces_at(60, 150, 240)], 3)
        self.run(canvas, group)
        assert seen == [(3, 1.0, 0.5), (4, 1.0, 0.5), (5, 1.0, 0.5)]
        seen.clear()
        self.run(canvas, group, seed=[9, 8], strength=[1.0, 0.5, 0.2], noise_strengths=[", 0.9"], seeds=["", "", "77"])
        assert seen == [(9, 1.0, 0.5), (8, 0.5, 0.9), (77, 0.2, 0.5)]

    def test_skip_and_pass_through(self, monkeypatch):
        def fail(*_):
            raise ValueError("no luck")

        monkeypatch.setattr(group_portrait, "paint_crop", fail)
        canvas = noise(3, 2)
        group = self.assignment(canvas, [faces_at(60), ()], 1)
        result = self.run(canvas, group, on_error=["skip"])
        assert torch.equal(result["result"], canvas)
        assert result["status"].splitlines() == [
            "frame 0: 0 painted, 1 skipped",
            "face 0 (P0) of frame 0 was skipped: no luck",
            "frame 1: no face, passed through unchanged",
            "Painted by nets.",
        ]
        with pytest.raises(ValueError, match=r"^Group Portrait: face 0 \(P0\) of frame 0: no luck"):
            self.run(canvas, group)

    @pytest.mark.parametrize("when", ["within", "between"])
    def test_cancel(self, monkeypatch, when):
        import comfy.model_management

        painted = []

        def paint(model, vae, clip_vision, nets, profile_crop, style_crop, settings, callback, prompt):
            painted.append(settings.seed)
            comfy.model_management.interrupt_current_processing(True)
            if when == "within":
                callback(0, None, None, 1)
            return CropResult(style_crop)

        monkeypatch.setattr(group_portrait, "paint_crop", paint)
        monkeypatch.setattr(common.latent_preview, "get_previewer", lambda *_: None)
        canvas = noise(4)
        group = self.assignment(canvas, [faces_at(60, 150)], 2)
        try:
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                self.run(canvas, group, on_error=["skip"])
        finally:
            comfy.model_management.interrupt_current_processing(False)
        assert painted == [3]

    @pytest.mark.parametrize(
        ("changes", "sentence"),
        [
            ({"on_error": ["x"]}, "on_error must be one of"),
            ({"color_match": ["x"]}, "color_match must be one of"),
            ({"strengths": ["a"]}, '"a" is not a number'),
            ({"strength": [1, 99]}, "strength must be a number between 0 and 10; 99 came"),
            ({"crop_size": [200]}, "multiple of 64"),
            ({"steps": [1, 2]}, "steps came as a list of 2"),
        ],
    )
    def test_bad_values(self, changes, sentence):
        canvas = noise(5)
        with pytest.raises(ValueError, match=sentence):
            self.run(canvas, self.assignment(canvas, [faces_at(60, 150)], 2), **changes)

    def test_another_picture(self):
        group = self.assignment(noise(5), [faces_at(60)], 1)
        with pytest.raises(ValueError, match="Group Portrait: the image is 40x30, the assignment is for 320x200"):
            self.run(torch.zeros(1, 30, 40, 3), group)


class TestPrompts:
    run, assignment = TestGroupPortrait.run, TestGroupPortrait.assignment

    def test_words_change_their_own_face_only(self):
        canvas = noise(7)
        group = self.assignment(canvas, [faces_at(80, 240)], 2)  # too far apart to touch each other
        plain = self.run(canvas, group)
        empty = self.run(canvas, group, clip=[text_encoder()], prompts=[""])
        assert torch.equal(plain["result"], empty["result"])
        second = self.run(canvas, group, clip=[text_encoder()], prompts=["\noil painting"])
        assert torch.equal(second["crops"][0], plain["crops"][0])
        assert not torch.equal(second["crops"][1], plain["crops"][1])
        both = self.run(canvas, group, clip=[text_encoder()], prompts=["oil painting"])
        assert not torch.equal(both["crops"][0], plain["crops"][0])
        assert torch.equal(both["crops"][1], second["crops"][1])

    @pytest.mark.parametrize("cfg", [1.0, 3.0])
    def test_guidance_works_with_words_of_any_length(self, cfg):
        canvas = noise(8)
        group = self.assignment(canvas, [faces_at(80)], 1)
        long = self.run(canvas, group, cfg=[cfg], clip=[text_encoder()], prompts=[", ".join(["oil painting"] * 40)])
        assert torch.isfinite(long["result"]).all()

    def test_without_clip(self):
        canvas = noise(7)
        group = self.assignment(canvas, [faces_at(80, 240)], 1)
        with pytest.raises(ValueError, match="^Group Portrait: face 0 has a prompt, but no CLIP is connected"):
            self.run(canvas, group, prompts=["oil painting"])
        result = self.run(canvas, group, prompts=["\nfor the face that is left alone"])
        assert "1 painted" in result["status"]

    def test_another_models_clip(self):
        class Wide:
            def tokenize(self, text):
                return text

            def encode_from_tokens(self, tokens):
                return torch.zeros(1, 77, 2048)

        canvas = noise(7)
        with pytest.raises(ValueError, match="Group Portrait: The CLIP must be SD1.5's text encoder .* 2048"):
            self.run(canvas, self.assignment(canvas, [faces_at(80)], 1), clip=[Wide()], prompts=["x"])


class TestBatches:
    run, assignment = TestGroupPortrait.run, TestGroupPortrait.assignment

    def runs(self, monkeypatch, at_once, canvas, group, **changes):
        """(outputs, rows of each run of the sampler, what the progress bar showed) with batches of so many faces."""
        rows, shown = [], []
        progressive_rounds = portrait.progressive_rounds

        def count(model, positive, negative, latent, *args):
            rows.append(len(latent["samples"]))
            return progressive_rounds(model, positive, negative, latent, *args)

        bar = SimpleNamespace(update_absolute=lambda value, total, preview=None: shown.append((value, total)))
        monkeypatch.setattr(portrait, "progressive_rounds", count)
        monkeypatch.setattr(group_portrait, "crops_at_once", lambda *_: at_once)
        monkeypatch.setattr(common.comfy.utils, "ProgressBar", lambda total: bar)
        result = self.run(canvas, group, **changes)
        monkeypatch.undo()
        return result, rows, shown

    @pytest.mark.parametrize("changes", [{"steps": [3], "cfg": [3.0]}, {"steps": [4], "speed": ["fast"]}])
    def test_pictures_are_those_of_one_after_another(self, monkeypatch, changes):
        canvas = noise(9, 2)
        group = self.assignment(canvas, [faces_at(50, 160, 270)] * 2, 3)
        changes |= {"clip": [text_encoder()], "prompts": ["oil painting"]}
        alone, rows, shown = self.runs(monkeypatch, 1, canvas, group, **changes)
        assert rows == [1] * 6
        together, rows, shown_together = self.runs(monkeypatch, 4, canvas, group, **changes)
        assert rows == [4, 2]
        for name in ("result", "crops", "panel"):
            assert (together[name] - alone[name]).abs().max() <= 2 / 255, name
        assert torch.equal(together["mask"], alone["mask"]) and together["status"] == alone["status"]
        assert (alone["crops"][0] - alone["crops"][3]).abs().max() > 0.1
        total = 6 * changes["steps"][0]
        for values in (shown, shown_together):
            assert values == sorted(values) and values[-1] == (total, total)
        assert shown[0] == (1, total) and shown_together[0] == (4, total)

    def test_words_and_noise_strengths_part_faces_and_seeds_do_not(self, monkeypatch):
        canvas = noise(9)
        group = self.assignment(canvas, [faces_at(50, 160, 270)], 3)
        for changes, wanted in (
            ({}, [3]),
            ({"noise_strengths": [", 0.9"]}, [2, 1]),
            ({"clip": [text_encoder()], "prompts": ["\nin snow\nin snow"]}, [1, 2]),
        ):
            assert self.runs(monkeypatch, 4, canvas, group, **changes)[1] == wanted

    def test_a_face_that_fails_in_a_batch(self, monkeypatch):
        canvas = noise(9)
        group = self.assignment(canvas, [faces_at(50, 160, 270)], 3)
        estimate_flow = portrait.estimate_flow

        def fail(*args):
            if args[-1] == 4:  # the second face's seed
                raise ValueError("no luck")
            return estimate_flow(*args)

        results = []
        for at_once in (1, 4):
            monkeypatch.setattr(portrait, "estimate_flow", fail)
            results.append(self.runs(monkeypatch, at_once, canvas, group, on_error=["skip"]))
        (alone, rows, _), (together, rows_together, _) = results
        assert rows == rows_together == [1, 1]
        assert torch.equal(alone["result"], together["result"]) and alone["status"] == together["status"]
        assert "face 1 (P1) was skipped: no luck" in together["status"]


class TestInTheRealExecutor:
    """ComfyUI hands a node that takes lists every input as a list; defaults it does not hand at all."""

    def test_lists_and_plain_values(self, comfy, monkeypatch):
        from comfy_api.latest import io

        setup, canvas = portrait_setup(), noise(6)
        group = assign(canvas, Faces(HEIGHT, WIDTH, (faces_at(60, 150),)), people(2), "order")[0]
        seen, words, clip = [], ["", "in snow, at night"], text_encoder()

        class Source(io.ComfyNode):
            @classmethod
            def define_schema(cls):
                outputs = [io.Model, io.Vae, io.ClipVision, common.NetsType, io.Image, common.AssignmentType]
                return io.Schema(
                    node_id="TestSource",
                    inputs=[],
                    outputs=[kind.Output(f"o{k}") for k, kind in enumerate(outputs)]
                    + [io.Float.Output("o6", is_output_list=True), io.String.Output("o7", is_output_list=True)]
                    + [io.Clip.Output("o8")],
                )

            @classmethod
            def execute(cls):
                return io.NodeOutput(
                    setup.model, setup.vae, setup.clip_vision, setup.nets, canvas, group, [0.25, 0.75], words, clip
                )

        def paint(model, vae, clip_vision, nets, profile_crop, style_crop, settings, callback, prompt):
            seen.append((settings.seed, settings.strength, settings.cfg, settings.scheduler, prompt is not None))
            return CropResult(style_crop)

        monkeypatch.setattr(group_portrait, "paint_crop", paint)
        monkeypatch.setitem(comfy.node_classes, "TestSource", Source)
        monkeypatch.setitem(comfy.node_classes, "ICPortrait_GroupPortrait", group_portrait.GroupPortrait)
        names = ("model", "vae", "clip_vision", "nets", "image", "assignment", "strength", "prompts", "clip")
        inputs = {name: ["1", slot] for slot, name in enumerate(names)} | {
            "seed": 5,
            "steps": 1,
            "cfg": 2.0,
            "noise_strength": 0.5,
            "share": 0.2,
            "crop_size": 128,
            "on_error": "error",
        }
        outputs = comfy.run(
            {
                "1": {"class_type": "TestSource", "inputs": {}},
                "2": {"class_type": "ICPortrait_GroupPortrait", "inputs": inputs},
                "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
            }
        )
        assert seen == [(5, 0.25, 2.0, "normal", False), (6, 0.75, 2.0, "normal", True)]
        assert len(outputs["3"]["images"]) == 1
        assert outputs["2"]["text"][0].startswith("frame 0: 2 painted")
