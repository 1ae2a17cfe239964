"""Switches off the usage statistics of all libraries.

It imports only the standard library, because libraries read these variables when they are imported. Variables that
the operator has set are left unchanged.
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
    """Set each variable that is not set yet; child processes inherit them."""
    for name, value in SILENCED.items():
        os.environ.setdefault(name, value)
