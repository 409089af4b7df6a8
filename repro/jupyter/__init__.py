"""papermill's command and the book's builder."""
