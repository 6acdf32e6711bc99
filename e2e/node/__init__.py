"""Real nodes for the local control plane: kubelet, containerd and runc in namespaces of their own, and images without a
registry."""
