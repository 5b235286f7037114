"""What the board trains: its rows, its data sets with their budgets, the pictures of the stage, an entry's recipe."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from labelkit.assigners import ASSIGNERS
from labelkit.training.recipe import FAST_STEPS, FULL_STEPS, Recipe


class Variant(NamedTuple):
    """A row: an assigner, its arguments, and what else differs from the recipe (loss, detector, ...).

    A similarity that stands by its name alone gets the constants of the data, see `CONSTANTS`.
    """

    assigner: str
    arguments: dict[str, Any] = {}
    settings: dict[str, Any] = {}


_SHIPPED: dict[str, Any] = {"k": 10, "alpha": 0.5}
# Every row is measured with suppression and without; these methods would leave it out by themselves.
_WITH_NMS: dict[str, Any] = {"nms_thresh": 0.5}
# "Fixed IoU" is four different rules, and they differ by more than most methods do: always named by its ties.
VARIANTS: dict[str, Variant] = {
    "max_iou, no low quality": Variant("max_iou", {"allow_low_quality_matches": False}),
    "max_iou, all ties": Variant("max_iou", {"low_quality_ties": "all"}),
    "max_iou, first tie": Variant("max_iou", {"low_quality_ties": "first"}),
    "max_iou, nearest tie": Variant("max_iou", {"low_quality_ties": "nearest"}),
    # The thresholds of NWD's, SimD's and GCD's own code.
    "max_iou, nwd": Variant("max_iou", {"similarity": "nwd", "fg_thresh": 0.7, "bg_thresh": 0.3, "min_fg": 0.3}),
    "max_iou, simd": Variant("max_iou", {"similarity": "simd", "fg_thresh": 0.7, "bg_thresh": 0.3, "min_fg": 0.3}),
    "max_iou, gcd": Variant("max_iou", {"similarity": "gcd", "fg_thresh": 0.8, "bg_thresh": 0.2, "min_fg": 0.2}),
    "fcos": Variant("fcos"),
    # As where the finest level has stride 8: here that of stride 4 is left unused. 1e8 px: JSON has no infinity.
    "fcos, from stride 8": Variant("fcos", {"regress_ranges": ((0, 0), (0, 64), (64, 1e8))}),
    "topk, k=3": Variant("topk", {"k": 3}),
    "topk, k=9": Variant("topk", {"k": 9}),
    "atss": Variant("atss"),
    "atss, smooth L1": Variant("atss", {}, {"box_loss": "smooth_l1"}),
    "s3fd": Variant("s3fd"),
    # HAMBox without the two counts of its loss; with its own box loss, and another rule under that: see chapter 10.
    "hambox": Variant("hambox"),
    "hambox, one count": Variant("hambox", {}, {"plain_loss": True}),
    "hambox, smooth L1": Variant("hambox", {}, {"box_loss": "smooth_l1"}),
    "noisy_anchors": Variant("noisy_anchors"),
    "rka": Variant("rka", {"similarity": "nwd"}),
    "rka, dotd": Variant("rka", {"similarity": "dotd"}),
    "rka, simd": Variant("rka", {"similarity": "simd"}),
    "rfla": Variant("rfla"),
    "dcfl": Variant("dcfl"),
    # FCOS's detector: three branches, and boxes as distances. "fcos" above is its rule on RetinaNet's.
    "fcos, own detector": Variant("fcos", {}, {"detector": "fcos"}),
    # The same labels, other losses on them; then boxes as distributions, which FCOS's head can have.
    "atss, quality focal": Variant("atss", {}, {"loss": "qfl"}),
    "atss, distributions": Variant("atss", {}, {"loss": "qfl", "detector": "fcos", "bins": 17}),
    "atss, varifocal": Variant("atss", {}, {"loss": "vfl"}),
    "atss, MAL": Variant("atss", {}, {"loss": "mal"}),
    # With the third branch that their papers give them.
    "paa": Variant("paa", {}, {"detector": "fcos"}),
    "ota": Variant("ota", {}, {"detector": "fcos"}),
    "simota": Variant("simota", {}, {"detector": "fcos"}),
    # As TOOD has it; as Ultralytics ships it, without the floor on sides and with it (their second stride).
    "tal": Variant("tal", {}, {"warmup_assigner": "atss"}),
    "tal, k=10": Variant("tal", _SHIPPED),
    "tal, floor 8 px": Variant("tal", _SHIPPED | {"min_side": 8.0}),
    "dsl": Variant("dsl"),
    "dsl, mmyolo": Variant("dsl", {"variant": "mmyolo"}),
    # One-to-one, by the box alone, by box and score, by place alone; then as a second head beside a rule of many.
    "topk, k=1": Variant("topk", {"k": 1}),
    "rka, dotd, k=1": Variant("rka", {"similarity": "dotd", "k": 1}),
    "poto": Variant("poto", {}, _WITH_NMS),
    "poto, box alone": Variant("poto", {"alpha": 1.0}, _WITH_NMS),
    "hungarian, inside": Variant("hungarian", {"weights": (2, 0, 2), "candidates": "inside"}, _WITH_NMS),
    "topk, k=3, then poto": Variant("topk", {"k": 3}, _WITH_NMS | {"second_assigner": "poto"}),
    "tal, then one": Variant(
        "tal", _SHIPPED, _WITH_NMS | {"second_assigner": "tal", "second_args": _SHIPPED | {"k": 7, "k_final": 1}}
    ),
}
BASELINE = "max_iou, all ties"
# A threshold alone, one that leaves nobody out, the points inside, a threshold of each object's own, the k best,
# receptive fields.
SIX_KINDS = ("max_iou, no low quality", BASELINE, "fcos", "atss", "rka", "rfla")


class Data(NamedTuple):
    """What is trained on: its parts, whose detections are pooled, the full budget, settings, and which rows."""

    parts: tuple[str, ...]
    steps: int
    settings: dict[str, Any] = {}
    rows: tuple[str, ...] = tuple(VARIANTS)


DATA = {
    "digits": Data(("digits",), FULL_STEPS),
    "sky": Data(("sky",), 500, {"flip": True}),
    "trees": Data(("trees:0", "trees:1", "trees:2"), FULL_STEPS, rows=SIX_KINDS),
}
BUDGETS = ("fast", "full")  # fast: 200 steps on any data

_AITODS_SIZES = {"nwd": {"constant": 12.8}, "dotd": {"constant": 14.0}, "simd": {"m": 1.43, "n": 1.23}}
# What `nwd_constant`, `dotd_constant` and `simd_constants` find for the training images.
CONSTANTS: dict[str, dict[str, dict[str, float]]] = {
    "digits": _AITODS_SIZES,
    "trees": _AITODS_SIZES,
    "sky": {"nwd": {"constant": 6.8}, "dotd": {"constant": 8.1}, "simd": {"m": 2.64, "n": 2.66}},
}

# The stage: the test images, by index, on which every row is shown. Digits: chapter 07's picture. Sky: many objects of
# a few pixels, and some beside a star and a large galaxy.
STAGE = {"digits": (7,), "sky": (2, 4)}


class Cell(NamedTuple):
    """One entry: a row, trained on one data set with one seed."""

    data: str
    budget: str
    variant: str
    seed: int

    @property
    def name(self) -> str:
        variant = self.variant.replace(", ", "-").replace(" ", "_").replace("=", "")
        return f"{self.data}-{self.budget}-{variant}-seed{self.seed}"

    @property
    def on_stage(self) -> bool:
        """Whether the entry keeps its weights, and its detections on the stage's pictures."""
        return self.data in STAGE and self.budget == "full" and self.seed == 0

    def recipe(self, part: str) -> Recipe:
        """That of one part of the data."""
        assigner, arguments, settings = VARIANTS[self.variant]
        metric = arguments.get("similarity")
        if metric in CONSTANTS[self.data]:
            arguments = arguments | {"similarity": {"name": metric, **CONSTANTS[self.data][metric]}}
        steps = FAST_STEPS if self.budget == "fast" else DATA[self.data].steps
        settings = DATA[self.data].settings | settings
        return Recipe(assigner=assigner, assigner_args=arguments, data=part, steps=steps, seed=self.seed, **settings)


def cells(data: str, budget: str, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Cell]:
    """All entries wanted, seed by seed, so that an interrupted board is complete for the first seeds.

    only: names of rows, or of assigners that are not the name of a row for all of theirs; by default `data`'s rows.
    """
    if data not in DATA:
        raise ValueError(f"data must be one of {', '.join(DATA)}, got {data!r}")
    if budget not in BUDGETS:
        raise ValueError(f"budget must be one of {', '.join(BUDGETS)}, got {budget!r}")
    for name in only:
        if name not in VARIANTS and name not in ASSIGNERS:
            raise ValueError(f"only must name one of {'; '.join(VARIANTS)}, got {name!r}")
    several = set(only) - set(VARIANTS)
    wanted = [name for name, row in VARIANTS.items() if name in only or row.assigner in several]
    return [Cell(data, budget, name, seed) for seed in seeds for name in (wanted if only else DATA[data].rows)]
