"""`python -m labelkit`, which is also what torchrun starts."""

from labelkit.cli.app import main

if __name__ == "__main__":
    main()
