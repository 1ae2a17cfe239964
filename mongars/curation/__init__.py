"""Conversations to versioned datasets: personal data and low-quality text go out."""
