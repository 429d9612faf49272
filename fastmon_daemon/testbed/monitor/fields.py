"""The field types of the monitor's resources, with the parsing and the exact error texts of Django REST framework."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

MONITOR_ZONE = ZoneInfo("America/New_York")
INT32 = 2**31 - 1
INT64 = 2**63 - 1

REQUIRED = "This field is required."
NULL = "This field may not be null."
BLANK = "This field may not be blank."
BAD_DATETIME = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
TRUE = ("t", "y", "yes", "true", "on", "1")
FALSE = ("f", "n", "no", "false", "off", "0")


class InvalidValue(Exception):
    """A value that the monitor rejects; *texts* are its error messages."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.texts = list(texts)


class DatabaseError(Exception):
    """A value that passes validation but not PostgreSQL: the monitor answers 500."""


def local_text(time: datetime) -> str:
    """Format *time* as the monitor does: ISO 8601 with New York's offset."""
    return time.astimezone(MONITOR_ZONE).isoformat()


def contains_nul(value: Any) -> bool:
    """Whether the JSON *value* contains a NUL anywhere, keys included."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any(map(contains_nul, value)) or any(map(contains_nul, value.values()))
    return isinstance(value, list) and any(map(contains_nul, value))


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """One column."""

    name: str
    null: bool = False
    blank: bool = False
    default: Any = None
    required: bool = False
    unique: bool = False
    read_only: bool = False
    indexed: bool = False

    def clean(self, value: Any) -> Any:
        """Parse *value*, null included, into its stored form. Raises: InvalidValue."""
        if value is None:
            if self.null:
                return None
            raise InvalidValue(NULL)
        return self.parse(value)

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """Parse a *value* that is not null into its stored form. Raises: InvalidValue."""


@dataclass(frozen=True, kw_only=True)
class CharField(Field):
    """Text of at most *longest* characters; surrounding whitespace is removed."""

    longest: int | None = None

    def parse(self, value: Any) -> str:
        """See `Field.parse`."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InvalidValue("Not a valid string.")
        text = str(value).strip()
        if not text:
            if self.blank:
                return ""
            raise InvalidValue(BLANK)
        if errors := list(self._errors(text)):
            raise InvalidValue(*errors)
        return text

    def _errors(self, text: str) -> list[str]:
        errors = []
        if self.longest is not None and len(text) > self.longest:
            errors.append(f"Ensure this field has no more than {self.longest} characters.")
        if "\0" in text:
            errors.append("Null characters are not allowed.")
        if surrogate := re.search("[\ud800-\udfff]", text):
            errors.append(f"Surrogate characters are not allowed: U+{ord(surrogate.group()):X}.")
        return errors


@dataclass(frozen=True, kw_only=True)
class IntegerField(Field):
    """An integer up to *most*, also as a string of digits or as 2.0."""

    most: int = INT32

    def parse(self, value: Any) -> int:
        """See `Field.parse`."""
        if isinstance(value, str) and len(value) > 1000:
            raise InvalidValue("String value too large.")
        try:
            number = int(re.sub(r"\.0*\s*$", "", str(value)))
        except ValueError:
            raise InvalidValue(f"A valid {'integer' if self.most == INT32 else 'biginteger'} is required.") from None
        if number > self.most:
            raise InvalidValue(f"Ensure this value is less than or equal to {self.most}.")
        if number < -self.most - 1:
            raise InvalidValue(f"Ensure this value is greater than or equal to {-self.most - 1}.")
        return number


@dataclass(frozen=True, kw_only=True)
class FloatField(Field):
    """A floating point number."""

    def parse(self, value: Any) -> float:
        """See `Field.parse`."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidValue("A valid number is required.") from None


@dataclass(frozen=True, kw_only=True)
class BooleanField(Field):
    """A boolean, in DRF's spellings."""

    def parse(self, value: Any) -> bool:
        """See `Field.parse`."""
        spelling = str(value).lower()
        if spelling not in TRUE + FALSE:
            raise InvalidValue("Must be a valid boolean.")
        return spelling in TRUE


@dataclass(frozen=True, kw_only=True)
class DateTimeField(Field):
    """A time; a naive one is in New York time."""

    def parse(self, value: Any) -> str:
        """See `Field.parse`."""
        try:
            time = datetime.fromisoformat(value)
            return local_text(time if time.tzinfo else time.replace(tzinfo=MONITOR_ZONE))
        except (TypeError, ValueError, OverflowError):
            raise InvalidValue(BAD_DATETIME) from None


@dataclass(frozen=True, kw_only=True)
class ChoiceField(Field):
    """One of *choices*, compared as text."""

    choices: tuple[str | int, ...]

    def parse(self, value: Any) -> str | int:
        """See `Field.parse`."""
        for choice in self.choices:
            if str(choice) == str(value):
                return choice
        raise InvalidValue(f'"{value}" is not a valid choice.')


@dataclass(frozen=True, kw_only=True)
class UUIDField(Field):
    """A UUID."""

    def parse(self, value: Any) -> str:
        """See `Field.parse`."""
        try:
            return str(UUID(int=value) if isinstance(value, int) else UUID(hex=value))
        except (AttributeError, TypeError, ValueError):
            raise InvalidValue("Must be a valid UUID.") from None


@dataclass(frozen=True, kw_only=True)
class JSONField(Field):
    """Any JSON value."""

    def parse(self, value: Any) -> Any:
        """See `Field.parse`. Raises: DatabaseError for a NUL, which PostgreSQL's jsonb cannot store."""
        if contains_nul(value):
            raise DatabaseError(f"NUL inside {self.name}")
        return value


@dataclass(frozen=True, kw_only=True)
class RelatedField(Field):
    """Refers to the row of *table* whose field *by* has this value."""

    table: str
    by: str
    by_key: bool = True
    """Whether *by* is the primary key; the monitor's error texts differ."""
    integer_key: bool = False

    def missing(self, value: Any) -> str:
        """The monitor's error text if the row does not exist."""
        if self.by_key:
            return f'Invalid pk "{value}" - object does not exist.'
        return f"Object with {self.by}={value} does not exist."

    def parse(self, value: Any) -> Any:
        """See `Field.parse`; the store checks whether the row exists."""
        if not self.by_key:
            return str(value)
        try:
            if isinstance(value, (bool, dict, list)):
                raise TypeError
            return int(value) if self.integer_key else str(UUID(hex=value))
        except (AttributeError, TypeError, ValueError):
            raise InvalidValue(self._bad_key(value)) from None

    def _bad_key(self, value: Any) -> str:
        if isinstance(value, str) and not self.integer_key:
            return f"“{value}” is not a valid UUID."
        return f"Incorrect type. Expected pk value, received {type(value).__name__}."


@dataclass(frozen=True)
class Resource:
    """One collection under ``/api/``; unknown filters are ignored."""

    path: str
    model: str
    title: str
    key: str
    fields: tuple[Field, ...]
    together: tuple[str, ...] = ()
    """Fields that are unique together."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Query parameter -> field name."""
    ordering: str = ""
    """The time by which lists are ordered, newest first, in Django's spelling (``relation__field``); empty: none."""
    paginated: bool = False
    anonymous_writes: bool = False
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {each.name: each for each in self.fields})


def read_only_fields(*names: str) -> Iterable[Field]:
    """Columns that the server sets: the key and the times."""
    return (CharField(name=name, read_only=True) for name in names)
