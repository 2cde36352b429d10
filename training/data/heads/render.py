"""Pose a person in a scene and render: picture, G-buffer and everything the ground truth needs."""

from dataclasses import dataclass

import numpy as np

from . import shade as S
from .camera import Camera
from .geometry import landmarks5, pose_cage, subdivide
from .hair import ribbon_vertices
from .lights import SPHERE
from .raster import depth_map, rasterise, vertex_normals
from .scene import backdrop
from .template import load_template
from .visibility import CENTRE, RADIUS, irradiance, light_axes

SHADOW_SIZE = 256


@dataclass(frozen=True)
class View:
    """One rendered view. Pixel coordinates have centres at integer + 0.5."""

    picture: np.ndarray  # uint8 [H, W, 3] sRGB
    albedo: np.ndarray  # float32 [H, W, 3] linear, 0 in the background
    kind: np.ndarray  # uint8 [H, W] surface class of shade.py at the pixel centre
    ident: np.ndarray  # int32 [H, W] triangle at the pixel centre
    bary: np.ndarray  # float32 [H, W, 2]
    inverse: (
        np.ndarray
    )  # float32 [2H + 1, 2W + 1] inverse depth at half-pixel steps; pixel (x, y) is sample (2x + 1, 2y + 1)
    fine_ident: np.ndarray  # int32 [2H + 1, 2W + 1]
    fine_kind: np.ndarray  # uint8 [2H + 1, 2W + 1]
    screen: np.ndarray  # float32 [V, 3] projected vertices: x, y in pixels, depth in mm
    triangles: np.ndarray  # [T, 3]
    head_triangles: int  # the first so many triangles are the head's and shared by all persons
    landmarks: np.ndarray  # [5, 2] pixels
    camera: Camera


def _cloth_cage(cage, scene):
    """Push the torso out under the clothes, so that they are not painted skin."""
    template = load_template()
    limit = scene.collar[0] + (-45.0 - template.cage[:, 2]) * scene.collar[1]
    amount = np.clip((limit + 2 - template.cage[:, 1]) / 8.0, 0, 1)
    body = np.abs(template.cage[:, 0]) > -1
    away = template.cage - np.array([0, 0, -85.0])
    away = away * np.array([1, 0.35, 1])
    away /= np.linalg.norm(away, axis=1, keepdims=True) + 1e-6
    return cage + (amount * body * 4.5)[:, None] * away


def _pose(person, scene):
    template = load_template()
    cage = _cloth_cage(pose_cage(person.shape, scene.expression), scene).astype(np.float32)
    fine = subdivide(cage)
    neutral = subdivide(person.shape.cage)
    normals = vertex_normals(fine, template.triangles)
    for e in template.eye_vertices:  # smooth balls
        centre = (fine[e].max(0) + fine[e].min(0)) / 2
        n = fine[e] - centre
        normals[e] = n / np.linalg.norm(n, axis=1, keepdims=True)
    points, vertex_normal, places = [fine], [normals], [template.fine]
    for extra in person.extras:
        points.append(extra.points)
        vertex_normal.append(extra.normals)
        places.append(extra.places)
    tangents = [np.zeros((sum(len(p) for p in points), 3), np.float32)]
    hair_from = len(tangents[0])
    for piece in person.hair:
        if len(piece.nodes):
            p, n, q, t = ribbon_vertices(piece, fine[piece.roots] - neutral[piece.roots])
            points.append(p)
            vertex_normal.append(n)
            places.append(q)
            tangents.append(t)
    points = np.concatenate(points).astype(np.float32)
    attributes = np.zeros((len(points), S.COLUMNS), np.float32)
    attributes[:, S.NORMAL : S.NORMAL + 3] = np.concatenate(vertex_normal)
    attributes[:, S.PLACE : S.PLACE + 3] = np.concatenate(places)
    attributes[:, S.TANGENT :] = np.concatenate(tangents)
    return points, attributes, hair_from


