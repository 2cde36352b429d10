"""Pose a person in a scene and render: picture, G-buffer and everything the ground truth needs."""

from dataclasses import dataclass

import numpy as np

from .camera import Camera
from .expression import pose_cage
from .geometry import landmarks5, subdivide
from .identity import Person
from .lights import SPHERE
from .materials import Paint
from .raster import depth_map, rasterise, vertex_normals
from .ribbons import ribbon_vertices
from .scene import Scene
from .shade import COLUMNS, IRRADIANCE, NORMAL, PLACE, TANGENT, KeyLights, Mesh, shade
from .template import box_centre, load_template
from .visibility import CENTRE, RADIUS, irradiance, light_axes

SHADOW_SIZE = 256  # px of a key light's shadow map: about 1.3 mm a pixel
_CLOTH_MM = 4.5  # how far clothes stand off the body; chosen by eye
_BRIGHTEST = 3.0  # linear, after exposure; chosen by eye


@dataclass(frozen=True)
class View:
    """One rendered view. Pixel coordinates have centres at integer + 0.5.

    The fine grid has a sample every half pixel; pixel (x, y) is sample (2x + 1, 2y + 1).
    """

    picture: np.ndarray  # uint8 [H, W, 3] sRGB
    albedo: np.ndarray  # float32 [H, W, 3] linear, 0 in the background
    kind: np.ndarray  # uint8 [H, W] surface class of materials.py at the pixel centre, 0 = backdrop
    ident: np.ndarray  # int32 [H, W] triangle at the pixel centre, -1 = backdrop
    bary: np.ndarray  # float32 [H, W, 2] weights of its first two corners
    inverse: np.ndarray  # float32 [2H + 1, 2W + 1] inverse depth in 1/mm, 0 = backdrop
    fine_ident: np.ndarray  # int32 [2H + 1, 2W + 1]
    fine_kind: np.ndarray  # uint8 [2H + 1, 2W + 1]
    screen: np.ndarray  # float32 [V, 3] projected vertices: x, y in pixels, depth in mm
    triangles: np.ndarray  # [T, 3]
    head_triangles: int  # the first so many triangles are the head's and shared by all persons
    landmarks: np.ndarray  # float32 [5, 2] pixels, see geometry.landmarks5
    camera: Camera


def _cloth_cage(cage, scene):
    """Push the torso out under the clothes, so that they are not painted skin."""
    template = load_template()
    limit = scene.collar_height(template.cage[:, 2])
    amount = np.clip((limit + 2 - template.cage[:, 1]) / 8.0, 0, 1)
    away = template.cage - np.array([0, 0, -85.0])
    away = away * np.array([1, 0.35, 1])
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
    return cage + (amount * _CLOTH_MM)[:, None] * away


def _pose(person, scene):
    """World points [V, 3] and shader attributes [V, 15] without irradiance, and the first hair vertex."""
    template = load_template()
    cage = _cloth_cage(pose_cage(person.shape, scene.expression), scene).astype(np.float32)
    fine = subdivide(cage)
    neutral = subdivide(person.shape.cage)
    head_normals = vertex_normals(fine, template.triangles)
    for e in template.eye_vertices:  # smooth balls
        n = fine[e] - box_centre(fine[e])
        head_normals[e] = n / np.linalg.norm(n, axis=1, keepdims=True)
    points, normals, places = [fine], [head_normals], [template.fine]
    for extra in person.extras:
        points.append(extra.points)
        normals.append(extra.normals)
        places.append(extra.places)
    hair_from = sum(len(p) for p in points)
    tangents = [np.zeros((hair_from, 3), np.float32)]
    for piece in person.hair:
        if len(piece.nodes):
            p, n, q, t = ribbon_vertices(piece, fine[piece.roots] - neutral[piece.roots])
            points.append(p)
            normals.append(n)
            places.append(q)
            tangents.append(t)
    points = np.concatenate(points).astype(np.float32)
    attributes = np.zeros((len(points), COLUMNS), np.float32)
    attributes[:, NORMAL : NORMAL + 3] = np.concatenate(normals)
    attributes[:, PLACE : PLACE + 3] = np.concatenate(places)
    attributes[:, TANGENT : TANGENT + 3] = np.concatenate(tangents)
    return points, attributes, hair_from


def _key_lights(light, points, casters):
    """The light's keys with a shadow map each."""
    scale = np.float32(SHADOW_SIZE * 0.5 / RADIUS)
    axes, maps = np.zeros((0, 3, 3), np.float32), np.zeros((0, 1, 1), np.float32)
    if len(light.key_directions):
        axes = np.stack([light_axes(d) for d in light.key_directions])
        maps = np.stack([depth_map(points, casters, a, CENTRE, scale, SHADOW_SIZE, False)[0] for a in axes])
    return KeyLights(light.key_directions, light.key_colours, light.key_softness, maps, axes, CENTRE, scale)


