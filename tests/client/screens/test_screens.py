"""Each scene is drawn as its file says, to the last character and style."""

import pytest

from tests.client.screens.scenes import FOLDER, SCENES, SWEEPS, screens


@pytest.mark.parametrize("name", [*SCENES, *SWEEPS])
def test_the_screen_is_as_expected(name: str) -> None:
    assert screens(name).splitlines() == (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_each_file_belongs_to_a_scene() -> None:
    assert {path.stem for path in FOLDER.glob("*.txt")} == {*SCENES, *SWEEPS}
