"""Ray Serve application: ingress, replica, history store, autoscaling, request log."""
