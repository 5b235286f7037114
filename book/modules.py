"""Which modules have a page in the book, in the order of its contents."""

MODULES = (
    "labelkit",
    "labelkit.assigners",
    "labelkit.similarity",
    "labelkit.boxes",
    "labelkit.search.candidates",
    "labelkit.search.choosing",
    "labelkit.detectors",
    "labelkit.losses",
    "labelkit.nms",
    "labelkit.receptive_field",
    "labelkit.datasets",
    "labelkit.training",
    "labelkit.evaluation",
    "labelkit.audit",
    "labelkit.plot",
    "labelkit.explore",
    "labelkit.interop",
)
