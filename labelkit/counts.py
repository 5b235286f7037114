"""Counts: refused where there must be one at least, and said with their noun in the right number. Without torch."""


def at_least_one(**counts: int | None) -> None:
    """A ValueError for a count below 1, under the name that it has here; None is one that nobody gave."""
    for name, count in counts.items():
        if count is not None and count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")


def counted(count: int, one: str, many: str = "", form: str = "") -> str:
    """The count and its noun, "1 box": `one`, or else `many`, by default `one` with an s. form: of the number."""
    return f"{count:{form}} {one if count == 1 else many or f'{one}s'}"
