"""One file a method; what methods share stands in ``trainers/common``."""
