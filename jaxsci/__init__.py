"""A prediction, what must hold of it, and how sure we are."""
