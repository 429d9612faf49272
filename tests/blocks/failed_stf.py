"""`python -m tests.blocks.failed_stf NAME`: make an STF fail; it is announced for another run than the monitor has."""

import json
import os
import sys

import stomp

from fastmon_daemon.testbed.testbed import TOPIC

message = {"msg_type": "stf_ready", "namespace": os.environ["FASTMON_NAMESPACE"], "run_id": "100015"}
connection = stomp.Connection12([(os.environ["ACTIVEMQ_HOST"], int(os.environ["ACTIVEMQ_PORT"]))])
connection.set_listener("receipts", receipts := stomp.WaitingListener("sent"))
connection.connect(os.environ["ACTIVEMQ_USER"], os.environ["ACTIVEMQ_PASSWORD"], wait=True)
connection.send(TOPIC, json.dumps({**message, "filename": sys.argv[1]}), persistent="true", receipt="sent")
receipts.wait_on_receipt()
connection.disconnect()
