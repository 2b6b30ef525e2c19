"""Configuration: the keys that exist, with their defaults."""

from dassl.config.defaults import get_cfg_default

__all__ = ["get_cfg_default"]
