"""No call home: switches off the usage statistics of every library that has them.

Owns the list of switches. Must not import anything but the standard library, because it runs
before the libraries are imported (they read these variables when they load).
A variable that the operator has set is left as it is.
"""

import os

SILENCED = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "LANCEDB_DISABLE_TELEMETRY": "1",
    "DISABLE_TELEMETRY": "1",
}


def silence_usage_statistics() -> None:
    """Set each switch that is not set yet; child processes inherit them."""
    for name, value in SILENCED.items():
        os.environ.setdefault(name, value)