def _tent(a):
    """Half-pixel samples [2S + 1, 2S + 1, C] to pixels [S, S, C] with a 1-2-1 filter centred on the pixel."""
    rows = 0.25 * a[0:-2:2] + 0.5 * a[1:-1:2] + 0.25 * a[2::2]
    return 0.25 * rows[:, 0:-2:2] + 0.5 * rows[:, 1:-1:2] + 0.25 * rows[:, 2::2]


def tone_map(linear):
    """Linear RGB to sRGB uint8 with a soft shoulder."""
    x = np.maximum(linear, 0)
    x = np.where(x > 0.6, 0.6 + 0.4 * (1 - np.exp(-(x - 0.6) / 0.4)), x)
    s = np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.power(np.maximum(x, 1e-6), 1 / 2.4) - 0.055)
    return (np.clip(s, 0, 1) * 255 + 0.5).astype(np.uint8)


def render(person, scene, size=256, picture=True):
    """Render a person in a scene at size x size pixels."""
    template = load_template()
    points, attributes, hair_from = _pose(person, scene)
    light, camera = scene.light, scene.camera
    screen = camera.project(points, size)
    # Samples every half pixel; sample 2 i + 1 lies on the centre of pixel i.
    doubled = screen * np.array([2, 2, 1], np.float32) + np.array([0.5, 0.5, 0], np.float32)
    grid = 2 * size + 1
    triangles, material = person.triangles, person.material
    fine_ident, fine_bary, inverse = rasterise(doubled, triangles, grid, grid)
    irr = np.empty((len(points), 6), np.float32)
    irradiance(attributes[:, :3], person.visibility, SPHERE, light.environment, hair_from, irr)
    attributes[:, S.IRRADIANCE : S.IRRADIANCE + 6] = irr
    scale = np.float32(SHADOW_SIZE * 0.5 / RADIUS)
    axes = (
        np.stack([light_axes(d) for d in light.key_directions])
        if len(light.key_directions)
        else np.zeros((0, 3, 3), np.float32)
    )
    maps = (
        np.stack([depth_map(points, person.casters, a, CENTRE, scale, SHADOW_SIZE, False)[0] for a in axes])
        if len(axes)
        else np.zeros((0, 1, 1), np.float32)
    )
    eye_centre = np.stack(
        [(template.fine[e].max(0) + template.fine[e].min(0)) / 2 for e in template.eye_vertices]
    ).astype(np.float32)
    colour = np.zeros((grid, grid, 3), np.float32)
    albedo = np.zeros_like(colour)
    kind = np.zeros((grid, grid), np.uint8)
    melanin = person.look.melanin
    skin = np.array([0.42 - 0.22 * melanin], np.float32)
    S.shade(
        fine_ident,
        fine_bary,
        triangles,
        material,
        points,
        attributes,
        person.atlas,
        eye_centre,
        camera.position.astype(np.float32),
        light.key_directions,
        light.key_colours,
        light.key_softness,
        maps,
        axes,
        CENTRE,
        scale,
        light.sh / np.float32(np.pi),
        light.ambient().astype(np.float32),
        skin,
        person.eye,
        person.hair_colours,
        scene.cloth,
        scene.collar,
        person.frame,
        person.hat,
        colour,
        albedo,
        kind,
    )
    cover = (fine_ident >= 0).astype(np.float32)
    behind = backdrop(scene, size)
    # Compress before averaging: a highlight must not eat its neighbours.
    flat = _tent(np.minimum(colour * light.exposure, 3.0))
    alpha = _tent(cover[..., None])
    out = tone_map(flat + behind * (1 - alpha))
    middle = (slice(1, None, 2), slice(1, None, 2))
    ident, bary, centre_kind = fine_ident[middle], fine_bary[middle], kind[middle]
    marks = camera.project(landmarks5(points), size)[:, :2]
    return View(
        out,
        albedo[middle],
        centre_kind,
        ident,
        bary,
        inverse,
        fine_ident,
        kind,
        screen,
        triangles,
        len(template.triangles),
        marks,
        camera,
    )
