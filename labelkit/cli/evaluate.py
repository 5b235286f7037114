"""`labelkit evaluate`: the detector of a run, measured."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from labelkit.cli.output import AsJson, Quiet, plain_errors, print_json, print_scores
from labelkit.counts import at_least_one
from labelkit.training.recipe import of_course

RunFolder = Annotated[Path, typer.Argument(help="The folder of a run.")]


def evaluate(
    run: RunFolder,
    data: Annotated[
        str | None, typer.Option(help="Measure on this instead of the run's own: what train --data takes.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Sizes and limits: course, aitod, soda_d or coco.")] = "course",
    which: Annotated[str, typer.Option(help="Checkpoint: best or last.")] = "best",
    detections: Annotated[
        int | None, typer.Option(help="Most detections of an image; by default the run's, or more if PRESET counts it.")
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Images in a batch.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N, mps.")] = "cpu",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure the detector of a run."""
    with plain_errors():
        from labelkit.evaluation import PRESETS
        from labelkit.evaluation import evaluate as compare
        from labelkit.training import load_detector, read_recipe
        from labelkit.training.ceiling import raise_limits, warn_of_ceiling
        from labelkit.training.devices import find_device
        from labelkit.training.measuring import check_preset, defined, detect, rules_of

        check_preset(preset)
        at_least_one(detections=detections, batch_size=batch_size)
        place, recipe = find_device(device), read_recipe(run)
        detector, classes = load_detector(run, which)
        dataset = (replace(recipe, data=data, val=None if of_course(data) else data) if data else recipe).val_set()
        if tuple(classes) != tuple(dataset.classes):
            raise ValueError(f"the run knows the classes {classes}, the data has {list(dataset.classes)}")
        raise_limits(detector, detections, PRESETS[preset].ap_max_dets, dataset.targets)
        rules = rules_of(preset, detector.detections_per_img)
        warn_of_ceiling(dataset.targets, detector.detections_per_img, "the detector returns (--detections)")
        warn_of_ceiling(dataset.targets, rules.ap_max_dets, f"preset {preset} counts")
        scores = defined(
            compare(detect(detector.to(place), dataset, batch_size, recipe.tiling), dataset.targets, rules)
        )
        if as_json:
            print_json({"run": str(run), "preset": preset, "scores": scores})
        elif not quiet:
            print_scores(scores, f"{run}, {preset}", list(rules.areas))
