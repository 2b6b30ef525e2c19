"""Data sets, samplers, transforms and the loaders made of them."""

from dassl.data.data_manager import DataManager, DatasetWrapper

__all__ = ["DataManager", "DatasetWrapper"]
