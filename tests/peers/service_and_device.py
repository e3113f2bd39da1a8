"""The vendor's Python SDKs, unchanged, as clients of a running emulator: azure-iot-hub plays the service,
azure-iot-device the device. Started by run.sh, which sets SERVICE, DEVICE_HOST, EMULATOR and the variables by which
the SDKs find the emulator's certificate authority. Prints one line per check."""

import json
import os
import queue
import sys
import threading
import traceback
import urllib.request

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse
from azure.iot.hub import IoTHubConfigurationManager, IoTHubRegistryManager
from azure.iot.hub.models import (
    CloudToDeviceMethod,
    Configuration,
    ConfigurationContent,
    ConfigurationMetrics,
    QuerySpecification,
    Twin,
    TwinProperties,
)
from msrest.exceptions import HttpOperationError

SERVICE = os.environ["SERVICE"]
DEVICE_HOST = os.environ["DEVICE_HOST"]
EMULATOR = os.environ["EMULATOR"]
PATIENCE = 20
DEVICE = "python-device"

registry = IoTHubRegistryManager(SERVICE)
configurations = IoTHubConfigurationManager(SERVICE)
checks = []


def check(function):
    checks.append(function)
    return function


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def refused(status, action, *arguments, **options):
    """The action must fail with this HTTP status; the error's text is returned."""
    try:
        action(*arguments, **options)
    except HttpOperationError as error:
        equal(error.response.status_code, status)
        return error.response.text
    raise AssertionError(f"{action.__name__} was not refused")


def door(path, method="GET", body=None):
    """One of the emulator's own doors."""
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(EMULATOR + path, data, method=method)) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Device:
    """One device client, with what it received in queues."""

    def __init__(self, device_id):
        key = registry.get_device(device_id).authentication.symmetric_key.primary_key
        text = f"HostName={DEVICE_HOST};DeviceId={device_id};SharedAccessKey={key}"
        self.client = IoTHubDeviceClient.create_from_connection_string(text)
        self.desired = queue.Queue()
        self.methods = queue.Queue()
        self.connected = threading.Event()
        self.lost = threading.Event()
        self.client.on_connection_state_change = self.state_changed
        self.client.on_twin_desired_properties_patch_received = self.desired.put
        self.client.on_method_request_received = self.answer
        self.client.connect()

    def state_changed(self):
        (self.connected if self.client.connected else self.lost).set()

    def answer(self, request):
        self.methods.put((request.name, request.payload))
        if request.name == "firmwareUpdate":
            response = MethodResponse.create_from_method_request(
                request, 200, {"Response": "Firmware update started"}
            )
        else:
            response = MethodResponse.create_from_method_request(request, 404, {"Response": "Unknown method"})
        self.client.send_method_response(response)


@check
def devices_are_created_read_changed_listed_and_deleted():
    created = registry.create_device_with_sas(DEVICE, "", "", "enabled")
    key = created.authentication.symmetric_key.primary_key
    equal(len(key), 44)
    read = registry.get_device(DEVICE)
    equal((read.device_id, read.etag, read.connection_state), (DEVICE, created.etag, "Disconnected"))
    refused(409, registry.create_device_with_sas, DEVICE, "", "", "enabled")
    registry.create_device_with_sas("passing", "", "", "enabled")
    changed = registry.update_device_with_sas("passing", "*", "", "", "disabled")
    equal(changed.status, "disabled")
    equal(sorted(device.device_id for device in registry.get_devices(10)), ["passing", DEVICE])
    statistics = registry.get_device_registry_statistics()
    equal((statistics.total_device_count, statistics.disabled_device_count), (2, 1))
    registry.delete_device("passing")
    assert "404001" in refused(404, registry.get_device, "passing")
    equal(registry.get_device_registry_statistics().total_device_count, 1)


