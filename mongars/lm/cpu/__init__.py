"""Optimizations of a model for CPUs, all behind `optimize.optimize_for_cpu`."""
