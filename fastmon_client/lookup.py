"""One run, from the monitor's tables alone. It must not know how it is shown."""

from __future__ import annotations

from fastmon_client.access import Access, Refused
from fastmon_client.pace import Pace
from fastmon_client.picture import Picture
from fastmon_client.session import now
from fastmon_client.snapshot import RunRow
from fastmon_client.tables import Tables, Unanswered
from fastmon_client.wanted import Wanted


class NotThere(Exception):
    """There is no summary; *code* is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


def look_up(access: Access, number: int) -> RunRow:
    """The row of the run of that number; raises `NotThere`."""
    tables = Tables(access)
    try:
        return _looked_up(tables, access.url, number)
    except Refused as exc:
        raise NotThere(str(exc), 3 if exc.by_token else 1) from exc
    except Unanswered as exc:
        raise NotThere(str(exc), 4) from exc
    finally:
        tables.close()


def _looked_up(tables: Tables, url: str, number: int) -> RunRow:
    at, name = now(), str(number)
    picture = Picture(url, Wanted(types=()), at, pace=Pace(young_s=0.0))
    rows = [row for row in tables.runs() if row.get("run_number") == number]
    if not rows:
        raise NotThere(f"the monitor has no run {number}", 1)
    picture.run(name, at)
    picture.runs_listed(rows, at)
    stfs = tables.stfs(number)
    names = picture.listed(name, stfs, at)
    while names := picture.still_wanting(name, names):  # the first TF file tells which STFs were selected
        picture.filled(name, names[0], tables.tf_files(names[0]), at)
        names = names[1:]
    picture.compared(name, None, at)
    row = picture.rows(at, strip=True)[0]
    for cell in row["strip"]:
        if cell["kind"] == "recovered":  # from what? All of it is from the tables
            cell["kind"] = "present"
    return {**row, "backfilled": 0, "last_age_s": None}
