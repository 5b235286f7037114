"""`labelkit convert`: a data set in another layout, checked and written in labelkit's own."""

from pathlib import Path
from typing import Annotated

import typer

from labelkit.cli.output import plain_errors
from labelkit.counts import counted


def convert(
    source: Annotated[Path, typer.Argument(help="A folder, a COCO JSON file or a YOLO data.yaml.")],
    destination: Annotated[Path, typer.Argument(help="A new folder.")],
    kind: Annotated[
        str, typer.Option("--from", help="auto, labelkit, roboflow, coco, yolo, visdrone or wider.")
    ] = "auto",
    split: Annotated[
        list[str] | None, typer.Option(help="Only this split: train, val or test. May be given several times.")
    ] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of the images, if the layout's is another.")] = None,
    white: Annotated[
        float | None, typer.Option(help="Value of white in pictures of more than 8 bits: 4095 for 12 bits.")
    ] = None,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images, even where they can be linked.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Stop if any annotation is faulty.")] = False,
) -> None:
    """Write DESTINATION/annotations.json and images, for each split, from another layout; say what was lost."""

    with plain_errors():
        from labelkit.datasets.layouts import ALL, find_layout, open_split
        from labelkit.datasets.writing import write_folders

        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise ValueError(f"{destination} is there already, and not empty: name a new folder")
        layout = find_layout(source, images, kind=kind)
        print(f"found {layout}")
        opened = {}
        for name in split or layout.splits:
            dataset = open_split(layout, name, strict=strict, decode=True, white=white)
            print(f"{name}: {dataset.report}")
            opened[destination if name == ALL else destination / name] = dataset
        written = write_folders(opened, copy=copy)
        for (folder, dataset), (linked, copied) in zip(opened.items(), written, strict=True):
            boxes = counted(len(dataset.coco()["annotations"]), "box", "boxes")
            images_linked, classes = counted(linked, "image linked", "images linked"), ", ".join(dataset.classes)
            print(f"wrote {folder}: {images_linked}, {copied} copied; {boxes} of {classes}")
