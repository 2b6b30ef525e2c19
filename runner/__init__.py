"""One run (configuration, folder, record), and many of them: protocols become jobs, jobs become processes."""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent  # folder of the project
