"""The data of the embedded monitor: tables in memory with indexes and validation; used in one thread."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID, uuid4

from fastmon_daemon.testbed.monitor.fields import REQUIRED, Field, InvalidValue, RelatedField, Resource, local_text
from fastmon_daemon.testbed.monitor.tables import INTEGER_KEYS, RESOURCES

Row = dict[str, Any]


class ValidationError(Exception):
    """Invalid data, which the monitor answers with 400 and the body *errors*."""

    def __init__(self, errors: Mapping[str, Any]) -> None:
        super().__init__(errors)
        self.errors = dict(errors)


class Table:
    """The rows of one resource in order of creation, with indexes of the unique and the indexed fields."""

    def __init__(self, resource: Resource) -> None:
        self.resource = resource
        self.rows: dict[Any, Row] = {}
        self._next_key = count(1)
        self._unique: dict[str, dict[Any, Any]] = {each.name: {} for each in resource.fields if each.unique}
        self._indexes: dict[str, dict[Any, dict[Any, None]]] = {f.name: {} for f in resource.fields if f.indexed}
        self._sets: dict[tuple[Any, ...], Any] = {}

    def new_key(self) -> Any:
        """Return an unused key."""
        return next(self._next_key) if self.resource.path in INTEGER_KEYS else str(uuid4())

    def key_of(self, name: str, value: Any) -> Any:
        """Return the key of the row whose unique field (or key) *name* is *value*, or None."""
        if name == self.resource.key:
            return value if value in self.rows else None
        return self._unique[name].get(value)

    def key_of_set(self, row: Row) -> Any:
        """Return the key of the row that equals *row* in the fields that are unique together, or None."""
        return self._sets.get(self._set_of(row))

    def put(self, key: Any, row: Row) -> None:
        """Insert or replace the row *key*."""
        if key in self.rows:
            self._unindex(key, self.rows[key])
        self.rows[key] = row
        for name, keys in self._unique.items():
            keys[row[name]] = key
        for name, values in self._indexes.items():
            values.setdefault(row[name], {})[key] = None
        if self.resource.together:
            self._sets[self._set_of(row)] = key

    def remove(self, key: Any) -> Row:
        """Remove the row *key* and return it."""
        row = self.rows.pop(key)
        self._unindex(key, row)
        return row

    def where(self, wanted: Mapping[str, Any]) -> list[Row]:
        """Return the rows that have all the *wanted* values; fast if one of the fields is unique or indexed."""
        return [row for row in self._candidates(wanted) if all(row[name] == value for name, value in wanted.items())]

    def _candidates(self, wanted: Mapping[str, Any]) -> Iterable[Row]:
        for name, value in wanted.items():
            if name in self._unique:
                key = self._unique[name].get(value)
                return () if key is None else (self.rows[key],)
            if name in self._indexes:
                return [self.rows[key] for key in self._indexes[name].get(value, ())]
        return self.rows.values()

    def _set_of(self, row: Row) -> tuple[Any, ...]:
        return tuple(row[name] for name in self.resource.together)

    def _unindex(self, key: Any, row: Row) -> None:
        for name, keys in self._unique.items():
            keys.pop(row[name], None)
        for name, values in self._indexes.items():
            values[row[name]].pop(key, None)
        if self.resource.together:
            self._sets.pop(self._set_of(row), None)


class Store:
    """All tables, the counters of ``state/next-...`` and the namespaces. *now* returns aware datetimes."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self.now = now
        self.tables = {path: Table(resource) for path, resource in RESOURCES.items()}
        self.namespaces: dict[str, Row] = {}
        self._counters: dict[str, Iterable[int]] = {}

    def timestamp(self) -> str:
        """The current time in the monitor's format."""
        return local_text(self.now())

    def next_number(self, name: str, first: int) -> int:
        """Return the next value of the counter *name*, which begins at *first*."""
        return next(iter(self._counters.setdefault(name, count(first))))

    def create(self, resource: Resource, data: Any) -> Row:
        """Store a new row. Raises: ValidationError, DatabaseError."""
        table = self.tables[resource.path]
        given = self._validated(resource, data, None, partial=False)
        key = given[resource.key] if resource.key in given else table.new_key()
        stamp = self.timestamp()
        server_set = {resource.key: key, "created_at": stamp, "updated_at": stamp, "sent_at": stamp}
        row = {
            each.name: server_set[each.name] if each.read_only else given.get(each.name, each.default)
            for each in resource.fields
        }
        table.put(key, row)
        return row

    def update(self, resource: Resource, key: Any, data: Any, *, partial: bool) -> Row:
        """Change the row *key*; fields that are not given keep their values. Raises: ValidationError, DatabaseError."""
        row = self.tables[resource.path].rows[key]
        changed = {**row, **self._validated(resource, data, key, partial=partial)}
        if "updated_at" in changed:
            changed["updated_at"] = self.timestamp()
        self.tables[resource.path].put(key, changed)
        return changed

    def delete(self, resource: Resource, key: Any) -> None:
        """Remove the row *key* and the rows that refer to it."""
        row = self.tables[resource.path].remove(key)
        for child in RESOURCES.values():
            for each in child.fields:
                if isinstance(each, RelatedField) and each.table == resource.path:
                    for orphan in self.tables[child.path].where({each.name: row[each.by]}):
                        self.delete(child, orphan[child.key])

    def select(self, resource: Resource, query: Mapping[str, str]) -> list[Row]:
        """Return the rows that pass the filters in *query*, in the resource's order; unknown filters are ignored.

        Raises: ValidationError for a malformed run number or workflow id.
        """
        wanted = {resource.filters[name]: text for name, text in query.items() if text and name in resource.filters}
        if "run" in wanted:
            if not wanted["run"].isdecimal():
                raise ValidationError({"run_number": "must be an integer run number"})
            wanted["run"] = self.tables["runs"].key_of("run_number", int(wanted["run"]))
        if "workflow_id" in wanted and not is_uuid(wanted["workflow_id"]):
            raise ValidationError(
                {"workflow_id": "must be a UUID; to select a workflow's files filter by run_number/status"}
            )
        rows = self.tables[resource.path].where(wanted)
        return self._newest_first(resource, rows) if resource.ordering else rows

    def _newest_first(self, resource: Resource, rows: list[Row]) -> list[Row]:
        relation, _, name = resource.ordering.rpartition("__")
        related = resource.by_name.get(relation)
        if not isinstance(related, RelatedField):
            return sorted(rows, key=lambda row: datetime.fromisoformat(row[name]))[::-1]
        parents = self.tables[related.table].rows
        return sorted(rows, key=lambda row: datetime.fromisoformat(parents[row[relation]][name]), reverse=True)

    def _validated(self, resource: Resource, data: Any, key: Any, *, partial: bool) -> Row:
        if not isinstance(data, dict):
            raise ValidationError({"non_field_errors": [_not_a_dictionary(data)]})
        clean: Row = {}
        errors: dict[str, list[str]] = {}
        for each in resource.fields:
            try:
                clean.update(self._validated_field(each, resource, data, partial=partial))
                self._check_unique(each, resource, clean, key)
            except InvalidValue as exc:
                errors[each.name] = exc.texts
        if errors:
            raise ValidationError(errors)
        self._check_together(resource, clean, key)
        return clean

    def _validated_field(self, each: Field, resource: Resource, data: Row, *, partial: bool) -> Row:
        if each.read_only:
            return {}
        if each.name in data:
            value = each.clean(data[each.name])
            if isinstance(each, RelatedField) and value is not None and self._is_missing(each, value):
                raise InvalidValue(each.missing(data[each.name]))
            return {each.name: value}
        if not partial and (each.required or each.name in resource.together):
            raise InvalidValue(REQUIRED)
        return {}

    def _is_missing(self, each: RelatedField, value: Any) -> bool:
        return self.tables[each.table].key_of(each.by, value) is None

    def _check_unique(self, each: Field, resource: Resource, clean: Row, key: Any) -> None:
        if each.unique and each.name in clean:
            other = self.tables[resource.path].key_of(each.name, clean[each.name])
            if other is not None and other != key:
                raise InvalidValue(f"{resource.title} with this {each.name.replace('_', ' ')} already exists.")

    def _check_together(self, resource: Resource, clean: Row, key: Any) -> None:
        if not resource.together:
            return
        table = self.tables[resource.path]
        other = table.key_of_set({**table.rows.get(key, {}), **clean})
        if other is not None and other != key:
            names = ", ".join(resource.together)
            raise ValidationError({"non_field_errors": [f"The fields {names} must make a unique set."]})


def is_uuid(text: str) -> bool:
    """Whether *text* is a UUID, in any notation."""
    try:
        UUID(hex=text)
    except ValueError:
        return False
    return True


def _not_a_dictionary(data: Any) -> str:
    if data is None:
        return "No data provided"
    return f"Invalid data. Expected a dictionary, but got {type(data).__name__}."
