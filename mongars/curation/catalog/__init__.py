"""Dataset versions on disk: manifests, cards, retention and erasure."""
