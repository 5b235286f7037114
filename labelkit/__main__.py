"""`python -m labelkit`, which is also what torchrun starts."""

from labelkit.cli import app

if __name__ == "__main__":
    app()
