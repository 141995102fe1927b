#!/usr/bin/env python3
"""Requests an export from ADU Export and waits for its end.

    pip install pika
    publisher.py request.json
    echo '{"job_id": "nightly-2026-11-21", "tables": ["public.*"]}' | publisher.py -

Events go to standard output, one JSON object per line. The exit code says how the job ended: 0 completed, 3 partial,
1 failed, 4 rejected, 5 cancelled, 6 not known.

A lost connection does no harm: this program sends the same request with the same id again, which is the same job. If
that job has ended already, its final event is sent again.
"""

import argparse
import json
import sys
import time
import uuid

import pika
from pika import exceptions

ENDS = {"completed": 0, "failed": 1, "partial": 3, "rejected": 4, "cancelled": 5}
UNKNOWN = 6


def arguments():
    parser = argparse.ArgumentParser(description="Request an export from ADU Export and wait for its end.")
    parser.add_argument("request", type=argparse.FileType("r", encoding="utf-8"), help="a file with the request, or -")
    parser.add_argument("--url", default="amqp://guest:guest@127.0.0.1:5672/%2f")
    parser.add_argument("--prefix", default="adu.export", help="broker.prefix of the daemons")
    parser.add_argument("--exchange", help="where requests are published; default: the prefix")
    parser.add_argument("--timeout", type=float, default=24 * 3600, help="seconds to wait for the end")
    return parser.parse_args()


def once(pairs):
    """The fields of an object. A field that is given twice is an error; Python would silently take the last value."""
    fields = dict(pairs)
    if len(fields) < len(pairs):
        names = [name for name, _ in pairs]
        sys.exit(f"the request has the field {next(n for n in names if names.count(n) > 1)!r} twice")
    return fields


def published(channel, args, request, queue):
    """Publishes the request and waits for the broker's confirm. Raises an exception if no queue takes it."""
    channel.basic_publish(
        args.exchange or args.prefix,
        "request",
        json.dumps(request),
        pika.BasicProperties(
            content_type="application/json",
            delivery_mode=pika.DeliveryMode.Persistent,
            message_id=request["job_id"],
            correlation_id=request["job_id"],
            # Rejections come here, even if the id of the request is not valid.
            reply_to=queue,
        ),
        mandatory=True,
    )


def ended(args, request, until, told):
    """Publishes the request and returns the exit code of the job. Raises an exception if the connection is lost."""
    parameters = pika.URLParameters(args.url)
    # A broker with a memory or disk alarm accepts nothing. Do not wait for ever.
    parameters.blocked_connection_timeout = 60
    connection = pika.BlockingConnection(parameters)
    try:
        channel = connection.channel()
        channel.confirm_delivery()
        # Listen before publishing: a small job may end before a late listener is ready.
        queue = f"{args.prefix}.client.{uuid.uuid4()}"
        channel.queue_declare(queue, exclusive=True, auto_delete=True)
        channel.queue_bind(queue, f"{args.prefix}.events", f"*.*.*.{request['job_id']}")
        published(channel, args, request, queue)
        for _, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=1):
            event = json.loads(body) if body else None
            # Every event may come twice, with the same id.
            if event and event["id"] not in told:
                told.add(event["id"])
                print(json.dumps(event), flush=True)
            kind = event["type"] if event else ""
            end = ENDS.get(kind.removeprefix("adu.export.job."))
            if end is not None:
                return end
            if time.monotonic() > until:
                print(f"{request['job_id']} has not ended in time; it continues", file=sys.stderr)
                return UNKNOWN
        raise ConnectionError("the broker ended the subscription")
    finally:
        if connection.is_open:
            connection.close()


def main():
    args = arguments()
    # Editors on Windows put a byte order mark before the text.
    text = args.request.read().removeprefix("\ufeff")
    request = json.loads(text, object_pairs_hook=once)
    # A request with an id can be published again and is still one job.
    request.setdefault("job_id", str(uuid.uuid4()))
    until, told = time.monotonic() + args.timeout, set()
    while True:
        try:
            return ended(args, request, until, told)
        except exceptions.UnroutableError:
            print("no queue takes requests: no daemon has ever run with this prefix", file=sys.stderr)
            return UNKNOWN
        except (exceptions.ProbableAuthenticationError, exceptions.ProbableAccessDeniedError) as error:
            print(f"the broker refuses this user: {error}", file=sys.stderr)
            return UNKNOWN
        except exceptions.ChannelClosedByBroker as error:
            print(f"the broker refuses: {error.reply_text}", file=sys.stderr)
            return UNKNOWN
        except (exceptions.AMQPError, OSError) as error:
            if time.monotonic() > until:
                print(f"the broker cannot be reached: {error!r}", file=sys.stderr)
                return UNKNOWN
            print(f"the connection is lost, trying again: {error!r}", file=sys.stderr)
            time.sleep(2)


if __name__ == "__main__":
    sys.exit(main())
