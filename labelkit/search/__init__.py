"""The search: pairs, who may match (candidates), who is taken (choosing, and matching for sums). Assigners import these.

`plausible`, `windows`, `reach` and `elementwise` stand underneath; nobody outside this package imports them.
"""
