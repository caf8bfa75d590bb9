"""What a file says of the windows that its model was trained in.

Apart from `espnet_dq.whisper.weights`, since faster-whisper's runtime does without PyTorch.
"""

from collections.abc import Mapping

from espnet_dq.errors import InputError, shown

ANY_WINDOW = "any_window"  # the key, `Weights.any_window`


def read_any_window(content: object, source: object) -> bool:
    """Whether it was windows of every length, as a file's table says it.

    Raises `InputError`, naming `source`, for no table, and for what is neither true nor false.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: not a table of keys and values")
    found = content.get(ANY_WINDOW, False)
    if not isinstance(found, bool):
        raise InputError(f"{source}: {ANY_WINDOW} is {shown(found)}, neither true nor false")
    return found


def say_any_window(any_window: bool) -> dict[str, bool]:
    """What a file's table says of it: nothing where it is false, as of OpenAI's models."""
    return {ANY_WINDOW: True} if any_window else {}
