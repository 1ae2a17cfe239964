"""The Ray Serve deployments and the clients between them."""
