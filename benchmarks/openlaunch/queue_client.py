"""Durable tasks from our client: `queue_client.py TASKS ROUND_TRIPS`, where the server is in BENCH_READY's words.

Prints one line of JSON: tasks a second until every result is known, and milliseconds of an idle round trip.
"""

import json
import os
import statistics
import sys
import time

from openlaunch import EndpointRequest, LaunchClient, as_completed

REQUEST = EndpointRequest(args={"x": 2, "y": "hello"})


def main() -> None:
    tasks, round_trips = int(sys.argv[1]), int(sys.argv[2])
    url = os.environ["BENCH_URL"].split("/v1/")[0]
    key = os.environ["BENCH_HEADERS"].removeprefix("Authorization: Bearer ")
    with LaunchClient(endpoint=url, api_key=key) as client:
        endpoint = client.get_model_endpoint("null")
        for future in endpoint.predict_many([REQUEST] * 100):
            assert future.get().value == 9
        began = time.perf_counter()
        futures = endpoint.predict_many([REQUEST] * tasks)
        submitted = time.perf_counter() - began
        known = sum(future.get().value == 9 for future in as_completed(futures))
        took = time.perf_counter() - began
        assert known == tasks
        times = []
        for _ in range(round_trips):
            began = time.perf_counter()
            assert endpoint.predict(REQUEST).get().value == 9
            times.append((time.perf_counter() - began) * 1000)
    times.sort()
    print(
        json.dumps(
            {
                "rate": tasks / took,
                "submit_rate": tasks / submitted,
                "p50": statistics.median(times),
                "p99": times[int(len(times) * 0.99)],
            }
        )
    )


if __name__ == "__main__":
    main()
