"""The resources of runs and files: fields in the order of the response, and the filters that work."""

from __future__ import annotations

from fastmon_daemon.testbed.monitor.fields import (
    INT64,
    CharField,
    ChoiceField,
    DateTimeField,
    IntegerField,
    JSONField,
    RelatedField,
    Resource,
    UUIDField,
    read_only_fields,
)

FILE_STATUS = ("registered", "processing", "processed", "failed", "done")

RUNS = Resource(
    "runs",
    "Run",
    "run",
    "run_id",
    (
        *read_only_fields("run_id"),
        IntegerField(name="run_number", required=True, unique=True),
        DateTimeField(name="start_time", required=True),
        DateTimeField(name="end_time", null=True),
        JSONField(name="run_conditions", null=True),
    ),
)

STF_FILES = Resource(
    "stf-files",
    "StfFile",
    "stf file",
    "file_id",
    (
        *read_only_fields("file_id"),
        CharField(name="machine_state", longest=64, default="physics"),
        CharField(name="stf_filename", longest=255, required=True, unique=True),
        IntegerField(name="file_size_bytes", most=INT64, null=True),
        CharField(name="checksum", longest=64, null=True, blank=True),
        *read_only_fields("created_at"),
        ChoiceField(name="status", choices=FILE_STATUS, default="registered"),
        JSONField(name="metadata", null=True),
        UUIDField(name="workflow_id", null=True),
        CharField(name="daq_state", longest=20, null=True, blank=True),
        CharField(name="daq_substate", longest=20, null=True, blank=True),
        CharField(name="workflow_status", longest=30, null=True, blank=True),
        IntegerField(name="tf_count", null=True),
        RelatedField(name="run", table="runs", by="run_id", integer_key=True, required=True, indexed=True),
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
        *read_only_fields("tf_file_id"),
        RelatedField(name="stf_file", table="stf-files", by="stf_filename", by_key=False, required=True, indexed=True),
        CharField(name="tf_filename", longest=255, required=True, unique=True),
        IntegerField(name="file_size_bytes", most=INT64, null=True),
        CharField(name="checksum", longest=64, null=True, blank=True),
        ChoiceField(name="status", choices=FILE_STATUS, default="registered"),
        JSONField(name="metadata", null=True),
        *read_only_fields("created_at", "updated_at"),
        IntegerField(name="tf_count", null=True),
        IntegerField(name="tf_first", null=True),
        IntegerField(name="tf_last", null=True),
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
        *read_only_fields("id"),
        RelatedField(
            name="fastmon_file", table="fastmon-files", by="tf_filename", by_key=False, required=True, indexed=True
        ),
        IntegerField(name="slice_id", required=True),
        IntegerField(name="tf_first", required=True),
        IntegerField(name="tf_last", required=True),
        IntegerField(name="tf_count", required=True),
        IntegerField(name="run_number", required=True),
        CharField(name="status", longest=20, default="queued"),
        IntegerField(name="retries", default=0),
        JSONField(name="metadata", null=True),
        *read_only_fields("created_at", "updated_at"),
        CharField(name="assigned_worker", longest=255, null=True, blank=True),
        DateTimeField(name="assigned_at", null=True),
        DateTimeField(name="completed_at", null=True),
    ),
    together=("fastmon_file", "slice_id"),
)
