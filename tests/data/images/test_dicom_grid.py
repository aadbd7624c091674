"""A sample of the films of benchmarks/dicom_grid.py, which makes them all."""

from __future__ import annotations

import shutil

import pytest

from benchmarks.dicom_grid import EXPECTED, Cell, cells, measure

Measured = dict[Cell, dict[str, int | None]]


@pytest.fixture(scope="module")
def measured() -> Measured:
    return measure(list(cells())[::307])


def test_the_sample_has_every_value_of_every_axis(measured: Measured) -> None:
    for axis in range(len(Cell._fields)):
        assert {cell[axis] for cell in measured} == {cell[axis] for cell in cells()}


@pytest.mark.parametrize(("reference", "most"), EXPECTED.items())
def test_made_films_are_as_other_implementations_show_them(measured: Measured, reference: str, most: int) -> None:
    if reference == "dcm2pnm" and not shutil.which("dcm2pnm"):
        pytest.skip("dcm2pnm was not found (Debian: apt-get install dcmtk)")
    found = {cell: differences[reference] for cell, differences in measured.items()}
    compared = {cell: largest for cell, largest in found.items() if largest is not None}
    assert len(compared) >= len(measured) * 0.8
    assert {cell: largest for cell, largest in compared.items() if largest > most} == {}
