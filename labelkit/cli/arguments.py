"""A rule's arguments on the command line, `--set NAME=VALUE`, and how they stand in the name of a run's folder."""

from labelkit.training.naming import LONGEST, run_folder
from labelkit.training.spoken import parse_arguments

__all__ = ["LONGEST", "parse_arguments", "run_folder"]
