"""The search: pairs, who may match (candidates), who is taken (choosing). Assigners import these two.

`plausible`, `buckets`, `windows`, `reach`, `elementwise`, `order` and `matching` stand underneath; nobody outside this
package imports them.
"""
