"""Configurations as YAML: data only, of bounded size, nothing said twice."""

from typing import Any

import yaml

MOST_NODES = 100_000  # a run's configuration has some hundred


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, which builds no Python objects; it also refuses what it would take in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = set()
        for key, _ in node.value:
            if key.value in keys and key.tag != "tag:yaml.org,2002:merge":
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key "{key.value}" stands twice in one group', key.start_mark
                )
            keys.add(key.value if isinstance(key, yaml.ScalarNode) else id(key))
        return super().construct_mapping(node, deep)


def parse_yaml(text: str) -> dict[str, Any]:
    """The content of a YAML text: groups of keys, by name.

    Raises:
        ValueError: it is no YAML, holds something else than keys and values, builds Python objects, sets a
            key twice in one group, or repeats parts of itself (``&name``, ``*name``) beyond all bounds.
    """
    loader = None
    try:
        loader = _Loader(text.removeprefix("\ufeff"))
        node = loader.get_single_node()
        if node is None:
            return {}
        _check_size(node)
        content = loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise ValueError(" ".join(str(error).split())) from error
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    finally:
        if loader is not None:
            loader.dispose()
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not KEY: value lines")
    return content


def _check_size(node: yaml.Node) -> None:
    """Raises ValueError if a tree is too large, each repeated part counted as often as it stands there."""
    sizes: dict[int, int] = {}

    def size(node: yaml.Node) -> int:
        if isinstance(node, yaml.ScalarNode):
            return 1
        if id(node) not in sizes:
            sizes[id(node)] = MOST_NODES + 1  # found again while it is counted: it contains itself
            parts = [part for item in node.value for part in (item if isinstance(item, tuple) else (item,))]
            sizes[id(node)] = 1 + sum(map(size, parts))
        return sizes[id(node)]

    if size(node) > MOST_NODES:
        raise ValueError(f"it has more than {MOST_NODES:,} values, counting repeated parts")
