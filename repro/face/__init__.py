"""What a user meets: the command line, papermill's command, and the book's builder."""

__all__ = ["cli", "export", "papermill_plugin", "sphinx_ext"]
