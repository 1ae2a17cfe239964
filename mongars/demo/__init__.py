"""The whole loop shown on one machine: generated conversations, a served swap under load, a report."""
