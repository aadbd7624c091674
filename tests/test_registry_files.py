from __future__ import annotations

from pathlib import Path

import pytest

from radflow.registry_files import find_registry_file, registry_file


@pytest.mark.parametrize("name", ["policy.yaml", "model_card.md", "served_model.py"])
def test_what_radflow_brings_along_is_found_from_any_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert registry_file(name).is_file()
    assert find_registry_file(f"registry/{name}") == registry_file(name)


def test_a_file_of_the_users_own_wins_and_a_missing_one_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("policy.yaml", "mine/policy.yaml", "registry/strict.yaml", str(tmp_path / "registry/policy.yaml")):
        assert find_registry_file(path) == tmp_path / path
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "policy.yaml").touch()
    assert find_registry_file("registry/policy.yaml") == tmp_path / "registry" / "policy.yaml"
