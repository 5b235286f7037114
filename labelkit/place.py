"""Where a detector's assigner works: on the device of the network, or beside it on the CPU. Said without torch."""

from collections.abc import Callable

PLACES = (None, "cpu")


def check_place(assign_on: str | None, **assigners: Callable | None) -> None:
    """ValueError for another place, and for a rule that would have to wait there for what the network predicts."""
    if assign_on not in PLACES:
        raise ValueError(f"assign_on must be None, which is where the network computes, or 'cpu', got {assign_on!r}")
    if assign_on is None:
        return
    for field, assigner in assigners.items():
        if assigner is not None and getattr(assigner, "needs_predictions", True):
            raise ValueError(
                f"assign_on={assign_on!r} is for rules that need no predictions, those are on the network's device: "
                f"{field} {type(assigner).__name__} needs them"
            )
