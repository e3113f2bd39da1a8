"""The vendor's Python device SDKs, unchanged, through every way into the emulator: both transports, tokens and
certificates, the provisioning service, lost links, restarts. Starts and ends the emulator itself; run.sh sets COMMAND
(the emulator's command line, with a state directory), HOST, CERTIFICATES and SSL_CERT_FILE. One line per check."""

import base64
import hashlib
import hmac
import json
import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time
import traceback
import urllib.request

from azure.iot.device import (
    IoTHubDeviceClient,
    IoTHubModuleClient,
    Message,
    MethodResponse,
    ProvisioningDeviceClient,
    X509,
)
from azure.iot.device.exceptions import CredentialError
from azure.iot.hub import IoTHubRegistryManager
from azure.iot.hub.models import CloudToDeviceMethod, Twin, TwinProperties

HOST = os.environ["HOST"]
CERTIFICATES = os.environ["CERTIFICATES"]
PATIENCE = 30
checks = []


def check(function):
    checks.append(function)
    return function


def equal(found, expected):
    if found != expected:
        raise AssertionError(f"{found!r} is not {expected!r}")


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"in {PATIENCE} s: {what}")
        time.sleep(0.02)


class Emulator:
    """The program, with what it printed."""

    def __init__(self):
        self.lines = []
        self.start()

    def start(self):
        self.process = subprocess.Popen(shlex.split(os.environ["COMMAND"]), stdout=subprocess.PIPE, text=True)
        self.values = {}
        for line in self.process.stdout:
            name, _, value = line.strip().partition(": ")
            self.values[name] = value
            if line == "ready\n":
                break
        else:
            raise AssertionError("the emulator did not start")
        threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()

    def read(self, output):
        for line in output:
            self.lines.append(line)

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE)

    def restart(self):
        self.end()
        self.start()

    def connections(self, device):
        return sum(f" {device}  connected" in line for line in self.lines)


emulator = Emulator()
registry = IoTHubRegistryManager(emulator.values["service connection string"])


def door(path, method="GET", body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"https://{HOST}{path}", data, method=method)
    with urllib.request.urlopen(request) as answer:
        text = answer.read()
    return json.loads(text) if text else None


class Device:
    """A client with what it received in queues."""

    def __init__(self, client):
        self.client = client
        self.desired = queue.Queue()
        self.messages = queue.Queue()
        self.lost = threading.Event()
        self.back = threading.Event()
        client.on_connection_state_change = self.changed
        client.connect()

    def listen(self, messages=True):
        self.client.on_twin_desired_properties_patch_received = self.desired.put
        self.client.on_method_request_received = self.answer
        if messages:
            self.client.on_message_received = self.messages.put

    def changed(self):
        (self.back if self.client.connected else self.lost).set()

    def answer(self, request):
        answer = {"name": request.name, "payload": request.payload}
        self.client.send_method_response(MethodResponse.create_from_method_request(request, 200, answer))

    def lose(self, how):
        """Loses the link in some way and waits until the SDK has noticed and come back."""
        self.lost.clear()
        self.back.clear()
        how()
        assert self.lost.wait(PATIENCE), "the SDK did not notice"
        assert self.back.wait(PATIENCE), "the SDK did not come back"

    def desires(self, name, value):
        """A change of desired properties must arrive; what the SDK reads by itself comes the same way."""
        registry.update_twin(self.id, Twin(properties=TwinProperties(desired={name: value})))
        while self.desired.get(timeout=PATIENCE).get(name) != value:
            pass

    def is_called(self):
        call = CloudToDeviceMethod(method_name="echo", payload={"a": [1, None]}, response_timeout_in_seconds=20)
        answer = registry.invoke_device_method(self.id, call)
        equal((answer.status, answer.payload), (200, {"name": "echo", "payload": {"a": [1, None]}}))

    def is_told(self, text):
        door(f"/emulator/devices/{self.id}/messages", "POST", {"body": text, "properties": {"none": None, "empty": ""}})
        self.was_told(text)

    def was_told(self, text):
        message = self.messages.get(timeout=PATIENCE)
        equal(message.data, text.encode())
        equal(message.custom_properties, {"none": None, "empty": ""})
        until("the message is acknowledged", lambda: door(f"/emulator/devices/{self.id}/messages") == [])


def by_token(device_id, **options):
    key = known(device_id).authentication.symmetric_key.primary_key
    text = f"HostName={HOST};DeviceId={device_id};SharedAccessKey={key}"
    device = Device(
        IoTHubDeviceClient.create_from_connection_string(text, connection_retry_interval=1, **options)
    )
    device.id = device_id
    return device


def known(device_id):
    return registry.create_device_with_sas(device_id, "", "", "enabled")


