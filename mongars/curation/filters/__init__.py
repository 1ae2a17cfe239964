"""One module per reason for which a text is dropped."""
