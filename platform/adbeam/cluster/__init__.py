"""Ray clusters: Kubernetes manifests from one settings file, checks of cluster and Serve YAML, a local cluster."""
