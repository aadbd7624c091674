"""MLflow's system metrics, sent through the run's spool like all others."""

from __future__ import annotations

import logging
from collections.abc import Callable

from mlflow.entities import Run
from mlflow.environment_variables import MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL
from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

# MLflow's default of 10 s leaves a run of half a minute without a curve.
_SAMPLING_SECONDS = 5.0


class SpooledSystemMetrics(SystemMetricsMonitor):
    """MLflow's monitor, which ends at the first request that fails, with the sending replaced.

    Args:
        run: as MLflow has it; the steps of a resumed run's system metrics go on from there.
        log: receives the measures ("system/cpu_utilization_percentage", ...) and their step.
    """

    def __init__(self, run: Run, log: Callable[[dict[str, float], int], None]) -> None:
        logging.getLogger("mlflow.system_metrics").setLevel(logging.WARNING)  # its INFO lines tell the user nothing
        interval = MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL.get() or _SAMPLING_SECONDS
        super().__init__(run.info.run_id, sampling_interval=interval)
        self._log = log
        self._logging_step = 1 + max(_system_steps(run), default=-1)

    def monitor(self) -> None:
        """Sample until `finish()`, and once more then, so that the shortest run has a value."""
        # The CPU share is measured since the previous call: the first one only sets the start.
        self.collect_metrics()
        self._clear()
        ended = False
        while not ended:
            ended = self._shutdown_event.wait(self.sampling_interval)
            self.collect_metrics()
            self.publish_metrics(self.aggregate_metrics())

    def publish_metrics(self, metrics: dict[str, float]) -> None:
        """Log one sample of every measure."""
        self._log({f"{self._metrics_prefix}{key}": value for key, value in metrics.items()}, self._logging_step)
        self._logging_step += 1
        self._clear()

    def finish(self) -> None:
        """Take the last sample and stop."""
        self._shutdown_event.set()
        if self._process is not None:
            self._process.join()

    def _clear(self) -> None:
        for monitor in self.monitors:
            monitor.clear_metrics()


def _system_steps(run: Run) -> list[int]:
    return [metric.step for metric in run.data._metric_objs if metric.key.startswith("system/")]