def whole_round(device):
    """Everything that a device does."""
    device.listen()
    equal(device.client.get_twin()["reported"]["$version"], 1)
    device.client.patch_twin_reported_properties({"round": {"by": device.id, "gone": 1}})
    device.client.patch_twin_reported_properties({"round": {"gone": None}})
    equal(registry.get_twin(device.id).properties.reported["round"], {"by": device.id})
    device.desires("wanted", "here")
    device.is_called()
    message = Message('{"t": 1}', content_type="application/json", content_encoding="utf-8", message_id="m 1")
    message.custom_properties["level"] = "a&b=c/d"
    device.client.send_message(message)
    received = door(f"/emulator/devices/{device.id}")["received"][0]
    equal(received["body"], {"t": 1})
    expected = {"$.mid": "m 1", "$.ct": "application/json", "$.ce": "utf-8", "level": "a&b=c/d"}
    equal({name: received["properties"][name] for name in expected}, expected)
    device.is_told("hello")


@check
def over_tls_a_device_does_all_it_can():
    device = by_token("py-tls")
    whole_round(device)
    device.client.shutdown()


@check
def over_a_websocket_a_device_does_all_it_can():
    device = by_token("py-websocket", websockets=True)
    whole_round(device)
    device.client.shutdown()


def survives(device):
    device.listen()
    equal(device.client.get_twin()["desired"]["$version"], 1)
    device.lose(lambda: door(f"/emulator/devices/{device.id}/drop", "POST"))
    device.desires("after", "drop")
    device.is_called()
    device.is_told("after the drop")
    device.lose(emulator.restart)
    device.desires("after", "restart")
    device.is_called()
    device.is_told("after the restart")
    device.client.patch_twin_reported_properties({"still": "there"})
    equal(registry.get_twin(device.id).properties.reported["still"], "there")
    device.client.shutdown()


@check
def lost_links_and_a_restart_of_the_emulator_lose_nothing_over_tls():
    survives(by_token("py-lost-tls"))


@check
def lost_links_and_a_restart_of_the_emulator_lose_nothing_over_a_websocket():
    survives(by_token("py-lost-websocket", websockets=True))


@check
def a_message_waits_for_a_device_that_is_away_over_a_restart_too():
    device = by_token("py-away")
    device.listen()
    device.is_told("while here")
    device.client.disconnect()
    body = {"body": "while away", "properties": {"none": None, "empty": ""}}
    door("/emulator/devices/py-away/messages", "POST", body)
    emulator.restart()
    device.client.connect()
    device.was_told("while away")
    device.client.shutdown()


@check
def a_token_is_renewed_before_it_expires():
    # The SDK renews two minutes before the end: ten seconds after it came.
    device = by_token("py-renewal", sastoken_ttl=130)
    device.listen()
    before = emulator.connections("py-renewal")
    until("the SDK comes with a new token", lambda: emulator.connections("py-renewal") > before)
    until("the SDK is connected", lambda: device.client.connected)
    device.desires("after", "renewal")
    device.is_called()
    device.client.send_message("after the renewal")
    device.client.shutdown()


def certificate(name):
    return X509(cert_file=f"{CERTIFICATES}/{name}.pem", key_file=f"{CERTIFICATES}/{name}.key")


def thumbprint(name):
    text = subprocess.check_output(
        ["openssl", "x509", "-in", f"{CERTIFICATES}/{name}.pem", "-noout", "-fingerprint", "-sha1"], text=True
    )
    return text.strip().partition("=")[2].replace(":", "")


def by_certificate(device_id, name, **options):
    client = IoTHubDeviceClient.create_from_x509_certificate(certificate(name), HOST, device_id, **options)
    device = Device(client)
    device.id = device_id
    return device


@check
def a_certificate_lets_a_device_in_by_its_thumbprint():
    registry.create_device_with_x509("py-own", thumbprint("py-own"), "", "enabled")
    device = by_certificate("py-own", "py-own")
    whole_round(device)
    device.client.shutdown()
    try:
        by_certificate("py-own", "py-ca")
    except CredentialError:
        return
    raise AssertionError("the wrong certificate was let in")


@check
def an_authority_lets_a_device_in_over_tls_and_a_websocket():
    with open(f"{CERTIFICATES}/root.pem") as file:
        door("/emulator/authorities", "POST", {"certificate": file.read()})
    registry.create_device_with_certificate_authority("py-ca", "enabled")
    device = by_certificate("py-ca", "py-ca")
    equal(device.client.get_twin()["desired"]["$version"], 1)
    device.client.shutdown()
    device = by_certificate("py-ca", "py-ca", websockets=True)
    whole_round(device)
    device.client.shutdown()


def registered(client):
    """The outcome of a registration, which must be an assignment; the client's own words if it is not."""
    result = client.register()
    equal(result.status, "assigned")
    return result.registration_state


def scope():
    return door("/emulator/provisioning")["idScope"]


