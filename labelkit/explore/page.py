from pathlib import Path
FRONT = Path(__file__).parent / "front"
RULES = tuple(FRONT / name for name in ("boxes.js", "assigners.js", "rules.js"))
