"""One function per use case; the command line, the jobs and the demo call these."""
