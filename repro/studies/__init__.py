"""What is measured, shown and judged: one paper, a report on it, and what else was asked."""
