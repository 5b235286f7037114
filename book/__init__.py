"""The book: the committed notebooks, the documents and the docstrings as one site. `make book` builds it."""
