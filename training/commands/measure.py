"""`icportrait measure`: measure something, print a table, and write the figures as JSON."""

from ..evaluation.measure import (
    bundle,
    customise,
    data,
    dryrun,
    faces,
    files,
    flops,
    matching,
    photographs,
    speed,
    thresholds,
    views,
)
from .parsing import parse_choice, write_json

# Name -> (settings, what measures with them, what prints the figures).
MEASURES = {
    "bundle": (bundle.BundleMeasure, bundle.measure_bundle, bundle.print_table),
    "faces": (faces.FacesMeasure, faces.measure_faces, faces.print_table),
    "thresholds": (thresholds.ThresholdsMeasure, thresholds.measure_thresholds, thresholds.print_figures),
    "files": (files.FilesMeasure, files.measure_files, files.print_figures),
    "matching": (matching.MatchingMeasure, matching.measure_matching, matching.print_table),
    "data": (data.DataMeasure, data.measure_data, data.print_figures),
    "dryrun": (dryrun.DryRunMeasure, dryrun.measure_dryrun, dryrun.print_figures),
    "flops": (flops.FlopsMeasure, flops.measure_flops, flops.print_figures),
    "photographs": (photographs.PhotographsMeasure, photographs.measure_photographs, photographs.print_table),
    "speed": (speed.SpeedMeasure, speed.measure_speed, speed.print_figures),
    "views": (views.ViewsMeasure, views.measure_views, views.print_table),
    "customise": (customise.CustomiseMeasure, customise.measure_customise, customise.print_figures),
}


def main(argv: list[str]) -> int:
    settings = parse_choice({name: kind for name, (kind, _, _) in MEASURES.items()}, argv, "icportrait measure")
    measure, show = next(rest for kind, *rest in MEASURES.values() if type(settings) is kind)
    figures = measure(settings)
    show(figures)
    write_json(figures, settings.out)
    return 0
