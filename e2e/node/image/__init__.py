"""What runs on the real nodes: images packed from this machine's Python, and models made of nothing."""
