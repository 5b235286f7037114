"""Running out of memory, told from other errors by their words, without torch: command lines ask this too."""

from __future__ import annotations


def out_of_memory(error: BaseException) -> str | None:
    """A sentence that says what would need less, or None for any other error.

    A GPU's is torch.OutOfMemoryError, the CPU's a RuntimeError, numpy's and Python's own a MemoryError.
    """
    short = str(error).strip().partition("\n")[0]
    of_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in short
    if not (of_cpu or isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"):
        return None
    return f"out of memory: smaller batches, smaller inputs or tiles need less ({short or type(error).__name__})"
