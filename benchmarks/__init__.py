"""What measures the project. Each script runs as ``python benchmarks/<name>.py`` and prints a table."""
