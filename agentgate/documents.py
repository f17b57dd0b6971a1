"""YAML documents, read strictly: plain data only, no key given twice, every document with the line it starts at."""

from collections.abc import Iterator
from typing import Any

from .errors import ConfigurationError, needs_extra


def load_yaml(text: str) -> Any:
    """The one document in `text`. A fault is a `ConfigurationError` with its line."""
    documents = [document for _, document in load_yaml_documents(text)]
    if len(documents) != 1:
        raise ConfigurationError(f"one YAML document is expected, not {len(documents)}")
    return documents[0]


def load_yaml_documents(text: str) -> Iterator[tuple[int, Any]]:
    """Each document with the number of its first line; empty documents are left out.

    A fault is a `ConfigurationError` that names line and column, and quotes nothing: the text may hold secrets.
    """
    try:
        import yaml
    except ImportError:
        raise ConfigurationError(needs_extra("reading YAML", "yaml")) from None

    class Loader(yaml.SafeLoader):
        pass

    def mapping(loader: Loader, node: yaml.MappingNode) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.value in seen or key.tag == "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise ConfigurationError(
                    f"line {line}: a merge key" if key.tag.endswith("merge") else f"line {line}: a key given twice"
                )
            seen.add(key.value if isinstance(key.value, str) else id(key))
        return loader.construct_mapping(node, deep=True)

    Loader.add_constructor("tag:yaml.org,2002:map", mapping)
    try:
        loader = Loader(text)
    except yaml.YAMLError:  # a control character
        raise ConfigurationError("not valid YAML") from None
    try:
        while loader.check_node():
            node = loader.get_node()
            document = loader.construct_document(node)
            if node is not None and document is not None:
                yield node.start_mark.line + 1, document
    except ConfigurationError:  # a ValueError, too: it has its own words
        raise
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{where}not valid YAML") from None
    except (yaml.YAMLError, ValueError, RecursionError, TypeError):
        raise ConfigurationError("not valid YAML") from None
    finally:
        loader.dispose()
