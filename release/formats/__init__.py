"""Rows out of the files of real releases, each format by a reader of its own, and no more read than is needed."""
