"""monGARS: a self-hosted assistant platform that improves itself on its owner's machines, on Ray.

Importing the package loads neither torch nor ray (a test holds this).
"""

from mongars.usage_stats import silence_usage_statistics

__version__ = "0.1.0"

silence_usage_statistics()
