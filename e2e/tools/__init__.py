"""Tools that the end-to-end suite builds or reads with: Helm, kubeconform, and what the operator's rights were used for."""
