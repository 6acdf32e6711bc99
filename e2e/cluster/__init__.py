"""The cluster that demos and end-to-end tests run against: a real control plane without Docker, root or a network."""
