"""Options of the form NAME=PATH."""

from pathlib import Path

from espnet_dq.errors import InputError


def named(given: list[str], option: str) -> dict[str, Path]:
    """The NAME=PATH of an option."""
    found: dict[str, Path] = {}
    for each in given:
        name, equals, path = each.partition("=")
        if not equals or not name or "/" in name or name in found:
            raise InputError(f"{option} {each}: not NAME=PATH, or a name that stands twice")
        found[name] = Path(path)
    return found
