"""The main job, told step by step on a cluster of its own: what `make demo` runs."""
