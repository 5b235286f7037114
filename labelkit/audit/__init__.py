"""Why objects are not found, in numbers, on one's own boxes: the detector's output, its anchors, the rule."""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit.audit.computation import audit
    from labelkit.audit.front import Anchors, Front
    from labelkit.audit.objects import Objects
    from labelkit.audit.result import Audit
    from labelkit.audit.tiles import Tiles

__all__ = ["Anchors", "Audit", "Front", "Objects", "Tiles", "audit"]

__getattr__ = attach(
    __name__,
    {
        "Anchors": "labelkit.audit.front",
        "Audit": "labelkit.audit.result",
        "Front": "labelkit.audit.front",
        "Objects": "labelkit.audit.objects",
        "Tiles": "labelkit.audit.tiles",
        "audit": "labelkit.audit.computation",
    },
)
