"""The place where a study is kept, and the lock under which workers of any machine decide what to do next.

Optuna's storages hand out trials safely, but making tables, counting trials before the next is asked for, and failing
the trials of dead workers are several steps each: `exclusive` makes them one.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from optuna.storages import BaseStorage, RDBStorage
from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import SQLAlchemyError

from radflow.errors import UserError
from radflow.locks import only_one_process
from radflow.search.config import JOURNAL
from radflow.search.journal import open_journal
from radflow.secrets import hide_secrets
from radflow.tracking.spool import root_cause


class StudyStorage(Protocol):
    """A place for studies that several processes share."""

    def open(self) -> BaseStorage:
        """Optuna's storage, whose file or tables are made if they are not there; to be called under `exclusive`."""
        ...

    def exclusive(self) -> AbstractContextManager[None]:
        """Hold the study's lock; it is let go of when its process dies, however that happens."""
        ...


@dataclass(frozen=True)
class JournalFile:
    """A file to which every change is appended: for the workers of one machine, or of one shared file system."""

    path: Path

    def open(self) -> BaseStorage:
        """See StudyStorage."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return open_journal(self.path)

    def exclusive(self) -> AbstractContextManager[None]:
        """See StudyStorage."""
        return only_one_process(self.path.with_suffix(".turn"))


@dataclass(frozen=True)
class PostgreSQL:
    """A database: for the workers of several machines."""

    url: str

    def open(self) -> BaseStorage:
        """See StudyStorage."""
        with self._as_user_errors():
            # A worker speaks a few times an hour: no connection is kept, which a server or firewall would have cut.
            return RDBStorage(self.url, engine_kwargs={"poolclass": NullPool})

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See StudyStorage. The lock belongs to a connection of its own, so that it ends with it."""
        with self._as_user_errors():
            connection = create_engine(self.url, poolclass=NullPool).connect()
        with connection:
            connection.execute(text("SELECT pg_advisory_lock(hashtext('radflow search'))"))
            yield

    @contextmanager
    def _as_user_errors(self) -> Iterator[None]:
        try:
            yield
        except (SQLAlchemyError, ValueError) as error:
            raise UserError(
                f"storage={hide_secrets(self.url)} cannot be used: {root_cause(error)}; "
                "give postgresql://USER@HOST/DATABASE of a server that answers (password: PGPASSWORD or ~/.pgpass)"
            ) from error


def study_storage(location: str, folder: Path) -> StudyStorage:
    """The storage that the parameter `storage` names; `folder` is the study's own."""
    return JournalFile(folder / "study.journal") if location == JOURNAL else PostgreSQL(location)
