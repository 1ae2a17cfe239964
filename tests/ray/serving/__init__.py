"""Tests of the deployed application; a package, so that they share one deployment of it."""
