"""Real daemons, driven by the vendor's Python service SDK as its device management tutorials do: the direct methods
firmwareUpdate (S2) and rebootDevice (S3), each followed in the twin. Started by run.sh behind `hub-emulator fleet 6`,
whose devices accept an address without a digest. Prints one line per check."""

import json
import os
import sys
import time
import traceback
import urllib.request
from datetime import datetime, timezone

from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod

EMULATOR = os.environ["EMULATOR"]
PATIENCE = 60
FLEET = [f"gateway-{number:03}" for number in range(1, 7)]

registry = IoTHubRegistryManager(os.environ["SERVICE"])
checks = []


def check(function):
    checks.append(function)
    return function


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def door(path, method="GET", body=None):
    """One of the emulator's own doors."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(EMULATOR + path, data, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def address(version):
    """Where a sample image is."""
    images = door("/emulator/view")["images"]
    return next(image["url"] for image in images if f"-{version}" in image["name"])


def call(device, name, payload):
    """As the tutorials do it."""
    method = CloudToDeviceMethod(method_name=name, payload=payload, response_timeout_in_seconds=60)
    answer = registry.invoke_device_method(device, method)
    return answer.status, answer.payload


def reported(device):
    return registry.get_twin(device).properties.reported


def until(what, device, condition):
    """Polls the twin, as the tutorials' back ends do; what was reported then."""
    deadline = time.monotonic() + PATIENCE
    while True:
        found = reported(device)
        if condition(found):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited for {what}: {found}")
        time.sleep(0.05)


def times(found):
    return [found[name] for name in ("logTime", "downloadComplete", "startedApplyingImage", "lastFirmwareUpdate")]


@check
def s2_an_update_is_answered_at_once_and_followed_to_completed():
    until("the first version", FLEET[0], lambda found: found.get("firmwareStatus") == "standBy")
    door("/emulator/faults", "PUT", {"fault": "slow", "bytesPerSecond": 400000, "target": "gateway-2.0.0.squashfs"})
    # The payload is a text that holds JSON, as the sample sends it.
    answer = call(FLEET[0], "firmwareUpdate", json.dumps({"fwPackageUri": address("2.0.0")}))
    equal(answer, (200, {"Response": "Firmware update started"}))
    # The sample looks for words in compact JSON.
    seen = []

    def completed(found):
        text = json.dumps(found, separators=(",", ":"))
        for word in ("standBy", "downloading", "applying", "completed", "failed"):
            if f'"firmwareStatus":"{word}"' in text and word not in seen[-1:]:
                seen.append(word)
        return '"firmwareStatus":"completed"' in text

    found = until("completed", FLEET[0], completed)
    order = [word for word in ("standBy", "downloading", "applying", "completed") if word in seen]
    equal(seen, order)
    assert "downloading" in seen, seen
    equal(found["firmware"]["currentFwVersion"], "2.0.0")
    equal(times(found), sorted(times(found)))
    door("/emulator/faults", "DELETE")


@check
def s2_every_form_of_the_payload_is_understood():
    uri = address("2.0.0")
    forms = [
        {"fwPackageUri": uri},
        uri,
        json.dumps({"fwPackageUri": uri}),
        json.dumps(uri),
    ]
    for device, payload in zip(FLEET[1:], forms):
        equal(call(device, "firmwareUpdate", payload), (200, {"Response": "Firmware update started"}))
    for device, _ in zip(FLEET[1:], forms):
        found = until("completed", device, lambda found: found.get("firmwareStatus") == "completed")
        equal(found["firmware"]["currentFwVersion"], "2.0.0")


@check
def s2_what_cannot_be_is_refused_with_a_reason():
    for payload in (None, 42, {}, {"fwPackageUri": 7}, {"fwPackageUri": "test.com"}):
        status, answer = call(FLEET[0], "firmwareUpdate", payload)
        equal(status, 400)
        assert answer["Response"] and answer["code"], answer
    equal(answer["Response"], "Insecure package URI")
    # Pollers must not take it for a success.
    until("a failed status", FLEET[0], lambda found: found.get("firmwareStatus") == "failed")
    door("/emulator/faults", "PUT", {"fault": "slow", "bytesPerSecond": 50000, "target": "gateway-1.0.0.squashfs"})
    equal(call(FLEET[0], "firmwareUpdate", {"fwPackageUri": address("1.0.0")})[0], 200)
    until("downloading", FLEET[0], lambda found: found.get("firmwareStatus") == "downloading")
    for name, payload in (("firmwareUpdate", {"fwPackageUri": address("2.0.0")}), ("rebootDevice", None)):
        status, answer = call(FLEET[0], name, payload)
        equal((status, answer["code"]), (409, "request.busy"))
    equal(call(FLEET[0], "cancel", None)[0], 200)
    door("/emulator/faults", "DELETE")


@check
def s2_a_system_that_is_ill_is_rolled_back_and_never_completed():
    equal(call(FLEET[5], "firmwareUpdate", {"fwPackageUri": address("3.0.0")})[0], 200)
    found = until("rolled back", FLEET[5], lambda found: found["firmware"]["fwUpdateStatus"] == "rolledback")
    assert "health.failed" in json.dumps(found), found
    assert found["firmwareStatus"] != "completed", found
    equal(found["firmware"]["currentFwVersion"], "1.0.0")


@check
def s3_a_reboot_is_answered_first_and_its_time_told_after():
    before = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S")
    equal(call(FLEET[3], "rebootDevice", json.dumps({"method_number": "42"})), (200, {"Response": "Reboot started"}))
    found = until("rebootTime", FLEET[3], lambda found: "rebootTime" in found)
    assert found["rebootTime"] >= before, (found["rebootTime"], before)
    equal(found["firmware"]["currentFwVersion"], "2.0.0")
    # It came back, and answers.
    equal(call(FLEET[3], "getStatus", None)[0], 200)


@check
def s3_a_method_that_does_not_exist_is_404():
    status, answer = call(FLEET[2], "lockDoor", {})
    equal((status, answer["Response"]), (404, "Unknown method"))


for function in checks:
    try:
        function()
        print(f"ok      python  {function.__name__.replace('_', ' ')}", flush=True)
    except Exception:
        traceback.print_exc()
        print(f"FAILED  python  {function.__name__.replace('_', ' ')}", flush=True)
sys.stdout.flush()
os._exit(0)
