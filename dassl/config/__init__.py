"""Configuration: the keys that exist, with their defaults."""

from dassl.config.defaults import clean_cfg, get_cfg_default

__all__ = ["clean_cfg", "get_cfg_default"]
