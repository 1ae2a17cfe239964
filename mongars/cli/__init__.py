"""The `mongars` command."""
