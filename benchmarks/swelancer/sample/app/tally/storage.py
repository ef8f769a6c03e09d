"""The SQLite file: its tables, and transactions over one connection that all threads share."""

import sqlite3
import threading
from contextlib import contextmanager

SCHEMA = """
CREATE TABLE IF NOT EXISTS users (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, login TEXT NOT NULL UNIQUE, salt BLOB NOT NULL, hash BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS sessions (
    token TEXT PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), expires REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS categories (
    id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id), name TEXT NOT NULL, budget INTEGER,
    UNIQUE (user_id, name)
);
CREATE TABLE IF NOT EXISTS expenses (
    id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id),
    category_id INTEGER NOT NULL REFERENCES categories (id),
    day TEXT NOT NULL, cents INTEGER NOT NULL, note TEXT NOT NULL, recurring_id INTEGER
);
CREATE INDEX IF NOT EXISTS expenses_by_day ON expenses (user_id, day);
CREATE UNIQUE INDEX IF NOT EXISTS recurring_once ON expenses (recurring_id, day) WHERE recurring_id IS NOT NULL;
CREATE TABLE IF NOT EXISTS recurring (
    id INTEGER PRIMARY KEY, user_id INTEGER NOT NULL REFERENCES users (id),
    category_id INTEGER NOT NULL REFERENCES categories (id),
    start TEXT NOT NULL, every TEXT NOT NULL, cents INTEGER NOT NULL, note TEXT NOT NULL
);
"""


class Storage:
    def __init__(self, path):
        self._lock = threading.RLock()
        self._connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._connection.row_factory = sqlite3.Row
        self._connection.executescript("PRAGMA foreign_keys = ON; PRAGMA synchronous = OFF;" + SCHEMA)

    @contextmanager
    def transaction(self):
        """All or nothing; one thread at a time."""
        with self._lock:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def all(self, sql, *values):
        with self._lock:
            return [dict(row) for row in self._connection.execute(sql, values)]

    def one(self, sql, *values):
        """The first row, or None."""
        rows = self.all(sql, *values)
        return rows[0] if rows else None

    def insert(self, table, **values):
        """The id of the new row."""
        columns, marks = ", ".join(values), ", ".join("?" * len(values))
        with self._lock:
            return self._connection.execute(
                f"INSERT INTO {table} ({columns}) VALUES ({marks})", tuple(values.values())
            ).lastrowid

    def update(self, table, row_id, **values):
        with self._lock:
            for column, value in values.items():
                self._connection.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (value, row_id))

    def delete(self, table, **where):
        """How many rows went."""
        condition = " AND ".join(f"{column} = ?" for column in where)
        with self._lock:
            return self._connection.execute(f"DELETE FROM {table} WHERE {condition}", tuple(where.values())).rowcount

    def close(self):
        self._connection.close()