def _paint(person, scene):
    eyes = np.stack([box_centre(load_template().fine[e]) for e in load_template().eye_vertices]).astype(np.float32)
    skin = np.array([0.42 - 0.22 * person.look.melanin], np.float32)  # dark skin scatters less
    return Paint(
        person.atlas,
        eyes,
        skin,
        person.eye,
        person.hair_colours,
        scene.cloth,
        scene.collar,
        person.frame,
        person.hat,
    )


def _tent(a):
    """Half-pixel samples [2S + 1, 2S + 1, C] to pixels [S, S, C] with a 1-2-1 filter centred on the pixel."""
    rows = 0.25 * a[0:-2:2] + 0.5 * a[1:-1:2] + 0.25 * a[2::2]
    return 0.25 * rows[:, 0:-2:2] + 0.5 * rows[:, 1:-1:2] + 0.25 * rows[:, 2::2]


def tone_map(linear: np.ndarray) -> np.ndarray:
    """Linear RGB (1 = white) to sRGB uint8 (IEC 61966-2-1), with a soft shoulder above 0.6, chosen by eye."""
    x = np.maximum(linear, 0)
    x = np.where(x > 0.6, 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4)), x)
    s = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-6), 1 / 2.4) - 0.055)
    return (np.clip(s, 0, 1) * 255 + 0.5).astype(np.uint8)


def render(person: Person, scene: Scene, size: int = 256) -> View:
    """Render a person in a scene at size x size pixels; deterministic."""
    points, attributes, hair_from = _pose(person, scene)
    light, camera = scene.light, scene.camera
    irr = np.empty((len(points), 6), np.float32)
    irradiance(attributes[:, NORMAL : NORMAL + 3], person.visibility, SPHERE, light.environment, hair_from, irr)
    attributes[:, IRRADIANCE : IRRADIANCE + 6] = irr  # with its gradient
    screen = camera.project(points, size)
    doubled = screen * np.array([2, 2, 1], np.float32) + np.array([0.5, 0.5, 0], np.float32)
    grid = 2 * size + 1
    fine_ident, fine_bary, inverse = rasterise(doubled, person.triangles, grid, grid)
    colour = np.zeros((grid, grid, 3), np.float32)
    albedo = np.zeros_like(colour)
    fine_kind = np.zeros((grid, grid), np.uint8)
    shade(
        fine_ident,
        fine_bary,
        Mesh(person.triangles, person.material, points, attributes),
        _paint(person, scene),
        _key_lights(light, points, person.casters),
        light.sh / np.float32(np.pi),
        light.ambient().astype(np.float32),
        camera.position.astype(np.float32),
        colour,
        albedo,
        fine_kind,
    )
    # Compress before averaging: a highlight must not eat its neighbours.
    flat = _tent(np.minimum(colour * light.exposure, _BRIGHTEST))
    alpha = _tent((fine_ident >= 0).astype(np.float32)[..., None])
    middle = (slice(1, None, 2), slice(1, None, 2))
    return View(
        picture=tone_map(flat + scene.backdrop(size) * (1 - alpha)),
        albedo=albedo[middle],
        kind=fine_kind[middle],
        ident=fine_ident[middle],
        bary=fine_bary[middle],
        inverse=inverse,
        fine_ident=fine_ident,
        fine_kind=fine_kind,
        screen=screen,
        triangles=person.triangles,
        head_triangles=len(load_template().triangles),
        landmarks=camera.project(landmarks5(points), size)[:, :2],
        camera=camera,
    )


def view_normals(person: Person, scene: Scene, view: View) -> np.ndarray:
    """Smooth surface normals of a view of this person in this scene, float32 `[H, W, 3]` in world axes, 0 in the background.

    Relief is left out: these are the normals light is measured with (training/evaluation), not those of the shader.
    """
    _, attributes, _ = _pose(person, scene)
    vertex = attributes[:, NORMAL : NORMAL + 3]
    corners = vertex[view.triangles[np.maximum(view.ident, 0)]]  # [H, W, 3 corners, 3]
    weights = np.concatenate([view.bary, 1 - view.bary.sum(axis=-1, keepdims=True)], axis=-1)
    normals = (weights[..., None] * corners).sum(axis=2)
    normals /= np.maximum(np.linalg.norm(normals, axis=-1, keepdims=True), 1e-6)
    return np.where(view.ident[..., None] >= 0, normals, 0).astype(np.float32)
