"""Make data/neon_trees from the pictures and boxes that the deepforest 2.1.0 wheel carries.

The outputs are committed; this script stays for provenance. It downloads one wheel with pip, checks its
SHA-256, reads two pictures and their boxes out of it, and never installs it.
Run: python data/make_neon_trees.py
"""

import hashlib
import io
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from PIL import Image

WHEEL = "deepforest==2.1.0"
WHEEL_SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
PICTURES = {
    "yell_528.jpg": "deepforest/data/2019_YELL_2_528000_4978000_image_crop2",
    "yell_541.jpg": "deepforest/data/2019_YELL_2_541000_4977000_image_crop",
}
FACTOR = 2  # 10 cm a pixel in the wheel, 20 cm a pixel here
OUT = Path(__file__).parent / "neon_trees"


def download_wheel(folder: str) -> Path:
    """Fetch the wheel into `folder` without its dependencies and return its path, checked."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, WHEEL]
    subprocess.run(command, check=True)
    (path,) = Path(folder).glob("*.whl")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    if digest != WHEEL_SHA256:
        raise ValueError(f"{path.name} has SHA-256 {digest}, expected {WHEEL_SHA256}")
    return path


def read_boxes(xml: bytes) -> list[list[float]]:
    """The Pascal VOC boxes as COCO's x, y, width, height in pixels of the reduced picture (exact halves)."""
    boxes = []
    for bndbox in ElementTree.fromstring(xml).iter("bndbox"):
        x1, y1, x2, y2 = (float(bndbox.findtext(key)) / FACTOR for key in ("xmin", "ymin", "xmax", "ymax"))
        boxes.append([x1, y1, x2 - x1, y2 - y1])
    return boxes


def main() -> None:
    OUT.mkdir(exist_ok=True)
    images, annotations = [], []
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(download_wheel(folder)) as wheel:
        for image_id, (file_name, source) in enumerate(PICTURES.items(), start=1):
            picture = Image.open(io.BytesIO(wheel.read(source + ".png"))).convert("RGB").reduce(FACTOR)
            picture.save(OUT / file_name, quality=95, optimize=True)
            width, height = picture.size
            images.append({"id": image_id, "file_name": file_name, "width": width, "height": height})
            for box in read_boxes(wheel.read(source + ".xml")):
                annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1}
                annotations.append(annotation | {"bbox": box, "area": box[2] * box[3], "iscrowd": 0})
    info = {"description": "Tree crowns in NEON airborne images, 20 cm a pixel; see ATTRIBUTION.md"}
    categories = [{"id": 1, "name": "tree"}]
    coco = {"info": info, "images": images, "categories": categories, "annotations": annotations}
    text = json.dumps(coco, separators=(",", ":")).replace("},{", "},\n{")  # one record a line
    (OUT / "annotations.json").write_text(text + "\n")
    print(f"{len(images)} pictures, {len(annotations)} boxes in {OUT}")


if __name__ == "__main__":
    main()
