"""The runner behind reproduce.py: protocols become jobs, jobs become processes."""
