"""Files on anybody's disk: written whole, told apart by digest, locked, read without running what is in them.

The lowest room: it imports nothing of the project. `yaml_text` needs PyYAML, `download` requests and tqdm;
`unpickle` imports torch to read a file; the rest needs the standard library alone. `settings` and `tensors`
judge what such files hold.
"""

from fileio.atomic import atomic_write, remove_leftovers, write_text
from fileio.digest import describe_mismatch, file_digest, labelled_files_digest, unchanged_digest
from fileio.lock import InUse, exclusive, lock_holder

__all__ = [
    "InUse",
    "atomic_write",
    "describe_mismatch",
    "exclusive",
    "file_digest",
    "labelled_files_digest",
    "lock_holder",
    "remove_leftovers",
    "unchanged_digest",
    "write_text",
]
