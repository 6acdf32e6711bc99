"""Namespaces that go as soon as their pods have gone.

Where it finds pods, the namespace controller looks again after half of the time that they may take to end, which is minutes for
a model server. A change of the namespace makes it look at once.
"""

from __future__ import annotations

from e2e.cluster.kubectl import Kubectl


def remove_namespaces(kubectl: Kubectl, *names: str) -> None:
    """Delete these, as far as they are there, and wait until they are gone."""
    kubectl("delete", "namespace", *names, "--ignore-not-found", "--wait=false")
    for name in names:
        kubectl("wait", "pods", "--all", "-n", name, "--for=delete", "--timeout=120s")
    for name in names:
        kubectl("annotate", "namespace", name, "e2e.example/pods=gone", "--overwrite", check=False)
    found = [f"namespace/{name}" for name in names]
    kubectl("wait", *found, "--for=delete", "--timeout=120s")
