"""A family in MLflow's model registry: its champion, the champions before it, its challenger."""

from __future__ import annotations

from collections.abc import Mapping

import mlflow
from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

CHAMPION, CHALLENGER = "champion", "challenger"

HISTORY_TAG = "radflow.champions"
"""Tag of the registered model: the versions that were champion one after the other, the present one last."""
DECISION_TAG = "radflow.decision"
"""Tag of a version: what the last promotion that judged it decided."""
REASONS_TAG = "radflow.reasons"
PREVIOUS_TAG = "radflow.previous_champion"
PROMOTED, REFUSED, ROLLED_BACK = "promoted", "refused", "rolled back"

DESCRIPTION_LENGTH = 5000
"""Characters that a database behind MLflow keeps of a version's description."""


class RegisteredFamily:
    """The registered model of a family. Whoever changes it has the turn (lock.py)."""

    def __init__(self, client: MlflowClient, name: str) -> None:
        self._client = client
        self.name = name

    def champion(self) -> ModelVersion | None:
        """The version with the alias champion."""
        return self._by_alias(CHAMPION)

    def versions(self) -> list[ModelVersion]:
        """All versions, the oldest first."""
        found = self._client.search_model_versions(f"name = '{self.name}'")
        return sorted(found, key=lambda version: int(version.version))

    def history(self) -> list[str]:
        """Versions that were champion, the present one last; [] where there is none.

        The alias is the truth: it may have been set by hand, or the process that set it may have died between the two.
        """
        champion = self.champion()
        if champion is None:
            return []
        present = str(champion.version)
        noted = self._client.get_registered_model(self.name).tags.get(HISTORY_TAG, "").split(",")
        existing = {str(version.version) for version in self.versions()}
        past = [version for version in noted if version in existing]
        if present not in past:
            return [*past, present]
        last = len(past) - 1 - past[::-1].index(present)
        return past[: last + 1]

    def register(self, run: Run) -> str:
        """Make the run's model a version, unless it is one, and return its number."""
        for version in self.versions():
            if version.run_id == run.info.run_id:
                return str(version.version)
        source = f"models:/{run.outputs.model_outputs[0].model_id}"
        return str(mlflow.register_model(source, self.name).version)

    def describe(self, number: str, description: str) -> None:
        """Set the text that the UI shows of a version, as Markdown."""
        self._client.update_model_version(self.name, number, description[:DESCRIPTION_LENGTH])

    def make_champion(self, number: str) -> None:
        """Put a version after the present champion."""
        self._note([*self.history(), number])
        self._client.set_registered_model_alias(self.name, CHAMPION, number)
        challenger = self._by_alias(CHALLENGER)
        if challenger is not None and str(challenger.version) == number:
            self._client.delete_registered_model_alias(self.name, CHALLENGER)

    def make_challenger(self, number: str) -> None:
        """Give a version the alias challenger."""
        self._client.set_registered_model_alias(self.name, CHALLENGER, number)

    def return_to_previous(self) -> None:
        """Make the last champion but one champion again; there must be one."""
        *past, previous, _ = self.history()
        self._client.set_registered_model_alias(self.name, CHAMPION, previous)
        self._note([*past, previous])

    def set_tags(self, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(self.name, number, key, value)

    def _note(self, history: list[str]) -> None:
        self._client.set_registered_model_tag(self.name, HISTORY_TAG, ",".join(history))

    def _by_alias(self, alias: str) -> ModelVersion | None:
        try:
            return self._client.get_model_version_by_alias(self.name, alias)
        except MlflowException as error:  # no such model, or no such alias
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