@check
def twins_are_merged_replaced_and_guarded_by_etags():
    before = registry.get_twin(DEVICE)
    patch = Twin(tags={"devicetype": "python-chiller", "gone": 1}, properties=TwinProperties(desired={"a": {"b": 1}}))
    merged = registry.update_twin(DEVICE, patch, before.etag)
    equal(merged.tags, {"devicetype": "python-chiller", "gone": 1})
    equal((merged.properties.desired["a"], merged.properties.desired["$version"]), ({"b": 1}, 2))
    refused(412, registry.update_twin, DEVICE, patch, before.etag)
    replaced = registry.replace_twin(DEVICE, Twin(tags={"devicetype": "python-chiller"}), "*")
    equal(replaced.tags, {"devicetype": "python-chiller"})
    too_long = Twin(properties=TwinProperties(desired={"text": "x" * 5000}))
    refused(400, registry.update_twin, DEVICE, too_long)


@check
def a_device_reads_its_twin_and_reports():
    equal(device.client.get_twin()["desired"]["a"], {"b": 1})
    device.client.patch_twin_reported_properties({"firmware": {"currentFwVersion": "1.0.0", "pendingFwVersion": ""}})
    device.client.patch_twin_reported_properties({"firmware": {"pendingFwVersion": None}})
    reported = registry.get_twin(DEVICE).properties.reported
    equal((reported["firmware"], reported["$version"]), ({"currentFwVersion": "1.0.0"}, 3))
    equal(registry.get_service_statistics().connected_device_count, 1)


@check
def a_desired_change_reaches_the_device():
    registry.update_twin(DEVICE, Twin(properties=TwinProperties(desired={"a": None, "c": [1, 2]})))
    patch = device.desired.get(timeout=PATIENCE)
    equal({key: patch[key] for key in ("a", "c")}, {"a": None, "c": [1, 2]})
    equal(patch["$version"], registry.get_twin(DEVICE).properties.desired["$version"])


@check
def direct_methods_go_there_and_back():
    call = CloudToDeviceMethod(
        method_name="firmwareUpdate",
        payload={"fwPackageUri": "https://localhost/fw"},
        response_timeout_in_seconds=60,
    )
    answer = registry.invoke_device_method(DEVICE, call)
    equal((answer.status, answer.payload), (200, {"Response": "Firmware update started"}))
    equal(device.methods.get(timeout=PATIENCE), ("firmwareUpdate", {"fwPackageUri": "https://localhost/fw"}))
    # A text is what the tutorials' back ends send: JSON inside a JSON string.
    text = json.dumps({"method_number": "42"})
    answer = registry.invoke_device_method(DEVICE, CloudToDeviceMethod(method_name="unknown", payload=text))
    equal((answer.status, answer.payload), (404, {"Response": "Unknown method"}))
    equal(device.methods.get(timeout=PATIENCE), ("unknown", text))
    absent = CloudToDeviceMethod(method_name="any", payload={})
    registry.create_device_with_sas("absent", "", "", "enabled")
    assert "404103" in refused(404, registry.invoke_device_method, "absent", absent)


@check
def telemetry_arrives_with_its_properties():
    message = Message("{}", content_type="application/json", content_encoding="utf-8")
    message.custom_properties["level"] = "a&b=c"
    device.client.send_message(message)
    equal(door("/emulator/state")["devices"][DEVICE]["telemetry"], 1)


@check
def after_a_dropped_link_the_stored_session_still_serves_the_device():
    device.lost.clear()
    device.connected.clear()
    equal(door(f"/emulator/devices/{DEVICE}/drop", "POST"), {"dropped": True})
    assert device.lost.wait(PATIENCE), "the SDK did not notice"
    assert device.connected.wait(PATIENCE), "the SDK did not come back"
    # What the SDK reads at once after coming back goes through the same handler.
    registry.update_twin(DEVICE, Twin(properties=TwinProperties(desired={"after": "drop"})))
    while device.desired.get(timeout=PATIENCE).get("after") != "drop":
        pass
    call = CloudToDeviceMethod(method_name="firmwareUpdate", payload={})
    equal(registry.invoke_device_method(DEVICE, call).status, 200)
    device.client.patch_twin_reported_properties({"back": True})


