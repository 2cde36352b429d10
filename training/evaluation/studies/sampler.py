"""Sampler, steps and guidance: what the last stage of progressive inference costs and gives."""

from .. import charts
from .common import Study

SAMPLERS = ("euler", "dpmpp_2m", "euler_ancestral", "lcm")
STEPS = (3, 6, 10, 20)
GUIDANCE = (1.0, 2.0, 3.0, 5.0)


def study(study: Study) -> tuple[dict, object]:
    """(table, figure)."""
    steps = tuple(int(value) for value in study.values or STEPS)
    by_steps = {
        f"{sampler} {count} steps": study.maker(sampler=sampler, steps=count) for sampler in SAMPLERS for count in steps
    }
    by_guidance = {f"cfg {cfg:g}": study.maker(cfg=cfg) for cfg in GUIDANCE}
    mean = study.means(study.run(by_steps | by_guidance))
    images = []
    for column, label in (
        (study.likeness, "likeness"),
        ("psnr_face", "PSNR in the face, dB"),
        ("shading_error", "scale-invariant shading error"),
    ):
        lines = {
            sampler: [(count, mean[f"{sampler} {count} steps"][column]) for count in steps] for sampler in SAMPLERS
        }
        images.append(charts.line_chart(lines, f"{label} by sampler (cfg {study.settings.cfg:g})", "steps", label))
        line = {study.settings.sampler: [(cfg, mean[f"cfg {cfg:g}"][column]) for cfg in GUIDANCE]}
        images.append(charts.line_chart(line, f"{label} by guidance", "cfg", label))
    figure = charts.stacked([charts.stacked(images, 2), study.grid(list(by_steps)), study.grid(list(by_guidance))])
    return {"means": mean}, figure
