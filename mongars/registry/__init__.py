"""Adapters as content-addressed folders, their manifest, and the named actor that tells every replica."""
