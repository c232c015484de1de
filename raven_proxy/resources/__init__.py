"""Management resources: what the gateway keeps for its people, each declared once.

A plugin declares a `Resource` (a Struct of its fields, a table, who may do what) and registers it with the
hook `register_resources`. From that one declaration come list, get, create, change and delete with paging,
scoping by organisation, checks of role and scope, uniqueness, sealed secrets, the audit log, JSON Schema and
OpenAPI. `resource` declares, `rows` maps Structs to rows, `records` does the work, `audit` remembers who did
what, `routes` speaks HTTP.
"""

from .audit import AUDIT_LOG
from .records import Records
from .resource import (
    NOBODY,
    ROLES,
    SYSTEM,
    Action,
    ActionCall,
    Caller,
    Change,
    Condition,
    Record,
    Resource,
    Role,
    Secret,
    Unkept,
    invalid,
    outranks,
)

__all__ = [
    "AUDIT_LOG",
    "NOBODY",
    "ROLES",
    "SYSTEM",
    "Action",
    "ActionCall",
    "Caller",
    "Change",
    "Condition",
    "Record",
    "Records",
    "Resource",
    "Role",
    "Secret",
    "Unkept",
    "invalid",
    "outranks",
]
