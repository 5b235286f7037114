"""The search: pairs, who may match (candidates), who is taken (choosing). Assigners import these three.

`plausible`, `windows` and `reach` stand underneath; nobody outside this package imports them.
"""
