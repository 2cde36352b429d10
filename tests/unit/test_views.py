"""Novel views and light: cameras, the surface seen from elsewhere, light by harmonics, the lifter, both nodes."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from icportrait.models.errors import UserError
from icportrait.models.nets import bundle
from icportrait.models.views import cameras, light, photograph, volume
from icportrait.models.views.lifter import FORMAT, REACH, SAMPLES, Lifter, LifterConfig, load_lifter, render_volume
from icportrait.models.views.photograph import LEAST_REMOVED, depth_normals, lift_photograph, lit
from icportrait.models.views.relight import light_on, relight, relit_photograph
from icportrait.models.views.render import Lifted, person_along, render
from icportrait.nodes.novel_view import NovelView, Relight
from icportrait.training.data.heads.camera import portrait_camera
from icportrait.training.data.photographs import read_picture
from icportrait.training.evaluation.photo_pairs import with_mesh
from icportrait.training.tasks.lifter import LifterSettings, LifterTask

FRONT = torch.diag(torch.tensor([1.0, -1.0, -1.0]))


def front_camera(distance: float = 0.7, focal: float = 2.8) -> torch.Tensor:
    return cameras.camera(FRONT, torch.tensor([0.0, -0.025, distance - 0.04]), focal)


def sphere_lifted(size: int = 96, radius: float = 0.09) -> Lifted:
    """A ball round the pivot before a plane; its picture shows world x in red."""
    camera = front_camera()
    origin, directions = cameras.rays(camera, size)
    away = origin - torch.tensor(cameras.PIVOT)
    a, b = (directions**2).sum(-1), directions @ away
    inside = b * b - a * (away @ away - radius**2)
    root, ball = inside.clamp_min(0).sqrt() / a, inside > 0
    # Beside the ball its ends lie the wrong way round, by about the distance to it.
    beside = ((away @ away - b**2 / a).clamp_min(0).sqrt() - radius).clamp_min(0)
    front, back = (torch.where(ball, -b / a + sign * root, -b / a - sign * beside).view(size, size) for sign in (-1, 1))
    depth = torch.where(ball, front.flatten(), 0.75).view(size, size)
    picture, background = (
        (cameras.unproject(x, camera)[..., :1] * 3 + 0.5).clamp(0, 1).expand(-1, -1, 3).contiguous()
        for x in (depth, torch.full_like(depth, 0.75))
    )
    return Lifted(
        picture, camera, camera, front, back, background, 0.75,
        depth_normals(depth, camera), light.to_linear(picture), ball.float().view(size, size), torch.zeros(9, 3),
    )  # fmt: skip


def test_cameras_of_the_training_heads_are_these():
    """Both sides of the project mean the same by 25 scalars."""
    head = portrait_camera(20, 5, 3, 20)
    scalars = torch.tensor(head.scalars())
    points = np.array([[0.01, 0.02, -0.03], [-0.05, 0.0, 0.02]])
    expected = head.project(points * 1000, 1)
    assert np.allclose(
        cameras.project(torch.tensor(points).float(), scalars).numpy(), expected * (1, 1, 0.001), atol=1e-4
    )


def test_orbit_moves_right_and_up_and_keeps_the_head():
    start = front_camera()
    moved = cameras.orbit(start, 20, 10, fov=40)
    place = cameras.position_of(moved)
    assert place[0] > 0.05 and place[1] > cameras.position_of(start)[1]
    seen = [cameras.project(torch.tensor(cameras.PIVOT), camera) for camera in (start, moved)]
    assert torch.allclose(seen[0][:2], seen[1][:2], atol=1e-5)
    # The head keeps its size: focal length over distance.
    assert moved[16] / seen[1][2] == pytest.approx(float(start[16] / seen[0][2]), rel=1e-4)
    assert torch.allclose(cameras.orbit(start, 0, 0), start, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c * float("nan"), "not finite"),
        (lambda c: torch.cat([c[:16], torch.zeros(9)]), "focal lengths"),
        (lambda c: torch.cat([2 * c[:16], c[16:]]), "no rotation"),
        (lambda c: cameras.camera(torch.eye(3), torch.tensor([0.0, 0, -0.7]), 2.8), "behind the head"),
        (lambda c: cameras.camera(torch.eye(3), torch.tensor([0.0, 0, 0.7]), 2.8), "looks away"),
        (lambda c: cameras.camera(FRONT, torch.tensor([0.0, 0, 50.0]), 2.8), "50.0"),
    ],
)
def test_cameras_refused(change, words):
    with pytest.raises(UserError, match=words):
        cameras.checked_cameras(change(front_camera())[None])


def test_cameras_as_text():
    camera = front_camera()
    text = "[" + ", ".join(f"{float(x):.8g}" for x in camera) + "]\n\n"
    assert torch.allclose(cameras.parse_cameras(text), camera[None], atol=1e-6)
    for wrong, words in (("1 2 3", "holds 3 numbers"), ("1 x", "no number"), ("\n", "empty")):
        with pytest.raises(UserError, match=words):
            cameras.parse_cameras(wrong)


def test_a_ball_is_seen_where_it_is():
    lifted = sphere_lifted()
    target = cameras.orbit(lifted.camera, 15, 0)
    distance, covered = (x.view(64, 64) for x in person_along(lifted, target, 64))
    # The ball's near point lies its radius before the pivot, from everywhere.
    assert float(distance[32, 32]) == pytest.approx(0.7 - 0.09, abs=0.003)
    # And its outline is a circle of the same size.
    assert float(covered.sum()) == pytest.approx(float(lifted.mask.mean()) * 64**2, rel=0.02)
    view = render(lifted, target, 64)
    points = cameras.unproject(view.depth, target)
    on_ball = view.mask[..., None].expand(-1, -1, 3) > 0.99
    assert torch.allclose(view.image[on_ball], (points[..., :1] * 3 + 0.5).expand(-1, -1, 3)[on_ball], atol=0.03)


def test_the_same_camera_gives_the_picture_back():
    lifted = sphere_lifted()
    view = render(lifted, lifted.camera, len(lifted.picture))
    assert torch.allclose(view.image, lifted.picture, atol=2e-3)
    assert torch.allclose(view.depth, lifted.depth, atol=2e-3)


def lamp(column: float) -> torch.Tensor:
    """A map with one lamp at a column, in shares of the width."""
    environment = torch.full((32, 64, 3), 0.02)
    at = int(column * 64)
    environment[10:22, max(0, at - 5) : at + 5] = 1.0
    return environment


def test_light_comes_from_where_the_map_says():
    right = light.environment_light(lamp(0.75))
    normals = torch.tensor([[1.0, 0, 0], [-1.0, 0, 0], [0, 0, 1.0], [0, 0, -1.0]])
    shade = light.shading(right, normals)[:, 1]
    assert shade[0] > 2 * shade[1]
    behind = light.shading(light.environment_light(lamp(0.5)), normals)[:, 1]
    assert behind[3] > 2 * behind[2]  # the map's middle is behind the person
    turned = light.shading(light.environment_light(lamp(0.5), rotation=90), normals)[:, 1]
    assert torch.allclose(turned, shade, rtol=0.1, atol=0.02)
    assert torch.allclose(light.turned(right, torch.eye(3)), right, atol=1e-4)


def test_a_white_room_shades_white():
    room = light.environment_light(torch.ones(16, 32, 3))
    normals = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    assert torch.allclose(light.shading(room, normals), torch.ones(20, 3), atol=0.02)


def test_light_is_found_again():
    generator = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(
        torch.randn(3000, 3, generator=generator) + torch.tensor([0, 0, 1.0]), dim=-1
    )
    true = light.environment_light(lamp(0.8) + 0.3)
    skin = torch.tensor([0.5, 0.3, 0.2]) * light.shading(true, normals)
    found = light.fit_light(skin, normals, torch.ones(3000))
    wanted = light.shading(true, normals) @ light.LUMINANCE
    given = light.shading(found, normals)[:, 0]
    assert np.corrcoef(wanted, given)[0, 1] > 0.95
    assert given.mean() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (torch.ones(10, 10, 3), "twice as wide"),
        (torch.full((8, 16, 3), float("inf")), "NaN or infinite"),
        (torch.zeros(8, 16, 3), "black"),
    ],
)
def test_maps_refused(environment, words):
    with pytest.raises(UserError, match=words):
        light.environment_light(environment)


def test_relight_leaves_what_is_around():
    lifted = sphere_lifted()
    lifted = dataclasses.replace(lifted, light=light.environment_light(torch.ones(8, 16, 3)))
    new = relight(lifted, light_on(lifted, lamp(0.75)))
    outside = lifted.mask == 0
    assert torch.equal(new[outside], lifted.picture[outside])
    brighter = (new - lifted.picture).mean(dim=-1)
    side = len(brighter)
    assert brighter[side // 2, side // 2 + 15] > brighter[side // 2, side // 2 - 15]
    with pytest.raises(UserError, match="intensity"):
        light_on(lifted, lamp(0.5), intensity=20)


TINY = LifterConfig(width=8, channels=4, depth=8, hidden=8)


def ball_views(lifted: Lifted) -> dict[str, torch.Tensor]:
    """The truth of the ball as the training takes it, with what the net sees of `lifted`."""
    ball, side = sphere_lifted(48), cameras.orbit(front_camera(), 20, 0)
    other = render(ball, side, 48)
    return {
        "seen": volume.seen_by_net(lifted).half(),
        "cameras": torch.stack([ball.camera, side]),
        "albedo": torch.full((2, 48, 48, 3), 128, dtype=torch.uint8),
        "depth": torch.stack([ball.depth * (ball.mask > 0.5), other.depth * (other.mask > 0.5)]).half(),
        "back": (ball.back * (ball.mask > 0.5)).half(),
    }


def trained(task: LifterTask, steps: int) -> list[dict[str, float]]:
    optimizer, found = torch.optim.Adam(task.parameters(), 3e-3), []
    for step in range(steps):
        loss, figures = task(step, task.items(step, 1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(figures)
    return found


def test_what_the_net_sees():
    """Picture, outline and both ends of the solid, in the frame, whatever more the picture shows."""
    ball = sphere_lifted(96)
    seen = volume.seen_by_net(ball)
    assert seen.shape == (6, 128, 128) and float(seen[:3].min()) >= -1 and float(seen.abs().max()) <= 1
    assert float(seen[4, 64, 64]) == pytest.approx(-0.09 / REACH, abs=0.01)
    assert float(seen[5, 64, 64]) == pytest.approx(0.09 / REACH, abs=0.01)
    assert float(seen[3, 64, 64]) == 1 and float(seen[3, 2, 2]) == 0
    wider = dataclasses.replace(
        ball, frame=torch.cat([ball.camera[:16], ball.camera[16:] * torch.tensor([0.7, 1, 1, 1, 0.7, 1, 1, 1, 1])])
    )
    assert float(volume.seen_by_net(wider)[3].mean()) == pytest.approx(0.49 * float(seen[3].mean()), rel=0.05)


def test_lifter_volume_is_the_same_in_portions():
    ball = sphere_lifted()
    net = LifterTask([{}], config=TINY).net
    planes = net(volume.seen_by_net(ball)[None])
    target = cameras.orbit(ball.camera, 10, 0)
    whole = render_volume(net, planes, ball.camera, target, 16)
    parts = render_volume(net, planes, ball.camera, target, 16, points=10 * SAMPLES)
    assert torch.allclose(whole.albedo, parts.albedo, atol=1e-6)
    chosen = whole.met > 0.5
    some = render_volume(net, planes, ball.camera, target, 16, chosen=chosen)
    assert torch.allclose(some.depth, whole.depth[chosen], atol=1e-6)
    # Untrained, it shows the solid that it was given.
    assert (whole.met <= 1.0001).all() and float(chosen.float().mean()) == pytest.approx(
        float(ball.mask.mean()), rel=0.15
    )
    assert float(whole.depth.view(16, 16)[8, 8]) == pytest.approx(0.7 - 0.09, abs=0.012)


def test_lifter_moves_a_surface_to_where_it_is():
    """A ball lifted 2 cm too deep: training brings it back, its outline stays."""
    ball = sphere_lifted(48)
    deep = dataclasses.replace(ball, front=ball.front + 0.02 * (ball.mask > 0.5))
    task = LifterTask([ball_views(deep)], LifterSettings(rays=32), config=TINY)
    found = trained(task, 60)
    assert found[0]["surface_mm"] > 8 and np.mean([one["surface_mm"] for one in found[-5:]]) < 5
    assert np.mean([one["loss"] for one in found[-5:]]) < 0.7 * found[0]["loss"]
    moved = volume.lift_volume(deep, task.net.eval()).lifted
    inside = ball.mask > 0.5
    off = [float((x.front - ball.front)[inside].abs().mean()) for x in (deep, moved)]
    # Half of the way, as views make it.
    assert off[0] == pytest.approx(0.02, abs=1e-3) and 0.006 < off[1] < 0.013
    assert torch.equal(moved.mask, deep.mask) and torch.equal(moved.front[~inside], deep.front[~inside])


def test_views_by_the_lifter():
    """The outline of a view is that of the moved solid, and what the photograph shows keeps its pixels."""
    ball = sphere_lifted()
    net = LifterTask([{}], config=TINY).net.eval()
    lifted = volume.lift_volume(ball, net)
    same = volume.render_with_volume(lifted, ball.camera, 96)
    assert torch.allclose(same.image, ball.picture, atol=0.02)
    side = cameras.orbit(ball.camera, 30, 0)
    view, plain = volume.render_with_volume(lifted, side, 64), render(lifted.lifted, side, 64)
    assert torch.equal(view.mask, plain.mask) and torch.equal(view.depth, plain.depth)
    assert torch.equal(view.image[view.mask == 0], plain.image[view.mask == 0])
    assert all(torch.isfinite(x).all() for x in (view.image, view.normals, view.albedo))


def test_hidden_places_change_colour_as_the_net_says():
    """A drum: its side repeats what lies before it, by half brighter where the net has it brighter; what is seen stays as it is."""
    ball = sphere_lifted()
    inside = ball.mask > 0.5
    drum = dataclasses.replace(
        ball,
        picture=torch.full_like(ball.picture, 0.5),
        front=torch.where(inside, torch.full_like(ball.front, 0.62), ball.front),
        back=torch.where(inside, torch.full_like(ball.back, 0.78), ball.back),
    )
    net = LifterTask([{}], config=TINY).net.eval()
    torch.nn.init.zeros_(net.decoder[-1].weight)  # one colour everywhere
    side = cameras.orbit(ball.camera, 35, 0)
    lifted = volume.lift_volume(drum, net)
    plain = render(lifted.lifted, side, 64)
    same = volume.render_with_volume(lifted, side, 64)
    assert torch.allclose(same.image, plain.image, atol=0.02)
    darker = dataclasses.replace(lifted, shown=lifted.shown / torch.tensor([1.5, 1.5, 1.5, 1]))
    view = volume.render_with_volume(darker, side, 64)
    change = (view.image / plain.image.clamp_min(0.01))[plain.mask == 1]
    assert float(change.max()) == pytest.approx(1.5 ** (1 / 2.2), abs=0.01) and float(change.min()) > 0.99
    assert 0.02 < float((change[:, 0] > 1.1).float().mean()) < 0.5


def test_lifter_files(tmp_path):
    from icportrait.models.nets.files import save_tensors
    from icportrait.training.stages.lifter import save_lifter

    task = LifterTask([{}], config=TINY)
    save_lifter(tmp_path / "lifter.safetensors", task, {})
    net = load_lifter(tmp_path / "lifter.safetensors")
    assert net.config == TINY
    for kind, words in (("something", "not a lifter"), ("icportrait-lifter-1", "older kind")):
        save_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)}, {"format": kind})
        with pytest.raises(UserError, match=words):
            load_lifter(tmp_path / "other.safetensors")


def test_lifter_starts_the_same_and_leaves_torch_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    nets = [LifterTask([{}], config=TINY).net for _ in range(2)]
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(nets[0].parameters(), nets[1].parameters()))
    assert isinstance(nets[0], Lifter) and FORMAT


@pytest.fixture(scope="module")
def style():
    from icportrait.models.nets.bundle import FOLDER

    return read_picture(FOLDER / "icportrait_style.png")


def test_a_portrait_is_lifted(style):
    lifted, placement = lift_photograph(style, with_mesh(style)[0], 256)
    nose = lifted.depth[len(lifted.depth) // 2 - 10 : len(lifted.depth) // 2 + 40].min()
    assert 0.03 < float(lifted.depth.max() - nose) < 0.25
    back = lit(lifted.light, lifted.normals, lifted.mask, LEAST_REMOVED) * lifted.albedo
    assert torch.allclose(
        light.to_srgb(back)[lifted.picture.amax(-1) < 0.8], lifted.picture[lifted.picture.amax(-1) < 0.8], atol=0.02
    )
    changed, mask = relit_photograph(style, lifted, placement, light_on(lifted, lamp(0.75)))
    assert changed.shape == style.shape
    assert torch.equal(changed[mask == 0], style[mask == 0])
    with pytest.raises(UserError, match="multiple of 64"):
        lift_photograph(style, with_mesh(style)[0], 100)


@pytest.mark.parametrize("yaw", [0, 30])
def test_the_average_head_stands_as_the_face_does(yaw):
    """Each pixel's place on it, turned back into the head's axes, lies on its surface."""
    turn, side, scale = math.radians(yaw), 384, 1200
    rotation = np.array([[math.cos(turn), 0, math.sin(turn)], [0, 1, 0], [-math.sin(turn), 0, math.cos(turn)]])
    pose, shift = scale * np.diag([1.0, -1, -1]) @ rotation, np.array([192.0, 160, 50])
    depth = photograph._average_head(pose, shift, 50.0, side)
    for up, hair in (
        (0.09, -0.005),
        (0.05, 0.02),
        (-0.13, -0.035),
    ):  # hairline, brows, collar: millimetres of the table
        x, y, z = pose @ (0, up, hair) + shift
        assert depth[int(y / 2), int(x / 2)] == pytest.approx(z, abs=0.006 * scale)
    if yaw == 0:
        assert np.allclose(depth, depth[:, ::-1], atol=1e-6)
        assert depth[90, 96 + 50] - depth[90, 96] > 0.05 * scale  # beside the face it falls back


def test_hair_begins_before_the_middle_and_shoulders_stay_thick(style):
    """A round outline alone lays the hair above the forehead centimetres too deep."""
    with_average, _ = lift_photograph(style, with_mesh(style)[0], 256)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(photograph, "_TRUST", 0.0)
        rounded, _ = lift_photograph(style, with_mesh(style)[0], 256)
    size = len(with_average.front)
    crown = (slice(int(0.22 * size), int(0.30 * size)), slice(int(0.4 * size), int(0.6 * size)))
    assert float((rounded.front - with_average.front)[crown].mean()) > 0.005
    solid = with_average.mask > 0.9
    assert float((with_average.back - with_average.front)[solid].quantile(0.05)) > 0.008


ORBIT = {
    "yaw": -10.0, "pitch": 0.0, "distance": 1.0, "fov": 20.0, "size": 128, "frames": 2, "yaw_end": 10.0, "pitch_end": 0.0,
    "rotation": 0.0, "intensity": 1.0, "geometry": "face mesh",
}  # fmt: skip


def test_novel_view_node(style):
    maps = torch.stack([lamp(0.2), lamp(0.8)])
    image, depth, normals, albedo, mask, grid, text = NovelView.execute(style, **ORBIT, environment=maps).args
    assert image.shape == (4, 128, 128, 3) and grid.shape == (1, 256, 256, 3)
    assert depth.shape == normals.shape == albedo.shape == (2, 128, 128, 3) and mask.shape == (2, 128, 128)
    for output in (image, depth, normals, albedo, mask):
        assert 0 <= float(output.min()) and float(output.max()) <= 1
    assert not torch.allclose(image[0], image[2], atol=0.02)  # another light
    again = NovelView.execute(style, **ORBIT, environment=maps, cameras=text).args[0]
    assert torch.allclose(again, image, atol=0.02)


def test_novel_view_by_the_lifter_that_ships(style):
    """It moves what is around the face, a little, and leaves the background of the view."""
    words = {**ORBIT, "frames": 1, "yaw": 20.0}
    plain, lifted = (
        NovelView.execute(style, **{**words, "geometry": geometry}).args for geometry in ("face mesh", "demo lifter")
    )
    assert 0.002 < float((plain[0] - lifted[0]).abs().mean()) < 0.05
    assert float((plain[4] - lifted[4]).abs().mean()) < 0.03
    assert (bundle.FOLDER / bundle.LIFTER).stat().st_size < 6 * 2**20


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"environment": torch.ones(1, 8, 8, 3)}, "Novel View: the environment map is 8x8"),
        (
            {"environment": torch.full((1, 8, 16, 3), math.inf)},
            "Novel View: the environment map has 128 NaN or infinite",
        ),
        (
            {"environment": torch.zeros(1, 8, 16, 3, device="meta")},
            "Novel View: the environment map must be an IMAGE, a dense",
        ),
        ({"cameras": " ".join(["0"] * 25)}, "Novel View: camera 0"),
        ({"geometry": "nothing.safetensors"}, "Novel View: geometry must be one of"),
        ({"image": torch.zeros(1, 64, 64, 3)}, "Novel View: no face"),
        ({"image": torch.zeros(2, 96, 96, 3)}, "one picture"),
    ],
)
def test_novel_view_refuses(style, more, words):
    with pytest.raises(ValueError, match=words):
        NovelView.execute(**{"image": style, **ORBIT, **more})


def test_relight_node(style):
    style = style[:, ::2, ::2]
    frames = torch.cat([style, torch.zeros_like(style)])
    image, mask = Relight.execute(frames, lamp(0.75)[None], 0.0, 1.0).args
    assert image.shape == frames.shape and mask.shape == frames.shape[:3]
    assert torch.equal(image[1], frames[1]) and mask[1].max() == 0 and mask[0].max() > 0.9
