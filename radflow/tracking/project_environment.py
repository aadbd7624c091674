"""Registers this project's virtual environment with MLflow, so that plain `mlflow run .` uses it.

For a python_env project MLflow looks for an environment under a name that it derives from python_env.yaml before it
looks for pyenv or builds one. The functions that derive the name are private; a test holds them to what MLflow does.
"""

from __future__ import annotations

from pathlib import Path

from mlflow.utils.environment import _PythonEnv
from mlflow.utils.virtualenv import _get_mlflow_virtualenv_root, _get_virtualenv_name


def registered_environment(project: Path) -> Path:
    """Folder in which `mlflow run` looks for the environment of the project in the folder `project`."""
    python_env = _PythonEnv.from_yaml(project / "python_env.yaml")
    return Path(_get_mlflow_virtualenv_root()) / _get_virtualenv_name(python_env, str(project))


def register_environment(project: Path, environment: Path) -> Path:
    """Link `environment` to where `mlflow run` looks, and return that place.

    Two checkouts with equal requirements share the link. Entry points start as `python -m` in their own folder, so
    each runs its own code whichever environment the link leads to.
    """
    link = registered_environment(project)
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_symlink():
        link.unlink()
    if not link.exists():
        link.symlink_to(environment.resolve())
    return link