@check
def a_throttled_report_is_an_error_of_the_sdk():
    door("/emulator/faults", "POST", {"fault": "failTwin", "status": 429, "target": DEVICE, "times": 1})
    try:
        device.client.patch_twin_reported_properties({"unseen": 1})
    except Exception as error:  # the SDK's own class differs by version
        assert "unseen" not in registry.get_twin(DEVICE).properties.reported, error
        return
    raise AssertionError("the SDK did not mind")


@check
def queries_come_in_pages():
    for number in range(4):
        registry.create_device_with_sas(f"many-{number}", "", "", "enabled")
    ids, pages, continuation = [], 0, None
    specification = QuerySpecification(query="SELECT * FROM devices WHERE STARTSWITH(deviceId, 'many-')")
    while pages == 0 or continuation:
        result = registry.query_iot_hub(specification, continuation, 3)
        ids += [twin.device_id for twin in result.items]
        continuation = result.continuation_token
        pages += 1
    equal((pages, ids), (2, [f"many-{number}" for number in range(4)]))
    refused(400, registry.query_iot_hub, QuerySpecification(query="SELECT nothing"))


def metric(condition):
    return (
        "SELECT deviceId FROM devices WHERE configurations.[[python285]].status='Applied' AND "
        + condition.replace("status", "properties.reported.firmware.fwUpdateStatus")
    )


@check
def a_configuration_reaches_the_device_and_its_metrics_follow():
    queries = {
        "current": metric("status='current'"),
        "applying": metric("( status='downloading' OR status='verifying' OR status='applying')"),
        "rebooting": metric("status='rebooting'"),
        "error": metric("status='error'"),
        "rolledback": metric("status='rolledback'"),
    }
    firmware = {"fwVersion": "2.8.5", "fwPackageURI": "https://secureuri/package.bin", "fwPackageCheckValue": "123"}
    wanted = Configuration(
        id="python285",
        schema_version="1.0",
        priority=20,
        target_condition="tags.devicetype = 'python-chiller'",
        content=ConfigurationContent(device_content={"properties.desired.firmware": firmware}),
        metrics=ConfigurationMetrics(queries=queries),
    )
    created = configurations.create_configuration(wanted)
    equal(device.desired.get(timeout=PATIENCE)["firmware"], firmware)
    refused(409, configurations.create_configuration, wanted)
    for status, counter in [
        ("downloading", "applying"),
        ("verifying", "applying"),
        ("applying", "applying"),
        ("rebooting", "rebooting"),
        ("error", "error"),
        ("rolledback", "rolledback"),
        ("current", "current"),
    ]:
        device.client.patch_twin_reported_properties({"firmware": {"fwUpdateStatus": status}})
        now = configurations.get_configuration("python285")
        equal(now.metrics.results, {name: int(name == counter) for name in queries})
        equal(now.system_metrics.results, {"targetedCount": 1, "appliedCount": 1})
    created.priority = 30
    equal(configurations.update_configuration(created, created.etag).priority, 30)
    equal([one.id for one in configurations.get_configurations(10)], ["python285"])
    configurations.delete_configuration("python285")
    equal(device.desired.get(timeout=PATIENCE)["firmware"], None)
    refused(404, configurations.get_configuration, "python285")


@check
def a_second_client_of_the_same_device_takes_up_its_session():
    device.client.shutdown()
    second = Device(DEVICE)
    try:
        equal(second.client.get_twin()["reported"]["back"], True)
        call = CloudToDeviceMethod(method_name="firmwareUpdate", payload=None)
        equal(registry.invoke_device_method(DEVICE, call).status, 200)
    finally:
        second.client.shutdown()


device = None
for number, function in enumerate(checks):
    try:
        if number == 2:
            device = Device(DEVICE)
        function()
        print(f"ok      python  {function.__name__.replace('_', ' ')}", flush=True)
    except Exception:
        traceback.print_exc()
        print(f"FAILED  python  {function.__name__.replace('_', ' ')}", flush=True)
sys.stdout.flush()
# The SDKs leave threads behind when something failed; the lines above are the result.
os._exit(0)
