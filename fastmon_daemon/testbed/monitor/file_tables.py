"""Runs and their files, as the monitor knows them: fields in the order of the answer, filters that work."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    INT64,
    Choice,
    Integer,
    Json,
    Moment,
    Parent,
    Resource,
    Text,
    Uuid,
    made,
)

FILE_STATUS = ("registered", "processing", "processed", "failed", "done")

RUNS = Resource(
    "runs",
    "Run",
    "run",
    "run_id",
    (
        *made("run_id"),
        Integer(name="run_number", required=True, unique=True),
        Moment(name="start_time", required=True),
        Moment(name="end_time", null=True),
        Json(name="run_conditions", null=True),
    ),
)

STF_FILES = Resource(
    "stf-files",
    "StfFile",
    "stf file",
    "file_id",
    (
        *made("file_id"),
        Text(name="machine_state", longest=64, default="physics"),
        Text(name="stf_filename", longest=255, required=True, unique=True),
        Integer(name="file_size_bytes", most=INT64, null=True),
        Text(name="checksum", longest=64, null=True, blank=True),
        *made("created_at"),
        Choice(name="status", choices=FILE_STATUS, default="registered"),
        Json(name="metadata", null=True),
        Uuid(name="workflow_id", null=True),
        Text(name="daq_state", longest=20, null=True, blank=True),
        Text(name="daq_substate", longest=20, null=True, blank=True),
        Text(name="workflow_status", longest=30, null=True, blank=True),
        Integer(name="tf_count", null=True),
        Parent(name="run", table="runs", by="run_id", required=True, indexed=True),
    ),
    filters={"stf_filename": "stf_filename", "run_number": "run", "status": "status", "workflow_id": "workflow_id"},
    paginated=True,
)

FASTMON_FILES = Resource(
    "fastmon-files",
    "FastMonFile",
    "fast mon file",
    "tf_file_id",
    (
        *made("tf_file_id"),
        Parent(name="stf_file", table="stf-files", by="stf_filename", by_key=False, required=True, indexed=True),
        Text(name="tf_filename", longest=255, required=True, unique=True),
        Integer(name="file_size_bytes", most=INT64, null=True),
        Text(name="checksum", longest=64, null=True, blank=True),
        Choice(name="status", choices=FILE_STATUS, default="registered"),
        Json(name="metadata", null=True),
        *made("created_at", "updated_at"),
        Integer(name="tf_count", null=True),
        Integer(name="tf_first", null=True),
        Integer(name="tf_last", null=True),
    ),
    filters={"tf_filename": "tf_filename", "stf_filename": "stf_file", "status": "status"},
    paginated=True,
)

TF_SLICES = Resource(
    "tf-slices",
    "TFSlice",
    "tf slice",
    "id",
    (
        *made("id"),
        Parent(name="fastmon_file", table="fastmon-files", by="tf_filename", by_key=False, required=True, indexed=True),
        Integer(name="slice_id", required=True),
        Integer(name="tf_first", required=True),
        Integer(name="tf_last", required=True),
        Integer(name="tf_count", required=True),
        Integer(name="run_number", required=True),
        Text(name="status", longest=20, default="queued"),
        Integer(name="retries", default=0),
        Json(name="metadata", null=True),
        *made("created_at", "updated_at"),
        Text(name="assigned_worker", longest=255, null=True, blank=True),
        Moment(name="assigned_at", null=True),
        Moment(name="completed_at", null=True),
    ),
    together=("fastmon_file", "slice_id"),
)
