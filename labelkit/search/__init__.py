"""The search: pairs, who may match (candidates), who is taken (choosing; matching, by the sum). Assigners import these.

`plausible`, `windows`, `reach` and `elementwise` stand underneath; nobody outside this package imports them.
"""
