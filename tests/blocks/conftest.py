"""The tests that run the documents' blocks, which take a minute, run only with `-m documents` (`make docs`)."""

import pytest


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "documents" not in config.option.markexpr:
        left_out = [item for item in items if item.get_closest_marker("documents")]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]
