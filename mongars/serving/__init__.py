"""The Ray Serve application: HTTP ingress, Cortex, and the engine with hot swap."""
