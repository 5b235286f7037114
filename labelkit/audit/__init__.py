"""Why objects are not found, in numbers, on one's own boxes: the detector's output, its anchors, the rule."""

from typing import TYPE_CHECKING

from labelkit.lazy import attach

if TYPE_CHECKING:
    from labelkit.audit.computation import audit
    from labelkit.audit.front import Front
    from labelkit.audit.result import Audit, Objects

__all__ = ["Audit", "Front", "Objects", "audit"]

__getattr__ = attach(
    __name__,
    {
        "Audit": "labelkit.audit.result",
        "Front": "labelkit.audit.front",
        "Objects": "labelkit.audit.result",
        "audit": "labelkit.audit.computation",
    },
)
