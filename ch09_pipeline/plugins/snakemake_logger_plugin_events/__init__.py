"""Write the events of Snakemake's jobs as JSON, one object per line, for `ch09_pipeline.engine`.

Snakemake loads every package on PYTHONPATH whose name begins with `snakemake_logger_plugin_`. `engine.start` adds the
parent folder of this one, and `--logger events` selects the plugin. Snakemake's own messages are not changed.
"""

import json
import os
import re
from contextlib import suppress
from dataclasses import dataclass, field
from logging import Handler, LogRecord
from pathlib import Path
from typing import Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.settings import LogHandlerSettingsBase


@dataclass
class LogHandlerSettings(LogHandlerSettingsBase):
    """Settings of the plugin, on Snakemake's command line as --logger-events-descriptor."""

    descriptor: int = field(default=2, metadata={"help": "file descriptor that the events are written to"})


class LogHandler(LogHandlerBase):
    """Write the start, the end and the failure of each job."""

    def __post_init__(self) -> None:
        """Initialise the standard handler, which the base class does only since version 2 of Snakemake's interface."""
        Handler.__init__(self)

    def emit(self, record: LogRecord) -> None:
        """Write one line, or nothing for a record that is not about a job."""
        entry = describe(record)
        if entry is not None:
            assert isinstance(self.settings, LogHandlerSettings)
            with suppress(BrokenPipeError):  # the reader has closed the pipe and is about to stop Snakemake
                os.write(self.settings.descriptor, f"{json.dumps(entry)}\n".encode())

    writes_to_stream = property(lambda _: False)
    writes_to_file = property(lambda _: False)
    has_filter = property(lambda _: True)
    has_formatter = property(lambda _: True)
    needs_rulegraph = property(lambda _: False)


def describe(record: LogRecord) -> dict[str, Any] | None:
    """Return the fields of a job's event; None for a record that is not about a job."""
    fields = vars(record)
    match fields.get("event"):
        case LogEvent.JOB_INFO:
            return {
                "event": "start",
                "number": fields["jobid"],
                "rule": fields["rule_name"],
                "wildcards": dict(fields["wildcards"]),
                "reason": fields["reason"],
                "inputs": [_relative(path) for path in fields["input"]],
                "outputs": [_relative(path) for path in fields["output"]],
            }
        case LogEvent.JOB_FINISHED:
            return {"event": "finish", "number": fields["job_id"]}
        case LogEvent.JOB_ERROR:
            return {"event": "error", "number": fields["jobid"], "logs": [_relative(path) for path in fields["log"]]}
    return None


def _relative(path: Any) -> str:
    """Return the path of a file relative to the work folder, without Snakemake's remark on its storage."""
    name = re.sub(r" \((send to|retrieve from) storage\)$", "", str(path))
    return name.removeprefix(f"{Path.cwd()}/")
