"""What the monitor's resources are made of: kinds of field, how each reads a value and what it says to a wrong one.

Owns the error texts, word for word as Django REST framework words them. It must not know HTTP, nor which resource has
which field; rows of other tables it sees only through `Lookup`.
"""

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
WRONG_MOMENT = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)
TRUE = ("t", "y", "yes", "true", "on", "1")
FALSE = ("f", "n", "no", "false", "off", "0")


class InvalidValue(Exception):
    """A value that the monitor refuses; *texts* are what it says."""

    def __init__(self, *texts: str) -> None:
        super().__init__(*texts)
        self.texts = list(texts)


class DatabaseError(Exception):
    """A value that passes validation and that PostgreSQL then refuses: the monitor answers 500."""


def local_text(moment: datetime) -> str:
    """*moment* as the monitor shows it: ISO 8601 in New York's offset."""
    return moment.astimezone(MONITOR_ZONE).isoformat()


def holds_nul(value: Any) -> bool:
    """Whether a NUL stands anywhere inside the JSON *value*, keys included."""
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, Mapping):
        return any(holds_nul(key) or holds_nul(inner) for key, inner in value.items())
    return isinstance(value, list) and any(holds_nul(inner) for inner in value)


@dataclass(frozen=True, kw_only=True)
class Field(ABC):
    """One column. Whoever writes it may leave it out when it has a default or may be null."""

    name: str
    null: bool = False
    blank: bool = False
    default: Any = None
    required: bool = False
    unique: bool = False
    read_only: bool = False
    indexed: bool = False

    def clean(self, value: Any) -> Any:
        """*value* as it is stored.

        Raises:
            Invalid: with the texts of the monitor.
        """
        if value is None:
            if self.null:
                return None
            raise InvalidValue(NULL)
        return self.read(value)

    @abstractmethod
    def read(self, value: Any) -> Any:
        """A *value* that is not null, as it is stored. Each kind has its own.

        Raises:
            Invalid: with the texts of the monitor.
        """


@dataclass(frozen=True, kw_only=True)
class CharField(Field):
    """Text of at most *longest* characters, without the spaces around it."""

    longest: int | None = None

    def read(self, value: Any) -> str:
        """See `Field.parse`."""
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise InvalidValue("Not a valid string.")
        text = str(value).strip()
        if not text:
            if self.blank:
                return ""
            raise InvalidValue(BLANK)
        if errors := list(self._complaints(text)):
            raise InvalidValue(*errors)
        return text

    def _complaints(self, text: str) -> list[str]:
        complaints = []
        if self.longest is not None and len(text) > self.longest:
            complaints.append(f"Ensure this field has no more than {self.longest} characters.")
        if "\0" in text:
            complaints.append("Null characters are not allowed.")
        if surrogate := re.search("[\ud800-\udfff]", text):
            complaints.append(f"Surrogate characters are not allowed: U+{ord(surrogate.group()):X}.")
        return complaints


@dataclass(frozen=True, kw_only=True)
class IntegerField(Field):
    """A whole number up to *most*, also as a string of digits or as 2.0."""

    most: int = INT32

    def read(self, value: Any) -> int:
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

    def read(self, value: Any) -> float:
        """See `Field.parse`."""
        try:
            return float(value)
        except (TypeError, ValueError):
            raise InvalidValue("A valid number is required.") from None


@dataclass(frozen=True, kw_only=True)
class BooleanField(Field):
    """True or false, in many spellings."""

    def read(self, value: Any) -> bool:
        """See `Field.parse`."""
        spelling = str(value).lower()
        if spelling not in TRUE + FALSE:
            raise InvalidValue("Must be a valid boolean.")
        return spelling in TRUE


@dataclass(frozen=True, kw_only=True)
class DateTimeField(Field):
    """A time; a naive one is taken as New York's."""

    def read(self, value: Any) -> str:
        """See `Field.parse`."""
        try:
            moment = datetime.fromisoformat(value)
            return local_text(moment if moment.tzinfo else moment.replace(tzinfo=MONITOR_ZONE))
        except (TypeError, ValueError, OverflowError):
            raise InvalidValue(WRONG_MOMENT) from None


@dataclass(frozen=True, kw_only=True)
class ChoiceField(Field):
    """One of *choices*, compared as text."""

    choices: tuple[str | int, ...]

    def read(self, value: Any) -> str | int:
        """See `Field.parse`."""
        for choice in self.choices:
            if str(choice) == str(value):
                return choice
        raise InvalidValue(f'"{value}" is not a valid choice.')


@dataclass(frozen=True, kw_only=True)
class UUIDField(Field):
    """A UUID."""

    def read(self, value: Any) -> str:
        """See `Field.parse`."""
        try:
            return str(UUID(int=value) if isinstance(value, int) else UUID(hex=value))
        except (AttributeError, TypeError, ValueError):
            raise InvalidValue("Must be a valid UUID.") from None


@dataclass(frozen=True, kw_only=True)
class JSONField(Field):
    """Any JSON value."""

    def read(self, value: Any) -> Any:
        """See `Field.parse`; a NUL inside passes here and breaks in the database.

        Raises:
            DatabaseError: PostgreSQL's jsonb holds no NUL.
        """
        if holds_nul(value):
            raise DatabaseError(f"NUL inside {self.name}")
        return value


@dataclass(frozen=True, kw_only=True)
class RelatedField(Field):
    """The row of *table* whose *by* is the value; *shown* by that same value."""

    table: str
    by: str
    by_key: bool = True
    """Named by the primary key; otherwise by a unique name, and the monitor words its error so."""

    def missing(self, value: Any) -> str:
        """What the monitor says when there is no such row."""
        if self.by_key:
            return f'Invalid pk "{value}" - object does not exist.'
        return f"Object with {self.by}={value} does not exist."

    def read(self, value: Any) -> Any:
        """See `Field.parse`; whether the row exists is for the store to say."""
        if not self.by_key:
            return str(value)
        try:
            if isinstance(value, (bool, dict, list)):
                raise TypeError
            return int(value) if self.table == "runs" else str(UUID(hex=value))
        except (AttributeError, TypeError, ValueError):
            raise InvalidValue(self._misspelt(value)) from None

    def _misspelt(self, value: Any) -> str:
        if isinstance(value, str) and self.table != "runs":
            return f"“{value}” is not a valid UUID."
        return f"Incorrect type. Expected pk value, received {type(value).__name__}."


@dataclass(frozen=True)
class Resource:
    """One collection under ``/api/``. Filters that are not named here are ignored, as the monitor does."""

    path: str
    model: str
    title: str
    key: str
    fields: tuple[Field, ...]
    together: tuple[str, ...] = ()
    """Fields that make a unique set."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """Query name -> the field that it compares."""
    paginated: bool = False
    anonymous_writes: bool = False
    by_name: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", {each.name: each for each in self.fields})


def made(*names: str) -> Iterable[Field]:
    """Columns that the server fills in: the key and the times."""
    return (CharField(name=name, read_only=True) for name in names)
