"""What goes to MLflow: runs, metric keys, models.

Importing this package sets MLflow's environment before MLflow itself is imported; what the user has set stays.
"""

import os

_MLFLOW_ENVIRONMENT = {
    # Hospital networks: nothing leaves the machine but what the user asked for.
    "MLFLOW_DISABLE_TELEMETRY": "true",
    # One bar per uploaded file would tear radflow's own progress bar apart.
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # MLflow's own defaults (7 retries of 120 s) keep a process that wants to end waiting for minutes. Retrying is the
    # spool's work (spool.py), so one request fails soon.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    # Without git on the PATH, MLflow warns at every run; the commit is then just not logged.
    "GIT_PYTHON_REFRESH": "quiet",
}

for _name, _value in _MLFLOW_ENVIRONMENT.items():
    os.environ.setdefault(_name, _value)
