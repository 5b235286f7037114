"""Are the image files those that the annotations speak of? Opened one by one, in the order of the annotation file."""

from __future__ import annotations

import os.path
from pathlib import Path

from labelkit.datasets.pixels import Header, Size, read_header, read_picture, wrong_size
from labelkit.datasets.report import Fault, Problem, Report

LOOKED_AT = 20  # pictures of more than 8 bits whose pixels the check reads, to see how bright they are
DARK = 0.25  # of the full scale: when none of them reaches it, two bits or more are never used


class ImageFiles:
    """The pictures below `folder`. What is wrong raises `Fault`; what was repaired or is changed goes to `report`."""

    def __init__(self, folder: Path, file: str, report: Report, *, decode: bool, white: float | None) -> None:
        self.folder, self.file, self.report = folder, file, report
        self.decode, self.white = decode, white
        self.listed: dict[str, str] = {}  # file name: the record that brought it first
        self.wide = 0
        self.brightest: tuple[float, str, float] | None = None  # as a share of the full scale, where, full scale

    def check(self, name: str, file_name: str, stated: Size | None, said: str) -> tuple[str, Size]:
        """The file's name and size. `said` is what the record says of its size, for the case that it is no size."""
        path = self.folder / file_name
        if not os.path.isfile(path) and "\\" in file_name:
            file_name = file_name.replace("\\", "/")
            path = self.folder / file_name
        if not os.path.isfile(path):  # as of a name that is too long for a file: Path.is_file raises then
            raise Fault("missing file", f"there is no file {path}")
        try:
            header = read_header(path)
            size = stated or header.shown
            if size not in (header.stored, header.shown):
                raise Fault("wrong size", f"{path}: {wrong_size(header, size)}")
            self._look(path, header, size)
        except OSError as error:
            raise Fault("unreadable file", str(error)) from error
        if stated is None:
            self._problem(name, f"{said}; the file has {size[0]} x {size[1]}", "size repaired", "repaired")
        self._orientation(name, path, header, stated)
        self.report.notes += [self._record(name, said, kind, "read") for kind, said in header.changes()]
        first = self.listed.setdefault(file_name, name)
        if first != name:
            self._problem(
                name, f"{path} is also that of {first}; each has only its own boxes", "same file twice", "kept"
            )
        return file_name, size

    def darkness(self) -> None:
        """Report a set of more than 8 bits that uses a small part of its range."""
        if self.brightest is None or self.brightest[0] >= DARK:
            return
        share, path, full = self.brightest
        message = (
            f"the brightest value is {share * full:.6g} of {full:.10g} ({path}): these pictures are nearly black as "
            f"they are read; if they hold fewer bits, say which value is white, such as white=4095 for 12 bits"
        )
        self._problem("images of more than 8 bits", message, "dark", "kept")

    def _look(self, path: Path, header: Header, size: Size) -> None:
        sample = header.full is not None and self.white is None and self.wide < LOOKED_AT
        if not sample and not self.decode:
            return
        pixels = read_picture(path, size, white=self.white)
        if header.full is not None and self.white is None:
            self.wide += 1
            share = float(pixels.max())
            if self.brightest is None or share > self.brightest[0]:
                self.brightest = share, str(path), header.full

    def _orientation(self, name: str, path: Path, header: Header, stated: Size | None) -> None:
        if header.orientation == 1:
            return
        message = f"{path} has EXIF orientation {header.orientation}"
        if stated is None or header.stored == header.shown:
            message += (
                "; no size says whether its boxes are those of the stored or of the turned picture: turned, as "
                "browsers and annotation tools show it (pycocotools and torchvision do not turn)"
            )
            self._problem(name, message, "EXIF orientation", "turned")
        elif header.turned(stated):
            message += "; turned, for the size stated is that of the turned picture"
            self.report.notes.append(self._record(name, message, "EXIF orientation, turned", "turned"))
        else:
            message += "; not turned, for the size stated is that of the stored pixels"
            self.report.notes.append(self._record(name, message, "EXIF orientation, not turned", "kept"))

    def _record(self, name: str, message: str, kind: str, action: str) -> Problem:
        return Problem(self.file, name, message, f"image: {kind}", action)

    def _problem(self, name: str, message: str, kind: str, action: str) -> None:
        self.report.problems.append(self._record(name, message, kind, action))
