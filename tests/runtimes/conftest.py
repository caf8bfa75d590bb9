"""The toys of the tests of decoding."""

from tests.decode.conftest import toy_data, toy_models  # noqa: F401
