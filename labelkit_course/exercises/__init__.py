"""The exercises, one module a chapter: `chNN.py` holds EXERCISES, their tests and the wrong answers they must catch."""
