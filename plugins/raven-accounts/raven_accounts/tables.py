"""The tables: organisations, people, where they are members, and their sessions.

A *user* is a person with an e-mail address and a password; a *member* is a user in one organisation.
"""

from __future__ import annotations

__all__ = ["ADD_DEFAULT", "MIGRATIONS"]

MIGRATIONS = (
    """CREATE TABLE organizations (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL, name TEXT NOT NULL,
      ip_allowlist TEXT, data_residency TEXT NOT NULL, allow_unpriced INTEGER, is_active INTEGER NOT NULL
    );
    CREATE TABLE users (
      id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, email TEXT NOT NULL UNIQUE, password TEXT NOT NULL
    );
    CREATE TABLE members (
      id TEXT PRIMARY KEY, organization_id TEXT NOT NULL, created_at INTEGER NOT NULL,
      user_id TEXT NOT NULL, email TEXT NOT NULL, name TEXT NOT NULL, role TEXT NOT NULL,
      rate_multiplier TEXT NOT NULL, is_active INTEGER NOT NULL, is_operator INTEGER NOT NULL DEFAULT 0,
      joined_ns INTEGER NOT NULL,
      UNIQUE (organization_id, user_id)
    );
    CREATE INDEX members_by_user ON members (user_id);
    CREATE TABLE sessions (
      digest TEXT PRIMARY KEY, user_id TEXT NOT NULL, created_at INTEGER NOT NULL, seen_at INTEGER NOT NULL
    );
    CREATE INDEX sessions_by_user ON sessions (user_id);
    CREATE TABLE setup_tokens (digest TEXT PRIMARY KEY, created_at INTEGER NOT NULL);""",
)

ADD_DEFAULT = """INSERT INTO organizations (id, organization_id, created_at, name, data_residency, is_active)
  VALUES ('org_default', 'org_default', ?, 'Default', '{"allowedRegions":null,"enforceStrictly":false}', 1)
  ON CONFLICT (id) DO NOTHING"""
