"""`labelkit predict`: the detector of a run on pictures, for COCO's tools and for the eye."""

from pathlib import Path
from typing import Annotated

import typer

from labelkit.cli.evaluate import RunFolder
from labelkit.cli.output import INTERRUPTED, AsJson, Quiet, plain_errors, print_json, say, speaks
from labelkit.counts import counted

Option = typer.Option


def predict(
    run: RunFolder,
    images: Annotated[list[Path], typer.Argument(help="A folder, with those below it, or files; several of both.")],
    out: Annotated[Path | None, Option(help="Folder to write into; RUN/predictions by default.")] = None,
    score: Annotated[
        float | None,
        Option(help="Lowest score. By default all that the detector returns is written, and drawn from 0.5 on."),
    ] = None,
    annotations: Annotated[
        Path | None, Option(help="A COCO file, whose image and category ids are used; its boxes are not.")
    ] = None,
    tile: Annotated[
        int | None, Option(help="Cut pictures into tiles of so many pixels; as trained by default, 0: whole pictures.")
    ] = None,
    overlap: Annotated[
        int | None, Option(help="Pixels that neighbouring tiles share, as the largest object; TILE / 4 by default.")
    ] = None,
    which: Annotated[str, Option(help="Checkpoint: best or last.")] = "best",
    detections: Annotated[int | None, Option(help="Most detections of a picture; the run's by default.")] = None,
    batch_size: Annotated[int, Option(help="Tiles at a time.")] = 8,
    draw: Annotated[bool, Option(help="Write the pictures with their boxes, too.")] = True,
    device: Annotated[str, Option(help="auto, cpu, cuda, cuda:N, mps.")] = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Find objects in pictures: OUT/predictions.json is COCO's results, OUT/images.json names their ids.

    A picture that can't be read is named at the end, with exit status 1; the others are done.
    """
    with plain_errors():
        from rich.console import Console
        from rich.progress import track

        from labelkit.training.predicting import DRAWN, IMAGES, RESULTS
        from labelkit.training.predicting import predict as find

        folder = out or run / "predictions"
        hidden = quiet or as_json or not speaks()
        try:
            found = find(
                run,
                images,
                folder,
                which=which,
                annotations=annotations,
                score=score,
                detections=detections,
                tile=tile,
                overlap=overlap,
                batch_size=batch_size,
                device=device,
                draw=draw,
                progress=lambda files: track(
                    files, "pictures", console=Console(stderr=True), transient=True, disable=hidden
                ),
            )
        except KeyboardInterrupt:
            say(f"Stopped: {folder / RESULTS} is not written; pictures drawn so far stay.")
            raise typer.Exit(INTERRUPTED) from None
        for reason in found.failed.values():
            say(f"Not done: {reason}")
        if found.full:
            full = counted(found.full, "picture has", "pictures have")
            say(f"{full} as many detections as a picture may have: --detections allows more")
        if found.cut:
            where = "at a tile's border and"
            cut = counted(found.cut, f"detection ends {where} is", f"detections end {where} are")
            say(f"{cut} whole in no tile: --overlap wants to be larger")
        summary = {"images": len(found.images), "detections": len(found.results), "failed": found.failed}
        if as_json:
            print_json({"run": str(run), "out": str(folder)} | summary)
        elif not quiet and speaks():
            results, pictures = counted(len(found.results), "detection"), counted(len(found.images), "picture")
            print(f"{results} in {pictures}: {folder / RESULTS}")
            print(f"The pictures' ids: {folder / IMAGES}" + (f"; drawn: {folder / DRAWN}" if draw else ""))
    if found.failed:
        raise typer.Exit(1)
