"""Words in YAML, as files of sweeps and papermill's parameters give them."""

import yaml

from repro import ReproError, first_line


class CoreLoader(yaml.SafeLoader):
    """A loader that takes numbers in tens alone, and no, dates and the like as texts."""

    def compose_mapping_node(self, anchor):
        """Compose a mapping; an error if one of its keys is there twice."""
        node = super().compose_mapping_node(anchor)
        keys = [str(key.value) for key, _ in node.value]
        if twice := [key for key in keys if keys.count(key) > 1]:
            raise ReproError(f"{twice[0]} is there twice")
        return node


def _truth(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)


for _tag, _read in {"int": int, "float": float, "bool": _truth, "timestamp": str}.items():
    CoreLoader.add_constructor(
        f"tag:yaml.org,2002:{_tag}", lambda loader, node, read=_read: read(node.value)
    )


def read_yaml(text: str | bytes, what: str) -> object:
    """What a text in YAML says; ReproError, which calls it ``what``, if it is none."""
    try:
        return yaml.load(text, Loader=CoreLoader)
    except Exception as error:  # constructors raise anything, and deep nesting a RecursionError
        deep = isinstance(error, RecursionError)
        said = "nested too deeply" if deep else getattr(error, "problem", 0) or first_line(error)
        raise ReproError(f"{what} cannot be read ({said})") from None