def goes_on(state, **credentials):
    """Connects to what was assigned."""
    if "key" in credentials:
        client = IoTHubDeviceClient.create_from_symmetric_key(
            credentials["key"], state.assigned_hub, state.device_id
        )
    else:
        client = IoTHubDeviceClient.create_from_x509_certificate(
            credentials["x509"], state.assigned_hub, state.device_id
        )
    device = Device(client)
    device.id = state.device_id
    whole_round(device)
    device.client.shutdown()


@check
def a_device_registers_with_its_own_key_and_goes_on():
    body = {"registrationId": "py-reg", "deviceId": "py-registered", "payload": {"given": [1]}}
    made = door("/emulator/enrollments/py-reg", "PUT", body)
    key = made["attestation"]["symmetricKey"]["primaryKey"]
    client = ProvisioningDeviceClient.create_from_symmetric_key(HOST, "py-reg", scope(), key)
    client.provisioning_payload = {"model": "x"}
    state = registered(client)
    equal((state.device_id, state.assigned_hub, state.sub_status), ("py-registered", HOST, "initialAssignment"))
    equal(json.loads(state.response_payload), {"given": [1]})
    goes_on(state, key=key)


@check
def a_device_of_a_group_registers_through_a_websocket():
    made = door("/emulator/enrollmentGroups/py-group", "PUT", {})
    group = base64.b64decode(made["attestation"]["symmetricKey"]["primaryKey"])
    key = base64.b64encode(hmac.new(group, b"py-member", hashlib.sha256).digest()).decode()
    client = ProvisioningDeviceClient.create_from_symmetric_key(HOST, "py-member", scope(), key, websockets=True)
    goes_on(registered(client), key=key)


@check
def certificates_register_alone_and_in_a_group():
    def x509(kind, name):
        with open(f"{CERTIFICATES}/{name}.pem") as file:
            return {"attestation": {"type": "x509", "x509": {kind: {"primary": {"certificate": file.read()}}}}}

    door("/emulator/enrollments/py-own-reg", "PUT", x509("clientCertificates", "py-own-reg"))
    door("/emulator/enrollmentGroups/py-x509", "PUT", x509("signingCertificates", "root"))
    for name in ["py-own-reg", "py-ca-reg"]:
        client = ProvisioningDeviceClient.create_from_x509_certificate(HOST, name, scope(), certificate(name))
        goes_on(registered(client), x509=certificate(name))


@check
def registrations_that_lead_nowhere_say_so():
    made = door("/emulator/enrollments/py-off", "PUT", {"provisioningStatus": "disabled"})
    key = made["attestation"]["symmetricKey"]["primaryKey"]
    # What the SDK raises differs by version; its cause has the words.
    for name, words in [("py-off", "status disabled"), ("py-nobody", "401")]:
        client = ProvisioningDeviceClient.create_from_symmetric_key(HOST, name, scope(), key)
        try:
            client.register()
        except Exception as error:
            assert words in repr(error) + repr(error.__cause__), repr(error.__cause__)
            continue
        raise AssertionError(f"{name} was registered")


@check
def a_throttled_registration_is_tried_again_by_the_sdk():
    made = door("/emulator/enrollments/py-late", "PUT", {})
    door("/emulator/faults", "POST", {"fault": "failRegistration", "status": 429, "retryAfter": 1, "target": "py-late", "times": 1})
    key = made["attestation"]["symmetricKey"]["primaryKey"]
    state = registered(ProvisioningDeviceClient.create_from_symmetric_key(HOST, "py-late", scope(), key))
    equal(state.device_id, "py-late")


@check
def a_module_reads_reports_and_is_called():
    known("py-with-module")
    module = registry.create_module_with_sas("py-with-module", "mod", "", "", "")
    text = (
        f"HostName={HOST};DeviceId=py-with-module;ModuleId=mod;"
        f"SharedAccessKey={module.authentication.symmetric_key.primary_key}"
    )
    device = Device(IoTHubModuleClient.create_from_connection_string(text))
    device.listen(messages=False)
    equal(device.client.get_twin()["desired"]["$version"], 1)
    device.client.patch_twin_reported_properties({"by": "module"})
    equal(registry.get_module_twin("py-with-module", "mod").properties.reported["by"], "module")
    patch = Twin(properties=TwinProperties(desired={"to": "module"}))
    registry.update_module_twin("py-with-module", "mod", patch)
    while device.desired.get(timeout=PATIENCE).get("to") != "module":
        pass
    call = CloudToDeviceMethod(method_name="echo", payload=1, response_timeout_in_seconds=20)
    equal(registry.invoke_device_module_method("py-with-module", "mod", call).payload["payload"], 1)
    device.client.send_message("from a module")
    device.client.shutdown()


for function in checks:
    try:
        function()
        print(f"ok      python  {function.__name__.replace('_', ' ')}", flush=True)
    except Exception:
        traceback.print_exc()
        print(f"FAILED  python  {function.__name__.replace('_', ' ')}", flush=True)
emulator.end()
sys.stdout.flush()
# The SDKs leave threads behind when something failed; the lines above are the result.
os._exit(0)
