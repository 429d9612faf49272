"""Writes the expected screens anew."""

from tests.client.screens.scenes import FOLDER, SCENES, SWEEPS, screens

for name in (*SCENES, *SWEEPS):
    (FOLDER / f"{name}.txt").write_text(screens(name), encoding="utf-8")
